//! Reservations and the calendar: what is asked for, and what is shown.

use serde_json::{Value, json};

use crate::fake::{Fake, ORG, PRJ};

const RSV: &str = "rsv_00000000000000000000000009";

fn reservation() -> Value {
    json!({
        "id": RSV, "organisation": ORG, "project": PRJ, "shared": false, "name": "nightly",
        "site": "site_00000000000000000000000003", "sku": "cpu.1", "count": 2, "from": "2026-11-23T18:00:00.000Z",
        "until": "2026-11-24T06:00:00.000Z", "clean_ms": 300_000, "state": "booked", "message": null,
        "active_since": null, "billed_until": null, "held_nano": 960_000_000, "charged_nano": 0,
        "created_at": "2026-11-22T09:30:00.000Z", "cancelled_at": null, "ended_at": null,
    })
}

#[tokio::test]
async fn a_block_is_booked_for_a_length_and_quoted_without_being_booked() {
    let fake = Fake::start().await;
    let path = format!("/api/v1/projects/{PRJ}/reservations");
    let quote = json!({
        "fits": false, "cost_nano": 960_000_000, "available_nano": 25_000_000_000_i64,
        "why": "1 of 2 cores short (1 of 2 free) from 2026-11-23T18:00:00.000Z on at `lyon`",
        "next_from": "2026-11-24T08:05:00.000Z", "from": "2026-11-23T18:00:00.000Z", "until": "2026-11-24T06:00:00.000Z",
        "clean_ms": 300_000,
    });
    fake.on(&format!("POST {path}"), &reservation()).on(&format!("POST {path}/quote"), &quote);
    let asked =
        ["reservation", "create", "nightly", "--project", PRJ, "--site", "lyon", "--sku", "cpu.1", "--count", "2"];
    let asked = [&asked[..], &["--from", "2026-11-23T18:00:00Z", "--for", "12h"]].concat();
    let said = fake.run(&[&asked[..], &["--dry-run"]].concat()).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    insta::assert_snapshot!(said.out, @r"
    fits       no
    why not    1 of 2 cores short (1 of 2 free) from 2026-11-23T18:00:00.000Z on at `lyon`
    fits from  2026-11-24T08:05:00.000Z
    cost       0.96 EUR
    available  25.00 EUR
    from       2026-11-23T18:00:00.000Z
    until      2026-11-24T06:00:00.000Z
    cleaning   300 s before and after
    ");
    assert!(fake.asked(&format!("POST {path}")).is_empty(), "nothing is booked");
    let said = fake.run(&asked).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    assert_eq!(
        fake.asked(&format!("POST {path}"))[0].json(),
        json!({
            "name": "nightly", "site": "lyon", "sku": "cpu.1", "count": 2, "from": "2026-11-23T18:00:00.000Z",
            "until": "2026-11-24T06:00:00.000Z", "shared": false,
        })
    );
    assert!(said.out.contains("price    0.96 EUR, 0.00 EUR of it charged"), "{}", said.out);
    assert!(said.err.contains("gregal job run --reservation nightly"), "{}", said.err);
}

#[tokio::test]
async fn a_reservation_is_found_by_its_name_and_called_off() {
    let fake = Fake::start().await;
    let over = json!({ "id": "rsv_00000000000000000000000008", "state": "ended" });
    let mut old = reservation();
    old.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
    fake.on(&format!("GET /api/v1/projects/{PRJ}/reservations"), &json!({ "items": [old, reservation()] }));
    fake.on(&format!("POST /api/v1/reservations/{RSV}/cancel"), &reservation());
    let said = fake.run(&["reservation", "cancel", "nightly", "--project", PRJ]).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    assert_eq!(fake.asked(&format!("POST /api/v1/reservations/{RSV}/cancel")).len(), 1, "the one that is not over");
    let said = fake.run(&["reservation", "list", "--project", PRJ]).await;
    assert!(said.out.lines().count() == 3 && said.out.contains("booked"), "{}", said.out);
    let said = fake.run(&["reservation", "cancel", "weekly", "--project", PRJ]).await;
    assert_eq!(said.exit, 1);
    assert!(said.err.contains("no reservation is called `weekly`"), "{}", said.err);
}

#[tokio::test]
async fn the_calendar_is_a_table_of_what_is_free() {
    let fake = Fake::start().await;
    let free = |cores: u64, fits: Value| json!({ "cpus_milli": cores, "memory_bytes": 8_u64 << 30, "accelerators": 0, "fits": fits });
    let step = |from: &str, until: &str, free: Value| {
        let mut step = json!({ "from": from, "until": until });
        step.as_object_mut().unwrap().extend(free.as_object().unwrap().clone());
        step
    };
    let (first, second, third) = ("2026-11-22T09:30:00.000Z", "2026-11-23T18:00:00.000Z", "2026-11-29T09:30:00.000Z");
    fake.on(
        "GET /api/v1/sites/lyon/calendar",
        &json!({
            "site": "site_00000000000000000000000003", "name": "lyon", "alive": true, "from": first, "until": third,
            "clean_ms": 300_000, "all": free(2_000, json!([{ "sku": "cpu.1", "count": 2 }])),
            "steps": [
                step(first, second, free(2_000, json!([{ "sku": "cpu.1", "count": 2 }, { "sku": "cpu.2", "count": 1 }]))),
                step(second, third, free(0, json!([]))),
            ],
        }),
    );
    let said = fake.run(&["calendar", "lyon"]).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    insta::assert_snapshot!(said.out, @r"
    FROM                      UNTIL                      CORES              MEMORY  ACCELERATORS  FITS
    2026-11-22T09:30:00.000Z  2026-11-23T18:00:00.000Z  2 of 2  8.0 GiB of 8.0 GiB        0 of 0  2 cpu.1, 1 cpu.2
    2026-11-23T18:00:00.000Z  2026-11-29T09:30:00.000Z  0 of 2  8.0 GiB of 8.0 GiB        0 of 0  nothing
    ");
}
