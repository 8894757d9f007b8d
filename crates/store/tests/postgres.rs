//! The store's contract over the PostgreSQL server that `GREGAL_TEST_POSTGRES_URL` names.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by failing")]

#[macro_use]
mod contract;

use std::time::{SystemTime, UNIX_EPOCH};

use contract::Place;

contract_over!(postgres);

/// A database of its own on the server.
async fn postgres() -> Place {
    let server = std::env::var("GREGAL_TEST_POSTGRES_URL").expect(
        "GREGAL_TEST_POSTGRES_URL is not set: these tests need a server they may make databases on, such as \
         `postgres://postgres@127.0.0.1:5432/postgres`; `cargo xtask test` starts one of its own",
    );
    // The process that a crash test starts works on its parent's database.
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let name = format!("gregal_test_{}_{nanos}", std::process::id());
    Place::execute_at(&server, &format!("CREATE DATABASE {name}")).await.unwrap();
    let (host, _) = server.rsplit_once('/').unwrap();
    let farewell = format!("DROP DATABASE {name} WITH (FORCE)");
    Place { url: format!("{host}/{name}"), folder: None, farewell: Some((server, farewell)) }
}
