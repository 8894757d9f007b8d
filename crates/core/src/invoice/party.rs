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
