//! The routes of SCIM 2.0 (RFC 7644): the door of an organisation's directory, and the credentials that open it.

use super::{
    A,
    Access::{Directory, Key},
    Route, create, read,
};

/// Where a directory asks, before the noun.
const USERS: &str = "/api/v1/organisations/{organisation}/scim/v2/Users";
const SEARCH: &str = "/api/v1/organisations/{organisation}/scim/v2/.search";
const USERS_SEARCH: &str = "/api/v1/organisations/{organisation}/scim/v2/Users/.search";
const USER: &str = "/api/v1/organisations/{organisation}/scim/v2/Users/{scim_user}";

/// A route of the directory's door. The bodies are SCIM's own.
const fn door(id: &'static str, method: &'static str, path: &'static str, status: u16, summary: &'static str) -> Route {
    let takes = matches!(method.as_bytes(), b"POST" | b"PUT" | b"PATCH");
    let changes = !matches!(method.as_bytes(), b"GET");
    let request = if takes { Some("object") } else { None };
    Route { id, method, path, access: Directory, request, response: Some("object"), status, changes, summary }
}

/// The routes.
pub(super) const ROUTES: &[Route] = &[
    create(
        "scim_credential_create",
        "/api/v1/organisations/{organisation}/scim/credentials",
        A::ScimConfigure,
        ("ScimCredentialCreate", "KeyCreated"),
        "Make a credential for the organisation's directory, shown once: it says who joins and who leaves, and does nothing else.",
    ),
    read(
        "scim_credentials_list",
        "/api/v1/organisations/{organisation}/scim/credentials",
        Key(A::ScimConfigure),
        "KeyList",
        "List the directory's credentials, never their secrets; revoke one as any key.",
    ),
    door(
        "scim_config_read",
        "GET",
        "/api/v1/organisations/{organisation}/scim/v2/ServiceProviderConfig",
        200,
        "Say what of SCIM 2.0 is spoken here.",
    ),
    door(
        "scim_types_read",
        "GET",
        "/api/v1/organisations/{organisation}/scim/v2/ResourceTypes",
        200,
        "Say which types a directory may tell of.",
    ),
    door(
        "scim_type_read",
        "GET",
        "/api/v1/organisations/{organisation}/scim/v2/ResourceTypes/{scim_type}",
        200,
        "Describe one type.",
    ),
    door(
        "scim_schemas_read",
        "GET",
        "/api/v1/organisations/{organisation}/scim/v2/Schemas",
        200,
        "Say which attributes are kept.",
    ),
    door(
        "scim_schema_read",
        "GET",
        "/api/v1/organisations/{organisation}/scim/v2/Schemas/{scim_schema}",
        200,
        "Describe one schema.",
    ),
    door(
        "scim_users_list",
        "GET",
        USERS,
        200,
        "List whom the directory told of, with `filter`, `attributes`, `excludedAttributes`, `startIndex` and `count`.",
    ),
    Route { changes: false, ..door("scim_search", "POST", SEARCH, 200, "List as `Users` does, asked in the body.") },
    Route {
        changes: false,
        ..door("scim_users_search", "POST", USERS_SEARCH, 200, "List as `Users` does, asked in the body.")
    },
    door("scim_user_create", "POST", USERS, 201, "Tell of somebody: a member-to-be, or a member with that address."),
    door("scim_user_read", "GET", USER, 200, "Read what the directory told of somebody."),
    door("scim_user_replace", "PUT", USER, 200, "Tell of somebody anew; `active` false ends the membership at once."),
    door(
        "scim_user_patch",
        "PATCH",
        USER,
        200,
        "Change what was told of somebody; `active` false ends the membership at once.",
    ),
    door("scim_user_delete", "DELETE", USER, 204, "Forget somebody: the membership ends at once."),
];
