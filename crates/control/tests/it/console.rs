//! The console as a browser without JavaScript sees it: pages, forms, cookies and headers.

use std::fmt::Write as _;

use axum::{body::Body, http::Request};
use gregal_api::protocol::{AttemptPhase, ObservedAttempt, ProducedModel};
use gregal_core::{
    access::Role,
    job::{Billed, JobEnd, Progress},
    world::World as _,
};
use serde_json::{Value, json};

use crate::world::{Answer, Cloud, Tenant, running};

const ORIGIN: &str = "http://127.0.0.1:7480";

/// A browser with one cookie.
struct Browser<'a> {
    cloud: &'a Cloud,
    cookie: String,
}

impl<'a> Browser<'a> {
    fn new(cloud: &'a Cloud) -> Self {
        Self { cloud, cookie: String::new() }
    }

    async fn signed_in(cloud: &'a Cloud, key: &str) -> Self {
        let mut browser = Self::new(cloud);
        let answer = browser.sign_in(key).await;
        assert_eq!((answer.status, &answer.headers["location"]), (303, &"/console".parse().unwrap()));
        browser
    }

    async fn sign_in(&mut self, key: &str) -> Answer {
        let answer = self.post_from(Some(ORIGIN), "/console/sign-in", &[("key", key)]).await;
        if let Some(cookie) = answer.headers.get("set-cookie") {
            cookie.to_str().unwrap().split(';').next().unwrap().clone_into(&mut self.cookie);
        }
        answer
    }

    async fn get(&self, path: &str) -> Answer {
        let request = Request::builder().uri(path).header("cookie", &self.cookie).header("accept", "text/html");
        self.cloud.send(request.body(Body::empty()).unwrap()).await
    }

    /// A page that is there.
    async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.text
    }

    async fn post_from(&self, origin: Option<&str>, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method("POST").uri(path).header("cookie", &self.cookie);
        request = request.header("content-type", "application/x-www-form-urlencoded");
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        self.cloud.send(request.body(Body::from(body.join("&"))).unwrap()).await
    }

    /// Fills in a form of a page, with what the page hides in it.
    async fn submit(&self, page: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let html = self.page(page).await;
        let form = html.split("<form").find(|form| form.contains(&format!("action=\"{path}\""))).expect("a form");
        let form = form.split("</form>").next().unwrap();
        let mut all: Vec<(&str, &str)> = Vec::new();
        for hidden in form.split("type=\"hidden\"").skip(1) {
            let of = |name: &str| hidden.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap();
            all.push((of("name"), of("value")));
        }
        all.extend(fields);
        self.post_from(Some(ORIGIN), path, &all).await
    }
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        write!(encoded, "%{byte:02x}").unwrap();
    }
    encoded
}

/// A training that is done, with its model, and what it used.
async fn trained(cloud: &Cloud, tenant: &Tenant) -> Value {
    let mut site = cloud.site("lyon", "FR").await;
    let dataset = cloud.dataset(tenant, &mut site, "facts.jsonl").await;
    let job = cloud.job(tenant, &dataset, "first").await;
    cloud.control.step().await.unwrap();
    site.sync(cloud).await;
    site.says(cloud, job, 1, running(cloud)).await;
    let point = |step: u32| Progress {
        step: step.into(),
        steps: 10,
        loss: 6.0 / f64::from(step),
        tokens: 700,
        tokens_per_s: 350.0,
        elapsed_ms: 2_000,
        energy_mj: 3_600_000,
    };
    let progress = (1..=10).map(point).collect();
    site.report.attempts = vec![ObservedAttempt { job, attempt: 1, phase: running(cloud), progress }];
    site.sync(cloud).await;
    cloud.world.pass_seconds(40);
    let used = site.core_seconds(cloud, tenant, job, "1", 40);
    site.uses(cloud, &[used]).await;
    let now = cloud.world.now();
    let product = ProducedModel {
        digest: "cd".repeat(32),
        bytes: 2_000,
        parameters: 1_500_000,
        flop: 6_000_000,
        tokens: 1_000,
        energy_mj: 3_600_000,
        energy_method: "estimated: 4 W a core".into(),
        dataset_digest: "ab".repeat(32),
        base_model_digest: None,
        code_version: "gregal test".into(),
    };
    let phase = AttemptPhase::Ended {
        since: Some(now),
        at: now,
        end: JobEnd { code: Some(0), reason: "finished".into(), hint: None },
        succeeded: true,
        cancelled: false,
        product: Some(product),
        heldout: None,
        billed: Billed::default(),
    };
    site.says(cloud, job, 1, phase).await;
    cloud.control.step().await.unwrap();
    let read = cloud.job_read(tenant, job).await;
    assert_eq!(read["state"], "succeeded");
    read
}

#[tokio::test]
async fn every_page_shows_what_the_api_answers() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let job = trained(&cloud, &tenant).await;
    let browser = Browser::signed_in(&cloud, &tenant.owner).await;
    let (project, model) = (tenant.project(), job["model"].as_str().unwrap());
    let job = job["id"].as_str().unwrap();

    let page = browser.page("/console").await;
    assert!(page.contains("Spent this month") && page.contains("Ended lately") && page.contains(job), "{page}");
    assert!(browser.page(&format!("/console/projects/{project}/jobs")).await.contains("first"));
    let page = browser.page(&format!("/console/jobs/{job}")).await;
    assert!(page.contains("id=\"loss-plot\"") && page.contains("<polyline") && page.contains("100 %"), "{page}");
    assert!(page.contains("succeeded") && page.contains(model), "{page}");
    assert!(page.contains("start at lyon") && page.contains("the same decisions"), "{page}");
    assert!(!browser.page(&format!("/console/jobs/{job}/live")).await.contains("<html"));
    let page = browser.page(&format!("/console/models/{model}")).await;
    for fact in [&"ab".repeat(32), job, "gregal test", "0.001000000", "estimated: 4 W a core", "6.0 MFLOP", "lyon (FR)"]
    {
        assert!(page.contains(fact), "no {fact} in {page}");
    }
    assert!(browser.page(&format!("/console/projects/{project}/models")).await.contains("facts@1"));
    assert!(browser.page(&format!("/console/projects/{project}/datasets")).await.contains("abababababababab…"));
    assert!(browser.page(&format!("/console/projects/{project}/placement")).await.contains("allowed"));
    let policies = format!("/console/projects/{project}/policies");
    assert!(browser.page(&policies).await.contains("There is none"));
    let text = "forbid (principal is Holder in Role::\"viewer\", action == Action::\"job:read\", resource);";
    let wanted = json!({ "text": text });
    cloud.call(&tenant.owner, "policy_write", &[&tenant.organisation(), "quiet"], wanted).await.good();
    let page = browser.page(&policies).await;
    assert!(page.contains("organisation:quiet") && page.contains("is Holder in Role::&#34;viewer"), "{page}");
    let page = browser.page("/console/usage").await;
    assert!(page.contains("0.0111 core-hours") && page.contains("class=\"bar-day\""), "{page}");
    let page = browser.page("/console/audit").await;
    assert!(page.contains("id=\"verified\"") && page.contains("job:create"), "{page}");

    let draft = cloud.call(&tenant.owner, "invoice_draft", &[&tenant.organisation()], Value::Null).await.good();
    let cents = draft["total"].as_i64().unwrap();
    let page = browser.page("/console/invoice").await;
    assert!(page.contains(&format!("id=\"total\">{}.{:02}<", cents / 100, cents % 100)), "{cents}: {page}");
    assert!(page.contains("0.04 per 3\u{a0}600\u{a0}000 core_ms") && page.contains("20.00 %"), "{page}");
}

#[tokio::test]
async fn a_model_is_served_and_a_job_cancelled_by_forms() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let first = trained(&cloud, &tenant).await;
    let model = first["model"].as_str().unwrap().to_owned();
    let browser = Browser::signed_in(&cloud, &tenant.owner).await;
    let place = format!("/console/projects/{}/endpoints", tenant.project());

    let made = browser.submit(&place, &place, &[("name", "chat"), ("model", &model)]).await;
    assert_eq!(made.status, 303, "{}", made.text);
    let endpoint = made.headers["location"].to_str().unwrap().to_owned();
    let log = cloud.call(&tenant.owner, "audit_list", &[&tenant.organisation()], Value::Null).await.good();
    let entries = log["items"].as_array().unwrap().iter();
    let entries = entries.map(|item| serde_json::from_str::<Value>(item["body"].as_str().unwrap()).unwrap());
    let doors: Vec<_> =
        entries.filter(|entry| entry["action"] == "endpoint:create").map(|entry| entry["source"].clone()).collect();
    assert_eq!(doors, ["console"], "an entry says that it came through the console");
    let answer = browser.get(&endpoint).await;
    assert!(answer.text.contains("pending") && answer.text.contains("http://lyon.test/v1"), "{}", answer.text);
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("connect-src 'self' http://lyon.test;"), "{policy}");

    let job = cloud.job(&tenant, first["program"]["dataset"].as_str().unwrap(), "second").await;
    let place_of_job = format!("/console/jobs/{job}");
    // The endpoint was asked for before it and waits in the same queue.
    assert!(browser.page(&place_of_job).await.contains("of 2 in the queue."));
    let left = browser.submit(&place_of_job, &format!("{place_of_job}/cancel"), &[("really", "yes")]).await;
    assert_eq!(left.status, 303, "{}", left.text);
    assert_eq!(cloud.job_read(&tenant, job).await["state"], "cancelled");

    let unsure = browser.submit(&endpoint, &format!("{endpoint}/delete"), &[]).await;
    assert_eq!(unsure.status, 400);
    let gone = browser.submit(&endpoint, &format!("{endpoint}/delete"), &[("really", "yes")]).await;
    assert_eq!(gone.status, 303, "{}", gone.text);
    assert!(browser.page(&endpoint).await.contains("stopped"));
    let taken = browser.submit(&place, &place, &[("name", "No Name"), ("model", &model)]).await;
    assert_eq!(taken.status, 400);
    assert!(taken.text.contains("id=\"detail\"") && taken.text.contains("`name` is not usable"), "{}", taken.text);
}

#[tokio::test]
async fn room_is_reserved_drawn_and_called_off_by_forms() {
    let cloud = Cloud::open().await;
    let _site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let browser = Browser::signed_in(&cloud, &tenant.owner).await;
    let place = format!("/console/projects/{}/reservations", tenant.project());
    assert!(browser.page(&place).await.contains("Nothing is reserved"));
    let fields = [("name", "zebra"), ("site", "lyon"), ("sku", "cpu.1"), ("count", "2"), ("until", "2026-11-23T12:00")];
    let made = browser.submit(&place, &place, &[&fields[..], &[("from", "2026-11-23T10:00")]].concat()).await;
    assert_eq!(made.status, 303, "{}", made.text);
    let page = browser.page(&place).await;
    for fact in ["zebra", "booked", "2 × cpu.1", "0.16", "2.0 of 2.0 taken until", "class=\"bar-day\"", "Free at lyon"]
    {
        assert!(page.contains(fact), "no {fact} in {page}");
    }
    // Another tenant sees that room is taken, and not by whom.
    let other = cloud.tenant("Other", 1_000).await;
    let stranger = Browser::signed_in(&cloud, &other.owner).await;
    let page = stranger.page(&format!("/console/projects/{}/reservations", other.project())).await;
    assert!(page.contains("2.0 of 2.0 taken until") && !page.contains("zebra") && !page.contains("bar-day"), "{page}");
    let taken = browser.submit(&place, &place, &[&fields[..], &[("from", "not a time")]].concat()).await;
    assert_eq!(taken.status, 400);

    let listed = cloud.call(&tenant.owner, "reservations_list", &[&tenant.project()], Value::Null).await.good();
    let cancel = format!("/console/reservations/{}/cancel", listed["items"][0]["id"].as_str().unwrap());
    assert_eq!(browser.submit(&place, &cancel, &[]).await.status, 400, "it has to be meant");
    assert_eq!(browser.submit(&place, &cancel, &[("really", "yes")]).await.status, 303);
    assert!(browser.page(&place).await.contains("cancelled"));
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_begins_no_session() {
    let cloud = Cloud::open().await;
    for key in [format!("gk_{}", "0".repeat(64)), String::new(), "x".into(), "gk_\r\nx: y".into()] {
        let mut browser = Browser::new(&cloud);
        let answer = browser.sign_in(&key).await;
        assert_eq!(answer.status, 401, "{key}");
        assert!(answer.text.contains("This key does not work") && answer.headers.get("set-cookie").is_none());
        assert!(key.is_empty() || !answer.text.contains(&key) || key == "x");
        let answer = browser.get("/console").await;
        assert_eq!((answer.status, &answer.headers["location"]), (303, &"/console/sign-in".parse().unwrap()));
    }
}

#[tokio::test]
async fn a_form_without_the_sessions_token_or_from_elsewhere_changes_nothing() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let browser = Browser::signed_in(&cloud, &tenant.owner).await;
    let other = Browser::signed_in(&cloud, &tenant.owner).await;
    let path = format!("/console/projects/{}/keys", tenant.project());
    let token = |html: String| html.split("data-csrf=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let (mine, theirs) = (token(browser.page(&path).await), token(other.page(&path).await));
    let fields = |csrf| [("name", "stolen"), ("role", "viewer"), ("once", "1"), ("csrf", csrf)];

    for (origin, csrf) in [
        (Some(ORIGIN), ""),
        (Some(ORIGIN), theirs.as_str()),
        (Some("http://evil.example"), mine.as_str()),
        (Some("null"), mine.as_str()),
        (None, mine.as_str()),
    ] {
        let answer = browser.post_from(origin, &path, &fields(csrf)).await;
        assert_eq!(answer.status, 403, "{origin:?} {}", answer.text);
    }
    assert_eq!(browser.post_from(Some(ORIGIN), &path, &fields(&mine)[..3]).await.status, 403);
    assert_eq!(
        Browser::new(&cloud)
            .post_from(Some("http://evil.example"), "/console/sign-in", &[("key", &tenant.owner)])
            .await
            .status,
        403
    );
    let keys = cloud.call(&tenant.owner, "keys_list", &[&tenant.project()], Value::Null).await.good();
    assert_eq!(keys["items"], json!([]));
    // The same form with all it needs is let in: the refusals above were for what was missing.
    assert_eq!(browser.post_from(Some(ORIGIN), &path, &fields(&mine)).await.status, 200);
}

#[tokio::test]
async fn who_signs_in_gets_a_session_of_his_own_and_never_one_that_was_put_there() {
    let cloud = Cloud::open().await;
    let (tenant, evil) = (cloud.tenant("Acme", 0).await, cloud.tenant("Evil", 0).await);
    for planted in ["gregal_console=0123456789abcdef".to_owned(), Browser::signed_in(&cloud, &evil.owner).await.cookie]
    {
        let mut victim = Browser::new(&cloud);
        victim.cookie.clone_from(&planted);
        assert_eq!(victim.sign_in(&tenant.owner).await.status, 303);
        assert_ne!(victim.cookie, planted);
        let mut attacker = Browser::new(&cloud);
        attacker.cookie = planted;
        assert_eq!(attacker.get("/console").await.status, 303, "what was planted is worth nothing");
        assert_eq!(victim.get("/console").await.status, 200);
    }
}

#[tokio::test]
async fn a_session_ends_at_sign_out_and_with_its_key() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let browser = Browser::signed_in(&cloud, &tenant.owner).await;
    let out = browser.submit("/console", "/console/sign-out", &[]).await;
    assert_eq!((out.status, &out.headers["location"]), (303, &"/console/sign-in".parse().unwrap()));
    // The old cookie is worth nothing any more, whoever still has it.
    assert_eq!(browser.get("/console").await.status, 303);

    let wanted = json!({ "name": "dev", "role": "developer" });
    let made = cloud.call(&tenant.owner, "key_create", &[&tenant.project()], wanted).await.good();
    let browser = Browser::signed_in(&cloud, made["secret"].as_str().unwrap()).await;
    assert_eq!(browser.get("/console").await.status, 200);
    cloud.call(&tenant.owner, "key_revoke", &[made["key"]["id"].as_str().unwrap()], Value::Null).await.good();
    assert_eq!(browser.get("/console").await.status, 303);
}

#[tokio::test]
async fn every_answer_keeps_to_itself_and_none_holds_the_key() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let mut browser = Browser::new(&cloud);
    let answer = browser.sign_in(&tenant.owner).await;
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.ends_with("; Path=/console; HttpOnly; SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains(&tenant.owner));
    let project = tenant.project();
    let paths =
        ["", "/sign-in", "/usage", "/invoice", "/audit", "/sites", "/organisations", "/nothing", "/assets/console.css"];
    let of_project = ["jobs", "models", "endpoints", "datasets", "keys", "placement", "policies"];
    let paths = paths.iter().map(|path| format!("/console{path}"));
    for path in paths.chain(of_project.iter().map(|path| format!("/console/projects/{project}/{path}"))) {
        let answer = browser.get(&path).await;
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{path} {policy}");
        assert!(policy.ends_with("base-uri 'none'; frame-ancestors 'none'") && !policy.contains("unsafe"), "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(answer.headers["referrer-policy"], "same-origin", "{path}");
        assert!(!answer.text.contains(&tenant.owner) && !answer.text.contains("gk_0"), "{path}");
        for inline in ["<script>", " style=\"", " onclick=", "javascript:"] {
            assert!(!answer.text.contains(inline), "{path} has {inline}");
        }
    }
}

#[tokio::test]
async fn what_people_name_is_text_and_never_markup() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let wanted = json!({ "name": "<script>alert(1)</script>\"'", "role": "owner" });
    let made = cloud.call(&tenant.owner, "key_create", &[&tenant.project()], wanted).await.good();
    let browser = Browser::signed_in(&cloud, made["secret"].as_str().unwrap()).await;
    let page = browser.page(&format!("/console/projects/{}/keys", tenant.project())).await;
    assert!(!page.contains("<script>alert") && page.contains("&#60;script&#62;alert(1)"), "{page}");
}

#[tokio::test]
async fn a_new_keys_secret_is_shown_once() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let browser = Browser::signed_in(&cloud, &tenant.owner).await;
    let path = format!("/console/projects/{}/keys", tenant.project());
    let csrf = browser.page(&path).await.split("data-csrf=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let fields = [("name", "ci"), ("role", "developer"), ("days", "30"), ("once", "abc"), ("csrf", csrf.as_str())];
    // More seconds than a request holds are refused, not cut.
    let forever = fields.map(|(name, value)| (name, if name == "days" { "50000" } else { value }));
    assert_eq!(browser.post_from(Some(ORIGIN), &path, &forever).await.status, 400);
    let first = browser.post_from(Some(ORIGIN), &path, &fields).await;
    let secret = first.text.split("id=\"secret\" tabindex=\"0\">").nth(1).unwrap().split('<').next().unwrap();
    assert_eq!(first.headers["cache-control"], "no-store");
    cloud.call(secret, "whoami", &[], Value::Null).await.good();
    // The same form again (a reload) makes no second key and shows nothing.
    let again = browser.post_from(Some(ORIGIN), &path, &fields).await;
    assert!(again.status == 200 && !again.text.contains("gk_"), "{}", again.text);
    let page = browser.page(&path).await;
    assert!(page.matches("Revoke ci").count() == 1 && !page.contains("gk_"), "{page}");
}

#[tokio::test]
async fn somebody_elses_job_looks_like_none_and_roles_see_only_their_pages() {
    let cloud = Cloud::open().await;
    let (ours, theirs) = (cloud.tenant("Acme", 1_000).await, cloud.tenant("Other", 1_000).await);
    let job = trained(&cloud, &theirs).await["id"].as_str().unwrap().to_owned();
    let browser = Browser::signed_in(&cloud, &ours.owner).await;
    for path in [
        format!("/console/jobs/{job}"),
        "/console/jobs/job_00000000000000000000000001".into(),
        "/console/jobs/x".into(),
    ] {
        let answer = browser.get(&path).await;
        assert!(answer.status == 404 && answer.text.contains("not found"), "{path} {}", answer.text);
    }
    let operator = Browser::signed_in(&cloud, &cloud.operator).await;
    let page = operator.page("/console").await;
    assert!(page.contains("/console/organisations") && !page.contains("/jobs"), "{page}");
    assert!(operator.page("/console/organisations").await.contains("Other"));
    let quota = json!({ "guarantee": 4, "borrow_max": 8 });
    cloud.call(&cloud.operator, "quota_write", &[&ours.organisation(), "cpu.1"], quota).await.good();
    for browser in [&operator, &browser] {
        let page = browser.page(&format!("/console/organisations/{}/quotas", ours.organisation)).await;
        assert!(page.contains("<td>4</td><td>8</td><td>all</td><td>12</td><td>0</td>"), "{page}");
    }
    assert_eq!(browser.get(&format!("/console/organisations/{}/quotas", theirs.organisation)).await.status, 404);
    assert!(operator.page("/console/sites").await.contains("lyon"));
    assert!(operator.page("/console/audit").await.contains("id=\"verified\""));
    assert_eq!(operator.get("/console/usage").await.status, 403);
    for role in Role::ALL.iter().filter(|role| **role != Role::Operator) {
        for project in [None, Some(ours.project)] {
            // An operator's key belongs to nobody.
            let organisation = (!role.is_operator()).then_some(ours.organisation);
            let project = project.filter(|_| !role.is_operator());
            let key = cloud.key(organisation, project, *role).await;
            let browser = Browser::signed_in(&cloud, &key).await;
            let page = browser.page("/console").await;
            // Whatever the way round offers is there for this key.
            for link in page.split("<li><a href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
                let answer = browser.get(link).await;
                assert_eq!(answer.status, 200, "{role:?} {project:?} {link} {}", answer.text);
            }
        }
    }
}

#[tokio::test]
async fn operators_add_and_retire_skus_and_tenants_see_what_they_cost() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let operator = Browser::signed_in(&cloud, &cloud.operator).await;
    let fields = [("name", "h100.8"), ("cpus_milli", "96500"), ("memory_mib", "1024"), ("gpus", "8")];
    let more = [("gpu_model", "H100"), ("family", "h100"), ("units", "")];
    let made = operator.submit("/console/skus", "/console/skus", &[&fields[..], &more].concat()).await;
    assert_eq!((made.status, &made.headers["location"]), (303, &"/console/skus".parse().unwrap()), "{}", made.text);
    let owner = Browser::signed_in(&cloud, &tenant.owner).await;
    let page = owner.page("/console/skus").await;
    assert!(page.contains("96.5 cores, 1.0 GiB, 8 accelerators (H100)"), "{page}");
    assert!(page.contains("8 of h100") && page.contains("23.0600"), "{page}");
    assert!(!page.contains("<form method=\"post\" action=\"/console/skus"), "who may not add is shown no form");

    let retire = "/console/skus/h100.8/retire";
    let refused = operator.submit("/console/skus", retire, &[]).await;
    assert_eq!(refused.status, 400, "the box was not ticked");
    assert_eq!(operator.submit("/console/skus", retire, &[("really", "yes")]).await.status, 303);
    assert!(!owner.page("/console/skus").await.contains("h100.8"));
    assert!(operator.page("/console/skus").await.contains("retired"));
    let taken = operator.submit("/console/skus", "/console/skus", &fields).await;
    assert_eq!(taken.status, 409, "{}", taken.text);
}
