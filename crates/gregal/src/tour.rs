//! `gregal tour`: the whole journey of a tenant on a cloud that this command starts, through public APIs only.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use gregal_api::client::Client;
use gregal_core::world::{RealWorld, World};

use crate::{
    cloud::{Cloud, OperatorKey, Shutdown},
    settings::{self, SettingsArgs},
};

mod chat;
mod data;
mod display;
mod facts;
mod journey;
mod money;
mod proof;
mod state;
mod summary;

use data::TourData;
use display::Display;
use journey::Journey;
use state::Notebook;
use summary::Summary;

/// Train, serve, answer, bill and prove: the whole cloud in one command
#[derive(Debug, Args)]
pub(crate) struct TourArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Train on this file instead: JSON lines (chat messages, or prompt and completion) or plain text
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Fine-tune this model instead of starting from nothing
    #[arg(long, value_name = "FILE.gguf")]
    base_model: Option<PathBuf>,
    /// End when the journey has ended, instead of staying up until Ctrl-C
    #[arg(long)]
    exit: bool,
    /// Keep the data folder that the tour made
    #[arg(long)]
    keep: bool,
    /// Print the summary as JSON on stdout
    #[arg(long)]
    json: bool,
}

/// Walks the tour; true if every step held.
pub(crate) async fn run(args: TourArgs) -> Result<bool> {
    // The user's input is judged before anything is made.
    let data = match &args.data {
        Some(path) => TourData::of_file(path, args.base_model.clone())?,
        None => TourData::own(args.base_model.clone()),
    };
    if let Some(path) = &args.base_model {
        ensure!(path.is_file(), "`{}` is no file\n\nhint: --base-model takes a GGUF file", path.display());
    }
    let place = Place::choose(&args)?;
    let mut flags = args.settings.clone();
    flags.data_dir = Some(place.dir.clone());
    // Before the user's own words, so that these win.
    flags.set.insert(0, "control.prices=demonstration".into());
    let settings = settings::load(&flags, std::env::vars())?.settings;
    crate::logs::start(&settings.log)?;

    let mut show = Display::new();
    show.step("the cloud starts: control plane, one site, local engine, embedded store");
    let mut shutdown = Shutdown::listen()?;
    let cloud = Cloud::start(settings, OperatorKey::Kept).await?;
    show.done(&format!("console and API at {}, gateway at {}", cloud.control_url, cloud.site_url));

    let mut summary = Summary {
        console_url: format!("{}/console", cloud.control_url),
        gateway_url: format!("{}/v1", cloud.site_url),
        data_dir: place.dir.display().to_string(),
        ..Summary::default()
    };
    let walked = tokio::select! {
        walked = walk(&cloud, &place.dir, &data, &mut show, &mut summary) => walked,
        () = shutdown.asked() => Err(anyhow::anyhow!("interrupted")),
    };
    summary.ok = walked.is_ok();
    summary.failed = walked.as_ref().err().map(|error| format!("{error:#}"));
    if args.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    }
    match &walked {
        Ok(next) => {
            eprint!("{}", summary.words());
            eprintln!("{next}");
            if !args.exit {
                eprintln!("\nThe cloud stays up until Ctrl-C.");
                shutdown.asked().await;
                eprintln!("draining ...");
            }
        }
        Err(error) => eprintln!("error: {error:#}"),
    }
    cloud.stop().await?;
    place.leave(args.keep, summary.ok)?;
    Ok(summary.ok)
}

/// The steps; the answer says where to look and what to type next.
async fn walk(cloud: &Cloud, dir: &Path, data: &TourData, show: &mut Display, summary: &mut Summary) -> Result<String> {
    let mut book = Notebook::open(dir, tour_name)?;
    let operator = Client::new(&cloud.control_url, cloud.operator_secret.clone())?;
    let mut journey =
        Journey { operator, http: reqwest::Client::builder().no_proxy().build()?, book: &mut book, show, summary };
    journey.sign_up().await?;
    journey.store(data).await?;
    journey.train(data).await?;
    let training = &journey.summary.training;
    let heldout = training
        .heldout_exact
        .map(|share| format!(", {:.1} % of {} held-out answers exact", share * 100.0, training.heldout_asked));
    let text = format!(
        "trained in {:.1} s at {:.0} tokens/s, loss {:.4}{}",
        training.seconds,
        training.tokens_per_s,
        training.loss,
        heldout.unwrap_or_default()
    );
    ensure!(
        training.heldout_exact.unwrap_or(1.0) >= data.exact_min,
        "{text}; at least {:.0} % was wanted",
        data.exact_min * 100.0
    );
    journey.show.done(&text);
    let model = journey.model().await?;
    let endpoint = journey.serve(&model).await?;
    journey.chat(&endpoint, data).await?;
    journey.leave_the_union().await?;
    journey.pay().await?;
    journey.prove().await?;
    let owner = book.notes.owner_secret.as_deref().context("the owner's key is not there")?;
    let project = book.notes.project.context("the project is not there")?;
    let question = data.questions.first().map_or("Hello", |(question, _)| question.as_str());
    Ok(next_steps(cloud, dir, owner, &project.to_string(), question))
}

fn next_steps(cloud: &Cloud, dir: &Path, owner: &str, project: &str, question: &str) -> String {
    // In single quotes the shell takes everything as it is but the quote itself.
    let question = question.replace('\'', "'\\''");
    format!(
        "\nWhere to look\n  console    {url}/console   (sign in with the owner's key below)\n  owner key  {owner}\n  \
         data       {dir}\n\nWhat to type next, in another terminal\n  export GREGAL_URL={url} GREGAL_KEY={owner}\n  \
         gregal job list --project {project}\n  gregal chat atlas --project {project} '{question}'\n  \
         gregal audit verify",
        url = cloud.control_url,
        dir = dir.display(),
    )
}

/// The folder the tour works in, and whether the tour made what is in it.
struct Place {
    dir: PathBuf,
    made: bool,
}

impl Place {
    fn choose(args: &TourArgs) -> Result<Self> {
        if let Some(dir) = &args.settings.data_dir {
            let empty = match std::fs::read_dir(dir) {
                Ok(mut entries) => entries.next().is_none(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
                Err(error) => {
                    return Err(error).with_context(|| format!("could not look into `{}`", dir.display()));
                }
            };
            std::fs::create_dir_all(dir).with_context(|| format!("could not make the folder `{}`", dir.display()))?;
            Ok(Self { dir: std::path::absolute(dir)?, made: empty })
        } else {
            let dir = std::env::temp_dir().join(format!("gregal-{}", tour_name()));
            std::fs::create_dir_all(&dir).with_context(|| format!("could not make the folder `{}`", dir.display()))?;
            Ok(Self { dir, made: true })
        }
    }

    /// Removes what the tour made, unless it should be kept or may be needed to see what went wrong.
    fn leave(&self, keep: bool, held: bool) -> Result<()> {
        if !self.made || keep || !held {
            eprintln!("kept {}", self.dir.display());
            return Ok(());
        }
        std::fs::remove_dir_all(&self.dir).with_context(|| format!("could not remove `{}`", self.dir.display()))
    }
}

/// A short name nobody else has.
fn tour_name() -> String {
    let mut bytes = [0u8; 5];
    RealWorld.fill(&mut bytes);
    let number = bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("tour-{number:010x}")
}
