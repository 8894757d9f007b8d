//! Value added tax of the European Union: which rule holds between a seller and a buyer, and the standard rates.

#![deny(clippy::float_arithmetic)]

use crate::{invoice::VatRule, residency::Jurisdiction};

mod id;

pub use id::{VatIdError, id};

/// Standard rates in hundredths of a percent, as they hold in 2026.
///
/// Standard rates under Directive 2006/112/EC, Article 97, as known in November 2026; the Commission's Taxes in Europe
/// database is what to check them against before an invoice is issued. The latest changes: FI 25.5 % since 2024-09, SK 23 % since 2025-01, EE 24 % since 2025-07, RO 21 % since 2025-08. A rate
/// that changes needs its date here: what was supplied before keeps the old one.
const STANDARD_2026: [(&str, u32); 27] = [
    ("AT", 2000),
    ("BE", 2100),
    ("BG", 2000),
    ("CY", 1900),
    ("CZ", 2100),
    ("DE", 1900),
    ("DK", 2500),
    ("EE", 2400),
    ("ES", 2100),
    ("FI", 2550),
    ("FR", 2000),
    ("GR", 2400),
    ("HR", 2500),
    ("HU", 2700),
    ("IE", 2300),
    ("IT", 2200),
    ("LT", 2100),
    ("LU", 1700),
    ("LV", 2100),
    ("MT", 1800),
    ("NL", 2100),
    ("PL", 2300),
    ("PT", 2300),
    ("RO", 2100),
    ("SE", 2500),
    ("SI", 2200),
    ("SK", 2300),
];

/// The standard rate of a member state in hundredths of a percent; none outside the Union.
pub fn standard_rate(country: Jurisdiction) -> Option<u32> {
    STANDARD_2026.iter().find(|(code, _)| *code == country.as_str()).map(|(_, rate)| *rate)
}

/// Which rule holds for a service supplied electronically. The place of supply follows the buyer (Directive
/// 2006/112/EC, Articles 44, 58 and 196). A VAT id of blanks counts as none; whether it is valid is asked of VIES
/// elsewhere. The 10 000 EUR threshold below which a small seller may charge its own rate (Article 59c) is not used.
pub fn rule(seller: Jurisdiction, buyer: Jurisdiction, vat_id: Option<&str>) -> VatRule {
    let is_business = vat_id.is_some_and(|id| !id.trim().is_empty());
    if seller == buyer {
        VatRule::Domestic
    } else if !buyer.in_eu() {
        VatRule::OutsideScope
    } else if is_business {
        VatRule::ReverseCharge
    } else {
        VatRule::OneStopShop
    }
}

/// The rate a rule charges, in hundredths of a percent. None if it would be that of a country without a known rate.
pub fn rate(rule: VatRule, seller: Jurisdiction, buyer: Jurisdiction) -> Option<u32> {
    match rule {
        VatRule::Domestic => standard_rate(seller),
        VatRule::OneStopShop => standard_rate(buyer),
        VatRule::ReverseCharge | VatRule::OutsideScope | VatRule::Exempt => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::residency::EU;

    fn law(code: &str) -> Jurisdiction {
        code.parse().unwrap()
    }

    #[test]
    fn every_member_state_has_one_standard_rate_of_at_least_fifteen_percent() {
        let codes: Vec<_> = STANDARD_2026.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, EU);
        // Article 97 of the directive: not lower than 15 %. Hungary has the highest.
        assert!(STANDARD_2026.iter().all(|(_, rate)| (1500..=2700).contains(rate)));
        assert_eq!(standard_rate(law("CH")), None);
    }

    #[test]
    fn the_rule_follows_buyer_and_vat_id() {
        let rule_of = |seller, buyer, id| rule(law(seller), law(buyer), id);
        assert_eq!(rule_of("FR", "FR", Some("FR83404833048")), VatRule::Domestic);
        assert_eq!(rule_of("FR", "DE", Some("DE129273398")), VatRule::ReverseCharge);
        assert_eq!(rule_of("FR", "DE", Some("  ")), VatRule::OneStopShop);
        assert_eq!(rule_of("FR", "DE", None), VatRule::OneStopShop);
        assert_eq!(rule_of("FR", "CH", Some("CHE-116.281.710")), VatRule::OutsideScope);
        assert_eq!(rate(VatRule::OneStopShop, law("FR"), law("FI")), Some(2550));
        assert_eq!(rate(VatRule::Domestic, law("US"), law("US")), None);
    }
}
