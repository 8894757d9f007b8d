//! The first page: what runs, what it costs this month, and what somebody should look at.

use askama::Template;
use axum::response::Response;
use gregal_api::{
    endpoint::EndpointView,
    invoice::{BalanceView, InvoiceDraftView},
    job::JobView,
    project::ProjectView,
    site::SiteView,
};
use gregal_core::{
    access::{Action, Role},
    endpoint::EndpointState,
    job::JobState,
    time::Time,
};

use super::{
    endpoint,
    failure::Failure,
    job,
    month::Month,
    page::{self, Here, Shell},
    visitor::Visitor,
    words,
};

/// The most projects that are looked into.
const PROJECTS_MAX: usize = 20;
/// Jobs that have ended, shown so that one sees how they did.
const ENDED_SHOWN: usize = 5;
/// How long a failure is news: a week.
const LATELY_MS: i64 = 7 * 24 * 3_600_000;
/// The most lines of what runs.
const LIVE_SHOWN: usize = 50;

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    shell: Shell,
    tiles: Vec<(&'static str, String, String)>,
    alerts: Vec<String>,
    live: Vec<job::Row>,
    ended: Vec<job::Row>,
    endpoints: Vec<endpoint::Row>,
    reader: Reader,
    once: String,
}

/// Who reads the page, and so what it has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Operator,
    /// A key that asks served models and does nothing else.
    Asker,
    /// Someone of an organisation without a project yet.
    Newcomer {
        may_make_project: bool,
    },
    Member,
}

impl Reader {
    fn of(visitor: &Visitor, projects: &[ProjectView]) -> Self {
        match visitor.me.key.role {
            role if role.is_operator() => Self::Operator,
            Role::Inference => Self::Asker,
            _ if projects.is_empty() => {
                Self::Newcomer { may_make_project: visitor.can_in_organisation(Action::ProjectCreate) }
            }
            _ => Self::Member,
        }
    }
}

pub(crate) async fn page(visitor: Visitor) -> Result<Response, Failure> {
    let projects = visitor.projects().await?;
    let (jobs, endpoints) = work(&visitor, &projects).await?;
    let sites: Vec<SiteView> = visitor.sites().await?.into_values().collect();
    let balance = balance(&visitor).await?;
    let mut tiles = tiles(&visitor, &jobs, &endpoints, &sites);
    tiles.extend(money(&visitor, balance.as_ref()).await?);
    let now = visitor.now();
    let (ended, live): (Vec<&JobView>, Vec<&JobView>) = jobs.iter().rev().partition(|job| job.state.is_final());
    page::page(&OverviewPage {
        shell: visitor.shell("Overview", Here::Overview, None).await?,
        alerts: alerts(&sites, &jobs, &endpoints, balance.as_ref(), now),
        tiles,
        live: live.into_iter().take(LIVE_SHOWN).map(|job| job::Row::of(job, now)).collect(),
        ended: ended.into_iter().take(ENDED_SHOWN).map(|job| job::Row::of(job, now)).collect(),
        endpoints: endpoints.iter().rev().take(LIVE_SHOWN).map(|found| endpoint::Row::of(found, &[])).collect(),
        reader: Reader::of(&visitor, &projects),
        once: visitor.once(),
    })
}

/// Jobs and endpoints of the projects, oldest first; endpoints that have ended are left out.
async fn work(visitor: &Visitor, projects: &[ProjectView]) -> Result<(Vec<JobView>, Vec<EndpointView>), Failure> {
    let (mut jobs, mut endpoints) = (Vec::new(), Vec::new());
    for project in projects.iter().rev().take(PROJECTS_MAX) {
        if visitor.can(Action::JobRead) {
            jobs.extend(visitor.api.gather::<JobView>("jobs_list", &[&project.id]).await?.0);
        }
        if visitor.can(Action::EndpointRead) {
            endpoints.extend(visitor.api.gather::<EndpointView>("endpoints_list", &[&project.id]).await?.0);
        }
    }
    // Ids sort by time of birth.
    jobs.sort_by_key(|job| job.id);
    endpoints.sort_by_key(|endpoint| endpoint.id);
    endpoints.retain(|endpoint| endpoint.state != EndpointState::Stopped);
    Ok((jobs, endpoints))
}

async fn balance(visitor: &Visitor) -> Result<Option<BalanceView>, Failure> {
    match visitor.organisation() {
        Some(id) if visitor.can_in_organisation(Action::InvoiceRead) => {
            visitor.api.read("balance_read", &[&id]).await.map(Some)
        }
        _ => Ok(None),
    }
}

fn tiles(
    visitor: &Visitor,
    jobs: &[JobView],
    endpoints: &[EndpointView],
    sites: &[SiteView],
) -> Vec<(&'static str, String, String)> {
    let count = |state: JobState| jobs.iter().filter(|job| job.state == state).count();
    let alive = sites.iter().filter(|site| site.alive).count();
    let mut tiles = Vec::new();
    if visitor.can(Action::JobRead) {
        let waiting = format!("{} waiting, {} starting", count(JobState::Queued), count(JobState::Starting));
        tiles.push(("Jobs running", count(JobState::Running).to_string(), waiting));
    }
    if visitor.can(Action::EndpointRead) {
        let ready = endpoints.iter().filter(|endpoint| endpoint.state == EndpointState::Ready).count();
        tiles.push(("Endpoints ready", ready.to_string(), format!("of {}", endpoints.len())));
    }
    if visitor.is_operator() {
        tiles.push(("Sites alive", alive.to_string(), format!("of {}", sites.len())));
    }
    tiles
}

async fn money(
    visitor: &Visitor,
    balance: Option<&BalanceView>,
) -> Result<Vec<(&'static str, String, String)>, Failure> {
    let (Some(balance), Some(organisation)) = (balance, visitor.organisation()) else { return Ok(Vec::new()) };
    let month = Month::of(visitor.now());
    let invoice: InvoiceDraftView = visitor.api.read_with("invoice_draft", &[&organisation], &month.query()).await?;
    Ok(vec![
        ("Spent this month", format!("{} EUR", invoice.draft.net), format!("{} EUR with VAT", invoice.draft.total)),
        (
            "Available",
            format!("{} EUR", words::euro(balance.available_nano)),
            format!("{} EUR held", words::euro(balance.held_nano)),
        ),
    ])
}

/// What somebody should look at.
fn alerts(
    sites: &[SiteView],
    jobs: &[JobView],
    endpoints: &[EndpointView],
    balance: Option<&BalanceView>,
    now: Time,
) -> Vec<String> {
    let mut alerts = Vec::new();
    for site in sites {
        if !site.alive {
            alerts.push(format!(
                "Site {} does not answer: nothing new starts there; what runs there goes on.",
                site.name
            ));
        }
        for missing in site.capacity.iter().flat_map(|capacity| &capacity.protections_missing) {
            alerts.push(format!("Site {} cannot isolate tenants fully: {missing}", site.name));
        }
    }
    if let Some(balance) = balance
        && balance.available_nano <= 0
    {
        alerts.push("No credit is available: jobs and chats are refused until there is some.".into());
    }
    let lately = |endpoint: &&EndpointView| now.millis_since(endpoint.created_at) < LATELY_MS;
    let failed = endpoints.iter().filter(|endpoint| endpoint.state == EndpointState::Failed).filter(lately);
    for endpoint in failed.rev().take(ENDED_SHOWN) {
        let why = endpoint.message.clone().unwrap_or_default();
        alerts.push(format!("Endpoint {} could not be brought to answer. {why}", endpoint.name));
    }
    for job in jobs.iter().filter(|job| job.state == JobState::Queued).rev().take(ENDED_SHOWN) {
        if let Some(why) = &job.waits_for {
            alerts.push(format!("Job {} waits: {why}", job.name));
        }
    }
    alerts
}
