//! SCIM on the wire: the credential we make, and SCIM's own documents (RFC 7643).

mod shape;

use gregal_core::{
    access::Role,
    scim::{ScimUser, USER_SCHEMA},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

pub use self::shape::{Search, Shape};

/// What SCIM calls its media type.
pub const SCIM_JSON: &str = "application/scim+json";
/// The most users of one answer.
pub const SCIM_COUNT_MAX: usize = 200;

/// Makes a credential for an organisation's directory.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScimCredentialCreate {
    /// What people call it, 1 to 80 characters.
    pub name: String,
    /// Whose grants bound it: `admin` (absent) lets it give `developer`, `inference` and `viewer`, `owner` every role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "admin")]
    pub role: Option<Role>,
    /// Seconds until it stops working by itself, at most 366 days; absent: 180 days.
    #[serde(default)]
    pub expires_in_s: Option<u32>,
}

/// A user as SCIM writes it; `base` is the address of the directory's door.
pub fn user(user: &ScimUser, base: &str) -> Value {
    let mut shown = serde_json::to_value(&user.attributes).unwrap_or_default();
    if shown["name"] == json!({}) {
        shown.as_object_mut().map(|shown| shown.remove("name"));
    }
    shown["schemas"] = json!([USER_SCHEMA]);
    shown["id"] = json!(user.id.to_string());
    shown["meta"] = json!({
        "resourceType": "User", "created": user.created_at.to_string(), "lastModified": user.updated_at.to_string(),
        "location": format!("{base}/Users/{}", user.id),
    });
    shown
}

/// A page of a list; `start` counts from 1.
pub fn list(resources: &[Value], total: usize, start: usize) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": total, "startIndex": start, "itemsPerPage": resources.len(), "Resources": resources,
    })
}

/// What is spoken here, and what is not.
pub fn config(base: &str) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        "patch": { "supported": true },
        "bulk": { "supported": false, "maxOperations": 0, "maxPayloadSize": 0 },
        "filter": { "supported": true, "maxResults": SCIM_COUNT_MAX },
        "changePassword": { "supported": false }, "sort": { "supported": false }, "etag": { "supported": false },
        "authenticationSchemes": [{
            "type": "oauthbearertoken", "name": "Bearer",
            "description": "A credential that an owner of the organisation made for its directory", "primary": true,
        }],
        "meta": { "resourceType": "ServiceProviderConfig", "location": format!("{base}/ServiceProviderConfig") },
    })
}

/// The one type.
pub fn user_type(base: &str) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],
        "id": "User", "name": "User", "endpoint": "/Users", "description": "A member of the organisation, or one to be",
        "schema": USER_SCHEMA,
        "meta": { "resourceType": "ResourceType", "location": format!("{base}/ResourceTypes/User") },
    })
}

/// The one schema: what is kept of a user.
pub fn user_schema(base: &str) -> Value {
    let text = |name: &str, description: &str| attribute(name, "string", description);
    let several = |name: &str, description: &str| {
        let mut several = attribute(name, "complex", description);
        several["multiValued"] = json!(true);
        several["subAttributes"] = json!([
            text("value", "The value"),
            text("type", "What it is for"),
            attribute("primary", "boolean", "Whether it is the one that counts"),
        ]);
        several
    };
    let mut active = attribute("active", "boolean", "Whether they belong to the organisation now; absent: yes");
    // So that nobody takes it away: whether somebody belongs there is never left open.
    active["required"] = json!(true);
    let mut user_name = text("userName", "What they sign in as; one a user");
    user_name["required"] = json!(true);
    user_name["uniqueness"] = json!("server");
    let mut roles = several("roles", "The role they get, by its name");
    let of_tenants = Role::ALL.iter().filter(|role| Role::Owner.may_grant(**role));
    roles["subAttributes"][0]["canonicalValues"] = of_tenants.map(|role| role.as_str()).collect();
    let mut name = attribute("name", "complex", "What they are called");
    name["subAttributes"] =
        json!([text("formatted", "All of it"), text("givenName", "Given name"), text("familyName", "Family name")]);
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"],
        "id": USER_SCHEMA, "name": "User", "description": "A member of the organisation, or one to be",
        "attributes": [
            user_name, name, text("displayName", "What people see of them"),
            several("emails", "Their addresses; the primary one is what the organisation's provider vouches for"),
            roles,
            active,
        ],
        "meta": { "resourceType": "Schema", "location": format!("{base}/Schemas/{USER_SCHEMA}") },
    })
}

fn attribute(name: &str, kind: &str, description: &str) -> Value {
    let mut attribute = json!({
        "name": name, "type": kind, "description": description, "multiValued": false, "required": false,
        "mutability": "readWrite", "returned": "default", "uniqueness": "none",
    });
    if kind == "string" {
        attribute["caseExact"] = json!(false);
    }
    attribute
}
