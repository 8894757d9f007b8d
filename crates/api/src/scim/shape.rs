//! Which attributes of a user are asked for: `attributes` and `excludedAttributes` (RFC 7644, 3.9).

use gregal_core::scim::USER_SCHEMA;
use serde::Deserialize;
use serde_json::{Map, Value};

/// What is always told (RFC 7643: `returned` is `always`).
const ALWAYS: [&str; 2] = ["schemas", "id"];

/// The attributes that are wanted, or not wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    only: Vec<String>,
    but: Vec<String>,
}

/// What a search asks for (RFC 7644, 3.4.3).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Search {
    /// Only these attributes.
    #[serde(default)]
    pub attributes: Vec<String>,
    /// All but these.
    #[serde(default)]
    pub excluded_attributes: Vec<String>,
    /// Who is wanted.
    #[serde(default)]
    pub filter: Option<String>,
    /// The first of them, from 1.
    #[serde(default)]
    pub start_index: Option<i64>,
    /// How many of them.
    #[serde(default)]
    pub count: Option<i64>,
}

impl Shape {
    /// By lists of names, of which case does not matter, with the schema in front or without.
    pub fn new<'a>(only: impl IntoIterator<Item = &'a str>, but: impl IntoIterator<Item = &'a str>) -> Self {
        let (only, but) = (only.into_iter().filter_map(plain).collect(), but.into_iter().filter_map(plain).collect());
        Self { only, but }
    }

    /// By what stands in a query, separated by commas.
    pub fn of_query(only: Option<&str>, but: Option<&str>) -> Self {
        Self::new(only.unwrap_or_default().split(','), but.unwrap_or_default().split(','))
    }

    /// A user with no more than what is asked for.
    #[must_use]
    pub fn cut(&self, user: Value) -> Value {
        let Value::Object(user) = user else { return user };
        let kept = user.into_iter().filter_map(|(name, value)| {
            if ALWAYS.contains(&name.as_str()) {
                return Some((name, value));
            }
            let value = self.kept(&name.to_ascii_lowercase(), value)?;
            Some((name, value))
        });
        Value::Object(kept.collect())
    }

    fn kept(&self, name: &str, value: Value) -> Option<Value> {
        let parts = |list: &[String]| -> Vec<String> {
            let inner = list.iter().filter_map(|one| one.strip_prefix(name)?.strip_prefix('.'));
            inner.map(ToOwned::to_owned).collect()
        };
        if !self.only.is_empty() {
            if self.only.iter().any(|one| one == name) {
                return Some(value);
            }
            let wanted = parts(&self.only);
            return (!wanted.is_empty()).then(|| inside(value, &|part| wanted.iter().any(|one| one == part)));
        }
        if self.but.iter().any(|one| one == name) {
            return None;
        }
        let unwanted = parts(&self.but);
        Some(inside(value, &|part| !unwanted.iter().any(|one| one == part)))
    }
}

fn plain(name: &str) -> Option<String> {
    let name = name.trim().to_ascii_lowercase();
    let schema = USER_SCHEMA.to_ascii_lowercase();
    let name = name.strip_prefix(&schema).and_then(|rest| rest.strip_prefix(':')).unwrap_or(&name);
    (!name.is_empty()).then(|| name.to_owned())
}

/// The parts of a value, or of each of several, that are kept.
fn inside(value: Value, keeps: &impl Fn(&str) -> bool) -> Value {
    match value {
        Value::Object(parts) => {
            let kept = parts.into_iter().filter(|(part, _)| keeps(&part.to_ascii_lowercase()));
            Value::Object(kept.collect::<Map<_, _>>())
        }
        Value::Array(several) => several.into_iter().map(|one| inside(one, keeps)).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_more_is_told_than_is_asked_for_and_the_id_always() {
        let ada = json!({ "schemas": [USER_SCHEMA], "id": "1", "userName": "ada", "active": true,
            "name": { "givenName": "Ada", "familyName": "L" }, "emails": [{ "value": "a@x.eu", "primary": true }] });
        let asked = |only: &str, but: &str| Shape::of_query(Some(only), Some(but)).cut(ada.clone());
        assert_eq!(asked("", ""), ada);
        let ids = json!({ "schemas": [USER_SCHEMA], "id": "1" });
        assert_eq!(asked("nickName", ""), ids);
        let named = json!({ "schemas": [USER_SCHEMA], "id": "1", "userName": "ada", "name": { "familyName": "L" } });
        assert_eq!(asked("USERNAME, name.familyName", ""), named);
        assert_eq!(asked(&format!("{USER_SCHEMA}:userName,{USER_SCHEMA}:name.familyName"), ""), named);
        let rest = asked("", "id,name,emails.value,active");
        let told = json!({ "schemas": [USER_SCHEMA], "id": "1", "userName": "ada", "emails": [{ "primary": true }] });
        assert_eq!(rest, told);
    }
}
