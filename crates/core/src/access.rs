//! What can be done and by whom: the actions of the API and the roles that carry them.

use serde::{Deserialize, Serialize};

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident $text:literal;)*) => {
        /// Everything that can be asked of the cloud. Policies speak of these by their text.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Action { $($(#[$doc])* #[serde(rename = $text)] $name,)* }

        impl Action {
            /// Every action there is.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// How policies, audit entries and problem details spell it: `noun:verb`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

actions! {
    /// Read the cloud's public facts: SKUs, prices, sites.
    CatalogueRead "catalogue:read";
    /// Add SKUs to the catalogue, and retire them (operators).
    SkuWrite "sku:write";
    /// Make an organisation (operators).
    OrganisationCreate "organisation:create";
    /// Read an organisation.
    OrganisationRead "organisation:read";
    /// Change an organisation's residency policy.
    ResidencyWrite "residency:write";
    /// Read the policies an organisation or a project wrote for itself, and why something is allowed or not.
    PolicyRead "policy:read";
    /// Write, change and remove them.
    PolicyWrite "policy:write";
    /// Make a project.
    ProjectCreate "project:create";
    /// Read a project.
    ProjectRead "project:read";
    /// Read quotas: what is guaranteed, lent and borrowed.
    QuotaRead "quota:read";
    /// Set an organisation's quotas, its weight and how high its jobs may reach (operators).
    QuotaWrite "quota:write";
    /// Share an organisation's quotas among its projects.
    QuotaShare "quota:share";
    /// Make a key.
    KeyCreate "key:create";
    /// List keys (never their secrets).
    KeyRead "key:read";
    /// Revoke a key.
    KeyRevoke "key:revoke";
    /// Give a key's place to a new one, with both working for a while.
    KeyRotate "key:rotate";
    /// Read who the members of an organisation are.
    MemberRead "member:read";
    /// Change what a member may do.
    MemberWrite "member:write";
    /// Take somebody out of an organisation.
    MemberRemove "member:remove";
    /// Invite somebody to become a member.
    InvitationCreate "invitation:create";
    /// List invitations (never the texts that take them up).
    InvitationRead "invitation:read";
    /// Take an invitation back.
    InvitationRevoke "invitation:revoke";
    /// Make a service account.
    ServiceAccountCreate "service_account:create";
    /// Read service accounts.
    ServiceAccountRead "service_account:read";
    /// Disable and enable a service account, and say whose tokens stand for it.
    ServiceAccountWrite "service_account:write";
    /// Remove a service account.
    ServiceAccountRemove "service_account:remove";
    /// Read which domains sign in with a provider of the organisation's own.
    DomainRead "domain:read";
    /// Give a domain to an organisation and its provider, or take it away (operators).
    DomainWrite "domain:write";
    /// Make and list the credentials by which an organisation's directory says who joins and who leaves.
    ScimConfigure "scim:configure";
    /// Say who joins and who leaves (a directory, by SCIM).
    ScimProvision "scim:provision";
    /// Forget who a person is (operators, on a data protection request).
    PersonErase "person:erase";
    /// Register a site (operators).
    SiteCreate "site:create";
    /// Dial in: renew the lease, take intents, report progress and usage (the site itself).
    SiteSync "site:sync";
    /// Announce a dataset and get a grant to store it.
    DatasetCreate "dataset:create";
    /// Read a dataset's facts.
    DatasetRead "dataset:read";
    /// Remove a dataset.
    DatasetDelete "dataset:delete";
    /// Submit a job.
    JobCreate "job:create";
    /// Read a job's facts and progress.
    JobRead "job:read";
    /// Cancel a job.
    JobCancel "job:cancel";
    /// Tell any job that may be stopped to save its work and make room (operators).
    JobPreempt "job:preempt";
    /// Reserve room at a site for a time.
    ReservationCreate "reservation:create";
    /// Read a reservation's facts.
    ReservationRead "reservation:read";
    /// Call a reservation off.
    ReservationCancel "reservation:cancel";
    /// Read a model's facts and lineage.
    ModelRead "model:read";
    /// Serve a model.
    EndpointCreate "endpoint:create";
    /// Read an endpoint's facts.
    EndpointRead "endpoint:read";
    /// Stop serving.
    EndpointDelete "endpoint:delete";
    /// Ask a served model (at the site).
    EndpointInfer "endpoint:infer";
    /// Get a short-lived grant to read or write content at a site.
    GrantCreate "grant:create";
    /// Ask where content could be placed, and why not.
    PlacementExplain "placement:explain";
    /// Read usage.
    UsageRead "usage:read";
    /// Read invoices and the ledger.
    InvoiceRead "invoice:read";
    /// Read issued invoices, which the seller keeps too, and what they say of the buyer.
    IssuedInvoiceRead "issued_invoice:read";
    /// Say what invoices say of an organisation.
    BillingWrite "billing:write";
    /// Issue invoices and credit notes, and record payments (operators).
    InvoiceIssue "invoice:issue";
    /// Read the audit log of one's organisation.
    AuditRead "audit:read";
    /// Read the whole cloud's audit log (operators).
    AuditReadAll "audit:read_all";
    /// List operators' keys (never their secrets).
    OperatorKeyRead "operator_key:read";
    /// Make operators' keys (the founding operator).
    OperatorKeyCreate "operator_key:create";
    /// Revoke operators' keys (the founding operator).
    OperatorKeyRevoke "operator_key:revoke";
    /// Ask for a look at an organisation's facts (support).
    AccessRequest "access:request";
    /// Approve the look another operator asked for.
    AccessApprove "access:approve";
    /// Approve, for the organisation, the look an operator asked for.
    AccessConsent "access:consent";
    /// Read which looks were asked for, and what became of them.
    AccessRead "access:read";
    /// End a look, or turn the wish for one down.
    AccessEnd "access:end";
    /// Say what operators may see of an organisation's facts, and who has to agree.
    AccessConfigure "access:configure";
    /// Read the usage a site sent that could not be counted (operators).
    QuarantineRead "quarantine:read";
}

/// What a key's holder may do. Who holds a role may grant it and lower ones, never a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Founded the cloud: everything the other operators may do, and makes their keys. No access to tenants' content or
    /// objects, and no operator has any.
    Operator,
    /// Runs machines: registers sites, makes room on them.
    SiteOperator,
    /// Runs the business: organisations, prices, quotas.
    BillingOperator,
    /// Helps tenants: asks for a look at their facts, and approves the looks of others.
    Support,
    /// Reads the whole cloud's audit log.
    OperatorAuditor,
    /// Everything in the organisation.
    Owner,
    /// Everything but money and residency.
    Admin,
    /// Makes and uses datasets, jobs, models and endpoints.
    Developer,
    /// Asks served models, nothing else.
    Inference,
    /// Reads what developers see.
    Viewer,
    /// Reads usage and invoices.
    Billing,
    /// Reads facts and the audit log.
    Auditor,
    /// Reads facts, the audit log and the residency policy, and decides on operators' wishes to look.
    DataProtectionOfficer,
    /// Reads facts for as long as an access lasts. No key carries it.
    Visitor,
}

impl Role {
    /// Every role there is.
    pub const ALL: &'static [Self] = &[
        Self::Operator,
        Self::SiteOperator,
        Self::BillingOperator,
        Self::Support,
        Self::OperatorAuditor,
        Self::Owner,
        Self::Admin,
        Self::Developer,
        Self::Inference,
        Self::Viewer,
        Self::Billing,
        Self::Auditor,
        Self::DataProtectionOfficer,
        Self::Visitor,
    ];

    /// How policies and people spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::SiteOperator => "site_operator",
            Self::BillingOperator => "billing_operator",
            Self::Support => "support",
            Self::OperatorAuditor => "operator_auditor",
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Developer => "developer",
            Self::Inference => "inference",
            Self::Viewer => "viewer",
            Self::Billing => "billing",
            Self::Auditor => "auditor",
            Self::DataProtectionOfficer => "data_protection_officer",
            Self::Visitor => "visitor",
        }
    }

    /// Whether it is a role of those who run the cloud: keys of no organisation.
    pub const fn is_operator(self) -> bool {
        matches!(
            self,
            Self::Operator | Self::SiteOperator | Self::BillingOperator | Self::Support | Self::OperatorAuditor
        )
    }

    /// Whether a holder of this role may hand out `other`: nobody grants more than he holds.
    pub const fn may_grant(self, other: Self) -> bool {
        match self {
            Self::Operator => other.is_operator(),
            Self::Owner => !other.is_operator() && !matches!(other, Self::Visitor),
            Self::Admin => matches!(other, Self::Developer | Self::Inference | Self::Viewer),
            Self::Developer => matches!(other, Self::Inference),
            Self::SiteOperator
            | Self::BillingOperator
            | Self::Support
            | Self::OperatorAuditor
            | Self::Inference
            | Self::Viewer
            | Self::Billing
            | Self::Auditor
            | Self::DataProtectionOfficer
            | Self::Visitor => false,
        }
    }
}
