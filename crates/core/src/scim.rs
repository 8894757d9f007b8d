//! SCIM 2.0 (RFC 7643, RFC 7644): what an organisation's directory says of its people, its filters and its patches.

pub mod filter;
pub mod patch;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    access::Role,
    id::{KeyId, OrganisationId, PersonId, ScimUserId},
    person::email_of,
    time::Time,
};

/// The schema of a user.
pub const USER_SCHEMA: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
/// The most people of one organisation a directory may tell us of.
pub const SCIM_USERS_MAX: usize = 20_000;
/// The longest text of an attribute, in bytes.
const TEXT_BYTES_MAX: usize = 400;
/// The most addresses or roles of one user.
const VALUES_MAX: usize = 20;

/// One of several values, as SCIM writes them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Valued {
    /// The value itself.
    pub value: String,
    /// What it is for.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Whether it is the one that counts.
    #[serde(default)]
    pub primary: bool,
}

/// What somebody is called.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Called {
    /// The whole of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formatted: Option<String>,
    /// The given name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_name: Option<String>,
    /// The family name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family_name: Option<String>,
}

/// What a directory says of somebody. What we have no use for is not kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attributes {
    /// What they sign in as there; one a user, whatever the case.
    pub user_name: String,
    /// Their id there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// What people see of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// What they are called.
    #[serde(default)]
    pub name: Called,
    /// Their addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emails: Vec<Valued>,
    /// Our role, by its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Valued>,
    /// Whether they belong to the organisation now.
    pub active: bool,
}

/// Somebody an organisation's directory told us of: a member, a member-to-be, or somebody who left.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScimUser {
    /// Our id of them.
    pub id: ScimUserId,
    /// The organisation.
    pub organisation: OrganisationId,
    /// What the directory says.
    pub attributes: Attributes,
    /// What they become when they sign in.
    pub role: Role,
    /// The member they are; none: they have not signed in since they were told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonId>,
    /// The credential that told of them last.
    pub by_key: KeyId,
    /// When they were told of first.
    pub created_at: Time,
    /// When they were told of last.
    pub updated_at: Time,
    /// Grows by one with every change.
    pub version: u64,
}

// Who somebody is must not reach a log by way of `{:?}`.
impl std::fmt::Debug for ScimUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScimUser").field("id", &self.id).field("version", &self.version).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Attributes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attributes").field("active", &self.active).finish_non_exhaustive()
    }
}

/// Why what a directory sends cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScimError {
    /// An attribute is missing or has no form of its own.
    #[error("`{0}` is missing, too long, or not of its type")]
    Attribute(&'static str),
    /// No role of that name.
    #[error("`roles` names no role of an organisation: one is `developer`")]
    Role,
    /// A filter we do not read.
    #[error("the filter is not understood: comparisons by `eq`, joined by `and` and `or`, are")]
    Filter,
    /// A patch we do not read.
    #[error("the patch is not understood: operation {0} is wrong")]
    Patch(usize),
}

impl ScimUser {
    /// The name under which no second one may be: case does not tell two apart.
    pub fn name_key(&self) -> String {
        name_key(&self.attributes.user_name)
    }

    /// The address by which a provider vouches for them, in lower case.
    pub fn address(&self) -> Option<String> {
        self.attributes.address()
    }

    /// Whether a sign-in with this address makes them a member.
    pub fn waits_for(&self, email: &str) -> bool {
        self.attributes.active && self.person.is_none() && self.address().is_some_and(|address| address == email)
    }
}

/// One spelling for names that differ by case only.
pub fn name_key(user_name: &str) -> String {
    user_name.to_lowercase()
}

impl Attributes {
    /// Reads what a directory sends as a whole user. Unknown attributes are left out; names have any case, and truth may be a
    /// text, as some directories send it.
    ///
    /// # Errors
    /// If an attribute we know is not of its type, or the name is missing.
    pub fn read(sent: &Value) -> Result<Self, ScimError> {
        let sent = sent.as_object().ok_or(ScimError::Attribute("userName"))?;
        let user_name = text(sent, "userName")?.filter(|name| !name.trim().is_empty());
        let name = match at(sent, "name") {
            None => Called::default(),
            Some(Value::Object(name)) => Called {
                formatted: text(name, "formatted")?,
                given_name: text(name, "givenName")?,
                family_name: text(name, "familyName")?,
            },
            Some(_) => return Err(ScimError::Attribute("name")),
        };
        Ok(Self {
            user_name: user_name.ok_or(ScimError::Attribute("userName"))?,
            external_id: text(sent, "externalId")?,
            display_name: text(sent, "displayName")?,
            name,
            emails: values(sent, "emails")?,
            roles: values(sent, "roles")?,
            active: truth(sent, "active")?.unwrap_or(true),
        })
    }

    /// The primary address, or the first, or the name if it is one.
    pub fn address(&self) -> Option<String> {
        let chosen = self.emails.iter().find(|email| email.primary).or_else(|| self.emails.first());
        email_of(chosen.map_or(self.user_name.as_str(), |email| email.value.as_str()))
    }

    /// The role that is named, if one is: the primary one, or the first.
    ///
    /// # Errors
    /// If no role of an organisation is called so.
    pub fn role(&self) -> Result<Option<Role>, ScimError> {
        let chosen = self.roles.iter().find(|role| role.primary).or_else(|| self.roles.first());
        let Some(chosen) = chosen else { return Ok(None) };
        let named = Role::ALL.iter().copied().find(|role| role.as_str().eq_ignore_ascii_case(chosen.value.trim()));
        named.filter(|role| Role::Owner.may_grant(*role)).map(Some).ok_or(ScimError::Role)
    }
}

/// The value of an attribute, whose name has any case; null is none.
pub(crate) fn at<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let found = object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value).filter(|value| !value.is_null())
}

fn text(object: &Map<String, Value>, name: &'static str) -> Result<Option<String>, ScimError> {
    match at(object, name) {
        None => Ok(None),
        Some(Value::String(text)) if text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control) => {
            Ok(Some(text.clone()).filter(|text| !text.is_empty()))
        }
        Some(_) => Err(ScimError::Attribute(name)),
    }
}

fn truth(object: &Map<String, Value>, name: &'static str) -> Result<Option<bool>, ScimError> {
    match at(object, name) {
        None => Ok(None),
        Some(Value::Bool(truth)) => Ok(Some(*truth)),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
        Some(_) => Err(ScimError::Attribute(name)),
    }
}

fn values(object: &Map<String, Value>, name: &'static str) -> Result<Vec<Valued>, ScimError> {
    let wrong = || ScimError::Attribute(name);
    let sent = match at(object, name) {
        None => return Ok(Vec::new()),
        Some(Value::Array(sent)) if sent.len() <= VALUES_MAX => sent,
        Some(_) => return Err(wrong()),
    };
    let mut read = Vec::with_capacity(sent.len());
    for one in sent {
        let one = one.as_object().ok_or_else(wrong)?;
        let Some(value) = text(one, "value")? else { continue };
        read.push(Valued { value, kind: text(one, "type")?, primary: truth(one, "primary")?.unwrap_or(false) });
    }
    // RFC 7643, 2.4: one at most is primary.
    if read.iter().filter(|one| one.primary).count() > 1 { Err(wrong()) } else { Ok(read) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_directory_sends_is_read_whatever_its_case_and_a_wrong_type_is_named() {
        let sent = json!({
            "USERNAME": "Ada", "active": "False", "name": { "givenName": "Ada" }, "nickName": "x", "displayName": null,
            "emails": [{ "value": "b@x.eu" }, { "value": "Ada@X.eu", "primary": "True" }],
            "roles": [{ "value": "Developer" }],
        });
        let read = Attributes::read(&sent).unwrap();
        assert_eq!((read.user_name.as_str(), read.active), ("Ada", false));
        assert_eq!(read.address().as_deref(), Some("ada@x.eu"));
        assert_eq!(read.role(), Ok(Some(Role::Developer)));
        for (wrong, why) in [
            (json!({ "userName": " " }), "userName"),
            (json!({ "userName": 7 }), "userName"),
            (json!({ "userName": "a", "active": "maybe" }), "active"),
            (json!({ "userName": "a", "emails": "a@x.eu" }), "emails"),
            (
                json!({ "userName": "a", "emails": [{"value": "a", "primary": true}, {"value": "b", "primary": true}] }),
                "emails",
            ),
            (json!([]), "userName"),
        ] {
            assert_eq!(Attributes::read(&wrong), Err(ScimError::Attribute(why)), "{wrong}");
        }
    }

    #[test]
    fn no_role_of_operators_is_a_role_of_an_organisation() {
        for role in Role::ALL {
            let sent = json!({ "userName": "a", "roles": [{ "value": role.as_str() }] });
            let read = Attributes::read(&sent).unwrap().role();
            let is_theirs = !role.is_operator() && *role != Role::Visitor;
            assert_eq!(read, if is_theirs { Ok(Some(*role)) } else { Err(ScimError::Role) });
        }
    }
}
