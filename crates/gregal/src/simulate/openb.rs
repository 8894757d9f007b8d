//! `gregal simulate openb`: how full a shared GPU cluster gets by each placement policy.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use gregal_sim::{
    Absence,
    openb::{Hundredths, PackOptions, PackOutcome, PackPolicy, load_milli, pack, plots, read_openb},
    plot::{Page, Row, number},
};

use super::{
    Watch,
    output::{OutputArgs, Part, absences, deliver, runs},
};

#[derive(Debug, Args)]
pub(crate) struct OpenbArgs {
    /// Nodes as CSV whose header names `sn` (a name), `cpu_milli`, `memory_mib`, `gpu` (how many) and `model`, in any order
    #[arg(long, value_name = "FILE")]
    nodes: PathBuf,
    /// Pods as CSV whose header names `name`, `cpu_milli`, `memory_mib`, `num_gpu`, `gpu_milli` (1000 for whole GPUs, or a part of
    /// one) and, if wanted, `gpu_spec` (models that will do, with `|` between), in any order; other columns are passed over
    #[arg(long, value_name = "FILE")]
    pods: PathBuf,
    /// Placement policy: random, best-fit, fgd or default
    #[arg(long, default_value = "default", value_name = "NAME")]
    policy: String,
    /// Other policies to replay too and to set beside it
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    compare: Vec<String>,
    /// What every draw follows from
    #[arg(long, default_value_t = 42, value_name = "N")]
    seed: u64,
    /// Accelerators asked for in all, as a multiple of those there are
    #[arg(long, default_value = "1.3", value_parser = load, value_name = "FACTOR")]
    load: u64,
    /// What if there were so many nodes more, like ones of the file, taken evenly from it. The same pods come, and percentages stay
    /// those of the file's GPUs
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000), value_name = "N")]
    add_nodes: u32,
    /// What if the last N nodes went down when FROM percent of the load has come, and came back empty at UNTIL percent (`60..90:100`).
    /// Pods on them arrive again at once, and fail if they fit nowhere. May be repeated
    #[arg(long, value_name = "FROM..UNTIL:N")]
    site_down: Vec<String>,
    /// The same with the N nodes that are used least at FROM, set aside for somebody else. May be repeated
    #[arg(long, value_name = "FROM..UNTIL:N")]
    reserve: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

fn load(text: &str) -> Result<u64, String> {
    load_milli(text).ok_or_else(|| "expected a number such as `1.3`, above 0 and at most 100".into())
}

pub(super) fn run(args: &OpenbArgs) -> Result<()> {
    let named = |policy: &str| policy.parse::<PackPolicy>().map_err(anyhow::Error::msg);
    let asked = args.add_nodes > 0 || !args.site_down.is_empty() || !args.reserve.is_empty();
    let runs = runs(&args.policy, &args.compare, asked)?;
    runs.iter().try_for_each(|(_, policy, _)| named(policy).map(drop))?;
    let trace = read_openb(&super::read(&args.nodes)?, &super::read(&args.pods)?)
        .with_context(|| format!("`{}` and `{}` are no trace", args.nodes.display(), args.pods.display()))?;
    let nodes = trace.nodes.len() as u64 + u64::from(args.add_nodes);
    let absences = absences(&args.site_down, &args.reserve, Absence::in_load, nodes)?;

    let mut packed = Vec::new();
    for (part, policy, name) in runs {
        let plain = PackOptions {
            policy: named(&policy)?,
            seed: args.seed,
            load_milli: args.load,
            add_nodes: 0,
            absences: Vec::new(),
        };
        let options = match part {
            Part::Without => plain,
            Part::Asked | Part::Compared => {
                PackOptions { add_nodes: args.add_nodes, absences: absences.clone(), ..plain }
            }
        };
        let mut watch = Watch::new(&name);
        let outcome = pack(&trace, &options, &mut watch)?;
        drop(watch);
        packed.push((part, name, outcome));
    }
    let outcomes: Vec<(Part, &PackOutcome)> = packed.iter().map(|(part, _, outcome)| (*part, outcome)).collect();
    deliver(&args.output, &page(args, &packed), &outcomes)
}

fn page(args: &OpenbArgs, packed: &[(Part, String, PackOutcome)]) -> Page {
    let runs: Vec<(&str, &PackOutcome)> = packed.iter().map(|(_, name, outcome)| (name.as_str(), outcome)).collect();
    let [nodes, pods] = [&args.nodes, &args.pods].map(|file| file.file_name().unwrap_or_default().to_string_lossy());
    let mut about = vec![
        format!("Pods of `{pods}` on nodes of `{nodes}`, seed {}.", args.seed),
        format!(
            "Pods arrive until they ask for {} times the GPUs of the file; nobody leaves.",
            number(args.load as f64 / 1000.0)
        ),
    ];
    if args.add_nodes > 0 {
        about.push(format!("What if there were {} nodes more.", args.add_nodes));
    }
    about.extend(args.site_down.iter().map(|down| format!("What if nodes went down, by percent of load: {down}.")));
    about.extend(
        args.reserve.iter().map(|reserved| format!("What if nodes were reserved, by percent of load: {reserved}.")),
    );
    let outcomes: Vec<&PackOutcome> = runs.iter().map(|(_, outcome)| *outcome).collect();
    Page {
        title: "Packing, replayed".into(),
        about,
        runs: runs.iter().map(|(name, _)| (*name).to_owned()).collect(),
        figures: figures(&outcomes, args),
        plots: plots(&runs),
    }
}

fn figures(outcomes: &[&PackOutcome], args: &OpenbArgs) -> Vec<Row> {
    let row = |label: &str, say: &dyn Fn(&PackOutcome) -> String| {
        (label.to_owned(), outcomes.iter().map(|outcome| say(outcome)).collect::<Vec<_>>())
    };
    let count = |count: usize| number(count as f64);
    let said = |share: Option<&Hundredths>| share.map_or_else(|| "-".to_owned(), Hundredths::to_string);
    let mut rows = Vec::new();
    // Of several runs the names stand above.
    if let [one] = outcomes {
        rows.push(row("policy", &|_| format!("{} (ties: {})", args.policy, one.tie_rule)));
    }
    rows.extend([
        row("nodes", &|outcome| count(outcome.nodes)),
        row("GPUs", &|outcome| number(outcome.gpus as f64)),
        row("pods that came", &|outcome| count(outcome.pods)),
        row("pods that fitted nowhere", &|outcome| count(outcome.failed)),
        row("pods whose node left", &|outcome| count(outcome.displaced)),
    ]);
    for mark in [100, 130].into_iter().filter(|mark| mark * 10 <= args.load) {
        rows.push(row(&format!("allocated at {mark} % (%)"), &|outcome| said(outcome.allocated_percent.get(&mark))));
        rows.push(row(&format!("free and of no use at {mark} % (%)"), &|outcome| {
            said(outcome.unusable_percent.get(&mark))
        }));
    }
    let micros = |nanos: u64| number(nanos as f64 / 1000.0);
    rows.extend([
        row("one decision, p50 (µs)", &|outcome| micros(outcome.decision_ns.p50)),
        row("one decision, p99 (µs)", &|outcome| micros(outcome.decision_ns.p99)),
        row("digest", &|outcome| {
            if outcomes.len() == 1 { outcome.digest.clone() } else { outcome.digest[..12].to_owned() }
        }),
    ]);
    rows
}
