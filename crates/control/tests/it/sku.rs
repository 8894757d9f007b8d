//! SKUs: added and retired by the operator, of one shape for good, and counted by family.

use gregal_core::{
    id::JobId,
    invoice::{InvoiceDraft, recompute},
    meter::UsageEvent,
};
use serde_json::{Value, json};

use crate::world::{Answer, Cloud, FakeSite, Tenant, ended, running, training, with_dataset};

const GIB: u64 = 1 << 30;

async fn create(cloud: &Cloud, name: &str, more: Value) -> Answer {
    let mut wanted = json!({ "name": name, "cpus_milli": 1000, "memory_bytes": GIB });
    wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    cloud.call(&cloud.operator, "sku_create", &[], wanted).await
}

async fn submit(cloud: &Cloud, tenant: &Tenant, dataset: &str, sku: &str) -> Answer {
    let mut wanted = training(dataset, "one");
    wanted["sku"] = json!(sku);
    cloud.call(&tenant.owner, "job_create", &[&tenant.project()], wanted).await
}

fn id_of(made: &Value) -> JobId {
    made["id"].as_str().unwrap().parse().unwrap()
}

async fn names(cloud: &Cloud, key: &str, query: &str) -> Vec<String> {
    let listed = cloud.get(key, &format!("/api/v1/skus{query}")).await.good();
    listed["items"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

/// A record of nine seconds of half a core.
fn half_core_of(site: &FakeSite, cloud: &Cloud, tenant: &Tenant, job: JobId, occasion: &str) -> UsageEvent {
    let event = site.core_seconds(cloud, tenant, job, occasion, 9);
    UsageEvent { item: "cpu.half".into(), quantity: 4_500, ..event }
}

#[tokio::test]
async fn a_job_on_an_operators_sku_gets_its_shape_and_is_billed_by_its_name() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let made = create(&cloud, "cpu.half", json!({ "cpus_milli": 500 })).await.good();
    assert_eq!((&made["family"], &made["units"], &made["retired_at"]), (&json!("cpu.half"), &json!(1), &Value::Null));
    // Two cents a half core-hour of a job, one of a served model; neither is the SKU's own price, which is said.
    let price = json!({ "book": 1, "job_hour_nano": 20_000_000, "served_hour_nano": 10_000_000,
        "by_any": ["compute_core", "replica_core"] });
    assert_eq!(made["price"], price);
    let read = cloud.call(&tenant.owner, "sku_read", &["cpu.half"], Value::Null).await.good();
    assert_eq!(read, made, "tenants see the same");

    let job = id_of(&submit(&cloud, &tenant, &dataset, "cpu.half").await.good());
    assert_eq!(
        cloud.balances(tenant.organisation).await.held.get(),
        333_334,
        "a minute of the hour's price, rounded up"
    );
    cloud.control.step().await.unwrap();
    site.sync(&cloud).await;
    let sold = &site.intent().attempts[0].sku;
    assert_eq!((sold.name.as_str(), sold.cpus_milli, sold.memory_bytes), ("cpu.half", 500, GIB));
    site.says(&cloud, job, 1, running(&cloud)).await;
    cloud.world.pass_seconds(20);
    let more = UsageEvent { quantity: 4_502, ..half_core_of(&site, &cloud, &tenant, job, "0") };
    let receipt = site.uses(&cloud, &[half_core_of(&site, &cloud, &tenant, job, "1"), more]).await;
    assert_eq!((&receipt["accepted"], receipt["refused"].as_array().unwrap().len()), (&json!(1), 1), "{receipt}");
    site.says(&cloud, job, 1, ended(&cloud, "finished", true)).await;
    let after = cloud.balances(tenant.organisation).await;
    assert_eq!((after.accrued.get(), after.held.get()), (50_000, 0));

    let log = cloud.get(&cloud.operator, "/api/v1/audit?limit=500").await.good();
    let entry = log["items"].as_array().unwrap().iter().filter_map(|item| item["body"].as_str());
    let entry: Vec<Value> = entry.map(|body| serde_json::from_str(body).unwrap()).collect();
    let entry = entry.iter().find(|entry| entry["object"] == "cpu.half").unwrap();
    assert_eq!((&entry["action"], &entry["policy"]), (&json!("sku:write"), &json!("role.operator")));
    assert_eq!((&entry["facts"]["cpus_milli"], &entry["facts"]["units"]), (&json!(500), &json!(1)));
}

#[tokio::test]
async fn a_retired_sku_takes_no_new_work_and_what_was_admitted_runs_and_is_billed() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    create(&cloud, "cpu.half", json!({ "cpus_milli": 500 })).await.good();
    let runs = id_of(&submit(&cloud, &tenant, &dataset, "cpu.half").await.good());
    cloud.control.step().await.unwrap();
    site.says(&cloud, runs, 1, running(&cloud)).await;
    let waits = id_of(&submit(&cloud, &tenant, &dataset, "cpu.half").await.good());
    let all = names(&cloud, &tenant.owner, "").await;
    assert_eq!(all, ["cpu.1", "cpu.2", "cpu.4", "cpu.half", "gpu.1"]);

    let retire = async || cloud.call(&cloud.operator, "sku_retire", &["cpu.half"], Value::Null).await.good();
    let retired = retire().await;
    assert!(retired["retired_at"].as_str().unwrap().starts_with("2026-11-22T09:30:00"), "{retired}");
    cloud.world.pass_seconds(5);
    assert_eq!(retire().await, retired, "twice is the same act");
    let cloud = cloud.restarted().await;
    assert_eq!(names(&cloud, &tenant.owner, "").await, ["cpu.1", "cpu.2", "cpu.4", "gpu.1"]);
    assert_eq!(names(&cloud, &tenant.owner, "?all=true").await, all);
    let refused = submit(&cloud, &tenant, &dataset, "cpu.half").await;
    assert_eq!(refused.problem(), "conflict");
    assert!(
        refused.text.contains("`cpu.half` is retired") && refused.text.contains("there are `cpu.1`"),
        "{refused:?}"
    );
    let again = create(&cloud, "cpu.half", json!({ "cpus_milli": 600 })).await;
    assert_eq!(again.problem(), "taken", "what was billed goes by the old shape");

    cloud.control.step().await.unwrap();
    assert_eq!(cloud.job_read(&tenant, waits).await["state"], "starting", "it was admitted before");
    site.sync(&cloud).await;
    let told: Vec<_> = site.intent().attempts.iter().map(|attempt| attempt.sku.cpus_milli).collect();
    assert_eq!(told, [500, 500], "its site is told the shape that was sold");
    cloud.world.pass_seconds(20);
    let receipt = site.uses(&cloud, &[half_core_of(&site, &cloud, &tenant, runs, "1")]).await;
    assert_eq!(receipt["accepted"], 1, "{receipt}");
    assert_eq!(cloud.balances(tenant.organisation).await.accrued.get(), 50_000);
}

#[tokio::test]
async fn every_plane_goes_by_the_catalogue_as_it_stands_now() {
    let (first, mut site, tenant, dataset) = with_dataset().await;
    let second = first.beside().await;
    create(&first, "cpu.half", json!({ "cpus_milli": 500 })).await.good();
    let job = id_of(&submit(&second, &tenant, &dataset, "cpu.half").await.good());
    // The one that did not add it makes the pass, the other tells the site, and takes its usage.
    second.control.step().await.unwrap();
    assert_eq!(second.job_read(&tenant, job).await["state"], "starting");
    site.says(&second, job, 1, running(&second)).await;
    assert_eq!(site.intent().attempts[0].sku.cpus_milli, 500);
    first.world.pass_seconds(20);
    let receipt = site.uses(&second, &[half_core_of(&site, &second, &tenant, job, "1")]).await;
    assert_eq!(receipt["accepted"], 1, "{receipt}");
    second.call(&second.operator, "sku_retire", &["cpu.half"], Value::Null).await.good();
    assert_eq!(submit(&first, &tenant, &dataset, "cpu.half").await.problem(), "conflict");
    // Both began: what one found there, the other did not add once more.
    assert_eq!(names(&first, &tenant.owner, "?all=true").await.len(), 5);
}

#[tokio::test]
async fn what_makes_no_sku_is_refused_by_field() {
    let cloud = Cloud::open().await;
    let wrong = [
        ("cpu.0", json!({ "cpus_milli": 0 }), "cpus_milli"),
        ("cpu.x", json!({ "cpus_milli": 4_096_001 }), "cpus_milli"),
        ("cpu.x", json!({ "memory_bytes": 0 }), "memory_bytes"),
        ("cpu.x", json!({ "memory_bytes": 65_u64 << 40 }), "memory_bytes"),
        ("gpu.x", json!({ "gpus": 1_025 }), "gpus"),
        ("Cpu", json!({}), "name"),
        (".cpu", json!({}), "name"),
        ("", json!({}), "name"),
        (&"a".repeat(64), json!({}), "name"),
        ("cpu.x", json!({ "family": "a/b" }), "family"),
        ("cpu.x", json!({ "units": 0 }), "units"),
        ("gpu.x", json!({ "gpu_model": "H100" }), "gpu_model"),
        ("gpu.x", json!({ "gpus": 1, "gpu_model": "" }), "gpu_model"),
        ("gpu.x", json!({ "gpu_milli": 0 }), "gpu_milli"),
        ("gpu.x", json!({ "gpu_milli": 1_000 }), "gpu_milli"),
        ("gpu.x", json!({ "gpu_milli": 500, "gpus": 1 }), "gpu_milli"),
    ];
    for (name, more, field) in wrong {
        let told = create(&cloud, name, more.clone()).await;
        assert_eq!(told.problem(), "invalid_request", "{name} {more}");
        assert!(told.text.contains(&format!("`{field}` is not usable")), "{}", told.text);
    }
    let part = create(&cloud, "gpu.half", json!({ "gpu_milli": 500, "gpu_model": "H100" })).await;
    assert_eq!(part.problem(), "not_implemented");
    assert!(part.text.contains("not offered yet") && part.text.contains("MIG instances"), "{}", part.text);
    assert_eq!(create(&cloud, "cpu.1", json!({})).await.problem(), "taken");
    assert_eq!(names(&cloud, &cloud.operator, "?all=true").await.len(), 4, "what was refused added nothing");
    let unknown = cloud.call(&cloud.operator, "sku_retire", &["cpu.3"], Value::Null).await;
    assert_eq!(unknown.problem(), "not_found");
}

#[tokio::test]
async fn a_quota_counts_all_skus_of_its_family() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    for (name, milli) in [("small.a", 500), ("small.b", 250)] {
        create(&cloud, name, json!({ "cpus_milli": milli, "family": "small" })).await.good();
    }
    let set = async |family: &str, quota: Value| {
        cloud.call(&cloud.operator, "quota_write", &[&tenant.organisation(), family], quota).await
    };
    set("small", json!({ "guarantee": 1, "borrow_max": 1 })).await.good();
    let told = set("small.a", json!({ "guarantee": 1 })).await;
    assert_eq!(told.problem(), "invalid_request");
    assert!(told.text.contains("counts `small.a` as `small`") || told.text.contains("count `small.a` as `small`"));
    let told = set("smal", json!({ "guarantee": 1 })).await;
    assert!(told.text.contains("`cpu.1`, `cpu.2`, `cpu.4`, `gpu.1`, `small`"), "{}", told.text);

    let mut jobs = Vec::new();
    for sku in ["small.a", "small.b", "small.b"] {
        jobs.push(id_of(&submit(&cloud, &tenant, &dataset, sku).await.good()));
    }
    cloud.control.step().await.unwrap();
    site.sync(&cloud).await;
    assert_eq!(site.intent().attempts.len(), 2, "room is there for three, the quota is for two");
    let waits = cloud.job_read(&tenant, jobs[2]).await;
    assert!(waits["waits_for"].as_str().unwrap().contains("`small`"), "{waits}");
    let listed = cloud.call(&tenant.owner, "quotas_list", &[&tenant.organisation()], Value::Null).await.good();
    let one = &listed["items"][0];
    assert_eq!((&one["sku"], &one["used"], &one["borrowed"]), (&json!("small"), &json!(2), &json!(1)), "{listed}");
    // What counts for more than the whole quota is refused at once, with the numbers it is refused by.
    create(&cloud, "small.c", json!({ "family": "small", "units": 3 })).await.good();
    let told = submit(&cloud, &tenant, &dataset, "small.c").await;
    assert_eq!(told.problem(), "never_fits");
    assert!(told.text.contains("takes 3 of `small`, and its organisation may use 2 at most"), "{}", told.text);
    // The scheduler counts them so too: of four units two are used, and two are left for three.
    set("small", json!({ "guarantee": 1, "borrow_max": 3 })).await.good();
    let large = id_of(&submit(&cloud, &tenant, &dataset, "small.c").await.good());
    cloud.call(&tenant.owner, "job_cancel", &[&jobs[2].to_string()], json!({})).await.good();
    cloud.control.step().await.unwrap();
    let waits = cloud.job_read(&tenant, large).await;
    assert!(
        waits["waits_for"]
            .as_str()
            .unwrap()
            .contains("1 of 3 units of `small` short within its quota (2 used, 1 its own)"),
        "{waits}"
    );
    // Of another family there is no quota.
    let other = id_of(&submit(&cloud, &tenant, &dataset, "cpu.1").await.good());
    cloud.control.step().await.unwrap();
    assert_eq!(cloud.job_read(&tenant, other).await["state"], "starting");
}

#[tokio::test]
async fn a_sku_gets_a_price_of_its_own_and_dearer_only_while_nothing_is_on_it() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    create(&cloud, "cpu.half", json!({ "cpus_milli": 500 })).await.good();
    let price = async |wanted: Value| cloud.call(&cloud.operator, "sku_price", &["cpu.half"], wanted).await;
    // A cent a core-hour of a job: half a cent an hour of this; in five minutes, and four times as much until then.
    let priced = price(json!({ "core_hour_nano": 10_000_000 })).await.good();
    assert_eq!((&priced["price"]["job_hour_nano"], &priced["price"]["book"]), (&json!(20_000_000), &json!(1)));
    assert_eq!((&priced["next_price"]["job_hour_nano"], &priced["next_price"]["book"]), (&json!(5_000_000), &json!(2)));
    assert_eq!(priced["next_price"]["by_any"], json!(["replica_core"]), "what was not said stays as it was");
    assert_eq!(price(json!({ "core_hour_nano": 10_000_000 })).await.good(), priced, "twice is the same act");
    cloud.world.pass_seconds(301);
    let now = cloud.call(&tenant.owner, "sku_read", &["cpu.half"], Value::Null).await.good();
    assert_eq!((&now["price"], &now["next_price"]), (&priced["next_price"], &Value::Null));
    submit(&cloud, &tenant, &dataset, "cpu.half").await.good();
    assert_eq!(cloud.balances(tenant.organisation).await.held.get(), 83_334);

    let refused = price(json!({ "core_hour_nano": 10_000_001 })).await;
    assert_eq!(refused.problem(), "conflict");
    assert!(refused.text.contains("1 jobs, 0 served models and 0 reservations are on `cpu.half`"), "{}", refused.text);
    let cheaper = price(json!({ "core_hour_nano": 8_000_000, "served_core_hour_nano": 0 })).await.good();
    assert_eq!((&cheaper["next_price"]["book"], &cheaper["next_price"]["by_any"]), (&json!(3), &json!([])));
    site.sync(&cloud).await;
    assert_eq!(site.intent().price_books.len(), 3, "the site learns of it");
    let other = cloud.call(&tenant.owner, "sku_read", &["cpu.1"], Value::Null).await.good();
    assert_eq!(
        (&other["price"]["job_hour_nano"], &other["next_price"]),
        (&json!(40_000_000), &Value::Null),
        "as it was"
    );
    for wrong in [json!({}), json!({ "core_hour_nano": 1_000_000_000_000_001_u64 }), json!({ "core_hour_nano": -1 })] {
        assert_eq!(price(wrong).await.problem(), "invalid_request");
    }
    let unknown = cloud.call(&cloud.operator, "sku_price", &["cpu.3"], json!({ "core_hour_nano": 1 })).await;
    assert_eq!(unknown.problem(), "not_found");
}

#[tokio::test]
async fn what_is_rated_before_a_price_is_set_comes_to_the_same_on_the_invoice_however_far_ahead_its_site_is() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    create(&cloud, "cpu.half", json!({ "cpus_milli": 500, "price": { "core_hour_nano": 10_000_000 } })).await.good();
    let job = id_of(&submit(&cloud, &tenant, &dataset, "cpu.half").await.good());
    cloud.control.step().await.unwrap();
    site.says(&cloud, job, 1, running(&cloud)).await;
    cloud.world.pass_seconds(20);
    // As far ahead of control's clock as a record may be, and rated by the price of now.
    let ahead = |event: UsageEvent, seconds: i64| UsageEvent {
        started_at: event.started_at.plus_seconds(seconds),
        ended_at: event.ended_at.plus_seconds(seconds),
        ..event
    };
    let before = ahead(half_core_of(&site, &cloud, &tenant, job, "1"), 300);
    site.uses(&cloud, &[before]).await;
    assert_eq!(cloud.balances(tenant.organisation).await.accrued.get(), 12_500, "a cent an hour");
    let wanted = json!({ "core_hour_nano": 8_000_000 });
    cloud.call(&cloud.operator, "sku_price", &["cpu.half"], wanted).await.good();
    // The other side of the change, as soon as it may be.
    cloud.world.pass_seconds(1);
    let after = ahead(half_core_of(&site, &cloud, &tenant, job, "2"), 300);
    site.uses(&cloud, &[after]).await;
    assert_eq!(cloud.balances(tenant.organisation).await.accrued.get(), 12_500 + 10_000, "then four fifths of it");
    site.says(&cloud, job, 1, ended(&cloud, "finished", true)).await;

    let organisation = tenant.organisation();
    let draft = cloud.call(&tenant.owner, "invoice_draft", &[&organisation], Value::Null).await.good();
    let draft: InvoiceDraft = serde_json::from_value(draft).unwrap();
    let records = cloud.get(&tenant.owner, &format!("/api/v1/organisations/{organisation}/usage")).await.good();
    let books = cloud.store.price_books_all().await.unwrap();
    let again = recompute(&draft, &books, records["items"].as_array().unwrap()).unwrap();
    assert!(again.agrees(), "{:?}", again.differences);
    let rated = draft.lines.iter().map(|line| (line.price_book, line.quantity)).collect::<Vec<_>>();
    assert_eq!(rated, [(2, 4_500), (3, 4_500)], "each by the book it was charged by");
}

#[tokio::test]
async fn what_is_held_covers_a_price_that_is_set_and_does_not_hold_yet() {
    let (cloud, _, tenant, dataset) = with_dataset().await;
    create(&cloud, "cpu.half", json!({ "cpus_milli": 500, "price": { "core_hour_nano": 10_000_000 } })).await.good();
    let wanted = json!({ "core_hour_nano": 20_000_000 });
    cloud.call(&cloud.operator, "sku_price", &["cpu.half"], wanted).await.good();
    // Of its own from the first moment, in the book that holds now and in the one that comes.
    let other = json!({ "cpus_milli": 500, "price": { "core_hour_nano": 60_000_000 } });
    let made = create(&cloud, "cpu.late", other).await.good();
    assert_eq!((&made["price"]["job_hour_nano"], &made["next_price"]), (&json!(30_000_000), &Value::Null));
    submit(&cloud, &tenant, &dataset, "cpu.half").await.good();
    assert_eq!(cloud.balances(tenant.organisation).await.held.get(), 166_667, "it may run at twice the price of now");
    cloud.world.pass_seconds(301);
    let half = cloud.call(&tenant.owner, "sku_read", &["cpu.half"], Value::Null).await.good();
    assert_eq!(half["price"]["job_hour_nano"], 10_000_000);
    let late = cloud.call(&tenant.owner, "sku_read", &["cpu.late"], Value::Null).await.good();
    assert_eq!(late["price"]["job_hour_nano"], 30_000_000, "the book that came has it too");
}
