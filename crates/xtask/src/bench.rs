//! Figures, printed side by side in one run. Nothing here passes or fails by a time.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    cargo,
    install::{self, Install},
    output, root,
};

/// What to measure.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag on the command line")]
pub(crate) struct BenchArgs {
    /// Also build everything from nothing in a folder of its own (minutes)
    #[arg(long)]
    cold_build: bool,
    /// Compare with llama.cpp through `node-llama-cpp` (installs it with npm under target/)
    #[arg(long)]
    llama_cpp: bool,
    /// Only what passes over the live queue cost, and Kueue's scenario through the control plane
    #[arg(long)]
    passes: bool,
    /// Only whether somebody else's object takes as long to be refused as one that is not there
    #[arg(long)]
    foreign: bool,
    /// Only how long decisions take, beside a thousand policies of other organisations
    #[arg(long)]
    policy: bool,
    /// Only the gateway beside nginx and haproxy, by the bench in this folder, which is no part of this repository
    #[arg(long, value_name = "DIR")]
    gateway: Option<PathBuf>,
    /// With `--gateway`: organisations, and keys of all of them together
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    organisations: u32,
    /// With `--gateway`: keys
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    keys: u32,
    /// With `--gateway`: rounds of each test
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// Print JSON on stdout
    #[arg(long)]
    json: bool,
}

/// Runs the benches.
pub(crate) fn run_bench(args: &BenchArgs) -> Result<Value> {
    let mut figures = serde_json::Map::new();
    figures.insert("machine".into(), machine()?);
    if let Some(folder) = &args.gateway {
        let (organisations, keys, rounds) = (args.organisations, args.keys, args.rounds);
        let crowd = crate::gateway::Crowd { organisations, keys, rounds, seconds: 6 };
        figures.insert("gateway".into(), crate::gateway::run(folder, crowd)?);
        return Ok(Value::Object(figures));
    }
    if args.passes {
        figures.insert("passes".into(), passes()?);
        return Ok(Value::Object(figures));
    }
    if args.foreign {
        figures.insert("foreign".into(), example("foreign", &["--rounds", "2000"])?);
        return Ok(Value::Object(figures));
    }
    if args.policy {
        figures.insert("policy".into(), policy()?);
        return Ok(Value::Object(figures));
    }
    if args.cold_build {
        figures.insert("cold_build".into(), cold_build()?);
    }
    cargo(&["build", "--release", "--locked", "--package", "gregal"])?;
    let gregal = root().canonicalize()?.join("target/release/gregal");
    figures.insert("up".into(), up(&gregal)?);
    figures.insert("training".into(), training(&gregal)?);
    let interpreter = install::python(&[], Install::Yes)?;
    let model = install::smollm2(&interpreter, Install::Yes)?;
    figures.insert("smollm2".into(), lm(&gregal, &model)?);
    if args.llama_cpp {
        figures.insert("llama_cpp".into(), llama_cpp(&model)?);
    }
    Ok(Value::Object(figures))
}

/// Entry of `cargo xtask bench`.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    let figures = run_bench(args)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    } else {
        print_table("", &figures);
    }
    Ok(())
}

fn print_table(indent: &str, figures: &Value) {
    for (name, value) in figures.as_object().into_iter().flatten() {
        if value.is_object() {
            println!("{indent}{name}");
            print_table(&format!("{indent}  "), value);
        } else {
            println!("{indent}{name:<40} {value}");
        }
    }
}

fn machine() -> Result<Value> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").context("could not read /proc/cpuinfo")?;
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let date = output(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    Ok(json!({
        "cpu": model.trim_start_matches(['\t', ' ', ':']),
        "cores": std::thread::available_parallelism()?.get(),
        "date": date.trim(),
    }))
}

/// A build from nothing: its time, and how many crates it takes.
fn cold_build() -> Result<Value> {
    let target = root().join("target/cold");
    if target.exists() {
        std::fs::remove_dir_all(&target)?;
    }
    let watch = Instant::now();
    crate::run(
        Command::new("cargo")
            .args(["build", "--release", "--locked", "--package", "gregal"])
            .env("CARGO_TARGET_DIR", &target),
    )?;
    let seconds = watch.elapsed().as_secs_f64();
    let tree = output(Command::new("cargo").args([
        "tree",
        "--package",
        "gregal",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--no-dedupe",
    ]))?;
    let crates: std::collections::BTreeSet<&str> = tree.lines().filter_map(|line| line.split(" (").next()).collect();
    std::fs::remove_dir_all(&target)?;
    Ok(json!({ "seconds": seconds, "crates": crates.len() }))
}

/// The figures that one of testkit's examples prints.
fn example(name: &str, arguments: &[&str]) -> Result<Value> {
    let run = ["run", "--release", "--locked", "--quiet", "--package", "gregal-testkit", "--example", name, "--"];
    let text = output(Command::new("cargo").current_dir(root()).args(run).args(arguments))?;
    serde_json::from_str(&text).with_context(|| format!("the figures of `{name}` are not JSON"))
}

/// What a decision takes with an organisation's own policies, and how that compares.
fn policy() -> Result<Value> {
    let run = ["run", "--release", "--locked", "--quiet", "--package", "gregal-policy", "--example", "latency", "--"];
    let text = output(Command::new("cargo").current_dir(root()).args(run).arg("--json"))?;
    let mut figures: Value = serde_json::from_str(&text).context("the figures of `latency` are not JSON")?;
    let of = |name: &str| figures[name].as_u64().unwrap_or(0).max(1);
    let percent = |this: u64, that: u64| json!(this * 100 / that);
    let beside = percent(of("own_p99_us"), of("alone_p99_us"));
    let in_one = percent(of("all_in_one_set_p99_us"), of("own_p99_us"));
    figures["p99_beside_others_percent_of_alone"] = beside;
    figures["p99_all_in_one_set_percent_of_own"] = in_one;
    figures["p99_limit_us"] = json!(50);
    Ok(figures)
}

/// Passes over queues and clouds of several sizes, and a published load of submissions.
fn passes() -> Result<Value> {
    let mut figures = serde_json::Map::new();
    for (waiting, sites) in [("1000", "50"), ("10000", "50"), ("1000", "500")] {
        let pass = example("passes", &["--waiting", waiting, "--sites", sites, "--changed", "5", "--passes", "50"])?;
        figures.insert(format!("{waiting}_waiting_{sites}_sites"), pass);
    }
    figures.insert("admission".into(), example("admission", &["--queues", "30", "--percent", "100"])?);
    Ok(Value::Object(figures))
}

/// From start to the first answered request, and what an idle cloud weighs.
fn up(gregal: &PathBuf) -> Result<Value> {
    let text = output(Command::new(root().join("tests/up_figures.sh")).arg(gregal))?;
    serde_json::from_str(&text).context("the figures of `up` are not JSON")
}

/// A tour's training, in tokens per CPU-second.
fn training(gregal: &PathBuf) -> Result<Value> {
    let text = output(Command::new(gregal).args([
        "tour",
        "--exit",
        "--json",
        "--control-listen",
        "127.0.0.1:0",
        "--site-listen",
        "127.0.0.1:0",
    ]))?;
    let summary: Value = serde_json::from_str(&text).context("the tour's summary is not JSON")?;
    Ok(summary["training"].clone())
}

fn lm(gregal: &PathBuf, model: &PathBuf) -> Result<Value> {
    let text = output(Command::new(gregal).args(["lm", "bench", "--json", "--model"]).arg(model))?;
    serde_json::from_str(&text).context("the figures of `lm bench` are not JSON")
}

fn llama_cpp(model: &PathBuf) -> Result<Value> {
    let folder = root().join("target/llama-cpp");
    std::fs::create_dir_all(&folder)?;
    if !folder.join("node_modules/node-llama-cpp").exists() {
        eprintln!("installing the npm package node-llama-cpp into target/llama-cpp");
        crate::run(
            Command::new("npm")
                .args(["install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", "node-llama-cpp@3"])
                .current_dir(&folder)
                .stdout(Stdio::null()),
        )?;
    }
    std::fs::copy(root().join("tests/llama_cpp_bench.mjs"), folder.join("bench.mjs"))?;
    let text = output(Command::new("node").arg("bench.mjs").arg(model).current_dir(&folder))?;
    serde_json::from_str(&text).context("the figures of llama.cpp are not JSON")
}
