//! A real training is told to make room: it saves its work, waits, goes on from its checkpoint, and ends with its model and
//! one bill. The second time the whole process is killed in the middle of it.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::program::{Running, complaint, finish, free_ports, gregal, printed};

/// The cloud and whoever asks it.
struct World {
    cloud: Running,
    up: Vec<String>,
    url: String,
}

impl World {
    /// Starts the cloud; the operator's key comes with the first start.
    fn start(up: Vec<String>, url: String) -> (Self, Option<String>) {
        let arguments: Vec<&str> = up.iter().map(String::as_str).collect();
        let mut cloud = Running::start(&mut gregal(&arguments));
        let mut lines = BufReader::new(cloud.0.stdout.take().unwrap()).lines();
        let admin = lines.find_map(|line| line.ok().filter(|line| line.starts_with("admin"))).expect("it came up");
        // Whoever prints into a closed pipe ends.
        std::thread::spawn(move || lines.for_each(drop));
        let key = admin.split_whitespace().find(|word| word.starts_with("gk_")).map(str::to_owned);
        (Self { cloud, up, url }, key)
    }

    /// What a client verb prints as JSON.
    fn ask(&self, key: &str, arguments: &[&str]) -> Value {
        let mut command = gregal(arguments);
        let said = finish(command.arg("--json").env("GREGAL_URL", &self.url).env("GREGAL_KEY", key));
        assert_eq!(said.status.code(), Some(0), "{arguments:?}: {}", complaint(&said));
        printed(&said)
    }

    /// Looks at a job until it is as wanted.
    fn until(&self, key: &str, job: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let watch = Instant::now();
        loop {
            let seen = self.ask(key, &["job", "show", job]);
            if is(&seen) {
                return seen;
            }
            let ended = seen["ended_at"].is_string();
            assert!(!ended && watch.elapsed() < Duration::from_mins(4), "waited for {what}: {seen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn step(job: &Value) -> u64 {
    job["progress"]["step"].as_u64().unwrap_or(0)
}

#[test]
fn a_training_that_makes_room_twice_ends_with_its_model_and_one_bill() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("signs.jsonl");
    let mut lines = String::new();
    for station in (0..600).map(|n| n % 24) {
        let sign = station * 31;
        writeln!(lines, r#"{{"prompt":"What is the sign of station {station}?","completion":"S{sign}"}}"#).unwrap();
    }
    fs::write(&data, lines).unwrap();
    let (control, site) = free_ports();
    let (listen, dir) = (format!("127.0.0.1:{control}"), folder.path().join("cloud"));
    let up = ["up", "--data-dir", dir.to_str().unwrap(), "--control-listen", &listen, "--site-listen"];
    let up = up.iter().map(|word| (*word).to_owned()).chain([format!("127.0.0.1:{site}")]).collect();
    let (world, operator) = World::start(up, format!("http://{listen}"));
    let operator = operator.unwrap();

    let made = world.ask(&operator, &["organisation", "create", "Lab", "--country", "FR", "--credit-eur", "25"]);
    let owner = made["owner_key"]["secret"].as_str().unwrap().to_owned();
    world.ask(&owner, &["project", "create", "main"]);
    world.ask(&owner, &["dataset", "add", data.to_str().unwrap()]);
    let train = ["job", "train", "--dataset", "signs.jsonl", "--model-name", "signs", "--seconds-max", "900"];
    // Checkpoints are only written when it is told to stop: what it goes on from is what it saved then.
    let settings = ["--set", "steps=800", "--set", "checkpoint_every_s=10000"];
    let made = world.ask(&owner, &[&train[..], &settings].concat());
    let job = made["id"].as_str().unwrap();
    assert_eq!((&made["preemptible"], &made["priority"]), (&Value::Bool(true), &Value::from(4)));

    world.until(&owner, job, "its first steps", |job| job["state"] == "running" && step(job) > 0);
    let told = world.ask(&operator, &["job", "preempt", job, "--why", "room for a test"]);
    assert_eq!(told["state"], "stopping");
    let again = world.until(&owner, job, "its second attempt", |job| job["attempt"] == 2 && job["state"] == "running");
    assert_eq!(again["stops"], 1);

    // And once more, with the process killed before the end of the attempt was proved, or just after.
    let reached = step(&again);
    world.until(&owner, job, "more steps", |job| step(job) > reached);
    world.ask(&operator, &["job", "preempt", job, "--why", "room for another test"]);
    let World { mut cloud, up, url } = world;
    cloud.kill();
    let (mut world, _) = World::start(up, url);
    let ended = world.until(&owner, job, "its end", |job| job["state"] == "succeeded");
    assert_eq!((&ended["attempt"], &ended["stops"]), (&Value::from(3), &Value::from(2)), "{ended}");
    assert!(ended["model"].is_string(), "{ended}");
    assert_eq!((step(&ended), ended["progress"]["steps"].as_u64()), (800, Some(800)));

    let mut logs = gregal(&["job", "logs", job]);
    let log = finish(logs.env("GREGAL_URL", &world.url).env("GREGAL_KEY", &owner));
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    // Twice, and once more if the process was killed before the site had heard: then it goes on first, and stops after that.
    let resumed = log.matches("took up the work of an earlier run at step").count();
    assert!((2..=3).contains(&resumed), "{log}");

    // One bill: no stretch of time twice, all of it the job's, and nothing held any more.
    let usage = world.ask(&owner, &["usage", "list"]);
    let mut stretches: Vec<(&str, &str, u64)> = usage["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|record| record["meter"] == "compute_core")
        .inspect(|record| assert_eq!(record["subject"], job))
        .map(|record| {
            let at = |name: &str| record[name].as_str().unwrap();
            (at("started_at"), at("ended_at"), record["quantity"].as_u64().unwrap())
        })
        .collect();
    stretches.sort_unstable();
    assert!(stretches.windows(2).all(|two| two[0].1 <= two[1].0), "metered twice: {stretches:?}");
    let balance = world.ask(&owner, &["balance", "show"]);
    assert_eq!(balance["held_nano"], 0);
    // A core costs 40,000,000 nano-euro an hour; each record is rounded by itself, to less than a nano-euro.
    let core_ms: u64 = stretches.iter().map(|(.., quantity)| quantity).sum();
    let accrued = balance["accrued_nano"].as_u64().unwrap();
    assert!(accrued.abs_diff(core_ms * 40_000_000 / 3_600_000) <= stretches.len() as u64, "{accrued} for {core_ms} ms");
    world.ask(&owner, &["invoice", "verify"]);
    world.cloud.signal("TERM");
    assert_eq!(world.cloud.wait(Duration::from_secs(90)).0, Some(0));
}
