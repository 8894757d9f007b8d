//! UBL 2.1 `Invoice` and `CreditNote`, the elements in the order of their schemas.

use super::{code, days, description, percent, price, profile, reason_code, vat_id, xml::Xml};
use crate::{
    invoice::IssuedLine,
    invoice::{
        issue::{Category, Invoice, Kind, unit_code},
        party::{Address, ElectronicAddress},
    },
    money::Cents,
    residency::Jurisdiction,
};

const COMMON: [(&str, &str); 2] = [
    ("xmlns:cac", "urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2"),
    ("xmlns:cbc", "urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2"),
];

/// An invoice or credit note as UBL 2.1.
pub fn ubl(invoice: &Invoice) -> String {
    let is_invoice = invoice.kind == Kind::Invoice;
    let (root, schema) = if is_invoice {
        ("Invoice", "urn:oasis:names:specification:ubl:schema:xsd:Invoice-2")
    } else {
        ("CreditNote", "urn:oasis:names:specification:ubl:schema:xsd:CreditNote-2")
    };
    let mut xml = Xml::new(root, &[("xmlns", schema), COMMON[0], COMMON[1]]);
    header(&mut xml, invoice);
    parties(&mut xml, invoice);
    payment(&mut xml, invoice);
    sums(&mut xml, invoice);
    for each in &invoice.lines {
        line(&mut xml, invoice, each);
    }
    xml.end()
}

fn header(xml: &mut Xml, invoice: &Invoice) {
    let is_invoice = invoice.kind == Kind::Invoice;
    let (customization, process) = profile(invoice);
    let buyer = &invoice.buyer.billing;
    xml.leaf("cbc:CustomizationID", customization);
    xml.maybe("cbc:ProfileID", process);
    xml.leaf("cbc:ID", &invoice.number);
    xml.leaf("cbc:IssueDate", &invoice.issued_on);
    if is_invoice {
        xml.maybe("cbc:DueDate", invoice.due_on.as_ref());
        xml.leaf("cbc:InvoiceTypeCode", "380");
    } else {
        xml.leaf("cbc:CreditNoteTypeCode", "381");
    }
    xml.maybe("cbc:Note", invoice.credits.as_ref().map(|credits| &credits.reason));
    xml.leaf("cbc:DocumentCurrencyCode", &invoice.currency);
    xml.maybe("cbc:BuyerReference", buyer.reference.as_ref());
    let (first, last) = days(invoice);
    xml.within("cac:InvoicePeriod", |xml| {
        xml.leaf("cbc:StartDate", first);
        xml.leaf("cbc:EndDate", last);
    });
    if let Some(order) = &buyer.order {
        xml.within("cac:OrderReference", |xml| xml.leaf("cbc:ID", order));
    }
    if let Some(credits) = &invoice.credits {
        xml.within("cac:BillingReference", |xml| {
            xml.within("cac:InvoiceDocumentReference", |xml| {
                xml.leaf("cbc:ID", &credits.number);
                xml.leaf("cbc:IssueDate", &credits.issued_on);
            });
        });
    }
}

/// A party as UBL says it.
struct Party<'a> {
    electronic: Option<&'a ElectronicAddress>,
    name: &'a str,
    address: &'a Address,
    country: Jurisdiction,
    vat_id: Option<String>,
    registration: Option<&'a str>,
}

fn parties(xml: &mut Xml, invoice: &Invoice) {
    let (seller, buyer) = (&invoice.seller, &invoice.buyer);
    let category = invoice.vat.category;
    let sells = Party {
        electronic: seller.electronic.as_ref(),
        name: &seller.name,
        address: &seller.address,
        country: seller.country,
        vat_id: vat_id(&seller.vat_id, seller.country, category),
        registration: Some(&seller.registration),
    };
    let buys = Party {
        electronic: buyer.billing.electronic.as_ref(),
        name: &buyer.billing.legal_name,
        address: &buyer.billing.address,
        country: buyer.country,
        vat_id: buyer.vat_id.as_ref().and_then(|id| vat_id(id, buyer.country, category)),
        registration: None,
    };
    xml.within("cac:AccountingSupplierParty", |xml| party(xml, &sells));
    xml.within("cac:AccountingCustomerParty", |xml| party(xml, &buys));
}

fn party(xml: &mut Xml, party: &Party<'_>) {
    xml.within("cac:Party", |xml| {
        if let Some(electronic) = party.electronic {
            xml.leaf_with("cbc:EndpointID", &[("schemeID", &electronic.scheme)], &electronic.id);
        }
        xml.within("cac:PostalAddress", |xml| {
            xml.leaf("cbc:StreetName", &party.address.street);
            xml.leaf("cbc:CityName", &party.address.city);
            xml.leaf("cbc:PostalZone", &party.address.post_code);
            xml.within("cac:Country", |xml| xml.leaf("cbc:IdentificationCode", party.country.as_str()));
        });
        if let Some(id) = &party.vat_id {
            xml.within("cac:PartyTaxScheme", |xml| {
                xml.leaf("cbc:CompanyID", id);
                xml.within("cac:TaxScheme", |xml| xml.leaf("cbc:ID", "VAT"));
            });
        }
        xml.within("cac:PartyLegalEntity", |xml| {
            xml.leaf("cbc:RegistrationName", party.name);
            xml.maybe("cbc:CompanyID", party.registration);
        });
    });
}

fn payment(xml: &mut Xml, invoice: &Invoice) {
    if invoice.kind != Kind::Invoice {
        return;
    }
    xml.within("cac:PaymentMeans", |xml| {
        // 58: SEPA credit transfer.
        xml.leaf("cbc:PaymentMeansCode", "58");
        xml.leaf("cbc:PaymentID", &invoice.number);
        xml.within("cac:PayeeFinancialAccount", |xml| {
            xml.leaf("cbc:ID", &invoice.seller.iban);
            xml.leaf("cbc:Name", &invoice.seller.name);
        });
    });
}

fn amount(xml: &mut Xml, invoice: &Invoice, name: &str, cents: Cents) {
    xml.leaf_with(name, &[("currencyID", &invoice.currency)], cents.to_string());
}

fn sums(xml: &mut Xml, invoice: &Invoice) {
    let vat = &invoice.vat;
    xml.within("cac:TaxTotal", |xml| {
        amount(xml, invoice, "cbc:TaxAmount", vat.amount);
        xml.within("cac:TaxSubtotal", |xml| {
            amount(xml, invoice, "cbc:TaxableAmount", invoice.net);
            amount(xml, invoice, "cbc:TaxAmount", vat.amount);
            xml.within("cac:TaxCategory", |xml| {
                xml.leaf("cbc:ID", code(vat.category));
                xml.maybe("cbc:Percent", percent(vat));
                xml.maybe("cbc:TaxExemptionReasonCode", reason_code(vat.category));
                if vat.category != Category::S {
                    xml.maybe("cbc:TaxExemptionReason", vat.reason.as_ref());
                }
                xml.within("cac:TaxScheme", |xml| xml.leaf("cbc:ID", "VAT"));
            });
        });
    });
    xml.within("cac:LegalMonetaryTotal", |xml| {
        amount(xml, invoice, "cbc:LineExtensionAmount", invoice.net);
        amount(xml, invoice, "cbc:TaxExclusiveAmount", invoice.net);
        amount(xml, invoice, "cbc:TaxInclusiveAmount", invoice.total);
        amount(xml, invoice, "cbc:PayableAmount", invoice.total);
    });
}

fn line(xml: &mut Xml, invoice: &Invoice, each: &IssuedLine) {
    let (element, counted) = match invoice.kind {
        Kind::Invoice => ("cac:InvoiceLine", "cbc:InvoicedQuantity"),
        Kind::CreditNote => ("cac:CreditNoteLine", "cbc:CreditedQuantity"),
    };
    let line = &each.line;
    let unit = unit_code(line.meter, &line.unit);
    xml.within(element, |xml| {
        xml.leaf("cbc:ID", each.number.to_string());
        xml.leaf_with(counted, &[("unitCode", unit)], line.quantity.to_string());
        amount(xml, invoice, "cbc:LineExtensionAmount", line.net);
        xml.within("cac:Item", |xml| {
            xml.leaf("cbc:Description", description(each));
            xml.leaf("cbc:Name", &line.label);
            xml.within("cac:ClassifiedTaxCategory", |xml| {
                xml.leaf("cbc:ID", code(invoice.vat.category));
                xml.maybe("cbc:Percent", percent(&invoice.vat));
                xml.within("cac:TaxScheme", |xml| xml.leaf("cbc:ID", "VAT"));
            });
        });
        xml.within("cac:Price", |xml| {
            xml.leaf_with("cbc:PriceAmount", &[("currencyID", &invoice.currency)], price(line.price_nano));
            xml.leaf_with("cbc:BaseQuantity", &[("unitCode", unit)], line.price_per.to_string());
        });
    });
}
