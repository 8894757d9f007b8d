//! Jobs: the list, a job's page with its live part, cancelling it, and the grant with which the browser reads its log at the
//! site.

use askama::Template;
use axum::{
    Json,
    response::{IntoResponse as _, Redirect, Response},
};
use gregal_api::{
    catalogue::Empty,
    grant::{GrantCreate, GrantCreated, GrantPurpose},
    job::{JobExplanation, JobView, ProgressView},
    site::SiteView,
};
use gregal_core::{
    access::Action,
    energy::Millijoules,
    id::{JobId, ProjectId},
    job::{JobState, Program},
};

use super::{
    decisions,
    failure::Failure,
    page::{self, Here, Shell},
    plot::{self, Curve},
    posted::{Nothing, Posted, Really},
    visitor::{Id, Visitor},
    words,
};

/// The most jobs a list shows.
const LIST_MAX: usize = 200;
/// Seconds after which a browser without JavaScript looks again.
const REFRESH_S: u32 = 5;

/// A job as a line of a list.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) id: JobId,
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) state: &'static str,
    pub(crate) note: String,
    pub(crate) percent: Option<u64>,
    pub(crate) created: String,
    pub(crate) took: String,
}

#[derive(Template)]
#[template(path = "jobs.html")]
struct ListPage {
    shell: Shell,
    rows: Vec<Row>,
    is_all: bool,
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    shell: Shell,
    job: JobView,
    kind: &'static str,
    facts: Vec<(&'static str, String)>,
    dataset: Option<String>,
    may_cancel: bool,
    may_read_log: bool,
    /// When, by which pass, and what was said, the newest first.
    decisions: Vec<(String, u64, String)>,
    replay: Option<String>,
    live: Live,
}

/// What changes while a job runs.
#[derive(Template)]
#[template(path = "job_live.html")]
pub(crate) struct Live {
    state: &'static str,
    is_final: bool,
    waits_for: Option<String>,
    place: Option<String>,
    end: Option<(String, Option<String>)>,
    percent: Option<u64>,
    figures: Vec<(&'static str, String)>,
    model: Option<String>,
    heldout: Option<String>,
    curve: Option<Curve>,
}

impl askama::filters::HtmlSafe for Live {}

impl Row {
    pub(crate) fn of(job: &JobView, now: gregal_core::time::Time) -> Self {
        let note = match (&job.waits_for, &job.end) {
            (Some(why), _) => why.clone(),
            (None, Some(end)) if job.state == JobState::Failed => {
                end.hint.clone().unwrap_or_else(|| end.reason.clone())
            }
            _ => String::new(),
        };
        let took = job.started_at.map(|start| words::span(job.ended_at.unwrap_or(now).millis_since(start)));
        Self {
            id: job.id,
            name: job.name.clone(),
            kind: kind(&job.program),
            state: job.state.as_str(),
            note,
            percent: percent(job),
            created: words::when(job.created_at),
            took: took.unwrap_or_else(|| "–".into()),
        }
    }
}

const fn kind(program: &Program) -> &'static str {
    match program {
        Program::Train { .. } => "training",
        Program::Command { .. } => "command",
    }
}

/// How far a running job has come.
fn percent(job: &JobView) -> Option<u64> {
    let progress = job.progress.as_ref().filter(|progress| progress.steps > 0)?;
    Some((u128::from(progress.step) * 100 / u128::from(progress.steps)).min(100) as u64)
}

pub(crate) async fn list(visitor: Visitor, Id(project): Id<ProjectId>) -> Result<Response, Failure> {
    let (jobs, is_all) = visitor.api.gather::<JobView>("jobs_list", &[&project]).await?;
    let now = visitor.now();
    // Lists come oldest first; people look for what is newest.
    let rows: Vec<Row> = jobs.iter().rev().take(LIST_MAX).map(|job| Row::of(job, now)).collect();
    let is_all = is_all && rows.len() == jobs.len();
    page::page(&ListPage { shell: visitor.shell("Jobs", Here::Jobs, Some(project)).await?, rows, is_all })
}

pub(crate) async fn page(visitor: Visitor, Id(id): Id<JobId>) -> Result<Response, Failure> {
    let job: JobView = visitor.api.read("job_read", &[&id]).await?;
    let live = Live::of(&visitor, &job).await?;
    let mut shell = visitor.shell(&format!("Job {}", job.name), Here::Jobs, Some(job.project)).await?;
    shell.refresh_s = (!job.state.is_final()).then_some(REFRESH_S);
    let sites = visitor.sites().await?;
    let site = job.site.and_then(|site| sites.get(&site));
    // A job that waits is at no site yet; its log will be at one of them.
    let connects: Vec<&str> = match site {
        Some(site) => site.url.iter().map(String::as_str).collect(),
        None => sites.values().filter_map(|site| site.url.as_deref()).collect(),
    };
    let dataset = match &job.program {
        Program::Train { dataset, .. } => Some(dataset.to_string()),
        Program::Command { .. } => None,
    };
    let may_grant = visitor.can(Action::GrantCreate);
    let explained: JobExplanation = visitor.api.read("job_explain", &[&id]).await?;
    let page = JobPage {
        decisions: explained.history.iter().map(|said| decisions::decision(said, &sites)).collect(),
        replay: explained.replay.as_ref().map(decisions::replayed),
        kind: kind(&job.program),
        facts: facts(&job, site),
        dataset,
        may_cancel: visitor.can(Action::JobCancel) && !job.state.is_final(),
        may_read_log: may_grant && visitor.can(Action::JobRead),
        live,
        shell,
        job,
    };
    page::page_to(&page, connects)
}

/// Only what changes, for the page's script.
pub(crate) async fn live(visitor: Visitor, Id(id): Id<JobId>) -> Result<Response, Failure> {
    let job: JobView = visitor.api.read("job_read", &[&id]).await?;
    page::page(&Live::of(&visitor, &job).await?)
}

pub(crate) async fn cancel(Id(id): Id<JobId>, Posted { visitor, form }: Posted<Really>) -> Result<Response, Failure> {
    form.check()?;
    let _: JobView = visitor.api.send("job_cancel", &[&id], &Empty {}, None).await?;
    Ok(Redirect::to(&format!("/console/jobs/{id}")).into_response())
}

/// Leave for the browser to read the log at the site.
pub(crate) async fn grant(
    Id(id): Id<JobId>,
    Posted { visitor, .. }: Posted<Nothing>,
) -> Result<Json<GrantCreated>, Failure> {
    let job: JobView = visitor.api.read("job_read", &[&id]).await?;
    let wanted = GrantCreate { purpose: GrantPurpose::JobLogs, object: id.to_string() };
    Ok(Json(visitor.api.send("grant_create", &[&job.project], &wanted, None).await?))
}

impl Live {
    async fn of(visitor: &Visitor, job: &JobView) -> Result<Self, Failure> {
        let (points, _) = visitor.api.gather::<ProgressView>("job_progress", &[&job.id]).await?;
        let losses: Vec<(u64, f64)> = points.iter().map(|point| (point.step, point.loss)).collect();
        let figures = job.progress.as_ref().map(figures).unwrap_or_default();
        Ok(Self {
            state: job.state.as_str(),
            is_final: job.state.is_final(),
            waits_for: job.waits_for.clone(),
            place: if job.state == JobState::Queued { decisions::place(visitor, job).await? } else { None },
            end: job.end.as_ref().map(|end| {
                let code = end.code.map(|code| format!(" (exit code {code})")).unwrap_or_default();
                (format!("{}{code}", end.reason.replace('_', " ")), end.hint.clone())
            }),
            percent: percent(job),
            figures,
            model: job.model.map(|model| model.to_string()),
            heldout: job.heldout.map(|held| format!("{} of {} held-out answers exact", held.exact, held.asked)),
            curve: plot::curve("Loss", &losses),
        })
    }
}

fn figures(progress: &ProgressView) -> Vec<(&'static str, String)> {
    let elapsed = i64::try_from(progress.elapsed_ms).unwrap_or(i64::MAX);
    let speed = if progress.tokens_per_s.is_finite() { progress.tokens_per_s.max(0.0) as u64 } else { 0 };
    vec![
        ("Step", format!("{} of {}", words::count(progress.step), words::count(progress.steps))),
        ("Loss", plot::short(progress.loss)),
        ("Tokens", words::count(progress.tokens)),
        ("Tokens a second", words::count(speed)),
        ("Running for", words::span(elapsed)),
        ("Energy", Millijoules::new(progress.energy_mj).to_string()),
    ]
}

fn facts(job: &JobView, site: Option<&SiteView>) -> Vec<(&'static str, String)> {
    let at = job.site.map_or_else(|| "not placed yet".into(), |id| id.to_string());
    let mut facts = vec![
        ("Id", job.id.to_string()),
        ("SKU", job.sku.clone()),
        ("Longest run", words::span(i64::from(job.seconds_max) * 1000)),
        ("Site", site.map_or(at, |site| format!("{} ({})", site.name, site.jurisdiction))),
        ("Priority", job.priority.to_string()),
        ("May be stopped for others", if job.preemptible { "yes" } else { "no" }.into()),
        ("Stopped for others", format!("{} times", job.stops)),
        ("Attempts", job.attempt.to_string()),
        ("Submitted", words::when(job.created_at)),
        ("Ready", words::when_any(job.started_at)),
        ("Ended", words::when_any(job.ended_at)),
    ];
    match &job.program {
        Program::Train { model_name, base_model, .. } => {
            facts.insert(1, ("Makes model", model_name.clone()));
            if let Some(base) = base_model {
                facts.insert(2, ("Fine-tunes", base.to_string()));
            }
        }
        Program::Command { argv, .. } => facts.insert(1, ("Command", argv.join(" "))),
    }
    facts
}
