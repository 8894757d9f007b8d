//! The router, made from the table of routes: a route without a handler, or a handler without a route, does not start.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Request},
    handler::Handler,
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
    routing::{MethodFilter, MethodRouter, on},
};
use gregal_api::{
    problem::{Code, Problem},
    routes::{ROUTES, Route},
    unread,
};

use crate::{
    Control, Error, Result,
    console::{self, ConsoleOptions},
    http::{
        access, audit, catalogue, dataset, endpoint, envelope, grant, guard, invoice, job, key, model, organisation,
        peer, person, placement, policy, project, quota, reservation, scim, service_account, site, sku, token, usage,
    },
};

/// A handler, by the name of its route.
struct Binding {
    id: &'static str,
    bind: Box<dyn Fn(MethodFilter) -> MethodRouter<Control>>,
}

fn bound<T: 'static>(id: &'static str, handler: impl Handler<T, Control>) -> Binding {
    Binding { id, bind: Box::new(move |method| on(method, handler.clone())) }
}

/// Every handler.
fn bindings() -> Vec<Binding> {
    vec![
        bound("health_live", catalogue::health_live),
        bound("health_ready", catalogue::health_ready),
        bound("metrics_read", catalogue::metrics_read),
        bound("openapi_read", catalogue::openapi_read),
        bound("whoami", key::whoami),
        bound("skus_list", sku::list),
        bound("sku_read", sku::read),
        bound("sku_create", sku::create),
        bound("sku_price", sku::price),
        bound("sku_retire", sku::retire),
        bound("prices_list", catalogue::prices_list),
        bound("sites_list", site::list),
        bound("site_read", site::read),
        bound("site_create", site::create),
        bound("organisation_create", organisation::create),
        bound("organisations_list", organisation::list),
        bound("organisation_read", organisation::read),
        bound("residency_write", organisation::residency_write),
        bound("policies_list", policy::list),
        bound("policy_write", policy::write),
        bound("policy_remove", policy::remove),
        bound("policy_check", policy::check),
        bound("project_policies_list", policy::project_list),
        bound("project_policy_write", policy::project_write),
        bound("project_policy_remove", policy::project_remove),
        bound("project_policy_check", policy::project_check),
        bound("policy_explain", policy::explain),
        bound("project_create", project::create),
        bound("projects_list", project::list),
        bound("project_read", project::read),
        bound("quotas_list", quota::list),
        bound("quota_write", quota::write),
        bound("quota_remove", quota::remove),
        bound("share_write", quota::share_write),
        bound("project_quotas_list", quota::project_list),
        bound("project_quota_write", quota::project_write),
        bound("project_quota_remove", quota::project_remove),
        bound("key_create", key::create),
        bound("keys_list", key::list),
        bound("key_rotate", key::rotate),
        bound("key_revoke", key::revoke),
        bound("service_account_create", service_account::create),
        bound("service_accounts_list", service_account::list),
        bound("service_account_read", service_account::read),
        bound("service_account_write", service_account::write),
        bound("service_account_remove", service_account::remove),
        bound("service_account_key_create", service_account::key_create),
        bound("service_account_keys_list", service_account::keys),
        bound("scim_credential_create", scim::credential_create),
        bound("scim_credentials_list", scim::credentials),
        bound("scim_config_read", scim::config),
        bound("scim_types_read", scim::types),
        bound("scim_type_read", scim::type_read),
        bound("scim_schemas_read", scim::schemas),
        bound("scim_schema_read", scim::schema_read),
        bound("scim_users_list", scim::list),
        bound("scim_search", scim::search),
        bound("scim_users_search", scim::search),
        bound("scim_user_create", scim::create),
        bound("scim_user_read", scim::read),
        bound("scim_user_replace", scim::replace),
        bound("scim_user_patch", scim::patch),
        bound("scim_user_delete", scim::delete),
        bound("device_begin", token::device),
        bound("token_create", token::create),
        bound("token_revoke", token::revoke),
        bound("person_read", person::read),
        bound("person_forget", person::forget),
        bound("person_erase", person::erase),
        bound("members_list", person::members),
        bound("member_write", person::member_write),
        bound("member_remove", person::member_remove),
        bound("membership_leave", person::leave),
        bound("invitation_create", person::invitation_create),
        bound("invitations_list", person::invitations),
        bound("invitation_revoke", person::invitation_revoke),
        bound("domains_list", person::domains),
        bound("domain_write", person::domain_write),
        bound("domain_remove", person::domain_remove),
        bound("operator_key_create", access::operator_key_create),
        bound("operator_keys_list", access::operator_keys_list),
        bound("operator_key_revoke", access::operator_key_revoke),
        bound("access_request", access::request),
        bound("accesses_list", access::list),
        bound("access_approve", access::approve),
        bound("access_consent", access::consent),
        bound("access_end", access::end),
        bound("access_setting_read", access::setting_read),
        bound("access_setting_write", access::setting_write),
        bound("dataset_create", dataset::create),
        bound("datasets_list", dataset::list),
        bound("dataset_read", dataset::read),
        bound("dataset_delete", dataset::delete),
        bound("job_create", job::create),
        bound("jobs_list", job::list),
        bound("job_read", job::read),
        bound("job_progress", job::progress),
        bound("job_explain", job::explain),
        bound("job_cancel", job::cancel),
        bound("job_preempt", job::preempt),
        bound("reservation_create", reservation::create),
        bound("reservation_quote", reservation::quote),
        bound("reservations_list", reservation::list),
        bound("reservation_read", reservation::read),
        bound("reservation_cancel", reservation::cancel),
        bound("calendar_read", reservation::calendar),
        bound("models_list", model::list),
        bound("model_read", model::read),
        bound("endpoint_create", endpoint::create),
        bound("endpoints_list", endpoint::list),
        bound("endpoint_read", endpoint::read),
        bound("endpoint_delete", endpoint::delete),
        bound("grant_create", grant::create),
        bound("placement_explain", placement::explain),
        bound("usage_list", usage::list),
        bound("usage_summary", usage::summary),
        bound("invoice_draft", invoice::draft),
        bound("billing_read", invoice::billing_read),
        bound("billing_write", invoice::billing_write),
        bound("invoice_issue", invoice::issue),
        bound("invoices_list", invoice::list),
        bound("invoice_read", invoice::read),
        bound("invoice_document", invoice::document),
        bound("invoice_records", invoice::records),
        bound("invoice_books", invoice::books),
        bound("credit_note_issue", invoice::credit),
        bound("payment_create", invoice::pay),
        bound("balance_read", invoice::balance),
        bound("postings_list", invoice::postings),
        bound("audit_list", audit::list),
        bound("audit_list_all", audit::list_all),
        bound("audit_checkpoint", audit::checkpoint),
        bound("audit_consistency", audit::consistency),
        bound("audit_tile", audit::tile),
        bound("audit_entries", audit::entries),
        bound("site_quarantine", site::quarantine),
        bound("site_sync", site::sync),
        bound("site_usage", site::usage),
    ]
}

/// Says which routes have no handler and which handlers no route, or more than one.
fn mismatch(routes: &[Route], handlers: &[&str]) -> Option<String> {
    let count = |id: &str| handlers.iter().filter(|handler| **handler == id).count();
    let of_routes = routes.iter().filter(|route| count(route.id) != 1);
    let mut wrong: Vec<String> =
        of_routes.map(|route| format!("route `{}` has {} handlers", route.id, count(route.id))).collect();
    let strays = handlers.iter().filter(|handler| !routes.iter().any(|route| route.id == **handler));
    wrong.extend(strays.map(|handler| format!("handler `{handler}` has no route")));
    if wrong.is_empty() { None } else { Some(wrong.join(", ")) }
}

/// Checks that every route has exactly one handler, and every handler a route.
pub(crate) fn check() -> Result<()> {
    let handlers = bindings();
    let names: Vec<&str> = handlers.iter().map(|binding| binding.id).collect();
    match mismatch(ROUTES, &names) {
        None => Ok(()),
        Some(wrong) => Err(Error::Broken(wrong)),
    }
}

impl Control {
    /// Answers requests: the API, and the console beside it. Whoever binds a socket serves this.
    pub fn router(&self) -> Router {
        let options = ConsoleOptions {
            world: Arc::clone(&self.options().world),
            url: self.options().url.clone(),
            door: self.clone(),
        };
        // The console has no private door: it is given the API's router, and calls it as any client would.
        self.api_router()
            .merge(console::router(self.api_router(), options))
            .layer(from_fn(drained))
            .layer(from_fn_with_state(self.clone(), peer::find))
    }

    /// The API alone.
    pub(crate) fn api_router(&self) -> Router {
        let handlers = bindings();
        let mut router = Router::new();
        for route in ROUTES {
            let handler = handlers.iter().find(|binding| binding.id == route.id);
            let handler = handler.expect("`Control::open` checked that every route has a handler");
            let guarded = from_fn_with_state((self.clone(), route), guard::guard);
            router = router.route(route.path, (handler.bind)(method(route)).route_layer(guarded));
        }
        router
            .fallback(unknown)
            .method_not_allowed_fallback(not_allowed)
            .layer(from_fn_with_state(self.clone(), envelope::envelope))
            // The guard bounds every body, in our own words; the framework's bound would answer in plain text.
            .layer(DefaultBodyLimit::disable())
            .with_state(self.clone())
    }
}

/// Lets a client hear its answer even where its body was not wanted.
async fn drained(request: Request, next: Next) -> Response {
    let (request, unread) = unread::lend(request);
    let response = next.run(request.map(Body::new)).await;
    unread.drain().await;
    response
}

fn method(route: &Route) -> MethodFilter {
    match route.method {
        "GET" => MethodFilter::GET,
        "PUT" => MethodFilter::PUT,
        "DELETE" => MethodFilter::DELETE,
        "POST" => MethodFilter::POST,
        "PATCH" => MethodFilter::PATCH,
        other => panic!("the table of routes holds the method `{other}`"),
    }
}

async fn unknown() -> Error {
    Problem::new(Code::NotFound, "there is nothing at this path")
        .hint("the routes are in `/api/v1/openapi.json`")
        .into()
}

async fn not_allowed() -> Error {
    Error::refused(Code::MethodNotAllowed, "this path knows other methods")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_exactly_one_handler_and_every_handler_a_route() {
        check().unwrap();
    }

    #[test]
    fn a_missing_a_doubled_and_a_stray_handler_are_named() {
        let routes = &ROUTES[..2];
        let (first, second) = (routes[0].id, routes[1].id);
        assert_eq!(mismatch(routes, &[first, second]), None);
        let wrong = mismatch(routes, &[first, first, "stray"]).unwrap();
        assert!(wrong.contains(&format!("route `{first}` has 2 handlers")), "{wrong}");
        assert!(wrong.contains(&format!("route `{second}` has 0 handlers")), "{wrong}");
        assert!(wrong.contains("handler `stray` has no route"), "{wrong}");
    }
}
