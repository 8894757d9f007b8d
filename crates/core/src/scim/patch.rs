//! Patches (RFC 7644, 3.5.2) of a user written as JSON, in the forms directories send them.

use serde_json::{Map, Value};

use super::{ScimError, USER_SCHEMA, at, filter::Filter};

/// The most operations of one patch.
const OPERATIONS_MAX: usize = 100;
/// Attributes of which there are several values.
const SEVERAL: [&str; 2] = ["emails", "roles"];
/// What only we say.
const OURS: [&str; 3] = ["id", "meta", "schemas"];

/// Where in a user: `name.givenName`, `emails[type eq "work"].value`.
struct Place {
    name: String,
    filter: Option<Filter>,
    /// What the filter compares with, for a value to be made.
    wanted: Option<(String, String)>,
    sub: Option<String>,
}

/// Applies a whole patch to a user as JSON. Nothing is applied if one operation is wrong.
///
/// # Errors
/// If an operation is not understood, with its place.
pub fn applied(user: &Value, patch: &Value) -> Result<Value, ScimError> {
    let operations = patch.as_object().and_then(|patch| at(patch, "Operations")).and_then(Value::as_array);
    let operations = operations.filter(|list| (1..=OPERATIONS_MAX).contains(&list.len())).ok_or(ScimError::Patch(0))?;
    let mut user = user.as_object().cloned().ok_or(ScimError::Patch(0))?;
    for (place, operation) in operations.iter().enumerate() {
        one(&mut user, operation).ok_or(ScimError::Patch(place))?;
    }
    // Without a word it would be read as a yes, and taking it away would let somebody in.
    if at(&user, "active").is_none() {
        return Err(ScimError::Attribute("active"));
    }
    Ok(Value::Object(user))
}

fn one(user: &mut Map<String, Value>, operation: &Value) -> Option<()> {
    let operation = operation.as_object()?;
    let op = at(operation, "op")?.as_str()?.to_ascii_lowercase();
    let value = at(operation, "value");
    let path = match at(operation, "path") {
        None => None,
        Some(path) => Some(path.as_str()?),
    };
    match (op.as_str(), path) {
        ("add" | "replace", Some(path)) => set(user, path, value?, op == "add"),
        // Some directories name paths as the keys of a value without a path.
        ("add" | "replace", None) => {
            for (path, value) in value?.as_object()? {
                set(user, path, value, op == "add")?;
            }
            Some(())
        }
        ("remove", Some(path)) => remove(user, path),
        _ => None,
    }
}

fn set(user: &mut Map<String, Value>, path: &str, value: &Value, is_add: bool) -> Option<()> {
    let Named::Kept(place) = place_of(path)? else { return Some(()) };
    let slot = slot(user, &place.name);
    if let Some(filter) = &place.filter {
        return set_filtered(slot, filter, &place, value);
    }
    if let Some(sub) = place.sub {
        if slot.is_null() {
            *slot = Value::Object(Map::new());
        }
        let inner = slot.as_object_mut()?;
        let key = key_in(inner, &sub);
        inner.insert(key, value.clone());
        return Some(());
    }
    match (slot, value) {
        (Value::Array(there), value) if is_add => {
            let more = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            if more.iter().any(is_primary) {
                there.iter_mut().for_each(unmark);
            }
            there.extend(more.into_iter().filter(|one| !there.contains(one)).collect::<Vec<_>>());
        }
        (Value::Object(there), Value::Object(more)) => {
            for (name, value) in more {
                let key = key_in(there, name);
                there.insert(key, value.clone());
            }
        }
        (slot, value) if is_several(&place.name) && !value.is_array() => *slot = Value::Array(vec![value.clone()]),
        (slot, value) => *slot = value.clone(),
    }
    Some(())
}

/// Changes the values that the filter finds. One that is not there is made, as Entra expects of `emails[type eq "work"].value`.
fn set_filtered(slot: &mut Value, filter: &Filter, place: &Place, value: &Value) -> Option<()> {
    if slot.is_null() {
        *slot = Value::Array(Vec::new());
    }
    let there = slot.as_array_mut()?;
    if !there.iter().any(|one| filter.holds(one)) {
        let (name, wanted) = place.wanted.clone()?;
        there.push(Value::Object(Map::from_iter([(name, Value::String(wanted))])));
    }
    for one in there.iter_mut().filter(|one| filter.holds(one)) {
        match (&place.sub, value) {
            (Some(sub), value) => {
                let inner = one.as_object_mut()?;
                let key = key_in(inner, sub);
                inner.insert(key, value.clone());
            }
            (None, Value::Object(more)) => one.as_object_mut()?.extend(more.clone()),
            (None, _) => return None,
        }
    }
    Some(())
}

fn remove(user: &mut Map<String, Value>, path: &str) -> Option<()> {
    let Named::Kept(place) = place_of(path)? else { return Some(()) };
    let slot = slot(user, &place.name);
    match (slot, &place.filter, &place.sub) {
        (slot, None, None) => *slot = Value::Null,
        (Value::Object(there), None, Some(sub)) => {
            let key = key_in(there, sub);
            there.remove(&key);
        }
        (Value::Array(there), Some(filter), None) => there.retain(|one| !filter.holds(one)),
        (Value::Array(there), Some(filter), Some(sub)) => {
            for one in there.iter_mut().filter(|one| filter.holds(one)) {
                let inner = one.as_object_mut()?;
                let key = key_in(inner, sub);
                inner.remove(&key);
            }
        }
        (Value::Null, ..) => {}
        _ => return None,
    }
    Some(())
}

/// What a path names.
enum Named {
    Kept(Place),
    /// What we do not keep.
    Foreign,
}

/// Reads a path. What is ours is nobody's to change.
fn place_of(path: &str) -> Option<Named> {
    let prefix = format!("{USER_SCHEMA}:");
    let path = path.trim();
    let path = match path.get(..prefix.len()) {
        Some(start) if start.eq_ignore_ascii_case(&prefix) => &path[prefix.len()..],
        // Another schema's: an extension, none of which we keep.
        _ if path.to_ascii_lowercase().starts_with("urn:") => return Some(Named::Foreign),
        _ => path,
    };
    let (name, filter, wanted, rest) = match path.split_once('[') {
        Some((name, rest)) => {
            let (filter, rest) = rest.rsplit_once(']')?;
            (name, Some(Filter::read(filter).ok()?), wanted(filter), rest.strip_prefix('.').or(Some(rest))?)
        }
        None => match path.split_once('.') {
            Some((name, sub)) => (name, None, None, sub),
            None => (path, None, None, ""),
        },
    };
    let is_name = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '$');
    if name.is_empty() || !is_name(name) || !is_name(rest) || OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
        return None;
    }
    let sub = Some(rest.to_owned()).filter(|sub| !sub.is_empty());
    Some(Named::Kept(Place { name: name.to_owned(), filter, wanted, sub }))
}

/// What a filter with one comparison compares with what.
fn wanted(filter: &str) -> Option<(String, String)> {
    let mut words = filter.trim().splitn(3, ' ');
    let (name, _, value) = (words.next()?, words.next()?, words.next()?);
    let value: String = serde_json::from_str(value.trim()).unwrap_or_else(|_| value.trim().to_owned());
    (!value.contains('"')).then(|| (name.to_owned(), value))
}

fn is_several(name: &str) -> bool {
    SEVERAL.iter().any(|several| several.eq_ignore_ascii_case(name))
}

fn is_primary(one: &Value) -> bool {
    one.as_object().and_then(|one| at(one, "primary")).is_some_and(|primary| *primary == true)
}

fn unmark(one: &mut Value) {
    if let Some(one) = one.as_object_mut() {
        let key = key_in(one, "primary");
        one.insert(key, Value::Bool(false));
    }
}

/// The key as it stands there, whatever its case.
fn key_in(object: &Map<String, Value>, name: &str) -> String {
    object.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned().unwrap_or_else(|| name.to_owned())
}

fn slot<'a>(user: &'a mut Map<String, Value>, name: &str) -> &'a mut Value {
    let key = key_in(user, name);
    user.entry(key).or_insert(Value::Null)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scim::Attributes;

    fn ada() -> Value {
        json!({ "userName": "ada", "active": true, "name": { "givenName": "Ada" },
            "emails": [{ "value": "a@x.eu", "type": "work", "primary": true }] })
    }

    fn after(operations: &Value) -> Result<Attributes, ScimError> {
        Attributes::read(&applied(&ada(), &json!({ "Operations": operations }))?)
    }

    #[test]
    fn what_directories_send_is_understood() {
        let gone = after(&json!([{ "op": "Replace", "path": "active", "value": "False" }])).unwrap();
        assert!(!gone.active);
        let gone = after(&json!([{ "op": "replace", "value": { "active": false } }])).unwrap();
        assert!(!gone.active);
        let named = after(&json!([{ "op": "Add", "path": "name.familyName", "value": "L" },
            { "op": "Replace", "value": { "name.givenName": "Augusta", "displayName": "A" } }]))
        .unwrap();
        assert_eq!((named.name.family_name.as_deref(), named.name.given_name.as_deref()), (Some("L"), Some("Augusta")));
        let moved = after(&json!([{ "op": "Replace", "path": "emails[type eq \"work\"].value", "value": "n@x.eu" }]));
        assert_eq!(moved.unwrap().address().as_deref(), Some("n@x.eu"));
        let role =
            after(&json!([{ "op": "Add", "path": "roles[primary eq \"True\"].value", "value": "admin" }])).unwrap();
        assert_eq!(role.role(), Ok(Some(crate::access::Role::Admin)));
        let one_more =
            after(&json!([{ "op": "add", "path": "emails", "value": [{ "value": "p@x.eu", "primary": true }] }]));
        let one_more = one_more.unwrap();
        assert_eq!((one_more.emails.len(), one_more.address().as_deref()), (2, Some("p@x.eu")));
        let none = after(&json!([{ "op": "remove", "path": "emails[value eq \"a@x.eu\"]" }])).unwrap();
        assert!(none.emails.is_empty());
        let extension = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department";
        assert!(after(&json!([{ "op": "Add", "path": extension, "value": "D" }])).is_ok());
    }

    #[test]
    fn a_wrong_operation_is_named_and_none_is_applied() {
        for wrong in [
            json!({ "op": "move", "path": "active", "value": true }),
            json!({ "op": "remove" }),
            json!({ "op": "replace", "path": "active" }),
            json!({ "op": "replace", "path": "id", "value": "scu_2" }),
            json!({ "op": "replace", "path": "emails[type co \"w\"].value", "value": "x" }),
            json!({ "op": "replace", "path": "emails[type", "value": "x" }),
            json!({ "op": "replace", "path": "", "value": "x" }),
            json!("replace"),
        ] {
            let good = json!({ "op": "replace", "path": "active", "value": false });
            assert_eq!(after(&json!([good, wrong])), Err(ScimError::Patch(1)), "{wrong}");
        }
        assert_eq!(after(&json!([])), Err(ScimError::Patch(0)));
        assert_eq!(after(&json!([{ "op": "remove", "path": "userName" }])), Err(ScimError::Attribute("userName")));
        assert_eq!(after(&json!([{ "op": "remove", "path": "active" }])), Err(ScimError::Attribute("active")));
    }
}
