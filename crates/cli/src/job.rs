//! `gregal job`: work that runs to completion.

use clap::Subcommand;
use gregal_api::{
    catalogue::Empty,
    grant::GrantPurpose,
    job::{JobPreempt, JobPreempted, JobView},
};
use gregal_core::{
    id::JobId,
    job::{JobState, Program},
};

use crate::{
    content,
    context::Cx,
    failure::Failure,
    table::{Facts, Table},
    words,
};

mod explain;
mod submit;
mod watch;

#[derive(Debug, Subcommand)]
pub enum JobVerb {
    /// Train or fine-tune a model
    Train(submit::Train),
    /// Run a command in the site's sandbox
    Run(submit::Run),
    /// List jobs
    List,
    /// Read a job
    Show {
        /// By id, or by name (the newest of that name)
        #[arg(value_name = "JOB")]
        reference: String,
    },
    /// Watch a job until it ends
    Watch {
        /// By id, or by name (the newest of that name)
        #[arg(value_name = "JOB")]
        reference: String,
    },
    /// Read what a job wrote, from its site
    Logs {
        /// By id, or by name (the newest of that name)
        #[arg(value_name = "JOB")]
        reference: String,
        /// Go on until the job ends
        #[arg(long, short)]
        follow: bool,
    },
    /// Say why a job waits or where it went: its place in the queue, and a decision made again from the record
    Explain {
        /// By id, or by name (the newest of that name)
        #[arg(value_name = "JOB")]
        reference: String,
        /// The scheduling pass whose decision is made again; absent: the newest
        #[arg(long, value_name = "NUMBER")]
        pass: Option<u64>,
    },
    /// Tell a job to save its work and make room; it waits and goes on where it was (operators)
    Preempt {
        /// By id
        #[arg(value_name = "JOB")]
        id: JobId,
        /// Why; its owner reads it, so name nobody else
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// Cancel a job; what ran is billed
    Cancel {
        /// By id, or by name (the newest of that name)
        #[arg(value_name = "JOB")]
        reference: String,
    },
}

pub(crate) async fn run(cx: &mut Cx<'_>, verb: JobVerb) -> Result<(), Failure> {
    match verb {
        JobVerb::Train(args) => submit::train(cx, args).await,
        JobVerb::Run(args) => submit::command(cx, args).await,
        JobVerb::List => list(cx).await,
        JobVerb::Show { reference } => {
            let found = find(cx, &reference).await?;
            cx.printer().data(&found, facts)
        }
        JobVerb::Watch { reference } => {
            let found = find(cx, &reference).await?;
            watch::until_end(cx, found).await
        }
        JobVerb::Logs { reference, follow } => {
            let found = find(cx, &reference).await?;
            logs(cx, &found, follow).await
        }
        JobVerb::Explain { reference, pass } => {
            let found = find(cx, &reference).await?;
            explain::explain(cx, &found, pass).await
        }
        JobVerb::Preempt { id, why } => {
            let told: JobPreempted = cx.ask("job_preempt", &[&id.to_string()], &JobPreempt { why }).await?;
            cx.printer().data(&told, |told| {
                Facts::new()
                    .with("id", told.job)
                    .with("state", told.state.as_str())
                    .maybe("site", told.site)
                    .with("stopped before", told.stops)
                    .text()
            })
        }
        JobVerb::Cancel { reference } => {
            let found = find(cx, &reference).await?;
            let gone: JobView = cx.ask("job_cancel", &[&found.id.to_string()], &Empty {}).await?;
            cx.printer().data(&gone, facts)
        }
    }
}

async fn list(cx: &mut Cx<'_>) -> Result<(), Failure> {
    let project = cx.project().await?;
    let all: Vec<JobView> = cx.list("jobs_list", &[&project]).await?;
    cx.show_list("jobs", &all, |all| {
        let mut table = Table::new(["id", "name", "kind", "state", "sku", "created", "note"]);
        for one in all {
            table.row([
                one.id.to_string(),
                one.name.clone(),
                kind(one).into(),
                one.state.as_str().into(),
                one.sku.clone(),
                one.created_at.to_string(),
                note(one),
            ]);
        }
        table
    })
}

/// Copies the job's log from its site. Content never comes from control.
async fn logs(cx: &mut Cx<'_>, job: &JobView, follow: bool) -> Result<(), Failure> {
    let id = job.id.to_string();
    let grant = content::grant(cx, &job.project.to_string(), GrantPurpose::JobLogs, &id).await?;
    let answer = content::get(&grant, &format!("/content/v1/jobs/{id}/logs?follow={follow}")).await?;
    watch::or_interrupted(&id, content::copy_log(cx, answer)).await
}

/// The job an id or a name stands for.
async fn find(cx: &mut Cx<'_>, reference: &str) -> Result<JobView, Failure> {
    if words::is_id::<JobId>(reference) {
        return cx.read("job_read", &[reference]).await;
    }
    let project = cx.project().await?;
    let all: Vec<JobView> = cx.list("jobs_list", &[&project]).await?;
    all.into_iter()
        .filter(|job| job.name == reference)
        .max_by_key(|job| (job.created_at, job.id))
        .ok_or_else(|| Failure::yours(format!("no job is called `{reference}`")).hint("`gregal job list` lists them"))
}

/// Fails, naming the reason, if the job did not end well.
fn ended_well(job: &JobView) -> Result<(), Failure> {
    if job.state == JobState::Succeeded {
        return Ok(());
    }
    let end = job.end.as_ref();
    let reason = end.map_or("it does not say why", |end| end.reason.as_str());
    let code = end.and_then(|end| end.code).map(|code| format!(", exit code {code}")).unwrap_or_default();
    let failure = Failure::yours(format!("job `{}` {}: {reason}{code}", job.id, job.state.as_str()));
    Err(match end.and_then(|end| end.hint.clone()) {
        Some(hint) => failure.hint(hint),
        None if job.started_at.is_some() => failure.hint(format!("`gregal job logs {}` shows what it wrote", job.id)),
        None => failure,
    })
}

const fn kind(job: &JobView) -> &'static str {
    match job.program {
        Program::Train { .. } => "train",
        Program::Command { .. } => "command",
    }
}

/// Why it stands where it stands.
fn note(job: &JobView) -> String {
    if let Some(why) = &job.waits_for {
        return format!("waits: {why}");
    }
    match (&job.end, &job.progress) {
        (Some(end), _) => end.reason.clone(),
        (None, Some(progress)) => format!("step {}/{}", progress.step, progress.steps),
        (None, None) => String::new(),
    }
}

fn facts(one: &JobView) -> String {
    let facts = Facts::new()
        .with("id", one.id)
        .with("name", &one.name)
        .with("project", one.project)
        .with("kind", kind(one))
        .with("state", one.state.as_str())
        .maybe("waits for", one.waits_for.as_ref())
        .maybe("starts by", one.starts_by)
        .with("sku", &one.sku)
        .maybe("reservation", one.reservation)
        .with("seconds max", one.seconds_max)
        .with("priority", one.priority)
        .with("preemptible", if one.preemptible { "yes" } else { "no" })
        .maybe("stopped", Some(one.stops).filter(|stops| *stops > 0).map(|stops| format!("{stops} times, for others")))
        .maybe("site", one.site)
        .maybe("attempt", Some(one.attempt).filter(|attempt| *attempt > 0));
    let facts = match &one.program {
        Program::Train { dataset, heldout, base_model, model_name, settings } => facts
            .with("dataset", dataset)
            .maybe("held out", *heldout)
            .maybe("base model", *base_model)
            .with("model name", model_name)
            .maybe("settings", (!settings.is_empty()).then(|| serde_json::Value::Object(settings.clone()))),
        Program::Command { argv, inputs, network } => facts
            .with("command", argv.join(" "))
            .maybe(
                "inputs",
                (!inputs.is_empty()).then(|| inputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
            )
            .with("network", if *network { "yes" } else { "no" }),
    };
    facts
        .maybe("progress", one.progress.as_ref().map(watch::progress))
        .maybe("held-out exact", one.heldout.map(|heldout| format!("{} of {}", heldout.exact, heldout.asked)))
        .maybe(
            "end",
            one.end.as_ref().map(|end| {
                let code = end.code.map(|code| format!(", exit code {code}")).unwrap_or_default();
                format!("{}{code}", end.reason)
            }),
        )
        .maybe("model", one.model)
        .with("created", one.created_at)
        .maybe("started", one.started_at)
        .maybe("ended", one.ended_at)
        .maybe("took", one.started_at.zip(one.ended_at).map(|(from, until)| words::seconds(until.millis_since(from))))
        .text()
}
