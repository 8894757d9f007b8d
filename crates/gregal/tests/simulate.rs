//! `gregal simulate` as its users meet it: what the JSON says of loads small enough to work out by hand, digests that follow the
//! seed and nothing else, and errors that name the line.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by failing")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;

const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model";
const PODS: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec";
const HOSTS: &str = "ip,DSW,PSW,ASW";
const JOBS: &str = "submit_s,run_s,gpus";

/// A folder of inputs.
struct Inputs(TempDir);

impl Inputs {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Writes a file of lines.
    fn file(&self, name: &str, lines: impl IntoIterator<Item = String>) -> PathBuf {
        let file = self.0.path().join(name);
        fs::write(&file, lines.into_iter().map(|line| line + "\n").collect::<String>()).unwrap();
        file
    }
}

/// A header and lines after it.
fn table(header: &str, lines: impl IntoIterator<Item = String>) -> impl Iterator<Item = String> {
    [header.to_owned()].into_iter().chain(lines)
}

fn simulate(verb: &str, files: &[(&str, &Path)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gregal"));
    command.args(["simulate", verb, "--json"]).args(arguments);
    for (flag, file) in files {
        command.arg(flag).arg(file);
    }
    command.output().unwrap()
}

/// What a replay prints, which must go well.
fn outcome(verb: &str, files: &[(&str, &Path)], arguments: &[&str]) -> Value {
    let output = simulate(verb, files, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a replay that cannot be made says.
fn complaint(verb: &str, files: &[(&str, &Path)], arguments: &[&str]) -> String {
    let output = simulate(verb, files, arguments);
    assert!(!output.status.success(), "`{verb}` should have failed");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "a failed replay has no outcome");
    String::from_utf8(output.stderr).unwrap()
}

fn digest(outcome: &Value) -> &str {
    let digest = outcome["digest"].as_str().unwrap();
    assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest}");
    digest
}

fn gpu_nodes(count: usize, gpus: u8) -> impl Iterator<Item = String> {
    table(NODES, (0..count).map(move |node| format!("n{node},96000,393216,{gpus},T4")))
}

/// Ten hosts behind each of so many leaves.
fn hosts(leaves: usize) -> impl Iterator<Item = String> {
    table(HOSTS, (0..leaves * 10).map(|host| format!("h{host},D,P,S{}", host / 10)))
}

#[test]
fn packing_counts_what_fitted_at_both_loads() {
    let inputs = Inputs::new();
    let nodes = inputs.file("nodes.csv", gpu_nodes(20, 1));
    let pods = inputs.file("pods.csv", table(PODS, (0..5).map(|pod| format!("p{pod},1000,1024,1,1000,"))));
    for policy in ["random", "best-fit", "fgd", "default"] {
        let found = outcome("openb", &[("--nodes", &nodes), ("--pods", &pods)], &["--policy", policy, "--seed", "9"]);
        // 26 whole GPUs are asked for, one after the other, and there are 20.
        assert_eq!((&found["policy"], &found["seed"]), (&json!(policy), &json!(9)), "{found}");
        assert_eq!(found["allocated_percent"], json!({ "100": 100.0, "130": 100.0 }), "{found}");
        assert_eq!((&found["pods"], &found["failed"]), (&json!(26), &json!(6)), "{found}");
        assert!(found["decision_us"]["p99"].as_f64() >= found["decision_us"]["p50"].as_f64(), "{found}");
        assert!(found["decision_us"]["p50"].is_number() && found["tie_rule"].is_string(), "{found}");
        digest(&found);
    }
}

#[test]
fn packing_follows_its_seed() {
    let inputs = Inputs::new();
    let nodes = inputs.file("nodes.csv", gpu_nodes(12, 8));
    let asks = [(1, 300), (1, 550), (1, 1000), (2, 1000), (8, 1000)];
    let pod = |pod: usize| format!("p{pod},{},1024,{},{},", 2000 * (1 + pod % 3), asks[pod % 5].0, asks[pod % 5].1);
    let pods = inputs.file("pods.csv", table(PODS, (0..20).map(pod)));
    for policy in ["random", "best-fit", "fgd", "default"] {
        let of =
            |seed| outcome("openb", &[("--nodes", &nodes), ("--pods", &pods)], &["--policy", policy, "--seed", seed]);
        let (first, again, other) = (of("1"), of("1"), of("2"));
        assert_eq!(digest(&first), digest(&again), "{policy}");
        assert_eq!(first["allocated_percent"], again["allocated_percent"], "{policy}");
        assert_ne!(digest(&first), digest(&other), "{policy}");
    }
}

#[test]
fn queueing_says_how_long_jobs_waited() {
    let inputs = Inputs::new();
    // Three jobs of 10 s on one accelerator: they wait for 0, 10 and 20 s.
    let jobs = inputs.file("jobs.csv", table(JOBS, (0..3).map(|_| "0,10,1".to_owned())));
    let machines = ["--nodes", "1", "--gpus-per-node", "1", "--policy"];
    for policy in ["fifo", "fifo-easy", "fifo-promise", "fair-finish", "steady", "default"] {
        let found = outcome("queue", &[("--trace", &jobs)], &[machines.as_slice(), &[policy]].concat());
        assert_eq!(found["policy"], policy);
        assert_eq!(found["wait_s"], json!({ "mean": 10, "p50": 10, "p99": 20, "max": 20 }), "{found}");
        assert_eq!(found["jct_s"], json!({ "mean": 20, "p50": 20, "p99": 30, "max": 30 }), "{found}");
        assert_eq!((&found["finished"], &found["makespan_s"]), (&json!(3), &json!(30)), "{found}");
        assert_eq!((&found["violations"], &found["late_promises"]), (&json!(0), &json!(0)), "{found}");
        assert!(found["decision_us"]["p99"].is_number(), "{found}");
        digest(&found);
    }
}

#[test]
fn queueing_is_the_same_each_time_and_differs_where_decisions_do() {
    let inputs = Inputs::new();
    // The second has no room beside the first; only those who backfill start the third beside it.
    let jobs = ["0,100,3", "1,100,4", "2,10,1"].map(str::to_owned);
    let jobs = inputs.file("jobs.csv", table(JOBS, jobs));
    let of = |nodes, policy| {
        let machines = ["--nodes", nodes, "--gpus-per-node", "4", "--policy", policy];
        outcome("queue", &[("--trace", &jobs)], &machines)
    };
    let (strict, easy) = (of("1", "fifo"), of("1", "fifo-easy"));
    assert_eq!(digest(&strict), digest(&of("1", "fifo")));
    assert_ne!(digest(&strict), digest(&easy));
    assert_eq!((&strict["wait_s"]["max"], &easy["wait_s"]["max"]), (&json!(198), &json!(99)));
    assert_eq!(of("2", "fifo")["wait_s"]["max"], 0, "two nodes have room for all");
}

#[test]
fn gangs_are_whole_and_follow_their_seed() {
    let inputs = Inputs::new();
    let hosts = inputs.file("hosts.csv", hosts(12));
    let of = |seed| outcome("gangs", &[("--hosts", &hosts)], &["--gangs", "200", "--load", "60", "--seed", seed]);
    let (first, again, other) = (of("1"), of("1"), of("2"));
    assert_eq!((&first["seed"], &first["hosts"], &first["leaves"]), (&json!(1), &json!(120), &json!(12)), "{first}");
    assert_eq!((&first["gangs"], &first["partial_gangs"]), (&json!(200), &json!(0)), "{first}");
    assert!(first["leaves_mean"].as_f64() >= first["leaves_mean_min"].as_f64(), "{first}");
    assert!(first["leaves_ratio"].as_f64() >= Some(1.0), "{first}");
    assert_eq!(first, again);
    assert_ne!(digest(&first), digest(&other));
}

/// Two queues that own a unit each, and two workloads of a second for each queue.
const SCENARIO: &str = r#"{
  "cohorts": 1, "queues": 2, "guarantee": 1, "borrow_max": 0, "lend_max": 0,
  "classes": [{ "name": "small", "count": 2, "gpus": 1, "run_ms": 1000, "every_ms": 0, "priority": 1 }]
}"#;

#[test]
fn a_scenario_of_ones_own_is_admitted_within_its_quotas() {
    let inputs = Inputs::new();
    let scenario = inputs.file("scenario.json", [SCENARIO.to_owned()]);
    let of = |scenario: &Path| outcome("admission", &[("--scenario", scenario)], &[]);
    let found = of(&scenario);
    assert_eq!((&found["admitted"], &found["refused"], &found["violations"]), (&json!(4), &json!(0), &json!(0)));
    assert_eq!((&found["makespan_s"], &found["work_s"]), (&json!(2.0), &json!(2.0)), "{found}");
    assert!(found["wall_s"].as_f64() > Some(0.0) && found["decision_us"]["p99"].is_number(), "{found}");
    assert_eq!(found["wait_ms"], json!([["small", { "mean": 500, "p50": 0, "p99": 1000, "max": 1000 }]]));
    assert_eq!(digest(&found), digest(&of(&scenario)));
    let built_in = outcome("admission", &[("--scenario", Path::new("kueue-15000"))], &[]);
    assert_eq!((&built_in["admitted"], &built_in["violations"]), (&json!(15_000), &json!(0)), "{built_in}");
    let longer = inputs.file("longer.json", [SCENARIO.replace("\"count\": 2", "\"count\": 3")]);
    assert_ne!(digest(&found), digest(&of(&longer)));
}

#[test]
fn what_cannot_be_read_is_named_by_its_line() {
    let inputs = Inputs::new();
    let nodes = inputs.file("nodes.csv", gpu_nodes(2, 1));
    let pods =
        inputs.file("pods.csv", table(PODS, ["p0,1000,1024,1,1000,", "p1,1000,1024,1,2000,"].map(str::to_owned)));
    let said = complaint("openb", &[("--nodes", &nodes), ("--pods", &pods)], &[]);
    assert!(said.contains("pods: line 3: `gpu_milli`") && said.contains("pods.csv"), "{said}");

    let jobs = inputs.file("jobs.csv", table(JOBS, ["0,10,1", "0,soon,1"].map(str::to_owned)));
    let said = complaint("queue", &[("--trace", &jobs)], &["--nodes", "1", "--gpus-per-node", "1"]);
    assert!(said.contains("line 3: `run_s`") && said.contains("jobs.csv"), "{said}");

    let hosts = inputs.file("hosts.csv", table(HOSTS, ["h0,D,P,S", "h1,D,P"].map(str::to_owned)));
    let said = complaint("gangs", &[("--hosts", &hosts)], &[]);
    assert!(said.contains("line 3: expected 4 fields") && said.contains("hosts.csv"), "{said}");

    let scenario = inputs.file("scenario.json", [SCENARIO.replace("\"run_ms\"", "\"run\"")]);
    let said = complaint("admission", &[("--scenario", &scenario)], &[]);
    assert!(said.contains("`run`") && said.contains("line 3") && said.contains("scenario.json"), "{said}");
}

#[test]
fn a_policy_or_file_that_is_not_there_is_said() {
    let inputs = Inputs::new();
    let jobs = inputs.file("jobs.csv", table(JOBS, ["0,10,1".to_owned()]));
    let machines = ["--nodes", "1", "--gpus-per-node", "1"];
    let said = complaint("queue", &[("--trace", &jobs)], &[machines.as_slice(), &["--policy", "magic"]].concat());
    assert!(said.contains("no policy `magic`") && said.contains("fifo-easy"), "{said}");
    let said = complaint("queue", &[("--trace", &inputs.0.path().join("none.csv"))], &machines);
    assert!(said.contains("could not read") && said.contains("none.csv"), "{said}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let inputs = Inputs::new();
    let trace = inputs.file("jobs.csv", table(JOBS, ["0,10,1".to_owned()]));
    let mut command = Command::new(env!("CARGO_BIN_EXE_gregal"));
    command.args(["simulate", "queue", "--nodes", "1", "--gpus-per-node", "1", "--trace"]).arg(&trace);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
