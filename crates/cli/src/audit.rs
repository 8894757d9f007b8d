//! `gregal audit`: the log as it is told, and proof that it is the log.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use gregal_core::audit::{AuditEntry, KeyKind, VerifierKey};
use serde::Serialize;

use crate::{
    context::Cx,
    failure::Failure,
    files,
    options::Options,
    surroundings::Surroundings,
    table::{Facts, Table},
    words,
};

mod file;
mod format;
mod memory;
mod proof;
mod read;
mod witness;

use file::Log;
use memory::Memory;
use proof::Proved;
use read::Wanted;
use witness::Witness;

#[derive(Debug, Subcommand)]
pub enum AuditVerb {
    /// List entries: who did what to what, with which result
    List(View),
    /// Prove every entry against the signed checkpoint, and the log against what was seen before
    Verify(Verify),
    /// Prove the log and keep it in a file that verifies without a server
    Export(Export),
    /// Cosign the log's checkpoint, if it continues the one cosigned before
    Witness(Witness),
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
    /// An export, verified without asking anyone; absent: the cloud's log as it is now
    #[arg(value_name = "FILE", conflicts_with = "all")]
    file: Option<PathBuf>,
    /// The whole cloud's log instead of the organisation's view (operators)
    #[arg(long)]
    all: bool,
    /// The log's key, got by another way; absent: the first one seen
    #[arg(long, value_name = "KEY")]
    log_key: Option<String>,
    /// Take an export that is older than what was seen of the log since
    #[arg(long, requires = "file")]
    older: bool,
    /// A witness whose cosignature counts; may be given several times
    #[arg(long, value_name = "KEY", requires = "file")]
    witness: Vec<String>,
    /// How many of these witnesses must have cosigned; absent: all
    #[arg(long, value_name = "NUMBER", requires = "witness")]
    witnesses: Option<usize>,
}

#[derive(Debug, Args)]
pub struct Export {
    /// Where to; `-` is stdout
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What to write; only `jsonl` holds proofs
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// The whole cloud's log instead of the organisation's view (operators)
    #[arg(long)]
    all: bool,
    /// The log's key, got by another way; absent: the first one seen
    #[arg(long, value_name = "KEY")]
    log_key: Option<String>,
    /// Also show that the log continues what it was at this size; may be given several times
    #[arg(long, value_name = "SIZE")]
    from: Vec<u64>,
    /// Export the log as this checkpoint has it, with its cosignatures; several of one checkpoint are put together
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
}

/// What an export is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// JSON lines with proofs, for `gregal audit verify`
    Jsonl,
    /// Common Event Format, one line an entry
    Cef,
    /// OpenTelemetry logs as JSON
    Otlp,
}

pub(crate) async fn run(options: Options, here: &mut Surroundings, verb: AuditVerb) -> Result<(), Failure> {
    match verb {
        AuditVerb::List(args) => {
            let mut cx = Cx::open(options, here)?;
            let log = read::read(&mut cx, &Wanted { all: args.all, after: args.after, at: None }).await?;
            cx.printer().data(&log, |log| entries(log).text())
        }
        AuditVerb::Verify(Verify { file: Some(path), log_key, older, witness, witnesses, .. }) => {
            here.printer.want_json(options.json);
            let known = witness.iter().map(|key| witness_key(key)).collect::<Result<Vec<_>, _>>()?;
            let least = witnesses.unwrap_or(known.len());
            offline(here, log_key.as_deref(), &path, older, (&known, least))
        }
        AuditVerb::Verify(args) => {
            let mut cx = Cx::open(options, here)?;
            let wanted = Wanted { all: args.all, ..Wanted::default() };
            let (log, proved) = proved(&mut cx, &wanted, args.log_key.as_deref(), &[], None).await?;
            verdict(cx.here, &log, &proved, 0)
        }
        AuditVerb::Export(args) => export(&mut Cx::open(options, here)?, &args).await,
        AuditVerb::Witness(args) => witness::run(options, here, args).await,
    }
}

/// Reads the log and proves it, also against what is remembered of it, and remembers it. `cosigned` is a checkpoint to be
/// proved against, with the signatures it gathered.
async fn proved(
    cx: &mut Cx<'_>,
    wanted: &Wanted,
    trusted: Option<&str>,
    from: &[u64],
    cosigned: Option<String>,
) -> Result<(Log, Proved), Failure> {
    let mut log = read::read(cx, wanted).await?;
    if let Some(note) = cosigned {
        let (ours, theirs) = (read::unverified(&note)?, read::unverified(&log.basis.checkpoint)?);
        if ours != theirs {
            return Err(proof::broken("it had another root when that checkpoint was signed: its past was changed"));
        }
        log.basis.checkpoint = note;
    }
    let memory = Memory::of(cx.here.state_dir.as_deref(), &cx.options.url)?;
    let sizes: Vec<u64> = memory.size().into_iter().chain(from.iter().copied()).collect();
    read::consistency(cx, &mut log, &sizes).await?;
    let trusted = trusted.map(log_key).transpose()?;
    let known = trusted.clone().or_else(|| memory.key());
    let proved = proof::prove(&log, known.as_deref()).map_err(|failure| memory.explain(failure))?;
    if wanted.at.is_some_and(|at| memory.size().is_some_and(|size| at < size)) {
        // An older moment was asked for: it is no news, and nothing to remember.
        return Ok((log, proved));
    }
    memory.accept(&log, &proved)?;
    memory.remember(&cx.options.url, &log, &proved)?;
    if known.is_none() {
        cx.printer().note("this is the first look at this log: its key is remembered, and trusted from now on");
    }
    Ok((log, proved))
}

async fn export(cx: &mut Cx<'_>, args: &Export) -> Result<(), Failure> {
    let cosigned = gathered(&args.checkpoint)?;
    let at = cosigned.as_deref().map(read::unverified).transpose()?.map(|checkpoint| checkpoint.size);
    let wanted = Wanted { all: args.all, after: None, at };
    let (log, proved) = proved(cx, &wanted, args.log_key.as_deref(), &args.from, cosigned).await?;
    let text = match args.format {
        Format::Jsonl => log.to_text()?,
        Format::Cef => format::cef(&log.items),
        Format::Otlp => format::otlp(&log.items),
    };
    if args.out == Path::new("-") {
        return cx.printer().write(&text);
    }
    files::write(&args.out, &text)?;
    let (path, count) = (args.out.display(), words::count(proved.entries));
    let how = if args.format == Format::Jsonl {
        format!("; `gregal audit verify {path}` proves it without a server")
    } else {
        String::new()
    };
    cx.printer().note(&format!("wrote {count} entries to `{path}`{how}"));
    Ok(())
}

/// One checkpoint with the signatures of all these files.
fn gathered(paths: &[PathBuf]) -> Result<Option<String>, Failure> {
    let mut whole: Option<gregal_core::audit::SignedNote> = None;
    for path in paths {
        let wrong = |why: &str| Failure::yours(format!("`{}`: {why}", path.display()));
        let note = gregal_core::audit::SignedNote::from_text(&files::text(path)?)
            .map_err(|error| wrong(&error.to_string()))?;
        match &mut whole {
            None => whole = Some(note),
            Some(whole) if whole.text != note.text => return Err(wrong("it is of another checkpoint than the first")),
            Some(whole) => {
                let more = note.signatures.into_iter().filter(|line| !whole.signatures.contains(line));
                let more: Vec<_> = more.collect();
                whole.signatures.extend(more);
            }
        }
    }
    whole.map(|note| note.to_text()).transpose().map_err(|error| Failure::yours(error.to_string()))
}

fn offline(
    here: &mut Surroundings,
    trusted: Option<&str>,
    path: &Path,
    older: bool,
    (known, least): (&[VerifierKey], usize),
) -> Result<(), Failure> {
    let log = Log::read(path)?;
    let named: VerifierKey =
        log.basis.log.parse().map_err(|error| proof::broken(&format!("the log's key: {error}")))?;
    let memory = Memory::of_log(here.state_dir.as_deref(), &named)?;
    let key = trusted.map(log_key).transpose()?.or_else(|| memory.key());
    if key.is_none() {
        here.printer.note("the log's key is the one the file itself names; `--log-key` checks against one you trust");
    }
    let proved = proof::prove(&log, key.as_deref()).map_err(|failure| memory.explain(failure))?;
    // A log that was met under another key is another log; the key was given, so that is no surprise.
    if memory.key().is_some_and(|key| key == hex::encode(proved.key.public)) {
        let is_older = memory.size().is_some_and(|size| proved.checkpoint.size < size);
        match (is_older, older) {
            (true, true) => here.printer.note("the export is older than what was seen of this log since"),
            (true, false) => {
                return memory
                    .follows(&proved.checkpoint)
                    .map_err(|failure| failure.hint("an export that is meant to be old is taken with `--older`"));
            }
            (false, _) => memory.accept(&log, &proved)?,
        }
    }
    let cosigned = proof::witnessed(&log, known, least)?;
    verdict(here, &log, &proved, cosigned)
}

/// A log's key as it is said: `NAME+HASH+BASE64`, or its 32 bytes in hex. Answers in hex.
fn log_key(text: &str) -> Result<String, Failure> {
    if let Some(bytes) = hex::decode(text).ok().filter(|bytes| bytes.len() == 32) {
        return Ok(hex::encode(bytes));
    }
    let wrong = |why: &str| Failure::yours(format!("`{text}` is no key of a log: {why}"));
    let key: VerifierKey = text.parse().map_err(|error: gregal_core::audit::NoteError| wrong(&error.to_string()))?;
    if key.kind == KeyKind::Log { Ok(hex::encode(key.public)) } else { Err(wrong("it is a witness's")) }
}

fn witness_key(text: &str) -> Result<VerifierKey, Failure> {
    let key = text.parse().ok().filter(|key: &VerifierKey| key.kind == KeyKind::Witness);
    key.ok_or_else(|| {
        Failure::yours(format!("`{text}` is no key of a witness"))
            .hint("`gregal audit witness --init NAME --key-file FILE` makes a key and prints its public part")
    })
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
    log_key: String,
    /// Known witnesses that cosigned the checkpoint.
    cosigned: usize,
}

fn verdict(here: &mut Surroundings, log: &Log, proved: &Proved, cosigned: usize) -> Result<(), Failure> {
    let verdict = Verdict {
        verified: true,
        view: &log.basis.view,
        entries: proved.entries,
        log_size: proved.checkpoint.size,
        origin: &proved.checkpoint.origin,
        root: hex::encode(proved.checkpoint.root),
        log_key: hex::encode(proved.key.public),
        cosigned,
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
            .with("key", &verdict.log_key)
            .text()
    })
}

fn entries(log: &Log) -> Table {
    let mut table = Table::new(["index", "at", "actor", "action", "object", "result", "reason"]).right([0]);
    for record in &log.items {
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
