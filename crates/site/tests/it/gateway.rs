//! The OpenAI-compatible routes: what clients get, what is billed, and what never reaches the engine.

use std::sync::atomic::Ordering;

use futures_util::StreamExt as _;
use gregal_api::grant::GrantPurpose;
use gregal_core::{
    attempts::WRONG_MAX,
    meter::{Meter, UsageEvent},
    money::Nano,
    scope::Scope,
};
use gregal_testkit::replica::PROMPT_TOKENS;
use serde_json::{Value, json};

use super::{
    control::{
        ENDPOINT, EXPIRED, INFERENCE, OTHER_ENDPOINT, OTHER_ORG, OTHER_PROJECT, OWNER, STRANGER, VIEWER, allowance,
        secret,
    },
    world::{Running, World, until},
};

fn ask(content: &str, more: Value) -> Value {
    let mut body = json!({"model": "chat", "messages": [{"role": "user", "content": content}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// Reads a stream to its end: the events, in order.
async fn events(response: reqwest::Response) -> Vec<String> {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.unwrap();
    text.split("\n\n")
        .filter(|event| !event.is_empty())
        .map(|event| event.strip_prefix("data: ").unwrap().to_owned())
        .collect()
}

fn tokens(usage: &[UsageEvent], meter: Meter) -> Vec<u64> {
    usage.iter().filter(|event| event.meter == meter).map(|event| event.quantity).collect()
}

async fn billed(world: &World, records: usize) -> Vec<UsageEvent> {
    until("usage to reach control", async || Some(world.control.usage()).filter(|usage| usage.len() >= records)).await
}

async fn error_of(response: reqwest::Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    assert!(body["error"]["message"].is_string() && body["error"]["type"].is_string(), "{body}");
    (status, body["error"]["code"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_comes_whole_with_its_usage_and_is_billed_exactly() {
    let world = World::new().await;
    let site = world.start_ready().await;
    let response = site.chat(OWNER, &ask("count:5", json!({}))).await;
    assert_eq!(response.status(), 200);
    assert!(response.headers()["x-request-id"].to_str().unwrap().starts_with("req_"));
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["choices"][0]["message"], json!({"role": "assistant", "content": "w0 w1 w2 w3 w4 "}));
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(
        body["usage"],
        json!({"prompt_tokens": PROMPT_TOKENS, "completion_tokens": 5, "total_tokens": PROMPT_TOKENS + 5})
    );
    let usage = billed(&world, 2).await;
    assert_eq!((tokens(&usage, Meter::TokensIn), tokens(&usage, Meter::TokensOut)), (vec![PROMPT_TOKENS], vec![5]));
    assert!(
        usage.iter().all(|event| event.estimated.is_none()
            && event.item == "embedded"
            && event.subject == ENDPOINT.to_string())
    );

    let completion = json!({"model": "chat", "prompt": "count:3"});
    let body: Value = site.post("/v1/completions", &secret(INFERENCE), &completion).await.json().await.unwrap();
    assert_eq!(
        (body["object"].as_str(), body["choices"][0]["text"].as_str()),
        (Some("text_completion"), Some("w0 w1 w2 "))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_carries_usage_only_where_it_was_asked_for() {
    let world = World::new().await;
    let site = world.start_ready().await;
    let plain = events(site.chat(OWNER, &ask("count:2", json!({"stream": true}))).await).await;
    assert_eq!(plain.last().unwrap(), "[DONE]");
    assert!(plain.iter().all(|event| !event.contains("usage")), "{plain:?}");

    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let counted = events(site.chat(OWNER, &ask("count:2", options)).await).await;
    let last: Value = serde_json::from_str(&counted[counted.len() - 2]).unwrap();
    assert_eq!((&last["choices"], last["usage"]["completion_tokens"].as_u64()), (&json!([]), Some(2)));
    let first: Value = serde_json::from_str(&counted[0]).unwrap();
    assert_eq!(first["usage"], Value::Null);
    assert_eq!(counted.len(), plain.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_durable_before_the_last_piece_reaches_the_client() {
    let mut world = World::new().await;
    world.tuning.sync_idle_ms = 200;
    let site = world.start_ready().await;
    world.control.state.away.store(true, Ordering::SeqCst);
    let mut stream = site.chat(OWNER, &ask("late:4", json!({"stream": true}))).await.bytes_stream();
    let mut text = String::new();
    while let Some(piece) = stream.next().await {
        text += std::str::from_utf8(&piece.unwrap()).unwrap();
        if text.contains("\"stop\"") || text.contains("[DONE]") {
            // The very moment the finishing piece is here, the file has it.
            let spooled = world.spooled();
            assert!(spooled.contains("tokens_in") && spooled.contains("tokens_out"), "{spooled}");
        }
    }
    assert!(text.ends_with("data: [DONE]\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_cuts_the_engine_and_bills_what_was_made() {
    let world = World::new().await;
    let site = world.start_ready().await;
    let counts = world.stage.counts.clone();
    for stream in [true, false] {
        counts.cut.store(0, Ordering::SeqCst);
        counts.made.store(0, Ordering::SeqCst);
        let before = world.control.usage();
        let body = ask("slow", json!({"stream": stream, "max_tokens": 500}));
        if stream {
            let mut pieces = site.chat(OWNER, &body).await.bytes_stream();
            let mut text = String::new();
            while text.matches("\"w").count() < 3 {
                text += std::str::from_utf8(&pieces.next().await.unwrap().unwrap()).unwrap();
            }
            drop(pieces);
        } else {
            let (url, key) = (format!("{}/v1/chat/completions", site.url), secret(OWNER));
            let request = site.http.post(url).bearer_auth(key).json(&body).send();
            let asking = tokio::spawn(request);
            until("pieces to be made", async || (counts.made.load(Ordering::SeqCst) > 3).then_some(())).await;
            asking.abort();
        }
        until("the engine to be cut", async || (counts.cut.load(Ordering::SeqCst) == 1).then_some(())).await;
        let mut usage = billed(&world, before.len() + 2).await;
        usage.retain(|event| !before.contains(event));
        let out = tokens(&usage, Meter::TokensOut)[0];
        let made = counts.made.load(Ordering::SeqCst) as u64;
        assert!(out >= 3 && out <= made, "{out} of {made} were billed");
        assert!(usage.iter().all(|event| event.estimated.is_some()), "what the engine did not tell is marked");
        assert_eq!(usage.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_while_the_prompt_is_read_bills_the_prompt() {
    let world = World::new().await;
    let site = world.start_ready().await;
    let counts = world.stage.counts.clone();
    let (url, key) = (format!("{}/v1/chat/completions", site.url), secret(OWNER));
    let body = ask("reading", json!({"max_tokens": 5}));
    let asking = tokio::spawn(site.http.post(url).bearer_auth(key).json(&body).send());
    until("the prompt to be read", async || (counts.made.load(Ordering::SeqCst) == 1).then_some(())).await;
    asking.abort();
    until("the engine to be cut", async || (counts.cut.load(Ordering::SeqCst) == 1).then_some(())).await;
    let usage = billed(&world, 2).await;
    let (tokens_in, tokens_out) = (tokens(&usage, Meter::TokensIn)[0], tokens(&usage, Meter::TokensOut));
    assert_eq!(tokens_in, 2, "a quarter of the bytes of `reading`, not of what a template might add");
    assert_eq!(tokens_out, [0]);
    assert!(usage.iter().all(|event| event.estimated.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_before_the_engine_answered_bills_the_prompt_if_the_engine_took_it() {
    let world = World::new().await;
    let site = world.start_ready().await;
    let counts = world.stage.counts.clone();
    let metric = async |name: &str| {
        let text = site.http.get(format!("{}/metrics", site.url)).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let url = format!("{}/v1/chat/completions", site.url);
    for (content, taken) in [("held:bad", false), ("held", true)] {
        counts.asked.store(0, Ordering::SeqCst);
        let body = ask(content, json!({"max_tokens": 5}));
        let asking = tokio::spawn(site.http.post(&url).bearer_auth(secret(OWNER)).json(&body).send());
        until("the engine to have it", async || (counts.asked.load(Ordering::SeqCst) == 1).then_some(())).await;
        asking.abort();
        assert!(asking.await.unwrap_err().is_cancelled());
        let failed = metric("gregal_site_requests_failed_total").await;
        for _ in 0..20 {
            // The site has long seen that the client is gone.
            metric("gregal_site_requests_failed_total").await;
        }
        counts.release.notify_one();
        if taken {
            until("the engine to be cut", async || (counts.cut.load(Ordering::SeqCst) == 1).then_some(())).await;
        } else {
            until("the refusal", async || {
                (metric("gregal_site_requests_failed_total").await == failed + 1).then_some(())
            })
            .await;
            assert!(!world.spooled().contains("tokens") && world.control.usage().is_empty());
        }
    }
    let usage = billed(&world, 2).await;
    let tokens_in = tokens(&usage, Meter::TokensIn)[0];
    assert_eq!(tokens_in, 1, "a quarter of the bytes of `held`, not of what a template might add");
    assert!(tokens(&usage, Meter::TokensOut)[0] <= 5 && usage.iter().all(|event| event.estimated.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_fails_before_its_first_token_bills_nothing() {
    let world = World::new().await;
    let site = world.start_ready().await;
    for content in ["die:before", "die:opening"] {
        for stream in [true, false] {
            let refused = error_of(site.chat(OWNER, &ask(content, json!({"stream": stream}))).await).await;
            assert_eq!(refused, (503, "unavailable".to_owned()));
        }
    }
    let refused = error_of(site.chat(OWNER, &ask("bad", json!({}))).await).await;
    assert_eq!(refused, (400, "context_length_exceeded".to_owned()), "the engine's own words come through");
    assert!(!world.spooled().contains("tokens") && world.control.usage().is_empty());
    // What was reported last may have been written while the last request was under way.
    until("nothing to be held either", async || {
        world.control.last()?.allowances.first().filter(|seen| seen.used == Nano::ZERO).map(|_| ())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_breaks_midway_ends_in_an_error_and_an_exact_bill() {
    let world = World::new().await;
    let site = world.start_ready().await;
    let events = events(site.chat(OWNER, &ask("die:after", json!({"stream": true}))).await).await;
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "unavailable", "{events:?}");
    assert!(events.iter().all(|event| event != "[DONE]"));
    let usage = billed(&world, 2).await;
    assert_eq!(tokens(&usage, Meter::TokensOut), [3]);
    assert_eq!(error_of(site.chat(OWNER, &ask("die:after", json!({}))).await).await.0, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_ask_is_told_so_and_somebody_elses_endpoint_does_not_exist() {
    let world = World::new().await;
    let site = world.start_ready().await;
    let body = ask("count:1", json!({}));
    let theirs = json!({"model": "theirs", "messages": [{"role": "user", "content": "count:1"}]});
    let by_id = json!({"model": OTHER_ENDPOINT.to_string(), "messages": [{"role": "user", "content": "count:1"}]});
    let cases = [
        (secret(OWNER), &theirs, 404, "model_not_found"),
        (secret(INFERENCE), &by_id, 404, "model_not_found"),
        (secret(STRANGER), &body, 404, "model_not_found"),
        (secret(VIEWER), &body, 403, "forbidden"),
        (secret(EXPIRED), &body, 401, "invalid_api_key"),
        (secret(99), &body, 401, "invalid_api_key"),
        ("gk_".to_owned(), &body, 401, "invalid_api_key"),
        (world.control.grant(GrantPurpose::JobLogs, ENDPOINT), &body, 401, "invalid_api_key"),
        (
            world.control.grant_of(OTHER_ORG, OTHER_PROJECT, GrantPurpose::Infer, ENDPOINT, 300),
            &body,
            404,
            "model_not_found",
        ),
        (
            world.control.grant_of(OTHER_ORG, OTHER_PROJECT, GrantPurpose::Infer, ENDPOINT, -1),
            &body,
            401,
            "invalid_api_key",
        ),
    ];
    for (credential, body, status, code) in cases {
        let answered = error_of(site.post("/v1/chat/completions", &credential, body).await).await;
        assert_eq!(answered, (status, code.to_owned()), "{credential} asked {body}");
    }
    let without = site.http.post(format!("{}/v1/chat/completions", site.url)).json(&body).send().await.unwrap();
    assert_eq!(error_of(without).await, (401, "invalid_api_key".to_owned()));
    assert_eq!(world.stage.counts.asked.load(Ordering::SeqCst), 0, "nobody of these reached the engine");

    let granted = site.post("/v1/chat/completions", &world.control.grant(GrantPurpose::Infer, ENDPOINT), &body).await;
    assert_eq!(granted.status(), 200);
    let list: Value = site.get("/v1/models", &secret(OWNER)).await.json().await.unwrap();
    assert_eq!(list["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect::<Vec<_>>(), ["chat"]);
    assert_eq!(site.get("/v1/models/chat", &secret(OWNER)).await.status(), 200);
    assert_eq!(error_of(site.get("/v1/models/theirs", &secret(OWNER)).await).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_and_a_narrowed_residency_work_no_more_with_the_next_intent() {
    let world = World::new().await;
    let site = world.start_ready().await;
    let body = ask("count:1", json!({}));
    assert_eq!(site.chat(INFERENCE, &body).await.status(), 200);
    world
        .control
        .change(|intent| intent.keys.retain(|key| key.digest != gregal_core::key::digest_of(&secret(INFERENCE))));
    until("the revocation", async || (site.chat(INFERENCE, &body).await.status() == 401).then_some(())).await;
    assert_eq!(site.chat(OWNER, &body).await.status(), 200);

    // A grant works no longer than the key that asked for it.
    let granted = world.control.grant(GrantPurpose::Infer, ENDPOINT);
    let with_grant = async || site.post("/v1/chat/completions", &granted, &body).await.status();
    assert_eq!(with_grant().await, 200);
    let owner = gregal_core::key::digest_of(&secret(OWNER));
    let mut taken = Vec::new();
    world.control.change(|intent| taken = intent.keys.extract_if(.., |key| key.digest == owner).collect());
    until("the grant to end", async || (with_grant().await == 401).then_some(())).await;
    world.control.change(|intent| intent.keys.append(&mut taken));
    until("the key to be back", async || (site.chat(OWNER, &body).await.status() == 200).then_some(())).await;

    world.control.change(|intent| {
        for organisation in &mut intent.organisations {
            organisation.residency.jurisdictions = ["DE".parse().unwrap()].into();
        }
    });
    let refused = until("the residency rule", async || {
        Some(site.chat(OWNER, &body).await).filter(|response| response.status() == 403)
    })
    .await;
    let text = refused.text().await.unwrap();
    assert!(text.contains("residency_refused") && text.contains("residency.site_jurisdiction"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrowed_key_is_held_to_its_scope_at_the_site_and_so_are_its_grants() {
    let world = World::new().await;
    let site = world.start_ready().await;
    let body = ask("count:1", json!({}));
    let granted = world.control.grant(GrantPurpose::Infer, ENDPOINT);
    assert_eq!(site.chat(OWNER, &body).await.status(), 200);
    let mut asked = None;
    // These tests ask from loopback.
    for (scope, rule) in [
        (json!({ "models": ["other"] }), "key.scope.models"),
        (json!({ "actions": ["model:read"] }), "key.scope.actions"),
        (json!({ "sites": ["site_00000000000000000000000009"] }), "key.scope.sites"),
        (json!({ "networks": ["10.0.0.0/8"] }), "key.scope.networks"),
        (json!({ "projects": ["prj_00000000000000000000000009"] }), ""),
    ] {
        let narrowed: Scope = serde_json::from_value(scope.clone()).unwrap();
        world.control.change(|intent| intent.keys[0].scope = narrowed);
        let status = if rule.is_empty() { 404 } else { 403 };
        for credential in [secret(OWNER), granted.clone()] {
            // The rule before may still hold for a moment.
            until("the narrowed key to be refused by its rule", async || {
                let told = site.post("/v1/chat/completions", &credential, &body).await;
                (told.status() == status && told.text().await.unwrap().contains(rule)).then_some(())
            })
            .await;
            // Until it was refused for the first time it may have been answered.
            asked.get_or_insert_with(|| world.stage.counts.asked.load(Ordering::SeqCst));
        }
        // What it may not ask is not in its list either.
        let list = site.get("/v1/models", &secret(OWNER)).await.text().await.unwrap();
        assert!(!list.contains("chat"), "{list}");
    }
    assert_eq!(Some(world.stage.counts.asked.load(Ordering::SeqCst)), asked, "none of these reached the engine");
    for scope in [json!({ "models": ["chat"], "networks": ["127.0.0.0/8"] }), json!({ "models": [ENDPOINT] })] {
        let narrowed: Scope = serde_json::from_value(scope.clone()).unwrap();
        world.control.change(|intent| intent.keys[0].scope = narrowed);
        for credential in [secret(OWNER), granted.clone()] {
            until("the key to work again", async || {
                (site.post("/v1/chat/completions", &credential, &body).await.status() == 200).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_cut_off_from_control_believes_keys_only_so_long_and_again_once_it_is_back() {
    let mut world = World::new().await;
    world.tuning.keys_believed_ms = 4_000;
    let site = world.start_ready().await;
    let body = ask("count:1", json!({}));
    let granted = world.control.grant(GrantPurpose::Infer, ENDPOINT);
    world.control.state.away.store(true, Ordering::SeqCst);
    for credential in [secret(OWNER), granted] {
        let refused = until("the keys to be believed no more", async || {
            let told = site.post("/v1/chat/completions", &credential, &body).await;
            (told.status() == 503).then_some(told)
        })
        .await;
        let text = refused.text().await.unwrap();
        assert!(text.contains("which keys still work"), "{text}");
    }
    assert_eq!(error_of(site.get("/v1/models", &secret(OWNER)).await).await.0, 503);
    // A restart makes nobody believe again.
    site.crash();
    let site = world.start().await;
    assert_eq!(error_of(site.chat(OWNER, &body).await).await.0, 503);
    world.control.state.away.store(false, Ordering::SeqCst);
    until("the keys to be believed again", async || (site.chat(OWNER, &body).await.status() == 200).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_guesses_keys_is_told_to_wait_and_a_right_key_from_there_still_works() {
    let world = World::new().await;
    let site = world.start_ready().await;
    let guess = async |number: u32| site.get("/v1/models", &format!("gk_{number:064x}")).await;
    for number in 0..WRONG_MAX {
        assert_eq!(guess(number).await.status(), 401);
    }
    let told = guess(WRONG_MAX).await;
    let wait_s: u32 = told.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait_s), "{wait_s}");
    assert_eq!(error_of(told).await, (429, "overloaded".into()));
    assert_eq!(site.get("/v1/models", &secret(OWNER)).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_of_a_key_that_was_revoked_is_over_whatever_it_opens() {
    let world = World::new().await;
    let site = world.start_ready().await;
    let dataset = "ds_00000000000000000000000009";
    let granted = world.control.grant(GrantPurpose::DatasetRead, dataset);
    let read = async || site.get(&format!("/content/v1/datasets/{dataset}"), &granted).await.status();
    assert_eq!(read().await, 404, "the grant is good, the dataset is not there");
    world.control.change(|intent| intent.keys_revoked = vec![intent.keys[0].key]);
    until("the grant to be over", async || (read().await == 401).then_some(())).await;
    let granted = world.control.grant(GrantPurpose::Infer, ENDPOINT);
    let told = site.post("/v1/chat/completions", &granted, &ask("count:1", json!({}))).await;
    assert_eq!(told.status(), 401);
}

/// What a chat of `tokens` with this prompt may cost at most: what is held for it.
fn worst(content: &str, tokens: u64) -> i64 {
    let tokens_in = 256 + 16 + "user".len() as u64 + content.len() as u64;
    i64::try_from(tokens_in * 200 + tokens * 600).unwrap()
}

async fn grant_credit(world: &World, site: &Running, nano: i64) {
    let revision = world.control.change(|intent| intent.allowances = vec![allowance(Nano::new(nano))]);
    until("the new allowance", async || {
        let health: Value = site.http.get(format!("{}/healthz", site.url)).send().await.unwrap().json().await.unwrap();
        (health["intent_revision"] == revision).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_allowance_does_not_cover_is_refused_before_the_engine_is_asked() {
    let world = World::new().await;
    let site = world.start_ready().await;
    let content = "count:2";
    grant_credit(&world, &site, worst(content, 2) - 1).await;
    let body = ask(content, json!({"max_tokens": 2}));
    let refused = site.chat(OWNER, &body).await;
    assert_eq!(refused.status(), 402);
    let text = refused.text().await.unwrap();
    assert!(
        text.contains("insufficient_quota") && text.contains("0.000057800") && text.contains("0.000057799"),
        "it says how much is missing: {text}"
    );
    assert_eq!(world.stage.counts.asked.load(Ordering::SeqCst), 0);
    until("control to hear of it", async || {
        world.control.last().and_then(|last| last.allowances.first().cloned()).filter(|seen| seen.wants_more)
    })
    .await;

    grant_credit(&world, &site, worst(content, 2)).await;
    assert_eq!(site.chat(OWNER, &body).await.status(), 200, "exactly the worst case is enough");
    world.control.change(|intent| intent.allowances[0].expires_at = gregal_core::time::Time::from_millis(1));
    let expired = until("the expiry", async || {
        Some(site.chat(OWNER, &body).await.text().await.unwrap()).filter(|text| text.contains("ran out at"))
    })
    .await;
    assert!(expired.contains("insufficient_quota"));
    world.control.change(|intent| intent.allowances.clear());
    until("the end of the credit", async || {
        site.chat(OWNER, &body).await.text().await.unwrap().contains("no credit").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_two_at_once_never_hold_more_than_the_allowance() {
    let world = World::new().await;
    let site = world.start_ready().await;
    let fits = 7;
    // They run until they are cut: none settles while the others ask.
    grant_credit(&world, &site, worst("slow", 500) * fits + worst("slow", 500) - 1).await;
    let body = ask("slow", json!({"stream": true, "max_tokens": 500}));
    let asked = futures_util::future::join_all((0..32).map(|_| site.chat(OWNER, &body))).await;
    let served = asked.iter().filter(|response| response.status() == 200).count();
    let refused = asked.iter().filter(|response| response.status() == 402).count();
    assert_eq!((served, refused), (fits as usize, 32 - fits as usize));
    drop(asked);
    until("all of it to be settled", async || {
        let used = world.control.last()?.allowances.first()?.used;
        let real: i64 = world
            .control
            .usage()
            .iter()
            .map(|event| match event.meter {
                Meter::TokensIn => event.quantity.cast_signed() * 200,
                _ => event.quantity.cast_signed() * 600,
            })
            .sum();
        (world.control.usage().len() == 2 * fits as usize && used == Nano::new(real)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_and_unknown_routes_get_clear_answers() {
    let world = World::new().await;
    let site = world.start_ready().await;
    let chat = format!("{}/v1/chat/completions", site.url);
    let send = async |body: Vec<u8>| {
        let sent = site.http.post(&chat).bearer_auth(secret(OWNER)).body(body).send().await.unwrap();
        (sent.status().as_u16(), sent.text().await.unwrap())
    };
    let (status, text) = send(vec![b' '; (1 << 20) + 1]).await;
    assert_eq!(status, 413, "{text}");
    let (status, text) = send(b"{\"model\": \"\xff\"}".to_vec()).await;
    assert!(status == 400 && text.contains("UTF-8"), "{text}");
    let (status, text) = send(b"{\"model\": \"chat\", \"messages\": [}".to_vec()).await;
    assert!(status == 400 && text.contains("column"), "{text}");
    let (status, text) = send(b"{\"model\": \"chat\"}".to_vec()).await;
    assert!(status == 400 && text.contains("messages"), "{text}");
    for path in ["/v1/embeddings", "/v1/responses", "/v1/files/x/content"] {
        let answered = error_of(site.post(path, &secret(OWNER), &json!({})).await).await;
        assert_eq!(answered, (501, "not_implemented".to_owned()));
    }
    let preflight = site
        .http
        .request(reqwest::Method::OPTIONS, &chat)
        .header("origin", "http://127.0.0.1:7480")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.headers()["access-control-allow-origin"], "http://127.0.0.1:7480");
    assert!(
        site.http
            .get(format!("{}/metrics", site.url))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
            .contains("gregal_site_requests_refused_total")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_runs_and_answers_nobody_is_started_anew() {
    let world = World::new().await;
    let site = world.start_ready().await;
    let body = ask("count:1", json!({}));
    assert_eq!(site.chat(OWNER, &body).await.status(), 200);
    // For the engine it runs on.
    world.stage.kill_replicas();
    assert_eq!(error_of(site.chat(OWNER, &body).await).await.0, 503);
    until("a new replica", async || (site.chat(OWNER, &body).await.status() == 200).then_some(())).await;
    let started = world.stage.started.lock().unwrap();
    let begun = started.iter().filter(|one| one.argv.iter().any(|word| word == "serve")).count();
    assert!(begun > 2, "two endpoints had a replica each, and one more was started");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_dies_is_brought_back_and_a_drained_one_stops() {
    let world = World::new().await;
    let site = world.start_ready().await;
    let body = ask("count:1", json!({}));
    assert_eq!(site.chat(OWNER, &body).await.status(), 200);
    let ids: Vec<_> =
        gregal_engine::Engine::list(&world.stage.sim).await.unwrap().into_iter().map(|one| one.id).collect();
    for id in &ids {
        gregal_engine::Engine::stop(&world.stage.sim, id, 0).await.unwrap();
    }
    world.stage.kill_replicas();
    until("a new replica", async || (site.chat(OWNER, &body).await.status() == 200).then_some(())).await;

    let state = async |wanted| {
        until("the replica's phase", async || {
            let replicas = world.control.last()?.replicas;
            replicas.iter().any(|one| one.endpoint == ENDPOINT && one.phase == wanted).then_some(())
        })
        .await;
    };
    state(gregal_api::protocol::ReplicaPhase::Ready).await;
    world.control.change(|intent| intent.endpoints[0].drain = true);
    state(gregal_api::protocol::ReplicaPhase::Stopped).await;
    assert_eq!(error_of(site.chat(OWNER, &body).await).await.0, 503);
    assert!(!world.folder.path().join("replicas").join(ENDPOINT.to_string()).exists(), "the weights are gone");
    world.control.change(|intent| drop(intent.endpoints.remove(0)));
    until("it to be forgotten", async || {
        world.control.last()?.replicas.iter().all(|one| one.endpoint != ENDPOINT).then_some(())
    })
    .await;
    assert_eq!(error_of(site.chat(OWNER, &body).await).await.0, 404);
}
