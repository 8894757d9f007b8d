//! Service accounts: names that programs act under. Keys are made for one, or exchanged for the token of an issuer that it
//! trusts, and all of them end with it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    access::Role,
    id::{OrganisationId, ProjectId, ServiceAccountId},
    scope::Scope,
    time::Time,
};

/// The most issuers that one account trusts.
pub const TRUSTS_MAX: usize = 16;
/// The most claims that one trust asks for.
pub const TRUST_CLAIMS_MAX: usize = 16;
/// How long a key lives that was got for another system's token, in seconds.
pub const WORKLOAD_KEY_S: u32 = 900;
/// The oldest that another system's token may be, in seconds, whatever end it names.
pub const WORKLOAD_TOKEN_AGE_S_MAX: i64 = 3_600;

/// A name that programs act under, in an organisation or one project of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAccount {
    /// Its id.
    pub id: ServiceAccountId,
    /// The organisation it belongs to.
    pub organisation: OrganisationId,
    /// The one project it reaches; none reaches every project of its organisation.
    pub project: Option<ProjectId>,
    /// What people call it.
    pub name: String,
    /// What its keys may do. It never changes: a wider one is another account.
    pub role: Role,
    /// What all of its keys are narrowed to.
    #[serde(default, skip_serializing_if = "Scope::is_open")]
    pub scope: Scope,
    /// Whose tokens are exchanged for its keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusts: Vec<Trust>,
    /// When it was made.
    pub created_at: Time,
    /// Since when nothing works under it; none while it is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_at: Option<Time>,
    /// Grows by one with every change.
    pub version: u64,
}

/// An issuer whose tokens stand for a service account, and which of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// The issuer, as its tokens spell it.
    pub issuer: String,
    /// Whom its tokens must be for, alone.
    pub audience: String,
    /// What its tokens must say: the text of each claim, where `*` stands for any run of characters without `/`, and `**` for
    /// any run at all.
    pub claims: BTreeMap<String, String>,
}

impl Trust {
    /// The first claim that a token does not say as it must; none: it says all of them. Claims that are no text match
    /// nothing, but for whole numbers and truth values, which are taken by their spelling.
    pub fn unmet<'a>(&'a self, token: &serde_json::Map<String, serde_json::Value>) -> Option<&'a str> {
        let says = |name: &str, pattern: &str| match token.get(name) {
            Some(serde_json::Value::String(text)) => matches(pattern, text),
            Some(serde_json::Value::Bool(value)) => matches(pattern, if *value { "true" } else { "false" }),
            Some(serde_json::Value::Number(number)) if !number.is_f64() => matches(pattern, &number.to_string()),
            _ => false,
        };
        self.claims.iter().find(|(name, pattern)| !says(name, pattern)).map(|(name, _)| name.as_str())
    }
}

/// Whether a text is of a pattern: `*` stands for any run of characters without `/`, `**` for any run at all, and all else for
/// itself. Takes time by the product of both lengths, whatever the pattern.
pub fn matches(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    // reached[i]: what was read of the pattern so far can stand for the first i characters.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    let mut pattern = pattern.chars().peekable();
    while let Some(sign) = pattern.next() {
        let mut next = vec![false; text.len() + 1];
        if sign == '*' {
            let is_any = pattern.next_if_eq(&'*').is_some();
            for place in 0..=text.len() {
                let grows = place > 0 && next[place - 1] && (is_any || text[place - 1] != '/');
                next[place] = reached[place] || grows;
            }
        } else {
            for place in 1..=text.len() {
                next[place] = reached[place - 1] && text[place - 1] == sign;
            }
        }
        reached = next;
    }
    reached[text.len()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_star_stays_within_a_part_and_two_go_anywhere() {
        for (pattern, text) in [
            ("acme/app", "acme/app"),
            ("acme/*", "acme/app"),
            ("refs/heads/release-*", "refs/heads/release-1.2"),
            ("refs/**", "refs/heads/feature/x"),
            ("*/*", "a/b"),
            ("a*", "a"),
            ("**", ""),
            ("*a*a*", "banana"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("acme/app", "acme/app2"),
            ("acme/app", "xacme/app"),
            ("acme/*", "acme/app/x"),
            ("acme/*", "evil/acme/app"),
            ("acme/*", "Acme/app"),
            ("refs/heads/main", "refs/heads/main\n"),
            ("", "a"),
            ("a.c", "abc"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn every_claim_must_be_there_and_say_so() {
        let claims = [("repository", "acme/*"), ("run", "7"), ("protected", "true")];
        let claims = claims.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        let trust = Trust { issuer: String::new(), audience: String::new(), claims };
        let unmet = |token: serde_json::Value| trust.unmet(token.as_object().unwrap()).map(str::to_owned);
        assert_eq!(unmet(json!({ "repository": "acme/app", "run": 7, "protected": true })), None);
        assert_eq!(unmet(json!({ "repository": "acme/app", "run": "7", "protected": "true" })), None);
        assert_eq!(unmet(json!({ "run": 7, "protected": true })).as_deref(), Some("repository"));
        assert_eq!(
            unmet(json!({ "repository": ["acme/app"], "run": 7, "protected": true })).as_deref(),
            Some("repository")
        );
        assert_eq!(
            unmet(json!({ "repository": "acme/app", "run": 7.0, "protected": true })).as_deref(),
            Some("run"),
            "no fractions"
        );
        assert_eq!(
            unmet(json!({ "repository": "acme/app", "run": 7, "protected": false })).as_deref(),
            Some("protected")
        );
    }
}
