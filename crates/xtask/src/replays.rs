//! Published traces through `gregal simulate`, and the page that says what came of it beside what others reach.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::{cargo, output, root};

mod page;
mod published;
mod verdict;

use published::{LINGJUN, OPENB_NODES, OPENB_PODS, PACKING, QUEUEING, SHOCKWAVE, SOURCES};

/// What to replay.
#[derive(Debug, Args)]
pub(crate) struct ReplaysArgs {
    /// The folder of published traces, which are not part of this repository; what it must hold is said if it does not
    #[arg(long, value_name = "DIR")]
    traces: PathBuf,
    /// How many seeds each packing is repeated with
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    seeds: u32,
    /// The first of them; the authors of FGD begin at 42
    #[arg(long, default_value_t = 42, value_name = "N")]
    first_seed: u32,
    /// Where to write the page
    #[arg(long, default_value = "docs/scheduling.md", value_name = "FILE")]
    out: PathBuf,
}

/// Every outcome, in the order of the tables in [`published`].
struct Outcomes {
    /// By trace, policy (as in [`PACKERS`]) and seed.
    packing: Vec<[Vec<Value>; 4]>,
    queueing: Vec<Value>,
    /// With nodes, accelerators of each, and policy.
    fairness: Vec<([&'static str; 3], Value)>,
    kueue: Value,
    speed: Vec<(&'static str, Value)>,
    /// The default policy with ten times the jobs.
    memory: Value,
    gangs: Vec<Value>,
}

/// Placement policies, in the order of the table.
const PACKERS: [&str; 4] = ["random", "best-fit", "fgd", "default"];
/// Loads of the gangs, in percent of the network.
const GANG_LOADS: [&str; 8] = ["30", "40", "50", "60", "70", "80", "90", "100"];

/// Runs every replay, one after the other, and writes the page.
pub(crate) fn run(args: &ReplaysArgs) -> Result<()> {
    let traces = args.traces.canonicalize().ok().filter(|folder| folder.is_dir());
    let traces = traces.with_context(|| format!("`{}` is no folder. {}", args.traces.display(), expected()))?;
    let missing: Vec<String> = wanted().into_iter().filter(|name| find(&traces, name).is_none()).collect();
    ensure!(missing.is_empty(), "`{}` lacks {}. {}", traces.display(), missing.join(", "), expected());

    cargo(&["build", "--release", "--locked", "--package", "gregal"])?;
    let scratch = root().join("target/replays");
    fs::create_dir_all(&scratch)?;
    let replays = Replays { gregal: root().canonicalize()?.join("target/release/gregal"), traces, scratch };
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let outcomes = replays.all(args);
    fs::remove_dir_all(&replays.scratch)?;
    let page = page::write(&outcomes?, args.first_seed, args.seeds, &machine(&load)?);
    let out = if args.out.is_absolute() { args.out.clone() } else { root().join(&args.out) };
    fs::write(&out, page).with_context(|| format!("could not write `{}`", out.display()))?;
    eprintln!("wrote {}", args.out.display());
    Ok(())
}

/// The files a folder of traces has.
fn wanted() -> Vec<String> {
    let files = SOURCES.iter().map(|source| source.file);
    let each = files.flat_map(|file| match file.split_once('*') {
        Some(_) => PACKING.iter().map(|packing| file.replace('*', packing.trace)).collect(),
        None => vec![file.to_owned()],
    });
    each.collect()
}

/// What a folder of traces should hold, and who publishes it.
fn expected() -> String {
    let each = SOURCES.iter().map(|source| format!("\n  {} (or .gz): {}", source.file, source.origin));
    format!(
        "The traces are published by others and not part of this repository; get them there and lay them out like this:{}",
        each.collect::<String>()
    )
}

/// A trace's file as it is or packed.
fn find(traces: &Path, name: &str) -> Option<PathBuf> {
    let packed = traces.join(format!("{name}.gz"));
    [traces.join(name), packed].into_iter().find(|file| file.is_file())
}

/// The processor, its cores, what else ran, and the date.
fn machine(load: &str) -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let date = output(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    let busy = load.split(' ').next().filter(|load| !load.is_empty());
    let busy =
        busy.map_or_else(String::new, |load| format!(", of which {load} were busy with other work at the start"));
    let model = model.trim_start_matches(['\t', ' ', ':']);
    Ok(format!("{} on {model}, {} cores{busy}", date.trim(), std::thread::available_parallelism()?))
}

struct Replays {
    gregal: PathBuf,
    traces: PathBuf,
    /// Where packed traces are unpacked.
    scratch: PathBuf,
}

impl Replays {
    fn all(&self, args: &ReplaysArgs) -> Result<Outcomes> {
        let mut packing = Vec::new();
        for of in &PACKING {
            let mut by_policy: [Vec<Value>; 4] = Default::default();
            for (policy, outcomes) in PACKERS.iter().zip(&mut by_policy) {
                for seed in (u64::from(args.first_seed)..).take(usize::try_from(args.seeds)?) {
                    outcomes.push(self.pack(of.trace, policy, seed)?);
                }
            }
            packing.push(by_policy);
        }
        let queueing = QUEUEING.iter().map(|of| self.queue(of.trace, of.format, of.machines, of.policy));
        let queueing = queueing.collect::<Result<Vec<_>>>()?;
        let mut fairness = Vec::new();
        for [nodes, gpus] in [["32", "1"], ["4", "8"]] {
            for policy in ["fair-finish", "default"] {
                let outcome = self.queue(SHOCKWAVE, "shockwave", [nodes, gpus], policy)?;
                fairness.push(([nodes, gpus, policy], outcome));
            }
        }
        let kueue = self.simulate("admission", &["--scenario", "kueue-15000"])?;
        let speed = ["steady", "default"].map(|policy| Ok((policy, self.simulate("speed", &["--policy", policy])?)));
        let memory = self.simulate("speed", &["--queued", "1000000", "--rounds", "20"])?;
        let hosts = self.file(LINGJUN)?;
        let gangs = GANG_LOADS.map(|load| self.simulate("gangs", &["--hosts", &hosts, "--load", load]));
        Ok(Outcomes {
            packing,
            queueing,
            fairness,
            kueue,
            speed: speed.into_iter().collect::<Result<_>>()?,
            memory,
            gangs: gangs.into_iter().collect::<Result<_>>()?,
        })
    }

    fn pack(&self, trace: &str, policy: &str, seed: u64) -> Result<Value> {
        let (nodes, pods) = (self.file(OPENB_NODES)?, self.file(&OPENB_PODS.replace('*', trace))?);
        let seed = seed.to_string();
        self.simulate("openb", &["--nodes", &nodes, "--pods", &pods, "--policy", policy, "--seed", &seed])
    }

    fn queue(&self, trace: &str, format: &str, [nodes, gpus]: [&str; 2], policy: &str) -> Result<Value> {
        let trace = self.file(trace)?;
        let machines = ["--nodes", nodes, "--gpus-per-node", gpus, "--policy", policy];
        self.simulate("queue", &[["--trace", &trace, "--format", format].as_slice(), &machines].concat())
    }

    /// One run, said on stderr as it begins.
    fn simulate(&self, verb: &str, arguments: &[&str]) -> Result<Value> {
        let short = arguments.iter().map(|argument| argument.rsplit('/').next().unwrap_or(argument));
        eprintln!("replay {verb} {}", short.collect::<Vec<_>>().join(" "));
        let text = output(Command::new(&self.gregal).args(["simulate", verb, "--json"]).args(arguments))?;
        serde_json::from_str(&text).with_context(|| format!("the outcome of `simulate {verb}` is not JSON"))
    }

    /// Where a trace can be read; unpacked once if it is packed.
    fn file(&self, name: &str) -> Result<String> {
        let file = find(&self.traces, name).with_context(|| format!("`{name}` is gone"))?;
        let plain = match file.extension() {
            Some(packed) if packed == "gz" => self.scratch.join(name.replace('/', "-")),
            _ => file.clone(),
        };
        if !plain.exists() {
            let status = Command::new("gzip").arg("-dc").arg(&file).stdout(File::create(&plain)?).status();
            let status = status.context("could not start `gzip`")?;
            if !status.success() {
                fs::remove_file(&plain)?;
                bail!("`gzip` could not unpack `{}`", file.display());
            }
        }
        plain.into_os_string().into_string().ok().context("the folder's name is not UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(traces: PathBuf) -> ReplaysArgs {
        ReplaysArgs { traces, seeds: 1, first_seed: 42, out: "docs/scheduling.md".into() }
    }

    #[test]
    fn who_has_no_traces_is_told_where_they_come_from() {
        let said = run(&args(root().join("no-such-folder"))).unwrap_err().to_string();
        for part in ["no-such-folder", "alibaba/clusterdata", "Sia", "deep-batch-scheduler", "shockwave", "lingjun"] {
            assert!(said.contains(part), "`{part}` is not in: {said}");
        }
    }

    #[test]
    fn files_that_are_missing_are_named() {
        let said = run(&args(root().join("docs"))).unwrap_err().to_string();
        let lacks = said.lines().next().unwrap();
        for part in ["openb/openb_pod_list_gpushare60.csv", "swf/lublin_256.swf", "lingjun-2023/topo.csv"] {
            assert!(lacks.contains(part), "`{part}` is not in: {lacks}");
        }
    }
}
