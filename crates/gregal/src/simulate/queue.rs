//! `gregal simulate queue`: how long the jobs of a trace wait by each queueing policy.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use gregal_core::queue::Policy;
use gregal_sim::{
    Absence, NodeKind, Spread,
    plot::{Page, Row, number},
    queue::{Format, Options, Replayed, Report, Trace, plots, replay},
    read_nodes,
};

use super::{
    Watch,
    output::{OutputArgs, Part, absences, deliver, runs},
};

#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    /// The jobs
    #[arg(long, value_name = "FILE")]
    trace: PathBuf,
    /// What the file of jobs is: `csv` (one's own: a header with `submit_s`, `run_s` and `gpus` and, if wanted, `queue`, `limit_s`,
    /// `priority`, `model`, `cpus`, in any order; times in whole seconds), `philly`, `swf` or `shockwave`
    #[arg(long, default_value = "csv", value_name = "NAME")]
    format: String,
    /// How many nodes there are, all alike; or a file of nodes as CSV: a header with `gpus` and, if wanted, `name`, `model` and
    /// `count` (how many such nodes the line stands for), in any order. A job that names a model runs on nodes of that model
    #[arg(long, value_name = "N|FILE")]
    nodes: String,
    /// Accelerators of each node, where `--nodes` is a number
    #[arg(long, value_name = "G")]
    gpus_per_node: Option<u32>,
    /// Queueing policy: fifo, fifo-easy, fifo-promise, fair-finish, steady, default or live
    #[arg(long, default_value = "default", value_name = "NAME")]
    policy: String,
    /// Other policies to replay too and to set beside it
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    compare: Vec<String>,
    /// What if there were so many nodes more, like those of the first line of a file of nodes
    #[arg(long, default_value_t = 0, value_name = "N")]
    add_nodes: u32,
    /// What if the last N nodes went down at FROM and came back at UNTIL (since the first submission, in s, m, h or d: `36h..2d:4`).
    /// Jobs on them lose what they did since they last started and wait again; the scheduler does not know UNTIL. May be repeated
    #[arg(long, value_name = "FROM..UNTIL:N")]
    site_down: Vec<String>,
    /// What if N nodes, those used least at FROM, were set aside for somebody else until UNTIL. Jobs on them have saved their work by
    /// FROM, at the policy's cost of saving and loading, and wait again; the scheduler knows UNTIL. May be repeated
    #[arg(long, value_name = "FROM..UNTIL:N")]
    reserve: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &QueueArgs) -> Result<()> {
    let format = Format::named(&args.format)
        .with_context(|| format!("no format `{}`: there are csv, philly, swf and shockwave", args.format))?;
    let kinds = nodes(&args.nodes, args.gpus_per_node)?;
    let more = with_more(&kinds, args.add_nodes);
    let absences = absences(&args.site_down, &args.reserve, Absence::in_time, count(&more))?;
    let runs = runs(&args.policy, &args.compare, args.add_nodes > 0 || !absences.is_empty())?;
    for (_, policy, _) in &runs {
        options(policy, &kinds)?;
    }
    let trace = Trace::read(&super::read(&args.trace)?, format)
        .with_context(|| format!("`{}` is no {} trace", args.trace.display(), args.format))?;

    let mut replays = Vec::new();
    for (part, policy, name) in runs {
        let without = part == Part::Without;
        let mut options = options(&policy, if without { &kinds } else { &more })?;
        options.absences = if without { Vec::new() } else { absences.clone() };
        let mut watch = Watch::new(&name);
        let replayed = replay(&trace, &options, &mut watch)
            .with_context(|| format!("`{}` cannot be replayed", args.trace.display()))?;
        drop(watch);
        replays.push((part, name, replayed));
    }
    let outcomes: Vec<(Part, &Report)> = replays.iter().map(|(part, _, replayed)| (*part, &replayed.report)).collect();
    deliver(&args.output, &page(args, &trace, &kinds, &replays), &outcomes)
}

fn options(policy: &str, kinds: &[NodeKind]) -> Result<Options> {
    let options = Options::named(policy, kinds.to_vec());
    options.with_context(|| format!("no policy `{policy}`: there are {}", Policy::NAMES.join(", ")))
}

/// So many nodes all alike, or those of a file.
fn nodes(asked: &str, gpus_per_node: Option<u32>) -> Result<Vec<NodeKind>> {
    match (asked.parse(), gpus_per_node) {
        (Ok(nodes), Some(gpus_per_node)) => Ok(vec![NodeKind { model: None, nodes, gpus_per_node }]),
        (Ok(_), None) => bail!("`--nodes {asked}` needs `--gpus-per-node`"),
        (Err(_), Some(_)) => bail!("`--gpus-per-node` goes with a number of nodes; `{asked}` says it itself"),
        (Err(_), None) => {
            read_nodes(&super::read(Path::new(asked))?).with_context(|| format!("`{asked}` is no file of nodes"))
        }
    }
}

fn with_more(kinds: &[NodeKind], more: u32) -> Vec<NodeKind> {
    let mut kinds = kinds.to_vec();
    if let Some(first) = kinds.first_mut() {
        first.nodes = first.nodes.saturating_add(more);
    }
    kinds
}

fn count(kinds: &[NodeKind]) -> u64 {
    kinds.iter().map(|kind| u64::from(kind.nodes)).sum()
}

fn page(args: &QueueArgs, trace: &Trace, kinds: &[NodeKind], replays: &[(Part, String, Replayed)]) -> Page {
    let runs: Vec<(&str, &Replayed)> = replays.iter().map(|(_, name, replayed)| (name.as_str(), replayed)).collect();
    let gpus: u64 = kinds.iter().map(NodeKind::gpus).sum();
    let file = args.trace.file_name().unwrap_or_default().to_string_lossy();
    let mut about = vec![
        format!("{} jobs of `{file}` ({}), {} left out.", number(trace.jobs.len() as f64), args.format, trace.skipped),
        format!("{} nodes with {} accelerators.", number(count(kinds) as f64), number(gpus as f64)),
    ];
    if args.add_nodes > 0 {
        about.push(format!("What if there were {} nodes more.", args.add_nodes));
    }
    about.extend(args.site_down.iter().map(|down| format!("What if nodes went down: {down}.")));
    about.extend(args.reserve.iter().map(|reserved| format!("What if nodes were reserved: {reserved}.")));
    let reports: Vec<&Report> = runs.iter().map(|(_, replayed)| &replayed.report).collect();
    Page {
        title: "Queueing, replayed".into(),
        about,
        runs: runs.iter().map(|(name, _)| (*name).to_owned()).collect(),
        figures: figures(&reports),
        plots: plots(&runs),
    }
}

fn figures(reports: &[&Report]) -> Vec<Row> {
    let row = |label: &str, say: &dyn Fn(&Report) -> String| {
        (label.to_owned(), reports.iter().map(|report| say(report)).collect::<Vec<_>>())
    };
    let count = |count: u64| number(count as f64);
    let spread = |label: &str, of: fn(&Report) -> Spread| {
        [
            row(&format!("{label}, mean (s)"), &|report| count(of(report).mean)),
            row(&format!("{label}, median (s)"), &|report| count(of(report).p50)),
            row(&format!("{label}, p99 (s)"), &|report| count(of(report).p99)),
            row(&format!("{label}, longest (s)"), &|report| count(of(report).max)),
        ]
    };
    let mut rows = Vec::new();
    // Of several runs the names stand above.
    if let [one] = reports {
        rows.push(row("policy", &|_| format!("{} (ties by {})", one.policy, one.ties)));
    }
    rows.extend([
        row("jobs that ended", &|report| count(report.finished as u64)),
        row("jobs that can never run here", &|report| count(report.refused as u64)),
    ]);
    rows.extend(spread("wait", |report| report.wait_s));
    rows.extend(spread("from submission to end", |report| report.jct_s));
    rows.extend([
        row("makespan (s)", &|report| count(report.makespan_s)),
        row("utilisation (%)", &|report| format!("{:.1}", 100.0 * report.utilisation)),
        row("runs stopped for others", &|report| count(report.preemptions)),
        row("runs ended by nodes that left", &|report| count(report.interruptions)),
        row("work lost so (accelerator-s)", &|report| count(report.lost_gpu_s)),
        row("saving and loading (accelerator-s)", &|report| count(report.overhead_gpu_s)),
        row("starts promised", &|report| count(report.promises)),
        row("of which late", &|report| count(report.late_promises)),
        row("worst finish-time ratio", &|report| format!("{:.2}", report.fairness.worst)),
        row("unfair jobs (%)", &|report| format!("{:.1}", report.fairness.unfair_percent)),
        row("limits passed (must be 0)", &|report| count(report.violations)),
        row("one decision, p50 (µs)", &|report| count(report.decision_us.p50)),
        row("one decision, p99 (µs)", &|report| count(report.decision_us.p99)),
        // A column of digests would be wider than all others together.
        row("digest", &|report| {
            if reports.len() == 1 { report.digest.clone() } else { report.digest[..12].to_owned() }
        }),
    ]);
    rows
}
