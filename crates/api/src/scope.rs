//! Scopes of keys on the wire.

use std::collections::BTreeSet;

use gregal_core::{access::Action, scope::Scope};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a key is narrowed to, within what its role carries. A part that is absent narrows nothing; one that is given names
/// 1 to 32 things, and everything else is outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScopeView {
    /// The only actions, as `noun:verb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<Vec<String>>,
    /// The only models: names or ids of endpoints, names or ids of models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// The only projects, by id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projects: Option<Vec<String>>,
    /// The only sites, by name or id when a key is made, by id when it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sites: Option<Vec<String>>,
    /// The only networks it works from: `10.0.0.0/8`, `2001:db8::/32`, or one address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
}

impl ScopeView {
    /// Whether it narrows nothing.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// What it says. Sites are ids here: whoever takes names has looked them up before. The error says which part is wrong.
    pub fn into_scope(self) -> Result<Scope, String> {
        Ok(Scope {
            actions: taken("actions", self.actions, |text| {
                let found = Action::ALL.iter().copied().find(|action| action.as_str() == text);
                found.ok_or_else(|| format!("there is no action `{text}`; `whoami` lists them"))
            })?,
            models: taken("models", self.models, |text| match text.trim() {
                name if name == text && (1..=200).contains(&text.len()) => Ok(text.to_owned()),
                _ => Err("a model's name is 1 to 200 characters, with no space around it".to_owned()),
            })?,
            projects: taken("projects", self.projects, |text| {
                text.parse().map_err(|_| format!("`{text}` is not the id of a project"))
            })?,
            sites: taken("sites", self.sites, |text| {
                text.parse().map_err(|_| format!("`{text}` is not the id of a site"))
            })?,
            networks: taken("networks", self.networks, |text| text.parse().map_err(|error| format!("{error}")))?,
        })
    }
}

fn taken<T: Ord>(
    part: &str,
    texts: Option<Vec<String>>,
    take: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<BTreeSet<T>>, String> {
    let Some(texts) = texts else { return Ok(None) };
    texts
        .iter()
        .map(|text| take(text).map_err(|why| format!("`scope.{part}`: {why}")))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn told<T: ToString>(set: Option<&BTreeSet<T>>) -> Option<Vec<String>> {
    set.map(|set| set.iter().map(ToString::to_string).collect())
}

impl From<&Scope> for ScopeView {
    fn from(scope: &Scope) -> Self {
        let actions = scope.actions.as_ref();
        Self {
            actions: actions.map(|actions| actions.iter().map(|action| action.as_str().to_owned()).collect()),
            models: told(scope.models.as_ref()),
            projects: told(scope.projects.as_ref()),
            sites: told(scope.sites.as_ref()),
            networks: told(scope.networks.as_ref()),
        }
    }
}
