//! Invoices for machines: UBL 2.1 and UN/CEFACT Cross Industry Invoice, both to EN 16931, rendered from the frozen
//! invoice and nothing else, so the same invoice gives the same bytes for ever.
//!
//! The writer is our own few lines: we write elements and never read any, so an XML library would be weight without use.

use super::issue::{Category, Invoice, VatSum};
use crate::{month::date, residency::Jurisdiction};

mod cii;
mod ubl;
mod xml;

pub use cii::cii;
pub use ubl::ubl;

/// The core invoice of the European norm.
const EN_16931: &str = "urn:cen.eu:en16931:2017";
/// Peppol's use of it.
const PEPPOL: &str = "urn:cen.eu:en16931:2017#compliant#urn:fdc:peppol.eu:2017:poacc:billing:3.0";
/// Peppol's process.
const PEPPOL_PROCESS: &str = "urn:fdc:peppol.eu:2017:poacc:billing:01:1.0";

/// Whether a document can travel over Peppol: both sides have an address there, and the buyer said what to call it by.
pub const fn travels(invoice: &Invoice) -> bool {
    let buyer = &invoice.buyer.billing;
    invoice.seller.electronic.is_some()
        && buyer.electronic.is_some()
        && (buyer.reference.is_some() || buyer.order.is_some())
}

/// What a UBL document says it complies with, and in which process. Peppol's network carries UBL; a CII document says the core
/// norm alone, which Factur-X's rules ask for too.
const fn profile(invoice: &Invoice) -> (&'static str, Option<&'static str>) {
    if travels(invoice) { (PEPPOL, Some(PEPPOL_PROCESS)) } else { (EN_16931, None) }
}

/// A rate as a percentage, `20.00`; none where there is none to speak of (category O).
fn percent(vat: &VatSum) -> Option<String> {
    (vat.category != Category::O).then(|| format!("{}.{:02}", vat.basis_points / 100, vat.basis_points % 100))
}

const fn code(category: Category) -> &'static str {
    match category {
        Category::S => "S",
        Category::AE => "AE",
        Category::E => "E",
        Category::O => "O",
    }
}

/// Why no VAT is charged, by the code list of the norm; an exemption has its words only.
const fn reason_code(category: Category) -> Option<&'static str> {
    match category {
        Category::AE => Some("VATEX-EU-AE"),
        Category::O => Some("VATEX-EU-O"),
        Category::S | Category::E => None,
    }
}

/// A price in euro with all of its nine places: a unit may cost far less than a cent.
fn price(nano: u64) -> String {
    format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000)
}

/// First and last day of the invoice's month.
fn days(invoice: &Invoice) -> (String, String) {
    (date(invoice.from), date(invoice.until.plus_millis(-1)))
}

/// A VAT id as it stands on an invoice: without blanks, with its country in front. Where the sale is outside the scope of
/// VAT none may stand there (BR-O-02).
fn vat_id(id: &str, country: Jurisdiction, category: Category) -> Option<String> {
    if category == Category::O {
        return None;
    }
    let id: String = id.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '*')).collect();
    let id = id.to_ascii_uppercase();
    let prefix = if country.as_str() == "GR" { "EL" } else { country.as_str() };
    Some(if id.starts_with(prefix) { id } else { format!("{prefix}{id}") })
}

/// What a line says beside its name: what it counts, and for which month if it came late.
fn description(line: &super::IssuedLine) -> String {
    let priced = format!("{} on {}, price book {}", line.line.item, line.line.meter.as_str(), line.line.price_book);
    match &line.late {
        Some(month) => format!("{priced}. Used in {month}; on no earlier invoice."),
        None => priced,
    }
}
