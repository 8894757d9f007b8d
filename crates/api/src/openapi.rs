//! The `OpenAPI` document, made from the route table and the wire types.

use serde_json::{Value, json};
use utoipa::{PartialSchema, ToSchema, openapi::RefOr};

use crate::routes::{Access, ROUTES, Route};

macro_rules! schemas {
    ($($type:path),* $(,)?) => {{
        let mut found: Vec<(String, RefOr<utoipa::openapi::Schema>)> = Vec::new();
        $(
            found.push((<$type as ToSchema>::name().into_owned(), <$type as PartialSchema>::schema()));
            <$type as ToSchema>::schemas(&mut found);
        )*
        found
    }};
}

fn schemas() -> Vec<(String, RefOr<utoipa::openapi::Schema>)> {
    schemas![
        crate::problem::Problem,
        crate::catalogue::Health,
        crate::catalogue::Empty,
        crate::key::WhoAmI,
        crate::key::KeyCreate,
        crate::key::KeyCreated,
        crate::key::KeyRotate,
        crate::operator_key::OperatorKeyCreate,
        crate::access::AccessRequest,
        crate::access::AccessView,
        crate::access::AccessSetting,
        crate::scope::ScopeView,
        crate::scim::ScimCredentialCreate,
        crate::key::KeyView,
        crate::organisation::OrganisationCreate,
        crate::organisation::OrganisationCreated,
        crate::organisation::OrganisationView,
        crate::organisation::ResidencyView,
        crate::service_account::ServiceAccountCreate,
        crate::service_account::ServiceAccountWrite,
        crate::service_account::ServiceAccountView,
        crate::service_account::ServiceAccountKeyCreate,
        crate::service_account::TrustView,
        crate::page::ServiceAccountList,
        crate::token::DeviceAsk,
        crate::token::DeviceAnswer,
        crate::token::TokenAsk,
        crate::token::TokenAnswer,
        crate::token::TokenRevoke,
        crate::person::PersonView,
        crate::person::MemberView,
        crate::person::MemberWrite,
        crate::person::InvitationCreate,
        crate::person::InvitationCreated,
        crate::person::InvitationView,
        crate::person::DomainWrite,
        crate::person::DomainView,
        crate::page::MemberList,
        crate::page::InvitationList,
        crate::page::DomainList,
        crate::project::ProjectCreate,
        crate::project::ProjectView,
        crate::policy::PolicyWrite,
        crate::policy::PolicyView,
        crate::policy::PolicyChecked,
        crate::policy::PolicyExplain,
        crate::policy::PolicyReason,
        crate::policy::PolicyExplanation,
        crate::quota::QuotaWrite,
        crate::quota::QuotaView,
        crate::quota::ShareWrite,
        crate::page::PolicyList,
        crate::page::QuotaList,
        crate::site::SiteCreate,
        crate::sku::SkuCreate,
        crate::sku::SkuPriceWrite,
        crate::sku::SkuView,
        crate::site::SiteCreated,
        crate::site::SiteView,
        crate::dataset::DatasetCreate,
        crate::dataset::DatasetCreated,
        crate::dataset::DatasetView,
        crate::job::JobCreate,
        crate::job::JobView,
        crate::job::JobPreempt,
        crate::job::JobPreempted,
        crate::job::JobExplanation,
        crate::model::ModelView,
        crate::endpoint::EndpointCreate,
        crate::endpoint::EndpointView,
        crate::reservation::ReservationCreate,
        crate::reservation::ReservationQuote,
        crate::reservation::ReservationView,
        crate::reservation::CalendarView,
        crate::grant::GrantCreate,
        crate::grant::GrantCreated,
        crate::placement::PlacementAsk,
        crate::placement::PlacementAnswer,
        crate::usage::UsageSummary,
        crate::invoice::InvoiceDraftView,
        crate::invoice::BillingWrite,
        crate::invoice::BillingView,
        crate::invoice::InvoiceIssue,
        crate::invoice::CreditNoteCreate,
        crate::invoice::PaymentCreate,
        crate::invoice::InvoiceView,
        crate::invoice::InvoiceBooks,
        crate::page::InvoiceList,
        crate::invoice::BalanceView,
        crate::audit::AuditList,
        crate::audit::AuditConsistency,
        crate::protocol::SyncRequest,
        crate::protocol::SyncAnswer,
        crate::protocol::UsageBatch,
        crate::protocol::UsageReceipt,
        crate::page::OrganisationList,
        crate::page::ProjectList,
        crate::page::KeyList,
        crate::page::AccessList,
        crate::page::SiteList,
        crate::page::SkuList,
        crate::page::PriceList,
        crate::page::DatasetList,
        crate::page::JobList,
        crate::page::ProgressList,
        crate::page::ModelList,
        crate::page::EndpointList,
        crate::page::ReservationList,
        crate::page::UsageList,
        crate::page::QuarantineList,
        crate::page::PostingList,
    ]
}

/// The whole contract as `OpenAPI` 3.1.
pub fn document() -> Value {
    let mut components = serde_json::Map::new();
    let mut all = schemas();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, schema) in all {
        components.insert(name, serde_json::to_value(schema).expect("schemas always serialise"));
    }
    let mut paths = serde_json::Map::new();
    for route in ROUTES {
        // The rest of a path is one more parameter to the document.
        let path = paths.entry(route.path.replace("{*", "{")).or_insert_with(|| json!({}));
        path[route.method.to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Gregal control plane",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Rent compute, train, serve, and be billed on an invoice you can recompute."
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer", "description": "A key: `gk_...`" } }
        }
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| name.trim_start_matches('*'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    if route.creates() {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "A text made by the client: the same key and body are the same act, however often sent.",
            "schema": { "type": "string", "maxLength": 128 }
        }));
    }
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "responses": {
            route.status.to_string(): { "description": "Done.", "content": content(route.response.unwrap_or("object")) },
            "default": { "description": "A problem, with a stable code.", "content": {
                "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } } }
        }
    });
    if !parameters.is_empty() {
        operation["parameters"] = json!(parameters);
    }
    if let Some(request) = route.request {
        operation["requestBody"] = json!({ "required": true, "content": content(request) });
        if matches!(route.access, Access::Proof) {
            // OAuth speaks forms.
            let schema = operation["requestBody"]["content"]["application/json"].take();
            operation["requestBody"]["content"] = json!({ "application/x-www-form-urlencoded": schema });
        }
    }
    if !matches!(route.access, Access::Public | Access::Proof) {
        operation["security"] = json!([{ "key": [] }]);
    }
    if let Access::Directory = route.access {
        operation["x-gregal-action"] = json!(gregal_core::access::Action::ScimProvision.as_str());
    }
    if let Access::Key(action) = route.access {
        operation["x-gregal-action"] = json!(action.as_str());
    }
    operation
}

fn content(schema: &str) -> Value {
    match schema {
        "text/plain" => json!({ "text/plain": { "schema": { "type": "string" } } }),
        "application/octet-stream" => json!({ "application/octet-stream": {} }),
        "object" => json!({ "application/json": { "schema": { "type": "object" } } }),
        name => json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/{name}") } } }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_a_route_names_is_in_the_document() {
        let document = document();
        for route in ROUTES {
            for name in [route.request, route.response].into_iter().flatten() {
                if !["text/plain", "application/octet-stream", "object"].contains(&name) {
                    assert!(document["components"]["schemas"][name].is_object(), "{}: no schema {name}", route.id);
                }
            }
        }
    }
}
