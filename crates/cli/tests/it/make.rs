//! Making things: what is sent, what is shown once, and what a lost answer does.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fake::{AT, EP, Fake, MDL, ORG, PRJ, SECRET, endpoint, key, model, type_in};

fn organisation(jurisdictions: &Value) -> Value {
    json!({ "id": ORG, "name": "My Lab", "country": "FR", "vat_id": null, "plan": "self_service",
        "residency": { "jurisdictions": jurisdictions, "certifications": [], "operators": [] }, "created_at": AT })
}

#[tokio::test]
async fn a_new_organisation_shows_its_owners_secret_once() {
    let fake = Fake::start().await;
    let made =
        json!({ "organisation": organisation(&json!(["FR"])), "owner_key": { "key": key(), "secret": "gk_owner" } });
    fake.on("POST /api/v1/organisations", &made);
    let said = fake
        .run(&["organisation", "create", "My Lab", "--country", "FR", "--credit-eur", "25", "--jurisdictions", "EU,NO"])
        .await;
    assert_eq!(said.exit, 0);
    insta::assert_snapshot!(said.out, @r"
    id              org_00000000000000000000000001
    name            My Lab
    country         FR
    plan            self_service
    jurisdictions   FR
    certifications  none asked for
    operators       any
    weight          1
    priority max    4
    created         2026-11-22T09:30:00.000Z
    owner key       key_00000000000000000000000008
    secret          gk_owner
    ");
    assert_eq!(
        said.err,
        "the owner's secret is shown only now; next: `export GREGAL_KEY=SECRET`, `gregal project create NAME`\n"
    );
    let asked = &fake.asked("POST /api/v1/organisations")[0];
    assert_eq!(
        asked.json(),
        json!({ "name": "My Lab", "country": "FR", "vat_id": null, "plan": null, "credit_cents": 2500,
        "residency": { "jurisdictions": ["EU", "NO"], "certifications": [], "operators": [] } })
    );
    assert_eq!(asked.key, format!("Bearer {SECRET}"));
    assert!(asked.once.as_ref().is_some_and(|once| once.len() > 20), "a create carries an idempotency key");
}

#[tokio::test]
async fn residency_keeps_what_is_not_named() {
    let fake = Fake::start().await;
    fake.on(&format!("GET /api/v1/organisations/{ORG}"), &organisation(&json!(["FR", "DE"])));
    let path = format!("PUT /api/v1/organisations/{ORG}/residency");
    fake.on(&path, &organisation(&json!(["FR", "DE"])));
    let said = fake.run(&["organisation", "residency", "--certifications", "SecNumCloud"]).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    let sent = fake.asked(&path)[0].json();
    assert_eq!(sent, json!({ "jurisdictions": ["FR", "DE"], "certifications": ["SecNumCloud"], "operators": [] }));
    let only_read = fake.run(&["organisation", "residency"]).await;
    assert_eq!((only_read.exit, fake.asked(&path).len()), (0, 1));
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_is_sent_again_as_the_same_act() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let mut keys = Vec::new();
        for turn in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\"lab\"}") {
                let mut chunk = [0; 1024];
                let read = stream.read(&mut chunk).await.unwrap();
                request.extend_from_slice(&chunk[..read]);
            }
            let text = String::from_utf8(request).unwrap();
            keys.extend(text.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).map(str::to_owned));
            if turn == 1 {
                let body = json!({ "id": PRJ, "organisation": ORG, "name": "lab", "created_at": AT }).to_string();
                let head = format!(
                    "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            }
        }
        keys
    });
    let said =
        type_in(&["project", "create", "lab", "--organisation", ORG, "--url", &url, "--key", SECRET], None, "", true)
            .await;
    assert_eq!(said.exit, 0, "{}", said.err);
    let keys = server.await.unwrap();
    assert!(keys.len() == 2 && keys[0] == keys[1], "{keys:?}");
}

#[tokio::test]
async fn an_endpoint_is_waited_for_until_it_answers() {
    let fake = Fake::start().await;
    fake.on(&format!("GET /api/v1/models/{MDL}"), &model());
    let path = format!("POST /api/v1/projects/{PRJ}/endpoints");
    fake.on(&path, &endpoint(&fake.url, "pending"));
    let read = format!("GET /api/v1/endpoints/{EP}");
    fake.on(&read, &endpoint(&fake.url, "loading")).on(&read, &endpoint(&fake.url, "ready"));
    let said = fake.run(&["endpoint", "create", "atlas", "--model", MDL, "--wait"]).await;
    assert_eq!((said.exit, said.err.as_str()), (0, "next: `gregal chat atlas \"...\"`\n"));
    assert!(said.out.contains("state    ready\n"), "{}", said.out);
    assert_eq!(fake.asked(&path)[0].json(), json!({ "name": "atlas", "model": MDL, "site": null, "sku": null }));
    assert!(said.out.contains("held     2 h 30 min of answering, 2 min 5 s of it billed\n"), "{}", said.out);
}

#[tokio::test]
async fn an_endpoint_that_waits_for_room_is_listed_with_its_sku_and_why() {
    let fake = Fake::start().await;
    let mut waits = endpoint("http://lyon.test", "pending");
    (waits["message"], waits["placed_at"]) = (json!("1 of 2 cores short (1 of 2 free) at `lyon`"), json!(null));
    waits["sku"] = json!("cpu.2");
    let path = format!("POST /api/v1/projects/{PRJ}/endpoints");
    fake.on(&format!("GET /api/v1/models/{MDL}"), &model()).on(&path, &waits);
    fake.on(&format!("GET /api/v1/projects/{PRJ}/endpoints"), &json!({ "items": [waits], "next": null }));
    let made = fake.run(&["endpoint", "create", "atlas", "--model", MDL, "--sku", "cpu.2"]).await;
    assert_eq!(fake.asked(&path)[0].json()["sku"], "cpu.2");
    assert!(made.out.contains("message  1 of 2 cores short"), "{}", made.out);
    let said = fake.run(&["endpoint", "list", "--project", PRJ]).await;
    let (head, line) = said.out.split_once('\n').unwrap();
    assert_eq!(head.split_whitespace().collect::<Vec<_>>(), ["ID", "NAME", "STATE", "SKU", "MODEL", "URL", "MESSAGE"]);
    for word in ["pending", "cpu.2", "1 of 2 cores short (1 of 2 free) at `lyon`"] {
        assert!(line.contains(word), "{line}");
    }
}

#[tokio::test]
async fn an_endpoint_that_never_answers_is_an_error_that_says_why() {
    let fake = Fake::start().await;
    fake.on(&format!("GET /api/v1/models/{MDL}"), &model());
    let mut failed = endpoint(&fake.url, "failed");
    failed["message"] = json!("the weights do not fit");
    fake.on(&format!("POST /api/v1/projects/{PRJ}/endpoints"), &failed);
    let said = fake.run(&["endpoint", "create", "atlas", "--model", MDL, "--wait"]).await;
    assert_eq!((said.exit, said.err.as_str()), (1, "error: endpoint `atlas` failed: the weights do not fit\n"));
}
