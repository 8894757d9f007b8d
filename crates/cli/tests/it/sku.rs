//! `gregal sku`: what is sent, what it will cost, and what is asked twice.

use serde_json::{Value, json};

use crate::fake::{AT, Fake};

fn sku(more: Value) -> Value {
    let mut sku = json!({ "name": "h100.8", "cpus_milli": 96_000, "memory_bytes": 1_800_u64 << 30, "gpus": 8,
        "gpu_model": "NVIDIA H100 80GB HBM3", "family": "h100", "units": 8, "retired_at": null,
        "price": { "book": 2, "job_hour_nano": 23_040_000_000_i64, "served_hour_nano": null,
            "by_any": ["compute_core", "accelerator"] } });
    sku.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    sku
}

#[tokio::test]
async fn a_new_sku_shows_what_it_will_cost_and_warns_where_that_is_the_price_of_everything() {
    let fake = Fake::start().await;
    fake.on("POST /api/v1/skus", &sku(json!({})));
    let create = ["sku", "create", "h100.8", "--cores", "96", "--memory", "1800GiB", "--gpus", "8"];
    let more = ["--gpu-model", "NVIDIA H100 80GB HBM3", "--family", "h100"];
    let said = fake.run(&[&create[..], &more].concat()).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    insta::assert_snapshot!(said.out, @r"
    name              h100.8
    cores             96
    memory            1.7 TiB
    gpus              8
    gpu model         NVIDIA H100 80GB HBM3
    family            h100
    units             8
    an hour of a job  23.04 EUR
    ");
    assert_eq!(
        said.err,
        "`h100.8` has no price of its own on `compute_core`, `accelerator`: the price of every item (`*`) holds\n"
    );
    let asked = &fake.asked("POST /api/v1/skus")[0];
    assert_eq!(
        asked.json(),
        json!({ "name": "h100.8", "cpus_milli": 96_000, "memory_bytes": 1_800_u64 << 30, "gpus": 8,
            "gpu_model": "NVIDIA H100 80GB HBM3", "family": "h100" })
    );
    assert!(asked.once.is_some(), "a create carries an idempotency key");

    let own = json!({ "price": { "book": 3, "job_hour_nano": 1, "served_hour_nano": null, "by_any": [] } });
    fake.forget("POST /api/v1/skus");
    fake.on("POST /api/v1/skus", &sku(own));
    assert_eq!(fake.run(&create).await.err, "");
    fake.forget("POST /api/v1/skus");
    fake.on("POST /api/v1/skus", &sku(json!({ "price": null })));
    assert!(fake.run(&create).await.err.contains("no price book has a price"));
}

#[tokio::test]
async fn a_sku_is_retired_only_by_who_says_so_twice() {
    let fake = Fake::start().await;
    fake.on("DELETE /api/v1/skus/h100.8", &sku(json!({ "retired_at": AT })));
    let said = fake.run(&["sku", "retire", "h100.8"]).await;
    assert_eq!((said.exit, said.out.as_str()), (1, ""));
    assert!(said.err.contains("gregal sku retire h100.8 --yes"), "{}", said.err);
    assert!(fake.asked("DELETE /api/v1/skus/h100.8").is_empty());
    let said = fake.run(&["sku", "retire", "h100.8", "--yes"]).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    assert!(said.out.contains("retired           2026-11-22T09:30:00.000Z"), "{}", said.out);
}

#[tokio::test]
async fn retired_ones_are_listed_when_asked_for() {
    let fake = Fake::start().await;
    fake.on("GET /api/v1/skus", &json!({ "items": [sku(json!({ "retired_at": AT }))] }));
    fake.run(&["sku", "list"]).await;
    let said = fake.run(&["sku", "list", "--all"]).await;
    assert!(said.out.lines().nth(1).unwrap().ends_with("2026-11-22T09:30:00.000Z"), "{}", said.out);
    let queries: Vec<_> = fake.asked("GET /api/v1/skus").into_iter().map(|asked| asked.query).collect();
    assert_eq!(queries, ["all=false&limit=500", "all=true&limit=500"]);
}
