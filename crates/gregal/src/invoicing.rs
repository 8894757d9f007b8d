//! The settings of who sells, checked: empty means that no invoices are issued.

use anyhow::{Result, ensure};
use gregal_control::Invoicing;
use gregal_core::{
    invoice::{Address, ElectronicAddress, Seller},
    residency::Jurisdiction,
    vat,
};
use serde::Deserialize;

/// Who sells, and how invoices are issued.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InvoiceSettings {
    pub name: String,
    pub registration: String,
    pub vat_id: String,
    pub street: String,
    pub post_code: String,
    pub city: String,
    pub iban: String,
    pub electronic: String,
    pub series: String,
    pub due_days: u32,
    pub after_hours: u32,
}

/// The longest delay after a month's end: a week more, and the next month's invoice is near.
const AFTER_HOURS_MAX: u32 = 24 * 21;

impl InvoiceSettings {
    /// What control needs; none where nobody is named as the seller.
    pub(crate) fn invoicing(&self, country: Jurisdiction) -> Result<Option<Invoicing>> {
        if self.name.is_empty() {
            return Ok(None);
        }
        for (key, value) in [
            ("registration", &self.registration),
            ("street", &self.street),
            ("post_code", &self.post_code),
            ("city", &self.city),
        ] {
            ensure!(
                !value.trim().is_empty(),
                "`invoice.{key}` is empty: with `invoice.name` set, invoices are issued and need it"
            );
        }
        let vat_id = if country.in_eu() {
            vat::id(&self.vat_id, country).map_err(|error| anyhow::anyhow!("`invoice.vat_id`: {error}"))?
        } else {
            self.vat_id.clone()
        };
        let iban: String = self.iban.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_uppercase();
        ensure!(is_iban(&iban), "`invoice.iban` is not an IBAN: its check digits do not fit");
        let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-';
        ensure!(
            (1..=20).contains(&self.series.len()) && self.series.chars().all(fits),
            "`invoice.series` is 1 to 20 of `A-Z`, `0-9`, `-`"
        );
        ensure!(self.due_days <= 365, "`invoice.due_days` is at most 365");
        ensure!(self.after_hours <= AFTER_HOURS_MAX, "`invoice.after_hours` is at most {AFTER_HOURS_MAX}");
        let electronic =
            (!self.electronic.is_empty()).then(|| self.electronic.parse::<ElectronicAddress>()).transpose();
        let electronic = electronic.map_err(|error| anyhow::anyhow!("`invoice.electronic`: {error}"))?;
        let seller = Seller {
            name: self.name.clone(),
            registration: self.registration.clone(),
            vat_id,
            country,
            address: Address {
                street: self.street.clone(),
                city: self.city.clone(),
                post_code: self.post_code.clone(),
            },
            iban,
            electronic,
        };
        let after_s = (self.after_hours > 0).then(|| self.after_hours.saturating_mul(3600));
        Ok(Some(Invoicing { seller, series: self.series.clone(), due_days: self.due_days, after_s }))
    }
}

/// Whether the check digits of an IBAN fit (ISO 13616: ISO 7064 Mod 97-10, the first four signs last).
fn is_iban(text: &str) -> bool {
    if !(15..=34).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return false;
    }
    let (front, rest) = text.split_at(4);
    let value = |rest: u32, c: char| c.to_digit(36).map(|digit| (rest * if digit > 9 { 100 } else { 10 } + digit) % 97);
    rest.chars().chain(front.chars()).try_fold(0, value) == Some(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iban_has_check_digits() {
        assert!(is_iban("FR7630006000011234567890189") && is_iban("DE89370400440532013000"));
        assert!(!is_iban("FR7630006000011234567890188") && !is_iban("DE98370400440532013000") && !is_iban(""));
    }
}
