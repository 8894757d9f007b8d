//! Endpoints, and the credit a site serves against.

use gregal_api::{
    protocol::{
        AttemptPhase, INTENT_PURPOSE, Intent, ObservedAllowance, ObservedReplica, ProducedModel, ReplicaPhase,
        SyncAnswer,
    },
    signed::verifying_key,
};
use gregal_core::{
    id::{AllowanceId, EndpointId},
    job::{Billed, JobEnd},
    meter::{Meter, UsageEvent},
    money::Nano,
    world::World as _,
};
use serde_json::{Value, json};

use crate::world::{Cloud, FakeSite, Tenant};

/// What an hour of one core costs a served model, in nano-euro.
const HOUR: i64 = 20_000_000;

/// Trains a model, as far as control can tell.
pub(crate) async fn model(cloud: &Cloud, tenant: &Tenant, site: &mut FakeSite) -> String {
    let dataset = cloud.dataset(tenant, site, "facts.jsonl").await;
    let job = cloud.job(tenant, &dataset, "train").await;
    cloud.control.step().await.unwrap();
    let now = cloud.world.now();
    let over = AttemptPhase::Ended {
        since: Some(now),
        at: now,
        end: JobEnd { code: Some(0), reason: "finished".into(), hint: None },
        succeeded: true,
        cancelled: false,
        product: Some(ProducedModel {
            digest: "cd".repeat(32),
            bytes: 2_000,
            parameters: 1_000_000,
            flop: 1,
            tokens: 1,
            energy_mj: 1,
            energy_method: "estimated".into(),
            dataset_digest: "ab".repeat(32),
            base_model_digest: None,
            code_version: "test".into(),
        }),
        heldout: None,
        billed: Billed::default(),
    };
    site.says(cloud, job, 1, over).await;
    cloud.job_read(tenant, job).await["model"].as_str().unwrap().to_owned()
}

/// Serves a model, up to ready.
pub(crate) async fn serving(cloud: &Cloud, tenant: &Tenant, site: &mut FakeSite, model: &str) -> EndpointId {
    let wanted = json!({ "name": "chat", "model": model });
    let made = cloud.call(&tenant.owner, "endpoint_create", &[&tenant.project()], wanted).await.good();
    assert_eq!((&made["state"], &made["base_url"]), (&json!("pending"), &json!("http://lyon.test/v1")));
    let endpoint: EndpointId = made["id"].as_str().unwrap().parse().unwrap();
    cloud.control.step().await.unwrap();
    site.sync(cloud).await;
    says(cloud, site, endpoint, ReplicaPhase::Ready).await;
    endpoint
}

async fn says(cloud: &Cloud, site: &mut FakeSite, endpoint: EndpointId, phase: ReplicaPhase) {
    site.report.replicas = vec![ObservedReplica { endpoint, phase, message: None }];
    site.sync(cloud).await;
}

fn tokens(cloud: &Cloud, tenant: &Tenant, site: &FakeSite, endpoint: EndpointId, million: u64) -> UsageEvent {
    let now = cloud.world.now();
    UsageEvent {
        id: UsageEvent::id_of(site.id, &endpoint.to_string(), Meter::TokensOut, &now.to_string()),
        organisation: tenant.organisation,
        project: tenant.project,
        site: site.id,
        meter: Meter::TokensOut,
        item: "lm.1b".into(),
        quantity: million * 1_000_000,
        subject: endpoint.to_string(),
        started_at: now,
        ended_at: now,
        allowance: Some(site.intent().allowances[0].allowance),
        estimated: None,
    }
}

fn observed(allowance: AllowanceId, used: i64, wants_more: bool) -> Vec<ObservedAllowance> {
    vec![ObservedAllowance { allowance, used: Nano::new(used), wants_more }]
}

#[tokio::test]
async fn an_endpoint_is_loaded_answers_drains_and_stops_as_its_site_proves_it() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let model = model(&cloud, &tenant, &mut site).await;
    let endpoint = serving(&cloud, &tenant, &mut site, &model).await;
    let read = async || {
        cloud.call(&tenant.owner, "endpoint_read", &[&endpoint.to_string()], Value::Null).await.good()["state"].clone()
    };
    assert_eq!(read().await, "ready");
    let wanted = &site.intent().endpoints[0];
    assert_eq!((wanted.model_digest.as_str(), wanted.price_item.as_str()), ("cd".repeat(32).as_str(), "lm.1b"));
    assert!(!site.intent().keys.is_empty(), "the owner may ask");
    let taken = json!({ "name": "chat", "model": model });
    let taken = cloud.call(&tenant.owner, "endpoint_create", &[&tenant.project()], taken).await;
    assert_eq!(taken.problem(), "taken");

    says(&cloud, &mut site, endpoint, ReplicaPhase::Loading).await;
    assert_eq!(read().await, "loading", "what served it is gone and comes again");
    says(&cloud, &mut site, endpoint, ReplicaPhase::Ready).await;
    cloud.call(&tenant.owner, "endpoint_delete", &[&endpoint.to_string()], Value::Null).await.good();
    assert_eq!(read().await, "draining");
    site.sync(&cloud).await;
    assert!(site.intent().endpoints[0].drain);
    says(&cloud, &mut site, endpoint, ReplicaPhase::Stopped).await;
    assert_eq!(read().await, "stopped");
    site.report.replicas.clear();
    site.sync(&cloud).await;
    assert!(site.intent().endpoints.is_empty() && site.intent().keys.is_empty());
}

#[tokio::test]
async fn an_allowance_is_made_grows_as_it_is_used_and_is_settled_when_nothing_is_served() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 252).await;
    let model = model(&cloud, &tenant, &mut site).await;
    let endpoint = serving(&cloud, &tenant, &mut site, &model).await;
    let allowance = site.intent().allowances[0].clone();
    assert_eq!(allowance.granted, Nano::from_euro(1));
    assert_eq!(cloud.balances(tenant.organisation).await.held.get(), 1_000_000_000 + HOUR, "and an hour of standing");

    // A million tokens are 0.60 EUR: more than half is used.
    site.uses(&cloud, &[tokens(&cloud, &tenant, &site, endpoint, 1)]).await;
    site.report.allowances = observed(allowance.allowance, 600_000_000, false);
    site.sync(&cloud).await;
    assert_eq!(site.intent().allowances[0].granted, Nano::from_euro(2));
    let balances = cloud.balances(tenant.organisation).await;
    assert_eq!((balances.accrued.get(), balances.held.get()), (600_000_000, 1_400_000_000 + HOUR));
    site.sync(&cloud).await;
    assert_eq!(site.intent().allowances[0].granted, Nano::from_euro(2), "it grows once, not with every sync");

    // It asks for more than there is: it gets what is left, and then nothing.
    site.report.allowances = observed(allowance.allowance, 600_000_000, true);
    site.sync(&cloud).await;
    site.sync(&cloud).await;
    assert_eq!(site.intent().allowances[0].granted, Nano::new(2_500_000_000));
    assert_eq!(cloud.balances(tenant.organisation).await.available, Nano::ZERO);

    cloud.call(&tenant.owner, "endpoint_delete", &[&endpoint.to_string()], Value::Null).await.good();
    site.sync(&cloud).await;
    // A last answer was given while it drained, and its record is still on its way.
    site.report.allowances = observed(allowance.allowance, 1_200_000_000, false);
    let last = tokens(&cloud, &tenant, &site, endpoint, 1);
    says(&cloud, &mut site, endpoint, ReplicaPhase::Stopped).await;
    site.report.replicas.clear();
    for _ in 0..3 {
        site.sync(&cloud).await;
    }
    assert!(site.intent().allowances.is_empty());
    assert!(cloud.balances(tenant.organisation).await.held.get() > 0, "not settled before its use is in");
    site.uses(&cloud, &[last]).await;
    site.sync(&cloud).await;
    let balances = cloud.balances(tenant.organisation).await;
    assert_eq!((balances.held.get(), balances.accrued.get()), (0, 1_200_000_000));
    assert_eq!(balances.available.get(), 2_520_000_000 - 1_200_000_000);
    assert!(cloud.store.holds_open().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_site_that_asks_for_its_intent_again_hears_what_was_charged_and_usage_alone_is_no_news() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 250).await;
    let model = model(&cloud, &tenant, &mut site).await;
    let endpoint = serving(&cloud, &tenant, &mut site, &model).await;
    site.sync(&cloud).await;
    let before = site.intent().clone();
    assert_eq!(before.allowances[0].charged, Nano::ZERO);
    let small = UsageEvent { quantity: 1_000, ..tokens(&cloud, &tenant, &site, endpoint, 1) };
    assert_eq!(site.uses(&cloud, &[small]).await["accepted"], 1);
    assert!(site.sync(&cloud).await.intent.is_none(), "a charge by itself makes no new intent");

    // The same one, under the same number, with what was charged meanwhile.
    site.report.intent_again = true;
    let answer = cloud.call(&site.secret, "site_sync", &[], serde_json::to_value(&site.report).unwrap()).await.good();
    let answer: SyncAnswer = serde_json::from_value(answer).unwrap();
    let key = verifying_key(&answer.control_key).unwrap();
    let again: Intent = answer.intent.unwrap().open(&key, INTENT_PURPOSE).unwrap();
    assert_eq!((again.revision, again.allowances[0].charged), (before.revision, Nano::new(600_000)));
}

#[tokio::test]
async fn a_site_that_is_dark_for_longer_than_its_allowance_lives_loses_it_and_its_use_is_billed_late() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 250).await;
    let model = model(&cloud, &tenant, &mut site).await;
    let endpoint = serving(&cloud, &tenant, &mut site, &model).await;
    let before = site.intent().allowances[0].clone();
    let late = tokens(&cloud, &tenant, &site, endpoint, 1);
    cloud.world.pass_seconds(100_000);
    cloud.control.step().await.unwrap();
    assert_eq!(cloud.balances(tenant.organisation).await.held.get(), HOUR, "what runs there may still come to that");
    site.uses(&cloud, &[late]).await;
    let balances = cloud.balances(tenant.organisation).await;
    assert_eq!((balances.accrued.get(), balances.available.get()), (600_000_000, 1_900_000_000 - HOUR));
    site.sync(&cloud).await;
    assert_ne!(site.intent().allowances[0].allowance, before.allowance, "a new one, with its own count");
}

#[tokio::test]
async fn without_credit_there_is_no_allowance() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 3).await;
    let model = model(&cloud, &tenant, &mut site).await;
    // What an hour of standing leaves goes into a job that waits.
    let dataset = cloud.store.datasets_list(tenant.project, &gregal_store::Page::default()).await.unwrap().items[0].id;
    let mut wanted = crate::world::training(&dataset.to_string(), "all");
    wanted["seconds_max"] = json!(900);
    cloud.call(&tenant.owner, "job_create", &[&tenant.project()], wanted).await.good();
    assert_eq!(cloud.balances(tenant.organisation).await.available.get(), HOUR);
    serving(&cloud, &tenant, &mut site, &model).await;
    assert_eq!(cloud.balances(tenant.organisation).await.available, Nano::ZERO);
    assert!(site.intent().allowances.is_empty());
}

#[tokio::test]
async fn a_project_has_so_many_live_endpoints_datasets_and_keys_and_not_one_more() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let model = model(&cloud, &tenant, &mut site).await;
    let project = tenant.project();
    let serve = async |name: String| {
        let wanted = json!({ "name": name, "model": model });
        cloud.call(&tenant.owner, "endpoint_create", &[&project], wanted).await
    };
    let first = serve("chat".into()).await.good();
    for number in 1..32 {
        serve(format!("chat-{number}")).await.good();
    }
    let refusal = serve("one-more".into()).await;
    assert_eq!(refusal.problem(), "conflict");
    assert!(refusal.text.contains("32 endpoints") && refusal.text.contains("delete one"), "{}", refusal.text);
    cloud.call(&tenant.owner, "endpoint_delete", &[first["id"].as_str().unwrap()], Value::Null).await.good();
    serve("one-more".into()).await.good();

    let sample =
        cloud.store.datasets_list(tenant.project, &gregal_store::Page::default()).await.unwrap().items.remove(0);
    let now = cloud.world.now();
    let tx = cloud.store.begin().await.unwrap();
    for number in 1..2_000_u32 {
        let id = gregal_core::id::DatasetId::new(&*cloud.world);
        let dataset = gregal_core::dataset::Dataset { id, name: format!("d{number}"), version: 1, ..sample.clone() };
        tx.dataset_insert(&dataset).await.unwrap();
    }
    for number in 0..1_000_u32 {
        let key = gregal_core::key::Key {
            id: gregal_core::id::KeyId::new(&*cloud.world),
            organisation: Some(tenant.organisation),
            project: Some(tenant.project),
            name: "many".into(),
            role: gregal_core::access::Role::Viewer,
            digest: gregal_core::key::digest_of(&number.to_string()),
            kind: gregal_core::key::KeyKind::Made,
            person: None,
            account: None,
            scope: gregal_core::key::Scope::default(),
            created_at: now,
            expires_at: (number == 0).then(|| now.plus_seconds(60)),
            revoked_at: None,
            replaces: None,
            replaced_by: None,
            version: 1,
        };
        tx.key_insert(&key).await.unwrap();
    }
    tx.commit(&[crate::world::entry(now, "test:many")]).await.unwrap();
    let announce = json!({ "name": "one-more.jsonl", "site": "lyon" });
    let refusal = cloud.call(&tenant.owner, "dataset_create", &[&project], announce.clone()).await;
    assert_eq!(refusal.problem(), "conflict", "{}", refusal.text);
    cloud.call(&tenant.owner, "dataset_delete", &[&sample.id.to_string()], Value::Null).await.good();
    cloud.call(&tenant.owner, "dataset_create", &[&project], announce).await.good();
    let key = json!({ "name": "one more", "role": "viewer" });
    let refusal = cloud.call(&tenant.owner, "key_create", &[&project], key.clone()).await;
    assert_eq!(refusal.problem(), "conflict", "{}", refusal.text);
    cloud.world.pass_seconds(61);
    cloud.call(&tenant.owner, "key_create", &[&project], key).await.good();
}

#[tokio::test]
async fn a_grant_for_a_models_files_is_not_given_because_no_site_honours_it() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let model = model(&cloud, &tenant, &mut site).await;
    let wanted = json!({ "purpose": "model_read", "object": model });
    let refusal = cloud.call(&tenant.owner, "grant_create", &[&tenant.project()], wanted).await;
    assert_eq!(refusal.problem(), "not_implemented", "{}", refusal.text);
}
