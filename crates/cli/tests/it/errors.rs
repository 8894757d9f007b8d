//! What a mistake, a refusal and a broken cloud look like.

use clap::{CommandFactory, Parser};
use serde_json::json;

use crate::fake::{Cli, Fake, SECRET, type_in};

#[test]
fn the_verbs_are_well_formed_and_help_never_shows_the_key() {
    Cli::command().debug_assert();
    let mut all = Cli::command();
    all.build();
    for noun in all.get_subcommands_mut() {
        let help = noun.render_long_help().to_string();
        assert!(!help.contains("[env: GREGAL_KEY="), "{help}");
    }
}

#[test]
fn a_command_written_for_debugging_does_not_show_its_key() {
    let cli = Cli::try_parse_from(["gregal", "whoami", "--key", SECRET]).unwrap();
    assert!(!format!("{cli:?}").contains(SECRET));
}

#[tokio::test]
async fn without_a_key_nothing_is_sent_and_the_hint_says_where_keys_come_from() {
    let fake = Fake::start().await;
    let said = type_in(&["job", "list", "--url", &fake.url, "--key", ""], None, "", true).await;
    assert_eq!(said.exit, 1);
    assert_eq!(said.out, "");
    insta::assert_snapshot!(said.err, @r"
    error: no key was given

    hint: `gregal login`, or `export GREGAL_KEY=gk_...`; `gregal up` shows the operator's key at its first start, `gregal organisation create` an owner's
    ");
    assert!(fake.asked("GET /api/v1/whoami").is_empty());
}

#[tokio::test]
async fn a_cloud_that_does_not_answer_is_our_fault_and_the_hint_asks_whether_it_runs() {
    // Bound and dropped: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let said = type_in(&["sku", "list", "--url", &url, "--key", SECRET], None, "", true).await;
    assert_eq!(said.exit, 2);
    insta::assert_snapshot!(said.err.replace(&url, "URL"), @r"
    error: could not reach `URL`: Connection refused (os error 111)

    hint: is `gregal up` running? `--url` or `GREGAL_URL` says where the cloud is
    ");
}

#[tokio::test]
async fn a_refusal_names_the_rule_quotes_the_request_and_gives_the_hint() {
    let fake = Fake::start().await;
    let more = json!({
        "detail": "site `virginia` is outside the ceiling", "rule": "residency.jurisdiction",
        "request": "req_1", "hint": "choose a site in the EU",
    });
    fake.refuse("GET /api/v1/skus", 403, "residency_refused", more);
    let said = fake.run(&["sku", "list"]).await;
    assert_eq!((said.exit, said.out.as_str()), (1, ""));
    insta::assert_snapshot!(said.err, @r"
    error: site `virginia` is outside the ceiling (rule `residency.jurisdiction`)
    request: `req_1`

    hint: choose a site in the EU
    ");
}

#[tokio::test]
async fn the_clouds_own_failure_exits_two() {
    let fake = Fake::start().await;
    fake.refuse("GET /api/v1/skus", 500, "internal", json!({ "request": "req_2" }));
    let said = fake.run(&["sku", "list"]).await;
    assert_eq!(said.exit, 2);
    assert_eq!(said.err, "error: it went wrong\nrequest: `req_2`\n");
}

#[tokio::test]
async fn a_key_that_does_not_work_says_at_which_cloud() {
    let fake = Fake::start().await;
    fake.refuse("GET /api/v1/skus", 401, "unauthenticated", json!({}));
    let said = fake.run(&["sku", "list"]).await;
    assert_eq!(said.exit, 1);
    assert!(
        said.err.contains("hint: the key is unknown at `http://cloud`, was revoked or has expired"),
        "{}",
        said.err
    );
}

#[tokio::test]
async fn something_that_is_no_control_plane_is_told_apart_from_one_that_is_broken() {
    let fake = Fake::start().await;
    fake.on_text("GET /api/v1/skus", 404, "text/html", "<h1>nginx</h1>");
    let said = fake.run(&["sku", "list"]).await;
    assert_eq!(said.exit, 1);
    insta::assert_snapshot!(said.err, @r"
    error: `http://cloud/api/v1/skus` answered 404 with something this version does not understand

    hint: is this the address of a control plane, and of the same version? see `--url`
    ");
    fake.forget("GET /api/v1/skus");
    fake.on_text("GET /api/v1/skus", 502, "text/html", "<h1>bad gateway</h1>");
    assert_eq!(fake.run(&["sku", "list"]).await.exit, 2);
}

#[tokio::test]
async fn an_address_that_is_none_is_named() {
    let said = type_in(&["sku", "list", "--url", "cloud.example", "--key", SECRET], None, "", true).await;
    assert_eq!(said.exit, 1);
    assert!(said.err.starts_with("error: `cloud.example` is no address of a control plane\n"), "{}", said.err);
}
