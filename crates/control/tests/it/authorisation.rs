//! One case a route: who may, and what everyone else is told. A route without a row here fails.

use gregal_api::routes::{Access, ROUTES, Route};
use gregal_core::access::Role::{
    self, Admin, Auditor, Billing, BillingOperator, DataProtectionOfficer, Developer, Inference, Operator,
    OperatorAuditor, Owner, SiteOperator, Support, Viewer, Visitor,
};
use serde_json::{Value, json};

use crate::{
    endpoint,
    world::{Cloud, FakeSite, Tenant},
};

/// What a route is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// Health and the contract.
    Nothing,
    /// The asker itself.
    Self_,
    /// The cloud: its catalogue and its lists.
    Cloud,
    /// An organisation as a whole.
    Organisation,
    /// A project, or something in one.
    Project,
    /// A site, asking for itself.
    Site,
}

struct Row {
    route: &'static str,
    about: About,
    /// Who may, in the organisation and not bound to a project.
    may: &'static [Role],
    /// What an owner bound to a sibling project is told, where it differs from "not found".
    sibling: u16,
}

const fn row(route: &'static str, about: About, may: &'static [Role]) -> Row {
    Row { route, about, may, sibling: 404 }
}

const CATALOGUE: &[Role] = &[
    Operator,
    SiteOperator,
    BillingOperator,
    Support,
    OperatorAuditor,
    Owner,
    Admin,
    Developer,
    Viewer,
    Billing,
    Auditor,
    DataProtectionOfficer,
];
const FOUNDER: &[Role] = &[Operator];
const MACHINES: &[Role] = &[Operator, SiteOperator];
const BUSINESS: &[Role] = &[Operator, BillingOperator];
const HELPERS: &[Role] = &[Operator, Support];
const LOOKS: &[Role] = &[Operator, Support, OperatorAuditor, Owner, Admin, Auditor, DataProtectionOfficer];
const ORGANISATION: &[Role] = &[
    Operator,
    BillingOperator,
    Support,
    OperatorAuditor,
    Owner,
    Admin,
    Developer,
    Viewer,
    Billing,
    Auditor,
    DataProtectionOfficer,
    Visitor,
];
const EVERY_FACT: &[Role] = &[Owner, Admin, Developer, Viewer, Auditor, DataProtectionOfficer, Visitor];
const SERVED: &[Role] = &[Owner, Admin, Developer, Inference, Viewer, Auditor, DataProtectionOfficer, Visitor];
const RESERVED: &[Role] = &[Owner, Admin, Developer, Viewer, Auditor, Visitor];
const MAKERS: &[Role] = &[Owner, Admin, Developer];
const ADMINS: &[Role] = &[Owner, Admin];

const ROWS: &[Row] = &[
    row("health_live", About::Nothing, &[]),
    row("health_ready", About::Nothing, &[]),
    row("metrics_read", About::Nothing, &[]),
    row("openapi_read", About::Nothing, &[]),
    row("audit_checkpoint", About::Nothing, &[]),
    row("whoami", About::Self_, Role::ALL),
    row("skus_list", About::Cloud, CATALOGUE),
    row("sku_read", About::Cloud, CATALOGUE),
    row("sku_create", About::Cloud, BUSINESS),
    row("sku_price", About::Cloud, BUSINESS),
    row("sku_retire", About::Cloud, BUSINESS),
    row("prices_list", About::Cloud, CATALOGUE),
    row("sites_list", About::Cloud, CATALOGUE),
    row("site_read", About::Cloud, CATALOGUE),
    row("site_create", About::Cloud, MACHINES),
    row("site_quarantine", About::Cloud, &[Operator, SiteOperator, OperatorAuditor]),
    row("organisation_create", About::Cloud, BUSINESS),
    row("audit_list_all", About::Cloud, &[Operator, OperatorAuditor]),
    Row { sibling: 200, ..row("organisations_list", About::Cloud, ORGANISATION) },
    row("organisation_read", About::Organisation, ORGANISATION),
    row("residency_write", About::Organisation, &[Owner]),
    row(
        "quotas_list",
        About::Organisation,
        &[Operator, BillingOperator, Owner, Admin, Developer, Viewer, Billing, Auditor, Visitor],
    ),
    row("quota_write", About::Organisation, BUSINESS),
    row("quota_remove", About::Organisation, BUSINESS),
    row("share_write", About::Organisation, BUSINESS),
    row("project_quotas_list", About::Project, &[Owner, Admin, Developer, Viewer, Billing, Auditor, Visitor]),
    row("project_quota_write", About::Project, ADMINS),
    row("project_quota_remove", About::Project, ADMINS),
    row("project_create", About::Organisation, ADMINS),
    Row {
        sibling: 200,
        ..row(
            "projects_list",
            About::Organisation,
            &[Owner, Admin, Developer, Viewer, Billing, Auditor, DataProtectionOfficer, Visitor],
        )
    },
    Row {
        sibling: 200,
        ..row("usage_list", About::Organisation, &[Owner, Admin, Developer, Viewer, Billing, Auditor])
    },
    Row {
        sibling: 200,
        ..row("usage_summary", About::Organisation, &[Owner, Admin, Developer, Viewer, Billing, Auditor])
    },
    row("invoice_draft", About::Organisation, &[Owner, Billing]),
    row("balance_read", About::Organisation, &[Owner, Billing]),
    row("postings_list", About::Organisation, &[Owner, Billing]),
    row("audit_list", About::Organisation, &[Owner, Admin, Auditor, DataProtectionOfficer]),
    row(
        "project_read",
        About::Project,
        &[Owner, Admin, Developer, Viewer, Billing, Auditor, DataProtectionOfficer, Visitor],
    ),
    row("key_create", About::Project, MAKERS),
    row("keys_list", About::Project, &[Owner, Admin, Developer, Viewer, Auditor, DataProtectionOfficer]),
    row("key_rotate", About::Project, MAKERS),
    row("key_revoke", About::Project, MAKERS),
    row("operator_key_create", About::Cloud, FOUNDER),
    row("operator_keys_list", About::Cloud, &[Operator, OperatorAuditor]),
    row("operator_key_revoke", About::Cloud, FOUNDER),
    row("access_request", About::Organisation, HELPERS),
    row("accesses_list", About::Organisation, LOOKS),
    row("access_approve", About::Organisation, HELPERS),
    row("access_consent", About::Organisation, &[Owner, DataProtectionOfficer]),
    row("access_end", About::Organisation, &[Operator, Support, Owner, Admin, DataProtectionOfficer]),
    row("access_setting_read", About::Organisation, LOOKS),
    row("access_setting_write", About::Organisation, &[Owner, DataProtectionOfficer]),
    row("dataset_create", About::Project, MAKERS),
    row("datasets_list", About::Project, EVERY_FACT),
    row("dataset_read", About::Project, EVERY_FACT),
    row("dataset_delete", About::Project, MAKERS),
    row("job_create", About::Project, MAKERS),
    row("jobs_list", About::Project, EVERY_FACT),
    row("job_read", About::Project, EVERY_FACT),
    row("job_progress", About::Project, EVERY_FACT),
    row("job_explain", About::Project, EVERY_FACT),
    row("job_cancel", About::Project, MAKERS),
    row("job_preempt", About::Cloud, MACHINES),
    row("calendar_read", About::Cloud, CATALOGUE),
    row("reservation_create", About::Project, MAKERS),
    row("reservation_quote", About::Project, MAKERS),
    row("reservations_list", About::Project, RESERVED),
    row("reservation_read", About::Project, RESERVED),
    row("reservation_cancel", About::Project, MAKERS),
    row("models_list", About::Project, SERVED),
    row("model_read", About::Project, SERVED),
    row("endpoint_create", About::Project, MAKERS),
    row("endpoints_list", About::Project, SERVED),
    row("endpoint_read", About::Project, SERVED),
    row("endpoint_delete", About::Project, MAKERS),
    row("grant_create", About::Project, MAKERS),
    row("placement_explain", About::Project, EVERY_FACT),
    row("site_sync", About::Site, &[]),
    row("site_usage", About::Site, &[]),
];

/// A cloud with one of everything.
struct World {
    cloud: Cloud,
    site: FakeSite,
    tenant: Tenant,
    dataset: String,
    spare: String,
    job: String,
    model: String,
    endpoint: String,
    reservation: String,
    key: String,
    /// Each is rotated once.
    rotated: std::cell::RefCell<Vec<String>>,
    /// Operators' keys, each revoked once.
    operators: std::cell::RefCell<Vec<String>>,
    /// Each takes one step.
    accesses: std::cell::RefCell<Vec<String>>,
    made: std::cell::Cell<u32>,
}

impl World {
    async fn open() -> Self {
        let cloud = Cloud::open().await;
        let mut site = cloud.site("lyon", "FR").await;
        let tenant = cloud.tenant("Acme", 100_000).await;
        let model = endpoint::model(&cloud, &tenant, &mut site).await;
        let endpoint = endpoint::serving(&cloud, &tenant, &mut site, &model).await.to_string();
        let dataset = cloud.dataset(&tenant, &mut site, "more.jsonl").await;
        let spare = cloud.dataset(&tenant, &mut site, "spare.jsonl").await;
        let job = cloud.job(&tenant, &dataset, "again").await.to_string();
        let wanted = json!({ "name": "k", "role": "inference" });
        let made = cloud.call(&tenant.owner, "key_create", &[&tenant.project()], wanted).await.good();
        let key = made["key"]["id"].as_str().unwrap().to_owned();
        let (mut operators, mut accesses) = (Vec::new(), Vec::new());
        for number in 0..2 * Role::ALL.len() {
            let wanted = json!({ "name": format!("o{number}"), "role": "support" });
            let made = cloud.call(&cloud.operator, "operator_key_create", &[], wanted).await.good();
            operators.push(made["key"]["id"].as_str().unwrap().to_owned());
            let secret = made["secret"].as_str().unwrap();
            for _ in 0..3 {
                let wanted = json!({ "reason": "an example of a wish", "seconds": 60 });
                let asked = cloud.call(secret, "access_request", &[&tenant.organisation()], wanted).await.good();
                accesses.push(asked["id"].as_str().unwrap().to_owned());
            }
        }
        let mut rotated = Vec::new();
        for number in 0..2 * Role::ALL.len() {
            let wanted = json!({ "name": format!("r{number}"), "role": "inference" });
            let made = cloud.call(&tenant.owner, "key_create", &[&tenant.project()], wanted).await.good();
            rotated.push(made["key"]["id"].as_str().unwrap().to_owned());
        }
        let wanted = crate::reservation::wanted(&cloud, "block", ("cpu.1", 1), 1, 2);
        let made = cloud.call(&tenant.owner, "reservation_create", &[&tenant.project()], wanted).await.good();
        let reservation = made["id"].as_str().unwrap().to_owned();
        Self {
            cloud,
            site,
            tenant,
            dataset,
            spare,
            job,
            model,
            endpoint,
            reservation,
            key,
            rotated: rotated.into(),
            operators: operators.into(),
            accesses: accesses.into(),
            made: std::cell::Cell::new(0),
        }
    }

    /// What the route's braces stand for.
    fn parameters(&self, route: &Route) -> Vec<String> {
        let named = |part: &str| match part {
            "{organisation}" => self.tenant.organisation(),
            "{project}" => self.tenant.project(),
            "{site}" => self.site.id.to_string(),
            "{key}" if route.id == "key_rotate" => self.rotated.borrow_mut().pop().unwrap(),
            "{key}" if route.id == "operator_key_revoke" => self.operators.borrow_mut().pop().unwrap(),
            "{access}" => self.accesses.borrow_mut().pop().unwrap(),
            "{key}" => self.key.clone(),
            "{dataset}" if route.id == "dataset_delete" => self.spare.clone(),
            "{dataset}" => self.dataset.clone(),
            "{job}" => self.job.clone(),
            "{sku}" if route.id == "sku_retire" => "cpu.4".into(),
            "{sku}" => "cpu.1".into(),
            "{model}" => self.model.clone(),
            "{endpoint}" => self.endpoint.clone(),
            "{reservation}" => self.reservation.clone(),
            other => panic!("{}: no object for {other}", route.id),
        };
        route.path.split('/').filter(|part| part.starts_with('{')).map(named).collect()
    }

    /// A body that would be answered well, under a name that is free.
    fn body(&self, route: &Route) -> Value {
        self.made.set(self.made.get() + 1);
        let name = format!("n{}", self.made.get());
        match route.request {
            None => Value::Null,
            Some("Empty" | "PlacementAsk" | "KeyRotate") => json!({}),
            Some("SiteCreate") => json!({
                "name": name, "jurisdiction": "FR", "operator_name": "Hoster", "operator_jurisdiction": "FR",
                "operator_parent_jurisdiction": "FR",
            }),
            Some("SkuCreate") => json!({ "name": name, "cpus_milli": 1000, "memory_bytes": 1_u64 << 30 }),
            Some("SkuPriceWrite") => json!({ "core_hour_nano": 0 }),
            Some("OrganisationCreate") => json!({ "name": name, "country": "FR" }),
            Some("ResidencyView") => json!({ "jurisdictions": ["EU"] }),
            Some("ProjectCreate" | "DatasetCreate") => json!({ "name": name }),
            Some("KeyCreate") => json!({ "name": name, "role": "inference" }),
            Some("OperatorKeyCreate") => json!({ "name": name, "role": "support" }),
            Some("AccessRequest") => json!({ "reason": "an example of a wish", "seconds": 60 }),
            Some("AccessSetting") => json!({ "setting": "consent" }),
            Some("JobCreate") => crate::world::training(&self.dataset, &name),
            Some("JobPreempt") => json!({ "why": "a machine is taken out" }),
            Some("QuotaWrite") => json!({ "guarantee": 0 }),
            Some("ShareWrite") => json!({ "weight": 1, "priority_max": 4 }),
            Some("EndpointCreate") => json!({ "name": name, "model": self.model }),
            // Each in a day of its own, so that none is in another's way.
            Some("ReservationCreate") => crate::reservation::wanted(
                &self.cloud,
                &name,
                ("cpu.1", 1),
                24 * i64::from(self.made.get() % 80) + 24,
                24 * i64::from(self.made.get() % 80) + 25,
            ),
            Some("GrantCreate") => json!({ "purpose": "dataset_read", "object": self.dataset }),
            Some("SyncRequest") => serde_json::to_value(&self.site.report).unwrap(),
            Some("UsageBatch") => json!({ "events": [] }),
            Some(other) => panic!("{}: no example of {other}", route.id),
        }
    }

    async fn ask(&self, key: &str, route: &Route) -> u16 {
        let parameters = self.parameters(route);
        let parameters: Vec<&str> = parameters.iter().map(String::as_str).collect();
        let answer = self.cloud.call(key, route.id, &parameters, self.body(route)).await;
        if answer.status >= 400 {
            answer.problem();
        }
        answer.status
    }
}

/// What a key of this role in the organisation is told.
fn expected(row: &Row, role: Role, good: u16) -> u16 {
    let is_tenants = matches!(row.about, About::Organisation | About::Project);
    match row.about {
        About::Nothing => good,
        About::Site => 401,
        _ if row.may.contains(&role) => good,
        // What tenants own does not exist for operators.
        _ if role.is_operator() && is_tenants && !row.may.iter().any(|role| role.is_operator()) => 404,
        _ => 403,
    }
}

#[tokio::test]
async fn every_route_lets_in_whom_it_should_and_tells_everyone_else_the_right_thing() {
    let world = World::open().await;
    let stranger = world.cloud.tenant("Other", 1_000).await.owner;
    let (tenant, wanted) = (&world.tenant, json!({ "name": "sibling" }));
    let made = world.cloud.call(&tenant.owner, "project_create", &[&tenant.organisation()], wanted).await.good();
    let sibling_project = made["id"].as_str().unwrap().parse().unwrap();
    let sibling = world.cloud.key(Some(world.tenant.organisation), Some(sibling_project), Owner).await;
    let mut keys = vec![(Operator, world.cloud.operator.clone())];
    for role in Role::ALL.iter().copied().filter(|role| *role != Operator) {
        let organisation = (!role.is_operator()).then_some(world.tenant.organisation);
        keys.push((role, world.cloud.key(organisation, None, role).await));
    }
    let mut wrong = Vec::new();
    for route in ROUTES {
        let row = ROWS.iter().find(|row| row.route == route.id);
        let row = row.unwrap_or_else(|| panic!("route `{}` has no authorisation case", route.id));
        let is_public = matches!(route.access, Access::Public);
        let mut check = |who: &str, told: u16, due: u16| {
            if told != due {
                wrong.push(format!("{} as {who}: {told}, expected {due}", route.id));
            }
        };
        let unknown = if is_public { route.status } else { 401 };
        check("nobody", world.ask("", route).await, unknown);
        check("an unknown key", world.ask(&format!("gk_{}", "0".repeat(64)), route).await, unknown);
        check("a broken key", world.ask("nonsense", route).await, unknown);
        // The last one first: what an owner does may be final, and every answer before it should not depend on that.
        for (role, key) in keys.iter().rev() {
            check(role.as_str(), world.ask(key, route).await, expected(row, *role, route.status));
        }
        let foreign = match row.about {
            About::Organisation | About::Project => 404,
            _ => expected(row, Owner, route.status),
        };
        check("a stranger's owner", world.ask(&stranger, route).await, foreign);
        let beside = match row.about {
            About::Organisation | About::Project => row.sibling,
            _ => expected(row, Owner, route.status),
        };
        check("a sibling project's owner", world.ask(&sibling, route).await, beside);
        let site = match row.about {
            About::Nothing | About::Site => route.status,
            _ => 401,
        };
        check("the site", world.ask(&world.site.secret, route).await, site);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(ROWS.len(), ROUTES.len(), "a row without a route");
}
