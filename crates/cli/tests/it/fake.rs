//! A cloud that answers what it was told to answer and remembers what it was asked. It plays control plane and site.

use std::{
    collections::{HashMap, VecDeque},
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, Response, Uri},
};
use clap::Parser;
use gregal_cli::{Command, Printer, Surroundings, run_in};
use gregal_core::world::RealWorld;
use serde_json::{Value, json};

pub(crate) const ORG: &str = "org_00000000000000000000000001";
pub(crate) const PRJ: &str = "prj_00000000000000000000000002";
pub(crate) const SITE: &str = "site_00000000000000000000000003";
pub(crate) const DS: &str = "ds_00000000000000000000000004";
pub(crate) const JOB: &str = "job_00000000000000000000000005";
pub(crate) const MDL: &str = "mdl_00000000000000000000000006";
pub(crate) const EP: &str = "ep_00000000000000000000000007";
pub(crate) const KEY: &str = "key_00000000000000000000000008";
pub(crate) const AT: &str = "2026-11-22T09:30:00.000Z";
pub(crate) const SECRET: &str = "gk_very-secret";

#[derive(Debug, Parser)]
#[command(name = "gregal")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) what: String,
    pub(crate) query: String,
    pub(crate) key: String,
    pub(crate) once: Option<String>,
    pub(crate) bytes: Bytes,
}

impl Asked {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }
}

#[derive(Debug, Clone)]
struct Answer {
    status: u16,
    kind: &'static str,
    body: String,
}

#[derive(Debug, Default)]
struct Script {
    answers: HashMap<String, VecDeque<Answer>>,
    asked: Vec<Asked>,
}

/// The cloud.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) url: String,
    script: Arc<Mutex<Script>>,
    pub(crate) state: tempfile::TempDir,
}

/// What a verb said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) exit: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.exit, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        let router = Router::new().fallback(answer).with_state(script.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let fake = Self { url, script, state: tempfile::tempdir().unwrap() };
        fake.on("GET /api/v1/whoami", &json!({ "key": key(), "actions": ["job:read", "job:create"] }));
        fake
    }

    /// Answers with JSON. Several answers to one question are given in turn, the last one for ever.
    pub(crate) fn on(&self, what: &str, body: &Value) -> &Self {
        self.on_text(what, 200, "application/json", &body.to_string())
    }

    pub(crate) fn on_text(&self, what: &str, status: u16, kind: &'static str, body: &str) -> &Self {
        let answer = Answer { status, kind, body: body.to_owned() };
        self.script.lock().unwrap().answers.entry(what.to_owned()).or_default().push_back(answer);
        self
    }

    /// Answers with a problem.
    pub(crate) fn refuse(&self, what: &str, status: u16, code: &str, more: Value) -> &Self {
        let mut body = json!({ "type": format!("/problems/{code}"), "code": code, "title": code, "status": status, "detail": "it went wrong" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.on_text(what, status, "application/problem+json", &body.to_string())
    }

    /// Forgets what it should answer to a question.
    pub(crate) fn forget(&self, what: &str) {
        self.script.lock().unwrap().answers.remove(what);
    }

    /// Everything asked so far.
    pub(crate) fn asked(&self, what: &str) -> Vec<Asked> {
        let script = self.script.lock().unwrap();
        script.asked.iter().filter(|asked| asked.what == what).cloned().collect()
    }

    /// Types a verb with a key.
    pub(crate) async fn run(&self, args: &[&str]) -> Said {
        self.run_with(args, None, true).await
    }

    /// Types a verb and, on a terminal or through a pipe, some input.
    pub(crate) async fn run_with(&self, args: &[&str], input: Option<&'static str>, terminal: bool) -> Said {
        let options = ["--url", &self.url, "--key", SECRET];
        // Options stand before `--`, which ends them.
        let at = args.iter().position(|arg| *arg == "--").unwrap_or(args.len());
        let args: Vec<&str> = args[..at].iter().chain(&options).chain(&args[at..]).copied().collect();
        let mut said = type_in(&args, Some(self.state.path()), input.unwrap_or_default(), terminal).await;
        assert!(!said.out.contains(SECRET) && !said.err.contains(SECRET), "a verb showed the key: {said:?}");
        said.out = said.out.replace(&self.url, "http://cloud");
        said.err = said.err.replace(&self.url, "http://cloud");
        said
    }
}

/// Types a command line as it is.
pub(crate) async fn type_in(
    args: &[&str],
    state: Option<&std::path::Path>,
    input: &'static str,
    terminal: bool,
) -> Said {
    let cli = Cli::try_parse_from(std::iter::once(&"gregal").chain(args)).unwrap_or_else(|error| panic!("{error}"));
    let (out, err) = (Written::default(), Written::default());
    let mut here = Surroundings {
        printer: Printer::captured(Box::new(out.clone()), Box::new(err.clone())),
        input: Box::new(input.as_bytes()),
        input_is_terminal: terminal,
        state_dir: state.map(Into::into),
        world: Arc::new(RealWorld),
        poll: Duration::from_millis(2),
        patience: Duration::from_secs(20),
    };
    let exit = run_in(cli.command, &mut here).await;
    Said { exit, out: out.text(), err: err.text() }
}

/// Types a command line and, once it has shown `mark`, does something beside it with what was shown.
pub(crate) async fn type_in_and(
    args: &[&str],
    state: &std::path::Path,
    mark: &str,
    then: impl AsyncFnOnce(String),
) -> Said {
    let cli = Cli::try_parse_from(std::iter::once(&"gregal").chain(args)).unwrap_or_else(|error| panic!("{error}"));
    let (out, err) = (Written::default(), Written::default());
    let mut here = Surroundings {
        printer: Printer::captured(Box::new(out.clone()), Box::new(err.clone())),
        input: Box::new(std::io::empty()),
        input_is_terminal: true,
        state_dir: Some(state.into()),
        world: Arc::new(RealWorld),
        poll: Duration::from_millis(2),
        patience: Duration::from_mins(1),
    };
    let beside = async {
        while !err.text().contains(mark) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        then(err.text()).await;
    };
    let (exit, ()) = tokio::join!(run_in(cli.command, &mut here), beside);
    Said { exit, out: out.text(), err: err.text() }
}

#[derive(Debug, Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn answer(
    State(script): State<Arc<Mutex<Script>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    bytes: Bytes,
) -> Response<Body> {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let what = format!("{method} {}", uri.path());
    let mut script = script.lock().unwrap();
    script.asked.push(Asked {
        what: what.clone(),
        query: uri.query().unwrap_or_default().to_owned(),
        key: header("authorization").unwrap_or_default(),
        once: header("idempotency-key"),
        bytes,
    });
    let Some(answers) = script.answers.get_mut(&what) else {
        let body = json!({ "type": "/problems/not_found", "code": "not_found", "title": "not found", "status": 404, "detail": format!("the script has no answer to `{what}`") });
        return Response::builder().status(404).body(Body::from(body.to_string())).unwrap();
    };
    let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }.unwrap();
    Response::builder().status(answer.status).header("content-type", answer.kind).body(Body::from(answer.body)).unwrap()
}

pub(crate) fn key() -> Value {
    json!({ "id": KEY, "organisation": ORG, "project": PRJ, "name": "laptop", "role": "developer", "created_at": AT, "expires_at": null, "revoked_at": null })
}

pub(crate) fn dataset(name: &str, state: &str) -> Value {
    json!({ "id": DS, "project": PRJ, "site": SITE, "name": name, "state": state, "digest": null, "bytes": null, "created_at": AT })
}

pub(crate) fn job(state: &str, more: Value) -> Value {
    let mut job = json!({
        "id": JOB, "project": PRJ, "name": "train-atlas",
        "program": { "kind": "train", "dataset": DS, "heldout": null, "base_model": null, "model_name": "atlas", "settings": {} },
        "sku": "cpu.1", "seconds_max": 600, "state": state, "waits_for": null, "site": SITE, "attempt": 1,
        "progress": null, "heldout": null, "end": null, "model": null,
        "created_at": AT, "started_at": null, "ended_at": null,
    });
    job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    job
}

pub(crate) fn endpoint(url: &str, state: &str) -> Value {
    json!({
        "id": EP, "project": PRJ, "site": SITE, "name": "atlas", "model": MDL, "sku": "cpu.1", "state": state, "message": null,
        "base_url": format!("{url}/v1"), "created_at": AT, "placed_at": AT, "ready_at": null, "held_ms": 9_000_000,
        "billed_ms": 125_000,
    })
}

pub(crate) fn model() -> Value {
    json!({
        "id": MDL, "project": PRJ, "site": SITE, "name": "atlas", "number": 2, "digest": "ab12", "bytes": 2_097_152, "parameters": 1_234_567,
        "lineage": {
            "job": JOB, "dataset": DS, "dataset_digest": "cd34", "base_model": null, "base_model_digest": null,
            "code_version": "0.1.0", "flop": 5_000_000_000_u64, "tokens": 400_000, "energy_mj": 3_600_000, "energy_method": "estimated: watts per core",
        },
        "kwh": "0.001000000", "created_at": AT,
    })
}

pub(crate) fn grant(url: &str) -> Value {
    json!({ "grant": "leave.signed", "url": url, "expires_at": AT })
}
