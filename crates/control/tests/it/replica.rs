//! The room and the time of served models: waited for, taken, paid for while they answer, and given back.

use gregal_api::protocol::{ObservedReplica, ReplicaPhase};
use gregal_core::{
    endpoint::EndpointState,
    id::EndpointId,
    meter::{Meter, UsageEvent},
    time::Time,
    world::World as _,
};
use serde_json::{Value, json};

use crate::{
    endpoint::{model, serving},
    world::{Cloud, FakeSite, Tenant, ended, running, training},
};

/// What an hour of one core costs a served model, in nano-euro.
const HOUR: i64 = 20_000_000;
const HOUR_MS: u64 = 3_600_000;

async fn serve(cloud: &Cloud, tenant: &Tenant, name: &str, model: &str, sku: &str) -> EndpointId {
    let wanted = json!({ "name": name, "model": model, "sku": sku });
    let made = cloud.call(&tenant.owner, "endpoint_create", &[&tenant.project()], wanted).await.good();
    assert_eq!(made["sku"], sku);
    made["id"].as_str().unwrap().parse().unwrap()
}

async fn read(cloud: &Cloud, tenant: &Tenant, endpoint: EndpointId) -> Value {
    cloud.call(&tenant.owner, "endpoint_read", &[&endpoint.to_string()], Value::Null).await.good()
}

/// The site says where a replica stands, and dials in.
async fn says(cloud: &Cloud, site: &mut FakeSite, endpoint: EndpointId, phase: ReplicaPhase) {
    site.report.replicas.retain(|seen| seen.endpoint != endpoint);
    site.report.replicas.push(ObservedReplica { endpoint, phase, message: None });
    site.sync(cloud).await;
}

/// A record of so many milliseconds of one core, by a served model that answered just now.
fn stood(cloud: &Cloud, tenant: &Tenant, site: &FakeSite, endpoint: EndpointId, millis: u64) -> UsageEvent {
    let ended_at = cloud.world.now();
    UsageEvent {
        id: UsageEvent::id_of(site.id, &endpoint.to_string(), Meter::ReplicaCore, &ended_at.to_string()),
        organisation: tenant.organisation,
        project: tenant.project,
        site: site.id,
        meter: Meter::ReplicaCore,
        item: "cpu.1".into(),
        quantity: millis,
        subject: endpoint.to_string(),
        started_at: ended_at.plus_millis(-i64::try_from(millis).unwrap()),
        ended_at,
        allowance: None,
        estimated: None,
    }
}

async fn told_of(cloud: &Cloud, site: &mut FakeSite, endpoint: EndpointId) -> bool {
    site.sync(cloud).await;
    site.intent().endpoints.iter().any(|wanted| wanted.endpoint == endpoint)
}

#[tokio::test]
async fn an_endpoint_waits_for_room_says_why_and_gets_what_another_gives_back() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let model = model(&cloud, &tenant, &mut site).await;
    // The site has two cores.
    let first = serve(&cloud, &tenant, "first", &model, "cpu.2").await;
    let second = serve(&cloud, &tenant, "second", &model, "cpu.1").await;
    assert!(!told_of(&cloud, &mut site, first).await, "no room was given to anybody yet");
    says(&cloud, &mut site, second, ReplicaPhase::Ready).await;
    assert_eq!(read(&cloud, &tenant, second).await["state"], "pending", "nothing runs without room, whatever is said");
    site.report.replicas.clear();
    cloud.control.step().await.unwrap();
    assert!(told_of(&cloud, &mut site, first).await);
    assert!(!told_of(&cloud, &mut site, second).await, "it stands in no intent while it waits");
    let waiting = read(&cloud, &tenant, second).await;
    assert_eq!((&waiting["state"], &waiting["placed_at"]), (&json!("pending"), &Value::Null));
    let why = waiting["message"].as_str().unwrap();
    assert!(why.contains("1 of 1 cores short (0 of 2 free)") && why.contains("lyon"), "{why}");

    says(&cloud, &mut site, first, ReplicaPhase::Ready).await;
    cloud.call(&tenant.owner, "endpoint_delete", &[&first.to_string()], Value::Null).await.good();
    cloud.control.step().await.unwrap();
    assert!(!told_of(&cloud, &mut site, second).await, "what drains has its room until its site has proved the end");
    says(&cloud, &mut site, first, ReplicaPhase::Stopped).await;
    cloud.control.step().await.unwrap();
    assert!(told_of(&cloud, &mut site, second).await);
    assert_eq!(read(&cloud, &tenant, second).await["message"], Value::Null);
}

#[tokio::test]
async fn a_job_and_an_endpoint_take_no_room_from_one_another_and_wait_in_one_queue() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let model = model(&cloud, &tenant, &mut site).await;
    let dataset = cloud.dataset(&tenant, &mut site, "more.jsonl").await;
    let endpoint = serving(&cloud, &tenant, &mut site, &model).await;
    let quota = json!({ "guarantee": 1 });
    let made = cloud.call(&cloud.operator, "quota_write", &[&tenant.organisation(), "cpu.1"], quota).await.good();
    assert_eq!(made["used"], 1, "what stands is used: {made}");
    let submit = async |name: &str, sku: &str, seconds: u32| {
        let mut wanted = training(&dataset, name);
        (wanted["sku"], wanted["seconds_max"]) = (json!(sku), json!(seconds));
        let made = cloud.call(&tenant.owner, "job_create", &[&tenant.project()], wanted).await.good();
        made["id"].as_str().unwrap().parse().unwrap()
    };
    // One of two cores is the endpoint's: a job of two waits for it, without a promise and in nobody's way, so that
    // a smaller one has the other core.
    let large = submit("large", "cpu.2", 60).await;
    let small = submit("small", "cpu.1", 3_600).await;
    cloud.control.step().await.unwrap();
    let waits = cloud.job_read(&tenant, large).await;
    assert_eq!(waits["state"], "queued");
    assert!(waits["waits_for"].as_str().unwrap().contains("2 of 2 cores short (0 of 2 free)"), "{waits}");
    assert_eq!(cloud.job_read(&tenant, small).await["state"], "starting");

    // The endpoint goes; the large job is promised the start that the small one's limit leaves. A new endpoint would fit
    // beside the small one and has no end: it must not delay that start.
    site.says(&cloud, small, 1, running(&cloud)).await;
    cloud.call(&tenant.owner, "endpoint_delete", &[&endpoint.to_string()], Value::Null).await.good();
    says(&cloud, &mut site, endpoint, ReplicaPhase::Stopped).await;
    site.report.replicas.clear();
    cloud.control.step().await.unwrap();
    assert!(cloud.job_read(&tenant, large).await["waits_for"].as_str().unwrap().contains("starts no later than"));
    let late = serve(&cloud, &tenant, "late", &model, "cpu.1").await;
    cloud.control.step().await.unwrap();
    let waiting = read(&cloud, &tenant, late).await;
    assert!(waiting["message"].as_str().unwrap().contains("was promised the room"), "{waiting}");
    assert!(!waiting["message"].as_str().unwrap().contains("limit of"), "an endpoint has no limit to shorten");

    // The small job ends: the large one starts, and the endpoint's turn comes before that of a job asked for after it.
    site.says(&cloud, small, 1, ended(&cloud, "finished", true)).await;
    cloud.control.step().await.unwrap();
    assert_eq!(cloud.job_read(&tenant, large).await["state"], "starting");
    let after = submit("after", "cpu.2", 60).await;
    site.says(&cloud, large, 1, running(&cloud)).await;
    site.says(&cloud, large, 1, ended(&cloud, "finished", true)).await;
    cloud.control.step().await.unwrap();
    assert!(told_of(&cloud, &mut site, late).await);
    assert_eq!(cloud.job_read(&tenant, after).await["state"], "queued");
}

#[tokio::test]
async fn what_can_never_stand_is_refused_at_once_with_a_way_out() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let model = model(&cloud, &tenant, &mut site).await;
    let ask = async |sku: &str, key: &str| {
        let wanted = json!({ "name": "chat", "model": model, "sku": sku });
        cloud.call(key, "endpoint_create", &[&tenant.project()], wanted).await
    };
    let refusal = ask("cpu.4", &tenant.owner).await;
    assert_eq!(refusal.problem(), "never_fits");
    assert!(refusal.text.contains("2 of 4 cores short (2 of 2 free)"), "{}", refusal.text);
    let refusal = ask("gpu.1", &tenant.owner).await;
    assert_eq!(refusal.problem(), "invalid_request");
    assert!(refusal.text.contains("served on `cpu.1`, `cpu.2`, `cpu.4`"), "{}", refusal.text);
    assert_eq!(ask("cpu.3", &tenant.owner).await.problem(), "invalid_request");
    // Without credit for the first hour nothing is asked for.
    let poor = cloud.tenant("Poor", 1).await;
    let theirs = crate::endpoint::model(&cloud, &poor, &mut site).await;
    let wanted = json!({ "name": "chat", "model": theirs });
    let refusal = cloud.call(&poor.owner, "endpoint_create", &[&poor.project()], wanted).await;
    assert_eq!(refusal.problem(), "budget_exceeded");
    assert!(refusal.text.contains("0.01"), "{}", refusal.text);
}

#[tokio::test]
async fn standing_is_charged_once_from_its_own_hold_and_the_rest_is_given_back() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 110).await;
    let model = model(&cloud, &tenant, &mut site).await;
    let endpoint = serving(&cloud, &tenant, &mut site, &model).await;
    // A euro is the allowance for tokens; of the rest an hour is held, and a quarter of what is left is none.
    assert_eq!(cloud.balances(tenant.organisation).await.held.get(), 1_000_000_000 + HOUR);
    let told = site.intent().endpoints[0].clone();
    assert_eq!((told.sku.unwrap().name.as_str(), told.held_ms), ("cpu.1", HOUR_MS));

    // Forty minutes, said three times.
    cloud.world.pass_seconds(2_400);
    let record = stood(&cloud, &tenant, &site, endpoint, 2_400_000);
    for accepted in [1, 0, 0] {
        assert_eq!(site.uses(&cloud, std::slice::from_ref(&record)).await["accepted"], accepted);
    }
    let used = HOUR * 2 / 3;
    let balances = cloud.balances(tenant.organisation).await;
    assert_eq!(balances.accrued.get(), used);
    // More than half of the hour was used: another is held ahead of what was.
    assert_eq!(balances.held.get(), 1_000_000_000 + HOUR);
    let view = read(&cloud, &tenant, endpoint).await;
    assert_eq!((&view["billed_ms"], &view["held_ms"]), (&json!(2_400_000), &json!(2_400_000 + HOUR_MS)));
    site.sync(&cloud).await;
    assert_eq!(site.intent().endpoints[0].held_ms, 2_400_000 + HOUR_MS, "its site hears of it");

    // Charged on, short of another window: no news for the site.
    cloud.world.pass_seconds(60);
    site.uses(&cloud, &[stood(&cloud, &tenant, &site, endpoint, 60_000)]).await;
    assert!(site.sync(&cloud).await.intent.is_none(), "a charge by itself makes no new intent");

    cloud.call(&tenant.owner, "endpoint_delete", &[&endpoint.to_string()], Value::Null).await.good();
    says(&cloud, &mut site, endpoint, ReplicaPhase::Stopped).await;
    let balances = cloud.balances(tenant.organisation).await;
    assert_eq!((balances.held.get(), balances.accrued.get()), (1_000_000_000, used + HOUR / 60));
    let hold = cloud.store.hold_by_subject(&endpoint.to_string()).await.unwrap().unwrap();
    assert_eq!(hold.state, gregal_core::hold::HoldState::Settled);
    let invoice = cloud.call(&tenant.owner, "invoice_draft", &[&tenant.organisation()], Value::Null).await.good();
    let line = invoice["lines"].as_array().unwrap().iter().find(|line| line["meter"] == "replica_core").unwrap();
    assert_eq!((&line["quantity"], &line["records"], &line["item"]), (&json!(2_460_000), &json!(2), &json!("cpu.1")));
}

#[tokio::test]
async fn an_endpoint_that_never_got_room_costs_nothing() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 100).await;
    let model = model(&cloud, &tenant, &mut site).await;
    let endpoint = serve(&cloud, &tenant, "chat", &model, "cpu.1").await;
    assert_eq!(cloud.balances(tenant.organisation).await.held.get(), HOUR);
    // What its site says of it all the same is not counted.
    site.uses(&cloud, &[stood(&cloud, &tenant, &site, endpoint, 1_000)]).await;
    let gone = cloud.call(&tenant.owner, "endpoint_delete", &[&endpoint.to_string()], Value::Null).await.good();
    assert_eq!(gone["state"], "stopped");
    let balances = cloud.balances(tenant.organisation).await;
    assert_eq!((balances.held.get(), balances.accrued.get()), (0, 0));
}

#[tokio::test]
async fn a_record_that_cannot_be_true_of_a_served_model_is_put_aside() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let model = model(&cloud, &tenant, &mut site).await;
    let endpoint = serving(&cloud, &tenant, &mut site, &model).await;
    let good = stood(&cloud, &tenant, &site, endpoint, 1_000);
    let id = |number: u8| format!("{number:064x}");
    let more = UsageEvent { id: id(1), quantity: 2_000, ..good.clone() };
    let dearer = UsageEvent { id: id(2), item: "cpu.2".into(), ..good.clone() };
    let of_a_job = UsageEvent { id: id(3), meter: Meter::ComputeCore, ..good.clone() };
    let leased = UsageEvent { id: id(4), allowance: Some(site.intent().allowances[0].allowance), ..good.clone() };
    // Before it had room, and for longer than was held, however it is put: in one record or in a batch of them.
    let ages_ago = UsageEvent { id: id(5), started_at: Time::from_millis(0), ..good.clone() };
    let of_ms = |number, quantity: u64| {
        let started_at = good.ended_at.plus_millis(-i64::try_from(quantity).unwrap());
        UsageEvent { id: id(number), quantity, started_at, ..good.clone() }
    };
    let receipt = site.uses(&cloud, &[more, dearer, of_a_job, leased, ages_ago, of_ms(6, 3_600_001)]).await;
    assert_eq!((&receipt["accepted"], receipt["refused"].as_array().unwrap().len()), (&json!(0), 6), "{receipt}");
    assert_eq!(read(&cloud, &tenant, endpoint).await["billed_ms"], 0);
    assert_eq!(cloud.balances(tenant.organisation).await.accrued.get(), 0);
    let batch = [of_ms(7, 2_000_000), of_ms(8, 2_000_000)];
    let receipt = site.uses(&cloud, &batch).await;
    assert_eq!((&receipt["accepted"], receipt["refused"].as_array().unwrap().len()), (&json!(1), 1), "{receipt}");
    // What counted once is not put aside when it is sent again, whatever has been counted since.
    let receipt = site.uses(&cloud, &batch[..1]).await;
    assert_eq!((&receipt["duplicates"], &receipt["refused"]), (&json!(1), &json!([])), "{receipt}");
}

#[tokio::test]
async fn when_the_next_hour_cannot_be_held_it_drains_and_says_what_is_missing() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    // An hour, and nothing else: the allowance takes the rest.
    let tenant = cloud.tenant("Acme", 3).await;
    let model = model(&cloud, &tenant, &mut site).await;
    let endpoint = serving(&cloud, &tenant, &mut site, &model).await;
    assert_eq!(cloud.balances(tenant.organisation).await.available.get(), 0);
    let stands = async |site: &FakeSite, millis: u64| {
        cloud.world.pass_seconds(i64::try_from(millis).unwrap() / 1_000);
        let receipt = site.uses(&cloud, &[stood(&cloud, &tenant, site, endpoint, millis)]).await;
        assert_eq!(receipt["accepted"], 1);
        read(&cloud, &tenant, endpoint).await
    };
    assert_eq!(stands(&site, 3_200_000).await["state"], "ready", "there is time left, and credit may come");
    let view = stands(&site, 100_000).await;
    assert_eq!(view["state"], "draining");
    assert!(view["message"].as_str().unwrap().contains("the credit is 0.018333332 EUR short"), "{view}");
    site.sync(&cloud).await;
    assert!(site.intent().endpoints[0].drain);
    // What it used until its end was held: nothing is taken from elsewhere.
    let view = stands(&site, 290_000).await;
    assert_eq!((&view["state"], &view["billed_ms"]), (&json!("draining"), &json!(3_590_000)));
    says(&cloud, &mut site, endpoint, ReplicaPhase::Stopped).await;
    let view = read(&cloud, &tenant, endpoint).await;
    assert_eq!(view["state"], EndpointState::Stopped.as_str());
    assert!(view["message"].as_str().unwrap().contains("short"), "why it drained is why it has stopped");
    let balances = cloud.balances(tenant.organisation).await;
    assert_eq!(balances.accrued.get() + balances.held.get() + balances.available.get(), 30_000_000);
    assert!(!balances.available.is_negative() && balances.accrued.get() <= HOUR);
    let audit = cloud.call(&tenant.owner, "audit_list", &[&tenant.organisation()], Value::Null).await.text;
    assert!(audit.contains("endpoint:draining"), "{audit}");
}

#[tokio::test]
async fn a_restarted_control_plane_goes_on_with_the_same_count_and_the_same_room() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let model = model(&cloud, &tenant, &mut site).await;
    let endpoint = serving(&cloud, &tenant, &mut site, &model).await;
    cloud.world.pass_seconds(60);
    let record = stood(&cloud, &tenant, &site, endpoint, 60_000);
    site.uses(&cloud, std::slice::from_ref(&record)).await;
    let before = read(&cloud, &tenant, endpoint).await;
    assert_eq!(before["held_ms"], 60_000 + 24 * HOUR_MS, "with credit enough a day is held ahead");
    let cloud = cloud.restarted().await;
    cloud.control.step().await.unwrap();
    assert_eq!(site.uses(&cloud, &[record]).await["duplicates"], 1);
    assert_eq!(read(&cloud, &tenant, endpoint).await, before);
    let second = serve(&cloud, &tenant, "second", &model, "cpu.2").await;
    site.sync(&cloud).await;
    cloud.control.step().await.unwrap();
    assert!(!told_of(&cloud, &mut site, second).await, "the room is still taken");
    let why = read(&cloud, &tenant, second).await["message"].to_string();
    assert!(why.contains("1 of 2 cores short"), "{why}");
}

#[tokio::test]
async fn what_stood_before_endpoints_ran_on_a_hold_is_taken_in_as_it_stands_or_drains() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let poor = cloud.tenant("Poor", 1).await;
    let mut old = Vec::new();
    for tenant in [&tenant, &poor] {
        let model = model(&cloud, tenant, &mut site).await;
        let id = EndpointId::new(&*cloud.world);
        let endpoint = gregal_core::endpoint::Endpoint {
            id,
            organisation: tenant.organisation,
            project: tenant.project,
            site: site.id,
            name: "chat".into(),
            model: model.parse().unwrap(),
            sku: String::new(),
            shared: None,
            hold: None,
            held_ms: 0,
            billed: gregal_core::job::Billed::default(),
            placed_at: None,
            promised: None,
            state: EndpointState::Ready,
            message: None,
            created_at: cloud.world.now(),
            ready_at: Some(cloud.world.now()),
            version: 1,
        };
        let tx = cloud.store.begin().await.unwrap();
        tx.endpoint_insert(&endpoint).await.unwrap();
        tx.commit(&[crate::world::entry(cloud.world.now(), "test:old")]).await.unwrap();
        old.push(id);
    }
    let cloud = cloud.restarted().await;
    let taken = read(&cloud, &tenant, old[0]).await;
    assert_eq!(
        (&taken["state"], &taken["sku"], &taken["held_ms"]),
        (&json!("ready"), &json!("cpu.1"), &json!(HOUR_MS))
    );
    assert_ne!(taken["placed_at"], Value::Null, "it takes the room it stands in");
    assert_eq!(cloud.balances(tenant.organisation).await.held.get(), 1_000_000_000 + HOUR, "beside its allowance");
    let short = read(&cloud, &poor, old[1]).await;
    assert_eq!(short["state"], "draining");
    assert!(short["message"].as_str().unwrap().contains("EUR short"), "{short}");
    let cloud = cloud.restarted().await;
    assert_eq!(read(&cloud, &tenant, old[0]).await, taken, "once");
}
