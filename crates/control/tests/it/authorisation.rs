//! One case a route: who may, and what everyone else is told. A route without a row here fails.

use std::fmt::Write as _;

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
    /// What is sent, whoever sends it: without a true code it gives nothing, with any key or none.
    Proof,
    /// A site, asking for itself.
    Site,
    /// What a directory says with its own credential: every other key is none.
    Directory,
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
const SELLING: &[Role] = &[Operator, BillingOperator, Owner, Billing];
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
const POLICIES: &[Role] = &[Owner, Admin, Developer, Viewer, Auditor, DataProtectionOfficer];
const MAKERS: &[Role] = &[Owner, Admin, Developer];
const ADMINS: &[Role] = &[Owner, Admin];

const ROWS: &[Row] = &[
    row("health_live", About::Nothing, &[]),
    row("health_ready", About::Nothing, &[]),
    row("metrics_read", About::Nothing, &[]),
    row("openapi_read", About::Nothing, &[]),
    row("audit_checkpoint", About::Nothing, &[]),
    row("audit_consistency", About::Nothing, &[]),
    row("audit_tile", About::Nothing, &[]),
    row("audit_entries", About::Cloud, &[Operator, OperatorAuditor]),
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
    row("policies_list", About::Organisation, POLICIES),
    row("policy_write", About::Organisation, &[Owner]),
    row("policy_remove", About::Organisation, &[Owner]),
    row("policy_check", About::Organisation, &[Owner]),
    row("project_policies_list", About::Project, POLICIES),
    row("project_policy_write", About::Project, &[Owner]),
    row("project_policy_remove", About::Project, &[Owner]),
    row("project_policy_check", About::Project, &[Owner]),
    row("policy_explain", About::Self_, Role::ALL),
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
    row("billing_read", About::Organisation, SELLING),
    row("billing_write", About::Organisation, SELLING),
    row("invoice_issue", About::Organisation, BUSINESS),
    row("invoices_list", About::Organisation, SELLING),
    row("invoice_read", About::Organisation, SELLING),
    row("invoice_document", About::Organisation, SELLING),
    row("invoice_records", About::Organisation, &[Owner, Billing]),
    row("invoice_books", About::Organisation, &[Owner, Billing]),
    row("credit_note_issue", About::Organisation, BUSINESS),
    row("payment_create", About::Organisation, BUSINESS),
    row("balance_read", About::Organisation, &[Owner, Billing]),
    row("postings_list", About::Organisation, &[Owner, Billing]),
    row("audit_list", About::Organisation, &[Owner, Admin, Auditor, DataProtectionOfficer]),
    row(
        "project_read",
        About::Project,
        &[Owner, Admin, Developer, Viewer, Billing, Auditor, DataProtectionOfficer, Visitor],
    ),
    row("device_begin", About::Proof, &[]),
    row("token_create", About::Proof, &[]),
    row("token_revoke", About::Proof, &[]),
    row("person_read", About::Self_, &[]),
    row("person_forget", About::Self_, &[]),
    row("person_erase", About::Cloud, FOUNDER),
    row("members_list", About::Organisation, &[Owner, Admin, Auditor, DataProtectionOfficer]),
    row("member_write", About::Organisation, ADMINS),
    row("member_remove", About::Organisation, ADMINS),
    row("membership_leave", About::Self_, &[]),
    row("invitation_create", About::Organisation, ADMINS),
    row("invitations_list", About::Organisation, &[Owner, Admin, Auditor, DataProtectionOfficer]),
    row("invitation_revoke", About::Organisation, ADMINS),
    row("domains_list", About::Organisation, &[Operator, Owner, Admin, Auditor, DataProtectionOfficer]),
    row("domain_write", About::Organisation, FOUNDER),
    row("domain_remove", About::Organisation, FOUNDER),
    row("scim_credential_create", About::Organisation, &[Owner]),
    row("scim_credentials_list", About::Organisation, &[Owner]),
    row("scim_config_read", About::Directory, &[]),
    row("scim_types_read", About::Directory, &[]),
    row("scim_type_read", About::Directory, &[]),
    row("scim_schemas_read", About::Directory, &[]),
    row("scim_schema_read", About::Directory, &[]),
    row("scim_users_list", About::Directory, &[]),
    row("scim_search", About::Directory, &[]),
    row("scim_users_search", About::Directory, &[]),
    row("scim_user_create", About::Directory, &[]),
    row("scim_user_read", About::Directory, &[]),
    row("scim_user_replace", About::Directory, &[]),
    row("scim_user_patch", About::Directory, &[]),
    row("scim_user_delete", About::Directory, &[]),
    row("service_account_create", About::Organisation, ADMINS),
    Row { sibling: 200, ..row("service_accounts_list", About::Organisation, POLICIES) },
    row("service_account_read", About::Project, POLICIES),
    row("service_account_write", About::Project, ADMINS),
    row("service_account_remove", About::Project, ADMINS),
    row("service_account_key_create", About::Project, ADMINS),
    row("service_account_keys_list", About::Project, POLICIES),
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

/// A guardrail that stands in nobody's way here.
const NO_DELETION: &str =
    "forbid (principal is Holder in Role::\"viewer\", action == Action::\"dataset:delete\", resource);";

/// A cloud with one of everything.
pub(crate) struct World {
    pub(crate) cloud: Cloud,
    pub(crate) site: FakeSite,
    pub(crate) tenant: Tenant,
    dataset: String,
    spare: String,
    job: String,
    model: String,
    endpoint: String,
    reservation: String,
    key: String,
    invitation: String,
    /// Members, one for each that is taken out.
    persons: Vec<String>,
    /// Each is rotated once.
    rotated: std::cell::RefCell<Vec<String>>,
    /// Service accounts, each removed once but for the first.
    accounts: std::cell::RefCell<Vec<String>>,
    /// Operators' keys, each revoked once.
    operators: std::cell::RefCell<Vec<String>>,
    /// Each takes one step.
    accesses: std::cell::RefCell<Vec<String>>,
    made: std::cell::Cell<u32>,
}

impl World {
    pub(crate) async fn open() -> Self {
        let cloud = Cloud::open().await.restarted_invoicing(crate::invoice::invoicing(None)).await;
        let mut site = cloud.site("lyon", "FR").await;
        let tenant = cloud.tenant("Acme", 100_000).await;
        crate::invoice::issued_before(&cloud, &tenant, site.id).await;
        let model = endpoint::model(&cloud, &tenant, &mut site).await;
        let endpoint = endpoint::serving(&cloud, &tenant, &mut site, &model).await.to_string();
        let dataset = cloud.dataset(&tenant, &mut site, "more.jsonl").await;
        let spare = cloud.dataset(&tenant, &mut site, "spare.jsonl").await;
        let job = cloud.job(&tenant, &dataset, "again").await.to_string();
        let wanted = json!({ "name": "k", "role": "inference" });
        let made = cloud.call(&tenant.owner, "key_create", &[&tenant.project()], wanted).await.good();
        let key = made["key"]["id"].as_str().unwrap().to_owned();
        let (mut operators, mut accesses) = (Vec::new(), Vec::new());
        for number in 0..5 * Role::ALL.len() {
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
        let mut accounts = Vec::new();
        for number in 0..=5 * Role::ALL.len() {
            let wanted = json!({ "name": format!("a{number}"), "role": "inference", "project": tenant.project() });
            let made = cloud.call(&tenant.owner, "service_account_create", &[&tenant.organisation()], wanted).await;
            accounts.push(made.good()["id"].as_str().unwrap().to_owned());
        }
        let mut rotated = Vec::new();
        for number in 0..5 * Role::ALL.len() {
            let wanted = json!({ "name": format!("r{number}"), "role": "inference" });
            let made = cloud.call(&tenant.owner, "key_create", &[&tenant.project()], wanted).await.good();
            rotated.push(made["key"]["id"].as_str().unwrap().to_owned());
        }
        let wanted = crate::reservation::wanted(&cloud, "block", ("cpu.1", 1), 1, 2);
        let made = cloud.call(&tenant.owner, "reservation_create", &[&tenant.project()], wanted).await.good();
        let reservation = made["id"].as_str().unwrap().to_owned();
        let wanted = json!({ "email": "eve@example.eu", "role": "viewer" });
        let made = cloud.call(&tenant.owner, "invitation_create", &[&tenant.organisation()], wanted).await.good();
        let invitation = made["invitation"]["id"].as_str().unwrap().to_owned();
        let wanted = json!({ "issuer": "https://id.example.eu", "client_id": "gregal" });
        let parameters = [&tenant.organisation(), "gone.example.eu"];
        cloud.call(&cloud.operator, "domain_write", &parameters, wanted).await.good();
        let mut persons = Vec::new();
        for number in 0..40 {
            let email = format!("ada{number}@example.eu");
            persons.push(cloud.member(tenant.organisation, None, Viewer, &email).await.0.to_string());
        }
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
            invitation,
            persons,
            rotated: rotated.into(),
            accounts: accounts.into(),
            operators: operators.into(),
            accesses: accesses.into(),
            made: std::cell::Cell::new(0),
        }
    }

    /// What the route's braces stand for.
    pub(crate) fn parameters(&self, route: &Route) -> Vec<String> {
        let named = |part: &str| match part {
            "{organisation}" => self.tenant.organisation(),
            "{project}" => self.tenant.project(),
            "{site}" => self.site.id.to_string(),
            "{key}" if route.id == "key_rotate" => self.rotated.borrow_mut().pop().unwrap(),
            "{key}" if route.id == "operator_key_revoke" => self.operators.borrow_mut().pop().unwrap(),
            "{service_account}" if route.id == "service_account_remove" => self.accounts.borrow_mut().pop().unwrap(),
            "{service_account}" => self.accounts.borrow()[0].clone(),
            "{access}" => self.accesses.borrow_mut().pop().unwrap(),
            "{key}" => self.key.clone(),
            "{person}" if route.id == "member_write" => self.persons[0].clone(),
            "{person}" if route.id == "person_erase" => self.persons[39].clone(),
            "{person}" => self.persons[1 + self.made.get() as usize % 38].clone(),
            "{invitation}" => self.invitation.clone(),
            "{domain}" if route.id == "domain_write" => "example.eu".into(),
            "{domain}" => "gone.example.eu".into(),
            "{scim_user}" => "scu_00000000000000000000000000".into(),
            "{scim_type}" => "User".into(),
            "{scim_schema}" => "urn:ietf:params:scim:schemas:core:2.0:User".into(),
            "{dataset}" if route.id == "dataset_delete" => self.spare.clone(),
            "{dataset}" => self.dataset.clone(),
            "{job}" => self.job.clone(),
            "{sku}" if route.id == "sku_retire" => "cpu.4".into(),
            "{sku}" => "cpu.1".into(),
            "{model}" => self.model.clone(),
            "{endpoint}" => self.endpoint.clone(),
            "{reservation}" => self.reservation.clone(),
            "{policy}" => "no-deletion".into(),
            "{level}" => "0".into(),
            "{invoice}" => "T-000001".into(),
            "{*place}" => "000.p/3".into(),
            other => panic!("{}: no object for {other}", route.id),
        };
        route.path.split('/').filter(|part| part.starts_with('{')).map(named).collect()
    }

    /// A body that would be answered well, under a name that is free.
    pub(crate) fn body(&self, route: &Route) -> Value {
        self.made.set(self.made.get() + 1);
        let name = format!("n{}", self.made.get());
        match route.request {
            None => Value::Null,
            Some("Empty" | "PlacementAsk" | "DeviceAsk" | "TokenAsk" | "TokenRevoke" | "KeyRotate" | "object") => {
                json!({})
            }
            Some("SiteCreate") => json!({
                "name": name, "jurisdiction": "FR", "operator_name": "Hoster", "operator_jurisdiction": "FR",
                "operator_parent_jurisdiction": "FR",
            }),
            Some("SkuCreate") => json!({ "name": name, "cpus_milli": 1000, "memory_bytes": 1_u64 << 30 }),
            Some("SkuPriceWrite") => json!({ "core_hour_nano": 0 }),
            Some("OrganisationCreate") => json!({ "name": name, "country": "FR" }),
            Some("BillingWrite") => crate::invoice::billing(),
            Some("InvoiceIssue") => json!({ "month": "2026-10" }),
            Some("CreditNoteCreate") => {
                json!({ "reason": format!("a cent for {name}"), "parts": [{ "line": 1, "net": 1 }] })
            }
            Some("PaymentCreate") => json!({ "amount_cents": 1, "reference": name }),
            Some("ResidencyView") => json!({ "jurisdictions": ["EU"] }),
            Some("ProjectCreate" | "DatasetCreate" | "ServiceAccountKeyCreate") => json!({ "name": name }),
            Some("MemberWrite") => json!({ "role": "viewer" }),
            Some("InvitationCreate") => json!({ "email": format!("{name}@example.eu"), "role": "viewer" }),
            Some("DomainWrite") => json!({ "issuer": "https://id.example.eu", "client_id": "gregal" }),
            Some("ServiceAccountWrite") => json!({ "enabled": true }),
            Some("KeyCreate" | "ServiceAccountCreate") => json!({ "name": name, "role": "inference" }),
            Some("ScimCredentialCreate") => json!({ "name": name, "expires_in_s": 1 }),
            Some("OperatorKeyCreate") => json!({ "name": name, "role": "support" }),
            Some("AccessRequest") => json!({ "reason": "an example of a wish", "seconds": 60 }),
            Some("AccessSetting") => json!({ "setting": "consent" }),
            Some("JobCreate") => crate::world::training(&self.dataset, &name),
            Some("JobPreempt") => json!({ "why": "a machine is taken out" }),
            Some("QuotaWrite") => json!({ "guarantee": 0 }),
            Some("PolicyWrite") => json!({ "text": NO_DELETION }),
            Some("PolicyExplain") => json!({ "action": "catalogue:read", "object": "cloud" }),
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
        if answer.status >= 400 && !matches!(route.access, Access::Proof | Access::Directory) {
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
        About::Site | About::Directory => 401,
        // Signing out what is not signed in is done already.
        About::Proof => {
            if row.route == "token_revoke" {
                good
            } else {
                400
            }
        }
        _ if row.may.contains(&role) => good,
        // What tenants own does not exist for operators.
        _ if role.is_operator() && is_tenants && !row.may.iter().any(|role| role.is_operator()) => 404,
        _ => 403,
    }
}

/// What a key of this role, bound to another project of the organisation, is told.
fn expected_beside(row: &Row, role: Role, good: u16) -> u16 {
    match row.about {
        About::Organisation | About::Project if row.sibling != 404 && !row.may.contains(&role) => 403,
        About::Organisation | About::Project => row.sibling,
        _ => expected(row, role, good),
    }
}

/// What a key of this role in another organisation is told.
fn expected_abroad(row: &Row, role: Role, good: u16) -> u16 {
    match row.about {
        About::Organisation | About::Project => 404,
        _ => expected(row, role, good),
    }
}

/// The keys of one role: of the organisation, bound to a sibling project, and of another organisation.
struct Keys {
    role: Role,
    own: String,
    beside: Option<String>,
    abroad: Option<String>,
}

/// The whole table, for people: `cargo xtask matrix` prints it.
struct Table(String);

const HEAD: &str = "\
# Who is told what, on every route. Made by asking each; `cargo xtask matrix` asks again and prints it.
# A cell has three signs: a key of the role in the own organisation, one bound to a sibling project, one of another organisation.
#   +  answered        -  403, the role does not carry it        0  404, as if it were not there        !  401, no such key
#   x  400, what was sent proves nothing (whoever sends it)
# Operators' keys belong to no organisation and have one sign. `nobody` sends no key, an unknown one, and a broken one.
";

impl Table {
    fn new(keys: &[Keys]) -> Self {
        let mut text = format!("{HEAD}\n{:<24} {:<6} {:<62}", "route", "", "");
        for key in keys {
            let _ = write!(text, " {:<4.4}", key.role.as_str());
        }
        Self(text + " nobody site\n")
    }

    fn begin(&mut self, route: &Route) {
        let _ =
            write!(self.0, "{:<24} {:<6} {:<62} ", route.id, route.method, route.path.trim_start_matches("/api/v1"));
    }

    fn signs(&mut self, route: &Route, told: &[u16]) {
        self.0.extend(told.iter().map(|told| match *told {
            403 => '-',
            404 => '0',
            401 => '!',
            400 => 'x',
            good if good == route.status => '+',
            _ => '?',
        }));
    }

    fn pad(&mut self, count: usize) {
        self.0.extend(std::iter::repeat_n(' ', count));
    }
}

/// Everything that was told otherwise than it should.
struct Wrong(Vec<String>);

impl Wrong {
    fn check(&mut self, route: &Route, who: &str, told: u16, due: u16) {
        if told != due {
            self.0.push(format!("{} as {who}: {told}, expected {due}", route.id));
        }
    }
}

async fn keys(world: &World) -> Vec<Keys> {
    let stranger = world.cloud.tenant("Other", 1_000).await;
    let (tenant, wanted) = (&world.tenant, json!({ "name": "sibling" }));
    let made = world.cloud.call(&tenant.owner, "project_create", &[&tenant.organisation()], wanted).await.good();
    let sibling = made["id"].as_str().unwrap().parse().unwrap();
    let mut keys = vec![Keys { role: Operator, own: world.cloud.operator.clone(), beside: None, abroad: None }];
    for role in Role::ALL.iter().copied().filter(|role| *role != Operator && role.is_operator()) {
        keys.push(Keys { role, own: world.cloud.key(None, None, role).await, beside: None, abroad: None });
    }
    for role in Role::ALL.iter().copied().filter(|role| !role.is_operator()) {
        keys.push(Keys {
            role,
            own: world.cloud.key(Some(tenant.organisation), None, role).await,
            beside: Some(world.cloud.key(Some(tenant.organisation), Some(sibling), role).await),
            abroad: Some(world.cloud.key(Some(stranger.organisation), None, role).await),
        });
    }
    keys
}

#[tokio::test]
async fn every_route_lets_in_whom_it_should_and_tells_everyone_else_the_right_thing() {
    let world = World::open().await;
    let keys = keys(&world).await;
    let (mut wrong, mut table) = (Wrong(Vec::new()), Table::new(&keys));
    for route in ROUTES {
        let row = ROWS.iter().find(|row| row.route == route.id);
        let row = row.unwrap_or_else(|| panic!("route `{}` has no authorisation case", route.id));
        let unknown = match route.access {
            Access::Public => route.status,
            Access::Proof => expected(row, Owner, route.status),
            _ => 401,
        };
        let mut nobody = Vec::new();
        for (who, key) in
            [("nobody", ""), ("an unknown key", &format!("gk_{}", "0".repeat(64))), ("a broken key", "nonsense")]
        {
            let told = world.ask(key, route).await;
            wrong.check(route, who, told, unknown);
            nobody.push(told);
        }
        // The last one first: what an owner does may be final, and every answer before it should not depend on that.
        let mut cells = Vec::new();
        for key in keys.iter().rev() {
            let (role, mut told) = (key.role.as_str(), Vec::new());
            if let (Some(abroad), Some(beside)) = (&key.abroad, &key.beside) {
                let abroad = world.ask(abroad, route).await;
                wrong.check(
                    route,
                    &format!("{role} of another organisation"),
                    abroad,
                    expected_abroad(row, key.role, route.status),
                );
                let beside = world.ask(beside, route).await;
                wrong.check(
                    route,
                    &format!("{role} of a sibling project"),
                    beside,
                    expected_beside(row, key.role, route.status),
                );
                told = vec![beside, abroad];
            }
            let own = world.ask(&key.own, route).await;
            wrong.check(route, role, own, expected(row, key.role, route.status));
            told.insert(0, own);
            cells.push(told);
        }
        let site = world.ask(&world.site.secret, route).await;
        let due = match row.about {
            About::Nothing | About::Site => route.status,
            About::Proof => expected(row, Owner, route.status),
            _ => 401,
        };
        wrong.check(route, "the site", site, due);
        table.begin(route);
        for told in cells.iter().rev() {
            table.signs(route, told);
            table.pad(5 - told.len());
        }
        table.signs(route, &nobody);
        table.pad(4);
        table.signs(route, &[site]);
        table.0.push('\n');
    }
    if let Some(file) = std::env::var_os("GREGAL_MATRIX_FILE") {
        std::fs::write(file, &table.0).unwrap();
    }
    assert!(wrong.0.is_empty(), "{}", wrong.0.join("\n"));
    assert_eq!(ROWS.len(), ROUTES.len(), "a row without a route");
}
