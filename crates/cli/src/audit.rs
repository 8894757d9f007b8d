//! `gregal audit`: the log as it is told, and proof that it is the log.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use gregal_api::{
    audit::{AuditList, AuditQuery},
    page::PAGE_LIMIT_MAX,
};
use gregal_core::audit::AuditEntry;
use serde::{Deserialize, Serialize};

use crate::{
    context::{Cx, PAGES_MAX},
    failure::Failure,
    files,
    options::Options,
    surroundings::Surroundings,
    table::{Facts, Table},
    words,
};

mod memory;
mod proof;

use memory::Memory;
use proof::Proved;

/// What the file format is called.
const FORMAT: &str = "gregal-audit-v1";

#[derive(Debug, Subcommand)]
pub enum AuditVerb {
    /// List entries: who did what to what, with which result
    List(View),
    /// Prove every entry against the signed checkpoint, and the log against what was seen before
    Verify(Verify),
}

#[derive(Debug, Args)]
pub struct View {
    /// The whole cloud's log instead of the organisation's view (operators)
    #[arg(long)]
    all: bool,
    /// Entries after this index only
    #[arg(long, value_name = "INDEX")]
    after: Option<u64>,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// The whole cloud's log instead of the organisation's view (operators)
    #[arg(long)]
    all: bool,
    /// The log's key, got by another way; absent: the first one seen
    #[arg(long, value_name = "HEX")]
    log_key: Option<String>,
    /// Keep entries and proofs in a file that verifies without a server
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    export: Option<PathBuf>,
    /// Verify such a file instead of asking the cloud
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    file: Option<PathBuf>,
}

/// The log as it was read: what `--json` prints, `--export` keeps and `--file` reads.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Export {
    /// `gregal-audit-v1`.
    pub(crate) format: String,
    /// The cloud it was read from.
    pub(crate) url: String,
    /// Whose view it is: an organisation's id, or `all`.
    pub(crate) view: String,
    /// The pages as they came, each with the checkpoint its proofs lead to.
    pub(crate) pages: Vec<AuditList>,
}

pub(crate) async fn run(options: Options, here: &mut Surroundings, verb: AuditVerb) -> Result<(), Failure> {
    match verb {
        AuditVerb::List(args) => {
            let mut cx = Cx::open(options, here)?;
            let log = read(&mut cx, args.all, args.after).await?;
            cx.printer().data(&log, |log| entries(log).text())
        }
        AuditVerb::Verify(Verify { file: Some(path), log_key, .. }) => {
            here.printer.want_json(options.json);
            offline(here, log_key, &path)
        }
        AuditVerb::Verify(args) => online(&mut Cx::open(options, here)?, &args).await,
    }
}

/// Reads all pages of a view.
async fn read(cx: &mut Cx<'_>, all: bool, after: Option<u64>) -> Result<Export, Failure> {
    let view = if all { "all".to_owned() } else { cx.organisation().await? };
    let mut pages = Vec::new();
    let mut query = AuditQuery { after, limit: Some(PAGE_LIMIT_MAX) };
    for _ in 0..PAGES_MAX {
        let call = if all { cx.client.call("audit_list_all", &[]) } else { cx.client.call("audit_list", &[&view]) };
        let page: AuditList = cx.told(call.query(&query).send().await)?;
        let next = page.next;
        pages.push(page);
        match next {
            // A page that leads nowhere new would be read for ever.
            Some(next) if query.after.is_some_and(|after| next <= after) => {
                return Err(Failure::ours("the audit log's pages do not go forward"));
            }
            Some(next) => query.after = Some(next),
            None => return Ok(Export { format: FORMAT.into(), url: memory::origin(&cx.options.url), view, pages }),
        }
    }
    Err(Failure::yours(format!("the log has more than {} entries to show", PAGES_MAX * PAGE_LIMIT_MAX as usize))
        .hint("`gregal audit list --after INDEX` shows the newer ones"))
}

async fn online(cx: &mut Cx<'_>, args: &Verify) -> Result<(), Failure> {
    let log = read(cx, args.all, None).await?;
    let memory = Memory::of(cx.here.state_dir.as_deref(), &cx.options.url)?;
    let first = log.pages.first().map(|page| page.log_key.clone()).unwrap_or_default();
    let key = args.log_key.clone().or_else(|| memory.key()).unwrap_or(first);
    let proved = proof::prove(&log, &key).map_err(|failure| memory.explain(failure))?;
    memory.accept(&log, &proved)?;
    memory.remember(&log, &proved)?;
    if let Some(path) = &args.export {
        let text = serde_json::to_string(&log)
            .map_err(|error| Failure::ours(format!("the log cannot be written: {error}")))?;
        files::write(path, &text)?;
        cx.printer()
            .note(&format!("wrote `{0}`; `gregal audit verify --file {0}` proves it without a server", path.display()));
    }
    if memory.key().is_none() && args.log_key.is_none() {
        cx.printer().note("this is the first look at this log: its key is remembered, and trusted from now on");
    }
    verdict(cx.here, &log, &proved)
}

fn offline(here: &mut Surroundings, trusted: Option<String>, path: &Path) -> Result<(), Failure> {
    let log: Export = files::json(path)?;
    if log.format != FORMAT {
        return Err(Failure::yours(format!("`{}` is not an export of the audit log", path.display()))
            .hint("`gregal audit verify --export FILE` writes one"));
    }
    let memory = Memory::of(here.state_dir.as_deref(), &log.url)?;
    let first = log.pages.first().map(|page| page.log_key.clone()).unwrap_or_default();
    let key = trusted.or_else(|| memory.key());
    if key.is_none() {
        here.printer.note("the log's key is the one the file itself names; `--log-key` checks against one you trust");
    }
    let proved = proof::prove(&log, &key.unwrap_or(first)).map_err(|failure| memory.explain(failure))?;
    memory.same_history(&log, &proved)?;
    verdict(here, &log, &proved)
}

/// What the verification found; `--json` prints it.
#[derive(Debug, Serialize)]
struct Verdict<'a> {
    verified: bool,
    view: &'a str,
    entries: u64,
    log_size: u64,
    origin: &'a str,
    root: String,
    log_key: &'a str,
}

fn verdict(here: &mut Surroundings, log: &Export, proved: &Proved) -> Result<(), Failure> {
    let verdict = Verdict {
        verified: true,
        view: &log.view,
        entries: proved.entries,
        log_size: proved.checkpoint.size,
        origin: &proved.checkpoint.origin,
        root: hex::encode(proved.checkpoint.root),
        log_key: &proved.log_key,
    };
    here.printer.data(&verdict, |verdict| {
        Facts::new()
            .with(
                "verified",
                format!("{} entries of {}", words::count(verdict.entries), words::count(verdict.log_size)),
            )
            .with("view", verdict.view)
            .with("log", verdict.origin)
            .with("root", &verdict.root)
            .with("key", verdict.log_key)
            .text()
    })
}

fn entries(log: &Export) -> Table {
    let mut table = Table::new(["index", "at", "actor", "action", "object", "result", "reason"]).right([0]);
    for record in log.pages.iter().flat_map(|page| &page.items) {
        // An entry of a newer version is still an entry.
        let unreadable = || "not readable by this version".into();
        let cells = serde_json::from_str::<AuditEntry>(&record.body).map_or_else(
            |_| [String::new(), String::new(), String::new(), String::new(), String::new(), unreadable()],
            |entry| {
                let reason = words::dash(entry.reason);
                [entry.at.to_string(), entry.actor, entry.action, entry.object, entry.result, reason]
            },
        );
        let [at, actor, action, object, result, reason] = cells;
        table.row([record.index.to_string(), at, actor, action, object, result, reason]);
    }
    table
}
