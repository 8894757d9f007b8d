//! Pages of long lists.

use serde::{Deserialize, Serialize};

/// Most items a page may hold.
pub const PAGE_LIMIT_MAX: u32 = 500;
/// Items a page holds if nothing else is asked for.
pub const PAGE_LIMIT_DEFAULT: u32 = 100;

/// Which page is wanted, as query parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// The `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Items wanted, 1 to 500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

macro_rules! lists {
    ($($(#[$doc:meta])* $name:ident of $item:path;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
        pub struct $name {
            /// The items of this page.
            pub items: Vec<$item>,
            /// Where the next page begins; none on the last one.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub next: Option<String>,
        }
    )*};
}

lists! {
    /// A page of organisations.
    OrganisationList of crate::organisation::OrganisationView;
    /// A page of projects.
    ProjectList of crate::project::ProjectView;
    /// A page of keys.
    KeyList of crate::key::KeyView;
    /// A page of members.
    MemberList of crate::person::MemberView;
    /// A page of invitations.
    InvitationList of crate::person::InvitationView;
    /// A page of service accounts.
    ServiceAccountList of crate::service_account::ServiceAccountView;
    /// An organisation's domains, all of them.
    DomainList of crate::person::DomainView;
    /// A page of support accesses.
    AccessList of crate::access::AccessView;
    /// A page of sites.
    SiteList of crate::site::SiteView;
    /// A page of SKUs.
    SkuList of crate::sku::SkuView;
    /// A page of prices.
    PriceList of crate::catalogue::PriceView;
    /// A page of datasets.
    DatasetList of crate::dataset::DatasetView;
    /// A page of jobs.
    JobList of crate::job::JobView;
    /// A page of progress points; `next` is the last step read.
    ProgressList of crate::job::ProgressView;
    /// A page of models.
    ModelList of crate::model::ModelView;
    /// A page of endpoints.
    EndpointList of crate::endpoint::EndpointView;
    /// Quotas, all of them.
    QuotaList of crate::quota::QuotaView;
    /// Own policies, all of them.
    PolicyList of crate::policy::PolicyView;
    /// A page of reservations.
    ReservationList of crate::reservation::ReservationView;
    /// A page of usage records.
    UsageList of crate::usage::UsageRecord;
    /// A page of usage records that could not be counted, in the order of arrival.
    QuarantineList of crate::usage::QuarantinedUsage;
    /// A page of ledger postings.
    PostingList of crate::invoice::PostingView;
    /// A page of issued invoices and credit notes, in the order of issue.
    InvoiceList of crate::invoice::InvoiceView;
}
