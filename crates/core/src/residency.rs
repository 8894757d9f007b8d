//! Where an organisation's content may be: jurisdictions, operators, certifications.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::site::Site;

/// A law that holds: an ISO 3166-1 alpha-2 country code, upper case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Jurisdiction([u8; 2]);

/// A text that is no country code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a country code, one looks like `FR`; `EU` stands for all member states where a list is asked for"
)]
pub struct JurisdictionError(String);

/// The member states of the European Union (27 since 2020), ISO 3166-1 alpha-2.
pub const EU: [&str; 27] = [
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT", "LU", "LV",
    "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
];

impl Jurisdiction {
    /// The two letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("??")
    }

    /// Whether this is a member state of the European Union.
    pub fn in_eu(self) -> bool {
        EU.contains(&self.as_str())
    }

    /// Every member state of the European Union.
    pub fn eu() -> BTreeSet<Self> {
        EU.iter().filter_map(|code| code.parse().ok()).collect()
    }
}

impl FromStr for Jurisdiction {
    type Err = JurisdictionError;

    fn from_str(text: &str) -> Result<Self, JurisdictionError> {
        match text.as_bytes() {
            [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok(Self([*a, *b])),
            _ => Err(JurisdictionError(text.chars().take(16).collect())),
        }
    }
}

impl fmt::Display for Jurisdiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Jurisdiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Jurisdiction {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Jurisdiction {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The ceiling an organisation sets for its content. Evaluated as *forbid* rules that no permit overrides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidencyPolicy {
    /// Where sites may be. The site, its operator and its operator's parent must all be in here.
    pub jurisdictions: BTreeSet<Jurisdiction>,
    /// Certifications a site must hold (`ISO27001`, `SecNumCloud`, `C5`, ...). Empty asks for none.
    #[serde(default)]
    pub certifications: BTreeSet<String>,
    /// Operators that may run a site, by name. Empty allows every operator in the jurisdictions.
    #[serde(default)]
    pub operators: BTreeSet<String>,
}

impl ResidencyPolicy {
    /// Content stays in the European Union, with operators owned there.
    pub fn eu() -> Self {
        Self { jurisdictions: Jurisdiction::eu(), certifications: BTreeSet::new(), operators: BTreeSet::new() }
    }
}

/// A residency rule that a site breaks: what was found, and what would be allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("`{rule}`: the site has {found}, the policy asks for {allowed}")]
pub struct RuleBroken {
    /// The rule's name, one of [`RULES`].
    pub rule: &'static str,
    /// What the site has.
    pub found: String,
    /// What the policy allows or asks for.
    pub allowed: String,
}

/// The site's machines must stand under an allowed law.
pub const SITE_JURISDICTION: &str = "residency.site_jurisdiction";
/// The site's operator must be established under an allowed law.
pub const OPERATOR_JURISDICTION: &str = "residency.operator_jurisdiction";
/// The operator's ultimate parent must be established under an allowed law.
pub const PARENT_JURISDICTION: &str = "residency.parent_jurisdiction";
/// The site must hold every certification asked for.
pub const CERTIFICATION: &str = "residency.certification";
/// The operator must be one of those named.
pub const OPERATOR: &str = "residency.operator";

/// Every rule, in the order they are looked at.
pub const RULES: [&str; 5] = [SITE_JURISDICTION, OPERATOR_JURISDICTION, PARENT_JURISDICTION, CERTIFICATION, OPERATOR];

impl ResidencyPolicy {
    /// Every rule that a site breaks, in a fixed order; empty where content may be there. An empty list of jurisdictions
    /// allows no site. A second, independent evaluation of what the policy engine decides: both must allow.
    pub fn refusals(&self, site: &Site) -> Vec<RuleBroken> {
        let mut broken = Vec::new();
        let laws = [
            (SITE_JURISDICTION, site.jurisdiction),
            (OPERATOR_JURISDICTION, site.operator.jurisdiction),
            (PARENT_JURISDICTION, site.operator.parent_jurisdiction),
        ];
        for (rule, law) in laws {
            if !self.jurisdictions.contains(&law) {
                let allowed = listed(self.jurisdictions.iter().map(Jurisdiction::as_str));
                broken.push(RuleBroken { rule, found: law.to_string(), allowed });
            }
        }
        if !self.certifications.is_subset(&site.certifications) {
            let found = listed(site.certifications.iter().map(String::as_str));
            let allowed = listed(self.certifications.iter().map(String::as_str));
            broken.push(RuleBroken { rule: CERTIFICATION, found, allowed });
        }
        if !self.operators.is_empty() && !self.operators.contains(&site.operator.name) {
            let allowed = listed(self.operators.iter().map(String::as_str));
            broken.push(RuleBroken { rule: OPERATOR, found: site.operator.name.clone(), allowed });
        }
        broken
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
