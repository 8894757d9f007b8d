//! Submitting jobs: what is asked for, and what happens right after.

use clap::Args;
use gregal_api::job::{JobCreate, JobView};
use gregal_core::{id::DatasetId, job::Program};
use serde_json::{Map, Value};

use super::{facts, logs, watch};
use crate::{context::Cx, dataset, failure::Failure, reservation, words};

/// What every job is submitted with.
#[derive(Debug, Args)]
pub(crate) struct Frame {
    /// What the job is called; absent: made of what it does
    #[arg(long)]
    name: Option<String>,
    /// What to rent: `gregal sku list`
    #[arg(long, default_value = "cpu.1")]
    sku: String,
    /// The longest it may run, in seconds; what that may cost is held until it ends
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = clap::value_parser!(u32).range(1..))]
    seconds_max: u32,
    /// The site to run at; absent: where its data is
    #[arg(long)]
    site: Option<String>,
    /// 0 to 9, higher goes first; absent: 4. Above 4 needs the operator's leave for the organisation
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// It saves its work when told to stop (SIGTERM), and may be stopped for others: it waits then and goes on where it was.
    /// Trainings may unless this is said otherwise
    #[arg(long, overrides_with = "not_preemptible")]
    preemptible: bool,
    /// It may not be stopped for others. Commands may not unless this is said otherwise
    #[arg(long)]
    not_preemptible: bool,
    /// The reservation to run in, by name or id: nowhere else, and at no further price. It saves its work and ends when that ends
    #[arg(long)]
    reservation: Option<String>,
    /// Stay until it has ended
    #[arg(long, short)]
    follow: bool,
}

#[derive(Debug, Args)]
pub struct Train {
    /// What to learn from, by name or id
    #[arg(long)]
    dataset: String,
    /// Questions asked after training and never trained on, by name or id
    #[arg(long, value_name = "DATASET")]
    heldout: Option<String>,
    /// A dataset that holds a GGUF file to fine-tune, by name or id; absent: start from nothing
    #[arg(long, value_name = "DATASET")]
    base_model: Option<String>,
    /// Name of the model that comes out: 1 to 63 of `a-z`, `0-9`, `-`, beginning with a letter
    #[arg(long, value_name = "NAME")]
    model_name: String,
    /// A setting of the training, like `steps=400`; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, Value)>,
    #[command(flatten)]
    frame: Frame,
}

#[derive(Debug, Args)]
pub struct Run {
    /// A dataset to mount read-only under `/gregal/input/ID`, by name or id; may be given several times
    #[arg(long = "input", value_name = "DATASET")]
    inputs: Vec<String>,
    /// Let it reach the network; needs the site's consent
    #[arg(long)]
    network: bool,
    #[command(flatten)]
    frame: Frame,
    /// Program and arguments, after `--`
    #[arg(last = true, required = true, value_name = "ARGV")]
    argv: Vec<String>,
}

pub(super) async fn train(cx: &mut Cx<'_>, args: Train) -> Result<(), Failure> {
    let mut settings = Map::new();
    for (key, value) in args.settings {
        if settings.insert(key.clone(), value).is_some() {
            return Err(Failure::yours(format!("`--set {key}` is given twice")));
        }
    }
    let learned = dataset::find(cx, &args.dataset).await?;
    let heldout = optional(cx, args.heldout.as_deref()).await?;
    let base_model = optional(cx, args.base_model.as_deref()).await?;
    let name = format!("train-{}", args.model_name);
    let program = Program::Train { dataset: learned.id, heldout, base_model, model_name: args.model_name, settings };
    let follow = args.frame.follow;
    let job = submit(cx, program, args.frame, &name).await?;
    if !follow {
        return submitted(cx, &job);
    }
    watch::until_end(cx, job).await
}

pub(super) async fn command(cx: &mut Cx<'_>, args: Run) -> Result<(), Failure> {
    let mut inputs = Vec::new();
    for input in &args.inputs {
        inputs.push(dataset::find(cx, input).await?.id);
    }
    let name = args.argv.first().and_then(|program| program.rsplit('/').next()).unwrap_or_default().to_owned();
    let program = Program::Command { argv: args.argv, inputs, network: args.network };
    let follow = args.frame.follow;
    let job = submit(cx, program, args.frame, &name).await?;
    if !follow {
        return submitted(cx, &job);
    }
    let job = watch::until_started(cx, job).await?;
    if job.attempt > 0 && !cx.printer().json() {
        // Whatever it writes is data; how it goes is told on stderr. Its end is told whether or not the log could be read.
        let read = logs(cx, &job, true).await;
        let ended = watch::quietly_until_end(cx, job.clone()).await?;
        if !job.state.is_final() {
            cx.printer().note(&format!("job {} {}", ended.id, ended.state.as_str()));
        }
        return super::ended_well(&ended).and(read);
    }
    watch::until_end(cx, job).await
}

async fn optional(cx: &mut Cx<'_>, reference: Option<&str>) -> Result<Option<DatasetId>, Failure> {
    match reference {
        Some(reference) => Ok(Some(dataset::find(cx, reference).await?.id)),
        None => Ok(None),
    }
}

async fn submit(cx: &mut Cx<'_>, program: Program, frame: Frame, name: &str) -> Result<JobView, Failure> {
    let project = cx.project().await?;
    let reservation = match &frame.reservation {
        Some(reference) => Some(reservation::find(cx, reference).await?.id),
        None => None,
    };
    let wanted = JobCreate {
        name: frame.name.unwrap_or_else(|| words::label(name, "-", "job")),
        program,
        sku: frame.sku,
        seconds_max: frame.seconds_max,
        site: frame.site,
        priority: frame.priority,
        preemptible: match (frame.preemptible, frame.not_preemptible) {
            (false, false) => None,
            (preemptible, _) => Some(preemptible),
        },
        reservation,
    };
    cx.create("job_create", &[&project], &wanted).await
}

fn submitted(cx: &mut Cx<'_>, job: &JobView) -> Result<(), Failure> {
    cx.printer().data(job, facts)?;
    cx.printer().note(&format!("next: `gregal job watch {}`", job.id));
    Ok(())
}

/// A setting: JSON where it is JSON (numbers, true, false), else text.
fn setting(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text
        .split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| format!("`{text}` is no setting, one looks like `steps=400`"))?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.into()));
    Ok((key.into(), value))
}
