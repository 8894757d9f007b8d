//! Every route of the control plane on one page. The router, the `OpenAPI` document, the authorisation matrix and the
//! tests of tests are all made from this table: a route that is not here does not exist.

use gregal_core::access::Action;

mod row;

use row::{ask, create, delete, put, read};

/// How a route proves who is asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone: health and the contract itself.
    Public,
    /// A key whose role allows this action on the object named.
    Key(Action),
    /// A key, whatever its role: it asks about itself.
    AnyKey,
    /// No key yet: what is sent proves itself (a code that a person allowed, a refresh credential), or gives nothing.
    Proof,
    /// A site's secret.
    Site,
}

/// One route.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// Its name: noun, then verb. Handlers, client methods and `OpenAPI` operations share it.
    pub id: &'static str,
    /// HTTP method.
    pub method: &'static str,
    /// Path, parameters in braces.
    pub path: &'static str,
    /// Who may ask.
    pub access: Access,
    /// Schema of the request's body, if it has one.
    pub request: Option<&'static str>,
    /// Schema of the answer's body, if it has one.
    pub response: Option<&'static str>,
    /// Status of a good answer.
    pub status: u16,
    /// Whether it changes something (and so leaves an audit entry).
    pub changes: bool,
    /// What it is for, one sentence.
    pub summary: &'static str,
}

impl Route {
    /// Whether the route makes something and so takes an `Idempotency-Key`.
    pub fn creates(&self) -> bool {
        self.method == "POST" && self.status == 201
    }
}

use Access::{AnyKey, Key, Proof, Public, Site};
use Action as A;

/// The routes of the control plane, grouped by noun.
pub const ROUTES: &[Route] = &[
    read("health_live", "/healthz", Public, "Health", "Say whether the process runs."),
    read("health_ready", "/readyz", Public, "Health", "Say whether the store answers."),
    read("metrics_read", "/metrics", Public, "text/plain", "Counters in Prometheus' text format; no tenant is named."),
    read("openapi_read", "/api/v1/openapi.json", Public, "object", "Read this contract."),
    read("whoami", "/api/v1/whoami", AnyKey, "WhoAmI", "Say whom the key acts for and what it may do."),
    // Catalogue
    read(
        "skus_list",
        "/api/v1/skus",
        Key(A::CatalogueRead),
        "SkuList",
        "List what can be rented; with `all=true` also what was and is retired.",
    ),
    read("sku_read", "/api/v1/skus/{sku}", Key(A::CatalogueRead), "SkuView", "Read a SKU, retired or not."),
    create(
        "sku_create",
        "/api/v1/skus",
        A::SkuWrite,
        ("SkuCreate", "SkuView"),
        "Add a SKU; the answer says what it costs. Its shape never changes. For operators.",
    ),
    put(
        "sku_price",
        "/api/v1/skus/{sku}/price",
        A::SkuWrite,
        ("SkuPriceWrite", "SkuView"),
        "Set what a SKU costs: a new price book, which holds five minutes from now. Dearer only while nothing is on it. For operators.",
    ),
    delete(
        "sku_retire",
        "/api/v1/skus/{sku}",
        A::SkuWrite,
        "SkuView",
        "Retire a SKU: it takes no new work, and what was admitted before goes on. For operators.",
    ),
    read("prices_list", "/api/v1/prices", Key(A::CatalogueRead), "PriceList", "List the prices that hold now."),
    read(
        "sites_list",
        "/api/v1/sites",
        Key(A::CatalogueRead),
        "SiteList",
        "List the sites and the law they stand under.",
    ),
    read("site_read", "/api/v1/sites/{site}", Key(A::CatalogueRead), "SiteView", "Read a site's facts."),
    read(
        "calendar_read",
        "/api/v1/sites/{site}/calendar",
        Key(A::CatalogueRead),
        "CalendarView",
        "Read what is free at a site, and when: after running jobs' limits, promised starts, served models and reservations.",
    ),
    create(
        "site_create",
        "/api/v1/sites",
        A::SiteCreate,
        ("SiteCreate", "SiteCreated"),
        "Register a site; its secret is shown once.",
    ),
    read(
        "site_quarantine",
        "/api/v1/sites/{site}/quarantine",
        Key(A::QuarantineRead),
        "QuarantineList",
        "List the usage records of a site that could not be counted, and why.",
    ),
    // Organisations, projects, keys
    create(
        "organisation_create",
        "/api/v1/organisations",
        A::OrganisationCreate,
        ("OrganisationCreate", "OrganisationCreated"),
        "Make an organisation and its owner's key, shown once.",
    ),
    read(
        "organisations_list",
        "/api/v1/organisations",
        Key(A::OrganisationRead),
        "OrganisationList",
        "List the organisations the key may see.",
    ),
    read(
        "organisation_read",
        "/api/v1/organisations/{organisation}",
        Key(A::OrganisationRead),
        "OrganisationView",
        "Read an organisation.",
    ),
    put(
        "residency_write",
        "/api/v1/organisations/{organisation}/residency",
        A::ResidencyWrite,
        ("ResidencyView", "OrganisationView"),
        "Set where the organisation's content may be.",
    ),
    // Own policies
    read(
        "policies_list",
        "/api/v1/organisations/{organisation}/policies",
        Key(A::PolicyRead),
        "PolicyList",
        "List the policies an organisation and its projects wrote for themselves.",
    ),
    put(
        "policy_write",
        "/api/v1/organisations/{organisation}/policies/{policy}",
        A::PolicyWrite,
        ("PolicyWrite", "PolicyView"),
        "Write a guardrail or a permit of an organisation's own, under a name; it is checked before it is stored.",
    ),
    delete(
        "policy_remove",
        "/api/v1/organisations/{organisation}/policies/{policy}",
        A::PolicyWrite,
        "PolicyView",
        "Remove an organisation's own policy.",
    ),
    ask(
        "policy_check",
        "/api/v1/organisations/{organisation}/policy-check",
        Key(A::PolicyWrite),
        ("PolicyWrite", "PolicyChecked"),
        false,
        "Check an organisation's policy in every case it could meet; nothing is stored.",
    ),
    read(
        "project_policies_list",
        "/api/v1/projects/{project}/policies",
        Key(A::PolicyRead),
        "PolicyList",
        "List the own policies that bind a project: its organisation's and its own.",
    ),
    put(
        "project_policy_write",
        "/api/v1/projects/{project}/policies/{policy}",
        A::PolicyWrite,
        ("PolicyWrite", "PolicyView"),
        "Write a guardrail or a permit for one project, under a name; its organisation's guardrails go before it.",
    ),
    delete(
        "project_policy_remove",
        "/api/v1/projects/{project}/policies/{policy}",
        A::PolicyWrite,
        "PolicyView",
        "Remove a project's own policy.",
    ),
    ask(
        "project_policy_check",
        "/api/v1/projects/{project}/policy-check",
        Key(A::PolicyWrite),
        ("PolicyWrite", "PolicyChecked"),
        false,
        "Check a project's policy in every case it could meet; nothing is stored.",
    ),
    ask(
        "policy_explain",
        "/api/v1/policies/explain",
        AnyKey,
        ("PolicyExplain", "PolicyExplanation"),
        false,
        "Say why the key, or another of its organisation (`policy:read`), may or may not do something, by which policies, and what would have to change.",
    ),
    create(
        "project_create",
        "/api/v1/organisations/{organisation}/projects",
        A::ProjectCreate,
        ("ProjectCreate", "ProjectView"),
        "Make a project.",
    ),
    read(
        "projects_list",
        "/api/v1/organisations/{organisation}/projects",
        Key(A::ProjectRead),
        "ProjectList",
        "List projects.",
    ),
    read("project_read", "/api/v1/projects/{project}", Key(A::ProjectRead), "ProjectView", "Read a project."),
    // Quotas
    read(
        "quotas_list",
        "/api/v1/organisations/{organisation}/quotas",
        Key(A::QuotaRead),
        "QuotaList",
        "List what an organisation and its projects have of each family of SKUs, and use of it now.",
    ),
    put(
        "quota_write",
        "/api/v1/organisations/{organisation}/quotas/{sku}",
        A::QuotaWrite,
        ("QuotaWrite", "QuotaView"),
        "Set what an organisation has of a family of SKUs. For operators.",
    ),
    delete(
        "quota_remove",
        "/api/v1/organisations/{organisation}/quotas/{sku}",
        A::QuotaWrite,
        "QuotaView",
        "Take an organisation's quota of a family of SKUs away: it borrows freely, with nothing guaranteed. For operators.",
    ),
    put(
        "share_write",
        "/api/v1/organisations/{organisation}/share",
        A::QuotaWrite,
        ("ShareWrite", "OrganisationView"),
        "Set an organisation's weight among the others, and the highest priority its jobs may ask for. For operators.",
    ),
    read(
        "project_quotas_list",
        "/api/v1/projects/{project}/quotas",
        Key(A::QuotaRead),
        "QuotaList",
        "List what a project has of each family of SKUs, and uses of it now.",
    ),
    put(
        "project_quota_write",
        "/api/v1/projects/{project}/quotas/{sku}",
        A::QuotaShare,
        ("QuotaWrite", "QuotaView"),
        "Set what a project has of a family of SKUs, within what its organisation has.",
    ),
    delete(
        "project_quota_remove",
        "/api/v1/projects/{project}/quotas/{sku}",
        A::QuotaShare,
        "QuotaView",
        "Take a project's quota of a family of SKUs away: it uses what its organisation has left.",
    ),
    create(
        "key_create",
        "/api/v1/projects/{project}/keys",
        A::KeyCreate,
        ("KeyCreate", "KeyCreated"),
        "Make a key of a project; its secret is shown once.",
    ),
    read("keys_list", "/api/v1/projects/{project}/keys", Key(A::KeyRead), "KeyList", "List keys, never their secrets."),
    create(
        "key_rotate",
        "/api/v1/keys/{key}/rotate",
        A::KeyRotate,
        ("KeyRotate", "KeyCreated"),
        "Give a key's place to a new one, of the same role, project and scope; the old one works until the overlap ends.",
    ),
    delete("key_revoke", "/api/v1/keys/{key}", A::KeyRevoke, "KeyView", "Revoke a key everywhere."),
    // Service accounts
    create(
        "service_account_create",
        "/api/v1/organisations/{organisation}/service-accounts",
        A::ServiceAccountCreate,
        ("ServiceAccountCreate", "ServiceAccountView"),
        "Make a service account: a name that programs act under.",
    ),
    read(
        "service_accounts_list",
        "/api/v1/organisations/{organisation}/service-accounts",
        Key(A::ServiceAccountRead),
        "ServiceAccountList",
        "List service accounts; with a key bound to a project, only those of it.",
    ),
    read(
        "service_account_read",
        "/api/v1/service-accounts/{service_account}",
        Key(A::ServiceAccountRead),
        "ServiceAccountView",
        "Read a service account, and whose tokens stand for it.",
    ),
    put(
        "service_account_write",
        "/api/v1/service-accounts/{service_account}",
        A::ServiceAccountWrite,
        ("ServiceAccountWrite", "ServiceAccountView"),
        "Disable a service account, which ends its keys, or enable it; say whose tokens stand for it.",
    ),
    delete(
        "service_account_remove",
        "/api/v1/service-accounts/{service_account}",
        A::ServiceAccountRemove,
        "ServiceAccountView",
        "Remove a service account; its keys end.",
    ),
    create(
        "service_account_key_create",
        "/api/v1/service-accounts/{service_account}/keys",
        A::KeyCreate,
        ("ServiceAccountKeyCreate", "KeyCreated"),
        "Make a key of a service account, of its role and within its scope; its secret is shown once.",
    ),
    read(
        "service_account_keys_list",
        "/api/v1/service-accounts/{service_account}/keys",
        Key(A::KeyRead),
        "KeyList",
        "List a service account's keys, never their secrets.",
    ),
    // People
    ask(
        "device_begin",
        "/api/v1/device",
        Proof,
        ("DeviceAsk", "DeviceAnswer"),
        false,
        "Ask for a device code (RFC 8628), as a form; a person allows it in the console.",
    ),
    ask(
        "token_create",
        "/api/v1/token",
        Proof,
        ("TokenAsk", "TokenAnswer"),
        true,
        "Get a key for a code, a refresh credential (OAuth 2.0) or another system's token (RFC 8693), as a form.",
    ),
    ask(
        "token_revoke",
        "/api/v1/token/revoke",
        Proof,
        ("TokenRevoke", "Empty"),
        true,
        "Sign a command line out by its refresh credential (RFC 7009), as a form; unknown ones are out already.",
    ),
    read("person_read", "/api/v1/person", AnyKey, "PersonView", "Say who is signed in; for keys that a sign-in made."),
    ask(
        "person_forget",
        "/api/v1/person/forget",
        AnyKey,
        ("Empty", "PersonView"),
        true,
        "Forget who is signed in: memberships and sessions end, and the log no longer says whom it means.",
    ),
    delete(
        "person_erase",
        "/api/v1/persons/{person}",
        A::PersonErase,
        "PersonView",
        "Forget a person, on a data protection request. For operators.",
    ),
    read(
        "members_list",
        "/api/v1/organisations/{organisation}/members",
        Key(A::MemberRead),
        "MemberList",
        "List the members of an organisation.",
    ),
    put(
        "member_write",
        "/api/v1/organisations/{organisation}/members/{person}",
        A::MemberWrite,
        ("MemberWrite", "MemberView"),
        "Say what a member may do; their sessions end.",
    ),
    delete(
        "member_remove",
        "/api/v1/organisations/{organisation}/members/{person}",
        A::MemberRemove,
        "MemberView",
        "Take a member out of an organisation; their sessions end.",
    ),
    ask(
        "membership_leave",
        "/api/v1/membership/leave",
        AnyKey,
        ("Empty", "MemberView"),
        true,
        "Leave the organisation one is signed in to.",
    ),
    create(
        "invitation_create",
        "/api/v1/organisations/{organisation}/invitations",
        A::InvitationCreate,
        ("InvitationCreate", "InvitationCreated"),
        "Invite somebody by their address; the text that takes it up is shown once, and no mail is sent.",
    ),
    read(
        "invitations_list",
        "/api/v1/organisations/{organisation}/invitations",
        Key(A::InvitationRead),
        "InvitationList",
        "List invitations, never their texts.",
    ),
    delete(
        "invitation_revoke",
        "/api/v1/invitations/{invitation}",
        A::InvitationRevoke,
        "InvitationView",
        "Take an invitation back.",
    ),
    read(
        "domains_list",
        "/api/v1/organisations/{organisation}/domains",
        Key(A::DomainRead),
        "DomainList",
        "List the domains whose people sign in with a provider of the organisation's own.",
    ),
    put(
        "domain_write",
        "/api/v1/organisations/{organisation}/domains/{domain}",
        A::DomainWrite,
        ("DomainWrite", "DomainView"),
        "Give a domain to an organisation, and say who vouches for its people. For operators, by whose word it is theirs.",
    ),
    delete(
        "domain_remove",
        "/api/v1/organisations/{organisation}/domains/{domain}",
        A::DomainWrite,
        "DomainView",
        "Take a domain away from an organisation. For operators.",
    ),
    // Operators' keys and their looks at tenants' facts
    create(
        "operator_key_create",
        "/api/v1/operator-keys",
        A::OperatorKeyCreate,
        ("OperatorKeyCreate", "KeyCreated"),
        "Make an operator's key; its secret is shown once. For the founding operator.",
    ),
    read(
        "operator_keys_list",
        "/api/v1/operator-keys",
        Key(A::OperatorKeyRead),
        "KeyList",
        "List operators' keys, never their secrets. For operators.",
    ),
    delete(
        "operator_key_revoke",
        "/api/v1/operator-keys/{key}",
        A::OperatorKeyRevoke,
        "KeyView",
        "Revoke an operator's key; never the last that can make others. For the founding operator.",
    ),
    create(
        "access_request",
        "/api/v1/organisations/{organisation}/accesses",
        A::AccessRequest,
        ("AccessRequest", "AccessView"),
        "Ask for a look at an organisation's facts, for a time and with a reason that it reads. For support.",
    ),
    read(
        "accesses_list",
        "/api/v1/organisations/{organisation}/accesses",
        Key(A::AccessRead),
        "AccessList",
        "List the looks that operators asked for, and where each stands.",
    ),
    ask(
        "access_approve",
        "/api/v1/accesses/{access}/approve",
        Key(A::AccessApprove),
        ("Empty", "AccessView"),
        true,
        "Approve the look that another operator asked for. For operators.",
    ),
    ask(
        "access_consent",
        "/api/v1/accesses/{access}/consent",
        Key(A::AccessConsent),
        ("Empty", "AccessView"),
        true,
        "Approve, for the organisation, the look that an operator asked for.",
    ),
    delete(
        "access_end",
        "/api/v1/accesses/{access}",
        A::AccessEnd,
        "AccessView",
        "End a look, or turn the wish for one down.",
    ),
    read(
        "access_setting_read",
        "/api/v1/organisations/{organisation}/access-setting",
        Key(A::AccessRead),
        "AccessSetting",
        "Read what operators may see of the organisation's facts, and who has to agree.",
    ),
    put(
        "access_setting_write",
        "/api/v1/organisations/{organisation}/access-setting",
        A::AccessConfigure,
        ("AccessSetting", "AccessSetting"),
        "Say what operators may see of the organisation's facts, and who has to agree.",
    ),
    // Datasets
    create(
        "dataset_create",
        "/api/v1/projects/{project}/datasets",
        A::DatasetCreate,
        ("DatasetCreate", "DatasetCreated"),
        "Announce a dataset; the answer says where to store its bytes.",
    ),
    read("datasets_list", "/api/v1/projects/{project}/datasets", Key(A::DatasetRead), "DatasetList", "List datasets."),
    read("dataset_read", "/api/v1/datasets/{dataset}", Key(A::DatasetRead), "DatasetView", "Read a dataset's facts."),
    delete(
        "dataset_delete",
        "/api/v1/datasets/{dataset}",
        A::DatasetDelete,
        "DatasetView",
        "Remove a dataset's bytes; its facts stay for lineage.",
    ),
    // Jobs
    create("job_create", "/api/v1/projects/{project}/jobs", A::JobCreate, ("JobCreate", "JobView"), "Submit a job."),
    read("jobs_list", "/api/v1/projects/{project}/jobs", Key(A::JobRead), "JobList", "List jobs."),
    read("job_read", "/api/v1/jobs/{job}", Key(A::JobRead), "JobView", "Read a job."),
    read(
        "job_progress",
        "/api/v1/jobs/{job}/progress",
        Key(A::JobRead),
        "ProgressList",
        "Read a job's progress series.",
    ),
    read(
        "job_explain",
        "/api/v1/jobs/{job}/explain",
        Key(A::JobRead),
        "JobExplanation",
        "Why a job stands where it stands: its place in the queue, what the scheduler said of it, and one of those decisions (`pass`, absent: the newest) made again from the record.",
    ),
    ask(
        "job_cancel",
        "/api/v1/jobs/{job}/cancel",
        Key(A::JobCancel),
        ("Empty", "JobView"),
        true,
        "Cancel a job; what ran is billed.",
    ),
    ask(
        "job_preempt",
        "/api/v1/jobs/{job}/preempt",
        Key(A::JobPreempt),
        ("JobPreempt", "JobPreempted"),
        true,
        "Tell a job to save its work and make room; it waits and goes on where it was. For operators.",
    ),
    // Reservations
    create(
        "reservation_create",
        "/api/v1/projects/{project}/reservations",
        A::ReservationCreate,
        ("ReservationCreate", "ReservationView"),
        "Reserve room at a site for a time, all of it or nothing; all of it is paid, used or not.",
    ),
    ask(
        "reservation_quote",
        "/api/v1/projects/{project}/reservations/quote",
        Key(A::ReservationCreate),
        ("ReservationCreate", "ReservationQuote"),
        false,
        "Say what a reservation would cost and whether it fits, and when it would; nothing is set aside.",
    ),
    read(
        "reservations_list",
        "/api/v1/projects/{project}/reservations",
        Key(A::ReservationRead),
        "ReservationList",
        "List reservations.",
    ),
    read(
        "reservation_read",
        "/api/v1/reservations/{reservation}",
        Key(A::ReservationRead),
        "ReservationView",
        "Read a reservation.",
    ),
    ask(
        "reservation_cancel",
        "/api/v1/reservations/{reservation}/cancel",
        Key(A::ReservationCancel),
        ("Empty", "ReservationView"),
        true,
        "Call a reservation off: what has not begun is not paid; of one that has, the hour that has begun is its last.",
    ),
    // Models and endpoints
    read("models_list", "/api/v1/projects/{project}/models", Key(A::ModelRead), "ModelList", "List models."),
    read("model_read", "/api/v1/models/{model}", Key(A::ModelRead), "ModelView", "Read a model and its lineage."),
    create(
        "endpoint_create",
        "/api/v1/projects/{project}/endpoints",
        A::EndpointCreate,
        ("EndpointCreate", "EndpointView"),
        "Serve a model.",
    ),
    read(
        "endpoints_list",
        "/api/v1/projects/{project}/endpoints",
        Key(A::EndpointRead),
        "EndpointList",
        "List endpoints.",
    ),
    read("endpoint_read", "/api/v1/endpoints/{endpoint}", Key(A::EndpointRead), "EndpointView", "Read an endpoint."),
    delete(
        "endpoint_delete",
        "/api/v1/endpoints/{endpoint}",
        A::EndpointDelete,
        "EndpointView",
        "Drain an endpoint and stop it.",
    ),
    // Content and placement
    create(
        "grant_create",
        "/api/v1/projects/{project}/grants",
        A::GrantCreate,
        ("GrantCreate", "GrantCreated"),
        "Get a short-lived grant for content at a site.",
    ),
    ask(
        "placement_explain",
        "/api/v1/projects/{project}/placements",
        Key(A::PlacementExplain),
        ("PlacementAsk", "PlacementAnswer"),
        false,
        "Say where content could be placed, and which rule forbids the rest.",
    ),
    // Money
    read(
        "usage_list",
        "/api/v1/organisations/{organisation}/usage",
        Key(A::UsageRead),
        "UsageList",
        "Read raw usage records.",
    ),
    read(
        "usage_summary",
        "/api/v1/organisations/{organisation}/usage/summary",
        Key(A::UsageRead),
        "UsageSummary",
        "Read usage summed by meter and item.",
    ),
    read(
        "invoice_draft",
        "/api/v1/organisations/{organisation}/invoice-draft",
        Key(A::InvoiceRead),
        "InvoiceDraftView",
        "Read the draft invoice of a period.",
    ),
    read(
        "billing_read",
        "/api/v1/organisations/{organisation}/billing",
        Key(A::IssuedInvoiceRead),
        "BillingView",
        "Read what invoices say of an organisation.",
    ),
    put(
        "billing_write",
        "/api/v1/organisations/{organisation}/billing",
        A::BillingWrite,
        ("BillingWrite", "BillingView"),
        "Set what invoices say of an organisation: legal name, address, VAT id, references.",
    ),
    create(
        "invoice_issue",
        "/api/v1/organisations/{organisation}/invoices",
        A::InvoiceIssue,
        ("InvoiceIssue", "InvoiceView"),
        "Issue the invoice of a month that has ended; the same month again is the same invoice. For operators.",
    ),
    read(
        "invoices_list",
        "/api/v1/organisations/{organisation}/invoices",
        Key(A::IssuedInvoiceRead),
        "InvoiceList",
        "List issued invoices and credit notes, in the order of issue.",
    ),
    read(
        "invoice_read",
        "/api/v1/organisations/{organisation}/invoices/{invoice}",
        Key(A::IssuedInvoiceRead),
        "InvoiceView",
        "Read an issued invoice or credit note, and where it stands.",
    ),
    read(
        "invoice_document",
        "/api/v1/organisations/{organisation}/invoices/{invoice}/document",
        Key(A::IssuedInvoiceRead),
        "text/plain",
        "Read an issued document as it was frozen, or with `format=ubl` or `cii` as XML to EN 16931.",
    ),
    read(
        "invoice_records",
        "/api/v1/organisations/{organisation}/invoices/{invoice}/records",
        Key(A::InvoiceRead),
        "UsageList",
        "Read the raw usage records an invoice was made of, in the order of arrival.",
    ),
    read(
        "invoice_books",
        "/api/v1/organisations/{organisation}/invoices/{invoice}/price-books",
        Key(A::InvoiceRead),
        "InvoiceBooks",
        "Read the price books an invoice was rated by.",
    ),
    create(
        "credit_note_issue",
        "/api/v1/organisations/{organisation}/invoices/{invoice}/credit-notes",
        A::InvoiceIssue,
        ("CreditNoteCreate", "InvoiceView"),
        "Take an invoice back, whole or in part, never more than is left of it. For operators.",
    ),
    create(
        "payment_create",
        "/api/v1/organisations/{organisation}/invoices/{invoice}/payments",
        A::InvoiceIssue,
        ("PaymentCreate", "InvoiceView"),
        "Record that an invoice was paid, whole or in part. For operators.",
    ),
    read(
        "balance_read",
        "/api/v1/organisations/{organisation}/balance",
        Key(A::InvoiceRead),
        "BalanceView",
        "Read what is available, held and accrued.",
    ),
    read(
        "postings_list",
        "/api/v1/organisations/{organisation}/postings",
        Key(A::InvoiceRead),
        "PostingList",
        "Read the ledger of an organisation.",
    ),
    // Audit
    read(
        "audit_list",
        "/api/v1/organisations/{organisation}/audit",
        Key(A::AuditRead),
        "AuditList",
        "Read an organisation's view of the audit log, with proofs.",
    ),
    read(
        "audit_list_all",
        "/api/v1/audit",
        Key(A::AuditReadAll),
        "AuditList",
        "Read the whole audit log, with proofs.",
    ),
    read(
        "audit_checkpoint",
        "/api/v1/audit/checkpoint",
        Public,
        "text/plain",
        "Read the signed checkpoint of the audit log.",
    ),
    read(
        "audit_consistency",
        "/api/v1/audit/consistency",
        Public,
        "AuditConsistency",
        "Prove that the audit log only grew: `old` and `new` are sizes.",
    ),
    read(
        "audit_tile",
        "/api/v1/audit/tile/{level}/{*place}",
        Public,
        "application/octet-stream",
        "Read hashes of the audit log (C2SP tlog-tiles).",
    ),
    read(
        "audit_entries",
        "/api/v1/audit/tile/entries/{*place}",
        Key(A::AuditReadAll),
        "application/octet-stream",
        "Read entries of the whole audit log (C2SP tlog-tiles).",
    ),
    // Sites dial out
    ask(
        "site_sync",
        "/site/v1/sync",
        Site,
        ("SyncRequest", "SyncAnswer"),
        true,
        "A site says what it sees and learns what is wanted.",
    ),
    ask("site_usage", "/site/v1/usage", Site, ("UsageBatch", "UsageReceipt"), true, "A site hands over usage records."),
];

/// Finds a route by its name.
pub fn route(id: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.id == id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_has_its_own_name_and_its_own_place() {
        let names: BTreeSet<_> = ROUTES.iter().map(|route| route.id).collect();
        let places: BTreeSet<_> = ROUTES.iter().map(|route| (route.method, route.path)).collect();
        assert_eq!((names.len(), places.len()), (ROUTES.len(), ROUTES.len()));
    }

    #[test]
    fn whatever_changes_something_asks_who_is_there() {
        for route in ROUTES.iter().filter(|route| route.changes) {
            assert!(!matches!(route.access, Public), "{} changes something and is open to anyone", route.id);
        }
    }
}
