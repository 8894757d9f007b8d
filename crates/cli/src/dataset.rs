//! `gregal dataset`: data at a site. Its bytes go to the site, never through control.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use clap::{Args, Subcommand};
use futures_util::StreamExt;
use gregal_api::{
    dataset::{DatasetCreate, DatasetCreated, DatasetView},
    grant::{GrantCreated, GrantPurpose},
    problem::Code,
};
use gregal_core::{dataset::DatasetState, id::DatasetId};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::{
    content,
    context::Cx,
    failure::Failure,
    table::{Facts, Table},
    words,
};

/// Bytes read from disk at once.
const CHUNK_BYTES: usize = 256 << 10;

#[derive(Debug, Subcommand)]
pub enum DatasetVerb {
    /// Announce a dataset, send its bytes to the site and wait until they are stored
    Add(Add),
    /// List datasets
    List,
    /// Read a dataset's facts
    Show {
        /// By name or id
        #[arg(value_name = "DATASET")]
        reference: String,
    },
    /// Remove a dataset's bytes; its facts stay for lineage
    Rm {
        /// By name or id
        #[arg(value_name = "DATASET")]
        reference: String,
        /// Really: the bytes cannot be brought back
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub struct Add {
    /// What to store
    file: PathBuf,
    /// Its name: 1 to 63 of `a-z`, `0-9`, `-`, `.`, beginning with a letter; absent: made of the file's
    #[arg(long)]
    name: Option<String>,
    /// The site to store it at; absent: a lawful one is chosen
    #[arg(long)]
    site: Option<String>,
}

pub(crate) async fn run(cx: &mut Cx<'_>, verb: DatasetVerb) -> Result<(), Failure> {
    match verb {
        DatasetVerb::Add(args) => {
            let stored = add(cx, args).await?;
            cx.printer().data(&stored, facts)
        }
        DatasetVerb::List => {
            let project = cx.project().await?;
            let all: Vec<DatasetView> = cx.list("datasets_list", &[&project]).await?;
            cx.show_list("datasets", &all, |all| {
                let mut table = Table::new(["id", "name", "state", "size", "site", "created"]).right([3]);
                for one in all {
                    table.row([
                        one.id.to_string(),
                        one.name.clone(),
                        state(one.state).into(),
                        words::dash(one.bytes.map(words::size)),
                        one.site.to_string(),
                        one.created_at.to_string(),
                    ]);
                }
                table
            })
        }
        DatasetVerb::Show { reference } => {
            let found = find(cx, &reference).await?;
            cx.printer().data(&found, facts)
        }
        DatasetVerb::Rm { reference, yes } => {
            let found = find(cx, &reference).await?;
            if !yes {
                return Err(Failure::yours(format!("removing `{}` ({}) cannot be undone", found.name, found.id))
                    .hint(format!("say it with a flag: `gregal dataset rm {} --yes`", found.id)));
            }
            let gone: DatasetView = cx.read("dataset_delete", &[&found.id.to_string()]).await?;
            cx.printer().data(&gone, facts)
        }
    }
}

async fn add(cx: &mut Cx<'_>, args: Add) -> Result<DatasetView, Failure> {
    let (file, length) = open(&args.file).await?;
    let from_file = args.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = args.name.unwrap_or_else(|| words::label(&from_file, "-.", "data"));
    let project = cx.project().await?;
    let wanted = DatasetCreate { name: name.clone(), site: args.site };
    let (dataset, grant) = match cx.create::<DatasetCreated>("dataset_create", &[&project], &wanted).await {
        Ok(made) => (made.dataset, made.grant),
        Err(failure) if failure.is(Code::Taken) => (
            awaited(cx, &project, &name).await?.ok_or_else(|| {
                failure
                    .or_hint("choose another name with `--name`, or remove the old one: `gregal dataset rm NAME --yes`")
            })?,
            None,
        ),
        Err(failure) => return Err(failure),
    };
    let id = dataset.id.to_string();
    let grant = match grant {
        Some(grant) => grant,
        None => content::grant(cx, &project, GrantPurpose::DatasetWrite, &id).await?,
    };
    let digest = send(cx, &grant, &id, file, length).await.map_err(|failure| {
        failure.or_hint(format!("`{name}` is announced and waits for its bytes: the same command sends them again"))
    })?;
    let stored = stored(cx, &id).await?;
    match &stored.digest {
        Some(there) if *there != digest => Err(Failure::ours(format!(
            "`{id}` is stored with the digest {there}, but {digest} was sent"
        ))
        .hint(format!("do not train on it; remove it with `gregal dataset rm {id} --yes` and tell the operator"))),
        _ => Ok(stored),
    }
}

/// An announced dataset of this name whose bytes never arrived: an earlier try was cut off.
async fn awaited(cx: &mut Cx<'_>, project: &str, name: &str) -> Result<Option<DatasetView>, Failure> {
    let all: Vec<DatasetView> = cx.list("datasets_list", &[project]).await?;
    let found = all.into_iter().find(|dataset| dataset.name == name && dataset.state == DatasetState::Pending);
    if let Some(found) = &found {
        cx.printer()
            .note(&format!("`{name}` was announced before and waits for its bytes: sending them to {}", found.id));
    }
    Ok(found)
}

async fn open(path: &Path) -> Result<(tokio::fs::File, u64), Failure> {
    let file = tokio::fs::File::open(path).await.map_err(|error| Failure::file("open", path, &error))?;
    let facts = file.metadata().await.map_err(|error| Failure::file("read", path, &error))?;
    if !facts.is_file() {
        return Err(Failure::yours(format!("`{}` is not a file", path.display())));
    }
    if facts.len() == 0 {
        return Err(Failure::yours(format!("`{}` is empty", path.display())));
    }
    Ok((file, facts.len()))
}

/// Sends the bytes; returns their SHA-256, hex.
async fn send(
    cx: &mut Cx<'_>,
    grant: &GrantCreated,
    id: &str,
    file: tokio::fs::File,
    length: u64,
) -> Result<String, Failure> {
    let bar = cx.printer().bar("sending {bar:32} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left", Some(length));
    let moving = bar.clone();
    let digest = Arc::new(Mutex::new(Sha256::new()));
    let digesting = Arc::clone(&digest);
    // No further than what was announced, should the file grow meanwhile.
    let bytes = ReaderStream::with_capacity(file.take(length), CHUNK_BYTES).inspect(move |chunk| {
        if let Ok(chunk) = chunk {
            moving.inc(chunk.len() as u64);
            digesting.lock().unwrap_or_else(PoisonError::into_inner).update(chunk);
        }
    });
    let sent = content::put(grant, &format!("/content/v1/datasets/{id}"), length, bytes).await;
    bar.finish_and_clear();
    let digest = digest.lock().unwrap_or_else(PoisonError::into_inner).clone();
    sent.map(|()| hex::encode(digest.finalize()))
}

/// Waits until control knows that the site has stored it.
async fn stored(cx: &Cx<'_>, id: &str) -> Result<DatasetView, Failure> {
    let until = cx.here.world.steady() + cx.here.patience;
    loop {
        let dataset: DatasetView = cx.read("dataset_read", &[id]).await?;
        if dataset.state == DatasetState::Stored {
            return Ok(dataset);
        }
        if cx.here.world.steady() >= until {
            return Err(Failure::ours(format!(
                "the site has the bytes of `{id}`, but control has not heard of it yet"
            ))
            .hint(format!("`gregal dataset show {id}` says when it has")));
        }
        tokio::time::sleep(cx.here.poll).await;
    }
}

/// The dataset an id or a name stands for.
pub(crate) async fn find(cx: &mut Cx<'_>, reference: &str) -> Result<DatasetView, Failure> {
    if words::is_id::<DatasetId>(reference) {
        return cx.read("dataset_read", &[reference]).await;
    }
    let project = cx.project().await?;
    let all: Vec<DatasetView> = cx.list("datasets_list", &[&project]).await?;
    all.into_iter()
        .filter(|dataset| dataset.name == reference && dataset.state != DatasetState::Deleted)
        .max_by_key(|dataset| dataset.created_at)
        .ok_or_else(|| {
            Failure::yours(format!("no dataset is called `{reference}`")).hint("`gregal dataset list` lists them")
        })
}

fn facts(one: &DatasetView) -> String {
    Facts::new()
        .with("id", one.id)
        .with("name", &one.name)
        .with("state", state(one.state))
        .with("project", one.project)
        .with("site", one.site)
        .maybe("size", one.bytes.map(|bytes| format!("{} ({} bytes)", words::size(bytes), words::count(bytes))))
        .maybe("sha256", one.digest.as_ref())
        .with("created", one.created_at)
        .text()
}

const fn state(state: DatasetState) -> &'static str {
    match state {
        DatasetState::Pending => "pending",
        DatasetState::Stored => "stored",
        DatasetState::Deleted => "deleted",
    }
}
