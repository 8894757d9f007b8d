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
fn speed_says_what_time_and_memory_decisions_take() {
    let found = outcome("speed", &[], &["--nodes", "20", "--queued", "5000", "--rounds", "2"]);
    let queueing = &found["queueing"];
    assert!(queueing["waiting"].as_u64() >= Some(4900) && queueing["full_us"]["p99"].is_number(), "{found}");
    assert!(found["placing"]["place_us"]["p99"].as_f64() > Some(0.0), "{found}");
    // A record of a job alone is more than 50 bytes, and no process holds less than its queue.
    let (state, peak) = (&queueing["state_bytes"], &found["peak_bytes"]);
    assert!(queueing["state_bytes_per_job"].as_u64() > Some(50) && peak.as_u64() > state.as_u64(), "{found}");
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
    let nodes = inputs.file("machines.csv", table("gpus,model", ["8,h100", "none,h100"].map(str::to_owned)));
    let said = complaint("queue", &[("--trace", &jobs), ("--nodes", &nodes)], &[]);
    assert!(said.contains("line 3: `gpus`") && said.contains("machines.csv"), "{said}");

    let nodes = inputs.file("machines.csv", table("gpus,model", ["8,h100", "8,l40s"].map(str::to_owned)));
    let jobs =
        inputs.file("asks.csv", table("submit_s,run_s,gpus,model", ["0,1,1,l40s", "0,1,1,tpu"].map(str::to_owned)));
    let said = complaint("queue", &[("--trace", &jobs), ("--nodes", &nodes)], &[]);
    assert!(said.contains("line 3: `model` is none of: h100, l40s") && said.contains("asks.csv"), "{said}");

    let jobs = inputs.file("load.csv", table("submit_s,run_s,cpus", ["0,1,4", "0,1,0"].map(str::to_owned)));
    let said = complaint("load", &[("--jobs", &jobs)], &["--cpus", "4"]);
    assert!(said.contains("line 3:") && said.contains("asks for nothing") && said.contains("load.csv"), "{said}");

    let said = complaint("gangs", &[("--hosts", &hosts)], &[]);
    assert!(said.contains("line 3: expected 4 fields") && said.contains("hosts.csv"), "{said}");

    // More than any cloud has is refused in words instead of being built.
    let (nodes, pods) = (inputs.file("some.csv", [NODES.to_owned()]), inputs.file("pods.csv", [PODS.to_owned()]));
    let said = complaint("openb", &[("--nodes", &nodes), ("--pods", &pods)], &["--add-nodes", "4294967295"]);
    assert!(said.contains("--add-nodes") && said.contains("100000"), "{said}");
    let said = complaint("load", &[("--jobs", &jobs)], &["--cpus", "4294967295"]);
    assert!(said.contains("--cpus") && said.contains("1000000"), "{said}");
    let said = complaint("gangs", &[("--hosts", &hosts)], &["--gangs", "100000000"]);
    assert!(said.contains("--gangs") && said.contains("1000000"), "{said}");

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
fn one_file_of_jobs_goes_through_the_live_scheduler_and_through_the_queue() {
    let inputs = Inputs::new();
    // 5 s in, two jobs that do not fit together; their limits say no more than their runs.
    let rows = ["5,10,3,12,10", "5,10,3,12,"].map(str::to_owned);
    let jobs = inputs.file("jobs.csv", table("submit_s,run_s,gpus,cpus,limit_s", rows));
    let queued = outcome("queue", &[("--trace", &jobs)], &["--nodes", "1", "--gpus-per-node", "4", "--policy", "fifo"]);
    let live = outcome("load", &[("--jobs", &jobs)], &["--cpus", "24", "--gpus", "4"]);
    let waits = json!({ "mean": 5, "p50": 0, "p99": 10, "max": 10 });
    assert_eq!((&queued["wait_s"], &live["wait_s"]), (&waits, &waits));
    assert_eq!((&live["ran"], &live["makespan_s"]), (&json!(2), &json!(20)), "{live}");
    digest(&live);
}

#[test]
fn ones_own_nodes_have_models_and_sizes() {
    let inputs = Inputs::new();
    let nodes = ["a,8,h100,1", "b,4,l40s,2"].map(str::to_owned);
    let nodes = inputs.file("nodes.csv", table("name,gpus,model,count", nodes));
    let rows = ["0,10,8,h100", "0,10,8,h100", "0,10,4,l40s", "0,10,4,l40s"].map(str::to_owned);
    let jobs = inputs.file("jobs.csv", table("submit_s,run_s,gpus,model", rows));
    let found = outcome("queue", &[("--trace", &jobs), ("--nodes", &nodes)], &["--policy", "fifo-promise"]);
    assert_eq!((&found["finished"], &found["violations"], &found["makespan_s"]), (&json!(4), &json!(0), &json!(20)));
    // 240 accelerator-seconds were worked; 16 accelerators were there for 20 s.
    assert_eq!(found["utilisation"], 0.75, "{found}");
    let more = ["--policy", "fifo-promise", "--add-nodes", "1"];
    assert_eq!(outcome("queue", &[("--trace", &jobs), ("--nodes", &nodes)], &more)["makespan_s"], 10);
    let said = complaint("queue", &[("--trace", &jobs), ("--nodes", &nodes)], &["--gpus-per-node", "8"]);
    assert!(said.contains("`--gpus-per-node` goes with a number of nodes"), "{said}");
    let said = complaint("queue", &[("--trace", &jobs)], &["--nodes", "3"]);
    assert!(said.contains("`--nodes 3` needs `--gpus-per-node`"), "{said}");
}

#[test]
fn what_ifs_stand_beside_what_was_without_them() {
    let inputs = Inputs::new();
    // Two nodes, a job of 20 s and one of 10 s: the second node goes down at 4 s and is back at 10 s.
    let jobs = inputs.file("jobs.csv", table(JOBS, ["0,20,4", "0,10,4"].map(str::to_owned)));
    let of = |more: &[&str]| {
        let machines = ["--nodes", "2", "--gpus-per-node", "4", "--policy", "fifo"];
        outcome("queue", &[("--trace", &jobs)], &[machines.as_slice(), more].concat())
    };
    let plain = of(&[]);
    assert!(plain.get("without").is_none() && plain.get("compared").is_none(), "{plain}");
    let down = of(&["--site-down", "4s..10s:1", "--compare", "fifo-easy,steady"]);
    assert_eq!(
        (&down["interruptions"], &down["lost_gpu_s"], &down["wait_s"]["max"]),
        (&json!(1), &json!(16), &json!(10))
    );
    assert_eq!(down["without"]["digest"], plain["digest"]);
    assert_ne!(down["digest"], plain["digest"]);
    let compared = |at: usize| (&down["compared"][at]["policy"], &down["compared"][at]["interruptions"]);
    assert_eq!([compared(0), compared(1)], [(&json!("fifo-easy"), &json!(1)), (&json!("steady"), &json!(1))]);
    // Reserved, the work of the first 4 s is kept.
    let reserved = of(&["--reserve", "4..10:1"]);
    assert_eq!((&reserved["lost_gpu_s"], &reserved["wait_s"]["max"]), (&json!(0), &json!(6)), "{reserved}");
    let more = of(&["--add-nodes", "1"]);
    assert_eq!((&more["makespan_s"], &more["without"]["makespan_s"]), (&json!(20), &json!(20)));

    let machines = ["--nodes", "2", "--gpus-per-node", "4"];
    for (what, why) in [("4..2:1", "UNTIL after FROM"), ("1..2:3", "there are 2 nodes")] {
        let said = complaint("queue", &[("--trace", &jobs)], &[machines.as_slice(), &["--site-down", what]].concat());
        assert!(said.contains(&format!("`--site-down {what}`")) && said.contains(why), "{said}");
    }
    let said = complaint("queue", &[("--trace", &jobs)], &[machines.as_slice(), &["--compare", "magic"]].concat());
    assert!(said.contains("no policy `magic`"), "{said}");
}

#[test]
fn packing_with_nodes_that_leave_stands_beside_packing_without() {
    let inputs = Inputs::new();
    let nodes = inputs.file("nodes.csv", gpu_nodes(20, 1));
    let pods = inputs.file("pods.csv", table(PODS, ["p,1000,1024,1,1000,".to_owned()]));
    let of = |more: &[&str]| outcome("openb", &[("--nodes", &nodes), ("--pods", &pods)], more);
    // 26 come to 20 nodes. From 50 to 130 % five are away: 11 find nothing; with five nodes more, one.
    let down = of(&["--policy", "best-fit", "--site-down", "50..130:5", "--compare", "random"]);
    assert_eq!((&down["failed"], &down["displaced"], &down["without"]["failed"]), (&json!(11), &json!(0), &json!(6)));
    assert_eq!(
        (&down["allocated_percent"]["100"], &down["without"]["allocated_percent"]["100"]),
        (&json!(75.0), &json!(100.0))
    );
    assert_eq!((&down["compared"][0]["policy"], &down["compared"][0]["failed"]), (&json!("random"), &json!(11)));
    let more = of(&["--add-nodes", "5"]);
    assert_eq!((&more["failed"], &more["nodes"], &more["without"]["failed"]), (&json!(1), &json!(25), &json!(6)));
}

#[test]
fn a_report_draws_what_the_figures_say() {
    let inputs = Inputs::new();
    let jobs = inputs.file("a<b.csv", table(JOBS, (0..3).map(|_| "0,10,1".to_owned())));
    let report = inputs.0.path().join("report.html");
    let machines = ["--nodes", "1", "--gpus-per-node", "1", "--policy", "fifo", "--compare", "fifo-easy"];
    let found = outcome("queue", &[("--trace", &jobs), ("--report", &report)], &machines);
    let page = fs::read_to_string(&report).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("a&lt;b.csv") && !page.contains("a<b"), "{page}");
    assert!(
        page.contains(&found["digest"].as_str().unwrap()[..12]) && page.contains("<th scope=\"col\">fifo-easy</th>")
    );
    for plot in ["utilisation", "queue", "fragmentation", "waits"] {
        assert!(page.contains(&format!("<title id=\"{plot}-title\">")), "{plot}");
    }
    // Two curves in each of four plots, and nothing from elsewhere.
    assert_eq!(page.matches("<polyline").count(), 8);
    assert!(!page.contains("src=") && !page.contains("href="), "the page needs nothing beside it");

    let nodes = inputs.file("nodes.csv", gpu_nodes(4, 2));
    let pods = inputs.file("pods.csv", table(PODS, ["p,1000,1024,1,600,".to_owned()]));
    outcome("openb", &[("--nodes", &nodes), ("--pods", &pods), ("--report", &report)], &["--policy", "fgd"]);
    let page = fs::read_to_string(&report).unwrap();
    assert!(page.contains("allocated-title") && page.contains("fragmentation-title"), "{page}");

    let said = complaint("queue", &[("--trace", &jobs), ("--report", inputs.0.path())], &machines[..4]);
    assert!(said.contains("could not write"), "{said}");
}

#[test]
fn people_read_one_column_for_each_run() {
    let inputs = Inputs::new();
    let jobs = inputs.file("jobs.csv", table(JOBS, (0..3).map(|_| "0,10,1".to_owned())));
    let said = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gregal"));
        command.args(["simulate", "queue", "--nodes", "1", "--gpus-per-node", "1", "--trace"]).arg(&jobs).args(more);
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "no bar is drawn where nobody looks");
        String::from_utf8(output.stdout).unwrap()
    };
    let line = |text: &str, label: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with(label)).unwrap();
        line[label.len()..].split_whitespace().map(str::to_owned).collect()
    };
    let one = said(&["--policy", "fifo"]);
    assert_eq!((line(&one, "wait, longest (s)"), line(&one, "policy")[0].as_str()), (vec!["20".to_owned()], "fifo"));
    let two = said(&["--policy", "fifo", "--add-nodes", "1"]);
    assert!(two.lines().next().unwrap().ends_with("fifo, what if  fifo, without"), "{two}");
    assert_eq!(line(&two, "wait, longest (s)"), ["10", "20"]);
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
