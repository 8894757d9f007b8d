//! Who stands on an invoice, as it stands there.

use serde::{Deserialize, Serialize};

use crate::residency::Jurisdiction;

/// Where a party is reached by letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// Street and number.
    pub street: String,
    /// Town.
    pub city: String,
    /// Post code.
    pub post_code: String,
}

/// Where a party takes electronic invoices: an address in a scheme of the "electronic address scheme" code list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElectronicAddress {
    /// The scheme's code, like `0225` (French directory) or `EM` (mail).
    pub scheme: String,
    /// The address.
    pub id: String,
}

/// Who sells: from the operator's settings, frozen into each invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seller {
    /// Legal name.
    pub name: String,
    /// Number in the register of companies. It names the seller where no VAT id may stand (EN 16931, BR-CO-26, BR-O-02).
    pub registration: String,
    /// VAT identification number.
    pub vat_id: String,
    /// Country.
    pub country: Jurisdiction,
    /// Address.
    pub address: Address,
    /// Account to pay to.
    pub iban: String,
    /// Where answers to invoices are taken electronically.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub electronic: Option<ElectronicAddress>,
}

/// What an invoice says of an organisation, given by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Billing {
    /// Legal name.
    pub legal_name: String,
    /// Address.
    pub address: Address,
    /// What the buyer's books know it by (EN 16931, BT-10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Purchase order (BT-13).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// Where invoices are taken electronically.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub electronic: Option<ElectronicAddress>,
    /// Why no VAT is charged to it (category E). Set by the operator only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exemption: Option<String>,
}

/// Who buys, frozen into each invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buyer {
    /// What the organisation gave.
    #[serde(flatten)]
    pub billing: Billing,
    /// Country it is billed in.
    pub country: Jurisdiction,
    /// VAT identification number, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vat_id: Option<String>,
}

/// Why a text is no electronic address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElectronicAddressError {
    /// It has not two parts.
    #[error("it is not `SCHEME:ADDRESS`, one looks like `0225:303265045`")]
    Form,
    /// No such scheme is on the list.
    #[error("`{0}` is no scheme of the European list of electronic addresses (EAS), one is `0225`")]
    Scheme(String),
}

/// The schemes an electronic address may have: the code list EAS that EN 16931 takes (rule BR-CL-25).
const SCHEMES: &str = "0002 0007 0009 0037 0060 0088 0096 0097 0106 0130 0135 0142 0147 0151 0154 0158 0170 0177 0183 0184 0188 \
    0190 0191 0192 0193 0194 0195 0196 0198 0199 0200 0201 0202 0203 0204 0205 0208 0209 0210 0211 0212 0213 0215 0216 0217 0218 \
    0219 0220 0221 0225 0230 0235 0240 0242 0244 0245 0246 0248 9910 9913 9914 9915 9918 9919 9920 9922 9923 9924 9925 9926 9927 \
    9928 9929 9930 9931 9932 9933 9934 9935 9936 9937 9938 9939 9940 9941 9942 9943 9944 9945 9946 9947 9948 9949 9950 9951 9952 \
    9953 9957 9959 AN AQ AS AU EM";

impl std::str::FromStr for ElectronicAddress {
    type Err = ElectronicAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, id) = text.split_once(':').ok_or(ElectronicAddressError::Form)?;
        let (scheme, id) = (scheme.trim().to_ascii_uppercase(), id.trim());
        if id.is_empty() {
            return Err(ElectronicAddressError::Form);
        }
        if !SCHEMES.split(' ').any(|known| known == scheme) {
            return Err(ElectronicAddressError::Scheme(scheme));
        }
        Ok(Self { scheme, id: id.to_owned() })
    }
}
