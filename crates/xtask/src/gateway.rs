//! The gateway beside its peers: a cloud with many organisations and keys in front of a bench's mock engine, made through the
//! public API, and the bench's own program run against it. The bench is a folder of its own and no part of this repository.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{cargo, output, root};

/// Where the bench starts its mock engine.
const ENGINE: &str = "127.0.0.1:9100";
/// The core the gateway gets; the bench's programs take the other one.
const CORE: &str = "1";
/// Peers that need no more than a package of the system.
const PEERS: &str = "direct,nginx,haproxy";
/// The longest until every organisation's endpoint answers.
const READY: Duration = Duration::from_mins(2);

/// What to put before the gateway.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crowd {
    /// Organisations, each with one project and one endpoint.
    pub(crate) organisations: u32,
    /// Keys of all of them together.
    pub(crate) keys: u32,
    /// Rounds of each test.
    pub(crate) rounds: u32,
    /// Seconds of each test.
    pub(crate) seconds: u32,
}

/// Runs the bench in a folder and answers what its report prints.
pub(crate) fn run(bench: &Path, crowd: Crowd) -> Result<Value> {
    let bench = checked(bench)?;
    for peer in ["nginx", "haproxy", "taskset"] {
        let there = Command::new("sh").args(["-c", &format!("command -v {peer}")]).stdout(Stdio::null()).status()?;
        ensure!(
            there.success(),
            "`{peer}` is not installed; the peers are nginx, haproxy, and util-linux' taskset pins them"
        );
    }
    cargo(&["build", "--release", "--locked", "--package", "gregal"])?;
    let scratch = root().canonicalize()?.join("target/gateway");
    drop(fs::remove_dir_all(&scratch));
    fs::create_dir_all(&scratch)?;
    // Its programs are built beside ours, so that the folder may be read-only.
    let built = scratch.join("bench");
    copy(&bench, &built)?;
    crate::run(Command::new("cargo").current_dir(&built).args(["build", "--release"]))?;
    let results = scratch.join("results.jsonl");
    let (rounds, seconds) = (crowd.rounds.to_string(), crowd.seconds.to_string());
    let program = || {
        let mut program = Command::new("python3");
        program.current_dir(&built).arg("bench.py").args(["--rounds", &rounds, "--secs", &seconds]);
        program.arg("--out").arg(&results).arg("--run-dir").arg(scratch.join("run"));
        program
    };
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    crate::run(program().args(["--peers", PEERS]))?;
    let cloud = Cloud::start(&scratch)?;
    let keys = cloud.crowd(&built, crowd)?;
    let url = format!("{}/v1/chat/completions", cloud.site);
    let pid = cloud.process.id().to_string();
    crate::run(
        program()
            .args(["--target", "gregal", "--url", &url, "--model", "bench", "--pid", &pid])
            .arg("--key")
            .arg(&keys.1)
            .arg("--keys-file")
            .arg(&keys.0),
    )?;
    drop(cloud);
    let report = output(Command::new("python3").current_dir(&built).arg("report.py").arg(&results))?;
    println!("{report}");
    Ok(
        json!({ "organisations": crowd.organisations, "keys": crowd.keys, "load_before": load.trim(), "results": results }),
    )
}

/// The folder, if it is one of the bench.
fn checked(bench: &Path) -> Result<PathBuf> {
    let wanted = ["bench.py", "report.py", "Cargo.toml", "src/bin/mock.rs", "src/bin/load.rs", "peers/nginx.conf"];
    let missing: Vec<&str> = wanted.into_iter().filter(|name| !bench.join(name).is_file()).collect();
    let shown = bench.display();
    ensure!(
        missing.is_empty(),
        "`{shown}` is no folder of the gateway bench, which is not part of this repository: it lacks {}",
        missing.join(", ")
    );
    Ok(bench.canonicalize()?)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    crate::run(Command::new("cp").arg("-r").arg(from.join(".")).arg(to))
}

/// A cloud on the bench's core.
struct Cloud {
    process: Child,
    gregal: PathBuf,
    control: String,
    site: String,
    operator: String,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Cloud {
    fn start(scratch: &Path) -> Result<Self> {
        let gregal = root().canonicalize()?.join("target/release/gregal");
        let settings = scratch.join("gregal.toml");
        let external = format!(
            "[[engine.external]]\nname = \"mock\"\naddress = \"{ENGINE}\"\nmodel = \"mock\"\ncontext = 2048\nprice_item = \"shared.mock\"\njurisdiction = \"FR\"\nhealth = \"/stats\"\nrequests_max = 4096\n"
        );
        fs::write(&settings, external)?;
        let mut command = Command::new("taskset");
        command.args(["-c", CORE]).arg(&gregal).arg("up").arg("--config").arg(&settings);
        command.arg("--data-dir").arg(scratch.join("data"));
        command.args(["--control-listen", "127.0.0.1:0", "--site-listen", "127.0.0.1:0"]);
        let mut process = command.stdout(Stdio::piped()).spawn().context("could not start the cloud")?;
        let lines = BufReader::new(process.stdout.take().context("the cloud prints nothing")?).lines();
        let mut cloud = Self { process, gregal, control: String::new(), site: String::new(), operator: String::new() };
        for line in lines {
            let line = line?;
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["api", url] => url.trim_end_matches("/api/v1").clone_into(&mut cloud.control),
                ["gateway", url] => url.trim_end_matches("/v1").clone_into(&mut cloud.site),
                ["admin", key, ..] => {
                    key.clone_into(&mut cloud.operator);
                    break;
                }
                _ => {}
            }
        }
        ensure!(!cloud.operator.is_empty(), "the cloud did not start");
        Ok(cloud)
    }

    /// A verb, as somebody; what it made.
    fn verb(&self, key: &str, words: &[&str]) -> Result<Value> {
        let mut command = Command::new(&self.gregal);
        command.args(words).arg("--json").env("GREGAL_URL", &self.control).env("GREGAL_KEY", key);
        serde_json::from_str(&output(&mut command)?).context("a verb printed no JSON")
    }

    /// Makes the organisations, and waits until each endpoint answers. Answers the file of keys, and the first of them.
    fn crowd(&self, bench: &Path, crowd: Crowd) -> Result<(PathBuf, String)> {
        let mut mock = Command::new(bench.join("target/release/mock")).stderr(Stdio::null()).spawn()?;
        let made = self.organisations(crowd);
        drop(mock.kill());
        drop(mock.wait());
        let keys = made?;
        let file = bench.join("keys");
        fs::write(&file, keys.join("\n") + "\n")?;
        Ok((file, keys.first().cloned().context("there are no keys")?))
    }

    fn organisations(&self, crowd: Crowd) -> Result<Vec<String>> {
        let (mut owners, mut keys) = (Vec::new(), Vec::new());
        // One more than asked for, made last: who knows its owner's key knows every key before it.
        for number in 0..=crowd.organisations {
            let name = format!("Bench {number}");
            let credit = ["--country", "FR", "--credit-eur", "1000"];
            let made = self.verb(&self.operator, &[&["organisation", "create", &name], &credit[..]].concat())?;
            let owner = secret(&made, "/owner_key/secret")?;
            self.verb(&owner, &["project", "create", "main"])?;
            self.verb(&owner, &["endpoint", "create", "bench", "--shared", "mock"])?;
            if number < crowd.organisations {
                keys.push(owner.clone());
                for key in 1..crowd.keys.div_ceil(crowd.organisations) {
                    let (name, role) = (format!("k{key}"), ["--role", "inference", "--project", "main"]);
                    let made = self.verb(&owner, &[&["key", "create", &name], &role[..]].concat())?;
                    keys.push(secret(&made, "/secret")?);
                }
            }
            owners.push(owner);
        }
        let begun = Instant::now();
        for owner in owners {
            while self.verb(&owner, &["chat", "bench", "hi"]).is_err() {
                ensure!(begun.elapsed() < READY, "an endpoint did not answer in time");
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        Ok(keys)
    }
}

/// A secret that a verb showed.
fn secret(made: &Value, at: &str) -> Result<String> {
    Ok(made.pointer(at).and_then(Value::as_str).context("a key's secret was not shown")?.to_owned())
}
