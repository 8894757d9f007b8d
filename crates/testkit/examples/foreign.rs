//! Whether a stranger can tell by the clock what is somebody else's from what is not there: the same requests about both, in turns,
//! through the control plane's router over a real SQLite file.
//!
//! `cargo run --release -p gregal-testkit --example foreign -- --rounds 2000`
//!
//! A minute passes before each round, so that each denial is written down, as the first of a stranger's guesses is. Figures
//! only; nothing here passes or fails by a time.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on says where")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gregal_api::{
    client::Client,
    key::KeyCreated,
    organisation::{OrganisationCreate, OrganisationCreated},
    project::{ProjectCreate, ProjectView},
};
use gregal_control::{Control, ControlOptions};
use gregal_core::{
    id::{KeyId, ProjectId},
    price,
    time::Time,
};
use gregal_store::{Store, StoreOptions};
use gregal_testkit::SteppedWorld;
use serde_json::{Value, json};

/// Somebody's objects.
struct Tenant {
    owner: Client,
    project: String,
    key: String,
}

#[tokio::main]
async fn main() {
    let rounds: usize = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => 2_000,
        [name, value] if name == "--rounds" => value.parse().expect("a number of rounds"),
        _ => panic!("only `--rounds NUMBER` is known"),
    };
    let folder = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let world = Arc::new(SteppedWorld::at(Time::from_millis(1_795_000_000_000)));
    let file = folder.path().join("control.sqlite").display().to_string();
    let store = Store::open(StoreOptions::new(file)).await.unwrap();
    let control = Control::open(ControlOptions {
        store,
        world: world.clone(),
        url: url.clone(),
        invoicing: None,
        seller: "FR".parse().unwrap(),
        first_prices: price::default_book(Time::from_millis(0)),
        clean_ms: 300_000,
        access: gregal_control::AccessOptions::default(),
        identity: gregal_control::IdentityOptions::default(),
        origin: "audit.bench.example/gregal".into(),
        code_version: "bench".into(),
    })
    .await
    .unwrap();
    let operator = Client::new(&url, control.operator_key_ensure().await.unwrap()).unwrap();
    let router = control.router();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let (victim, stranger) = (tenant(&url, &operator, "Acme").await, tenant(&url, &operator, "Other").await);

    let (mut theirs, mut nobodys) = ([Vec::new(), Vec::new(), Vec::new()], [Vec::new(), Vec::new(), Vec::new()]);
    for round in 0..rounds {
        world.pass_seconds(61);
        let number = round as u128 + 1;
        let missing = (ProjectId::from_u128(number).to_string(), KeyId::from_u128(number).to_string());
        let asked = [
            ("project_read", &victim.project, &missing.0),
            ("jobs_list", &victim.project, &missing.0),
            ("key_revoke", &victim.key, &missing.1),
        ];
        for (index, (route, real, made_up)) in asked.into_iter().enumerate() {
            // In turns, so that what else the machine does falls on both alike.
            let (first, second) = if round % 2 == 0 { (real, made_up) } else { (made_up, real) };
            let (one, other) =
                (timed(&stranger.owner, route, first).await, timed(&stranger.owner, route, second).await);
            let (real, made_up) = if round % 2 == 0 { (one, other) } else { (other, one) };
            theirs[index].push(real);
            nobodys[index].push(made_up);
        }
    }
    let mut figures = serde_json::Map::new();
    for (index, route) in ["project_read", "jobs_list", "key_revoke"].into_iter().enumerate() {
        let (theirs, nobodys) = (median_us(&mut theirs[index]), median_us(&mut nobodys[index]));
        let ratio = (theirs / nobodys * 1000.0).round() / 1000.0;
        figures.insert(route.into(), json!({ "somebody_elses_us": theirs, "not_there_us": nobodys, "ratio": ratio }));
    }
    println!("{}", Value::Object(figures));
}

async fn tenant(url: &str, operator: &Client, name: &str) -> Tenant {
    let wanted: OrganisationCreate = serde_json::from_value(json!({ "name": name, "country": "FR" })).unwrap();
    let made: OrganisationCreated = operator.call("organisation_create", &[]).body(&wanted).send().await.unwrap();
    let owner = Client::new(url, made.owner_key.secret).unwrap();
    let organisation = made.organisation.id.to_string();
    let wanted = ProjectCreate { name: "main".into() };
    let project: ProjectView = owner.call("project_create", &[&organisation]).body(&wanted).send().await.unwrap();
    let project = project.id.to_string();
    let wanted = json!({ "name": "k", "role": "inference" });
    let key: KeyCreated = owner.call("key_create", &[&project]).body(&wanted).send().await.unwrap();
    Tenant { owner, project, key: key.key.id.to_string() }
}

async fn timed(owner: &Client, route: &str, id: &str) -> Duration {
    let watch = Instant::now();
    let answer = owner.call(route, &[id]).send::<Value>().await;
    let took = watch.elapsed();
    assert!(answer.is_err(), "{route} {id} was answered");
    took
}

fn median_us(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    (times[times.len() / 2].as_secs_f64() * 10_000_000.0).round() / 10.0
}
