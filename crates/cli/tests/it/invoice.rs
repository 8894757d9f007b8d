//! Invoices: computed again on the tenant's side, with and without a server.

use serde_json::{Value, json};

use crate::fake::{Fake, ORG, PRJ, SITE, type_in};

const PRICE: u64 = 40_000_000;
const HOUR_MS: u64 = 3_600_000;

fn record(number: u32, hours: u64) -> Value {
    json!({
        "id": format!("{number:064x}"), "organisation": ORG, "project": PRJ, "site": SITE, "meter": "compute_core", "item": "cpu.1",
        "quantity": hours * HOUR_MS, "subject": "job_1", "started_at": "2026-11-22T09:00:00Z", "ended_at": "2026-11-22T10:00:00Z",
        "allowance": null, "estimated": null, "unit": "core_ms",
    })
}

fn price() -> Value {
    json!({ "book": 1, "meter": "compute_core", "item": "*", "nano": PRICE, "per": HOUR_MS, "unit": "core_ms", "label": "CPU core, per hour" })
}

/// Three hours at 0.04 EUR: 0.12 EUR and 20 % VAT.
fn draft() -> Value {
    json!({
        "organisation": ORG, "from": "2026-11-01T00:00:00Z", "until": "2026-12-01T00:00:00Z",
        "lines": [{ "meter": "compute_core", "item": "cpu.1", "label": "CPU core, per hour", "quantity": 3 * HOUR_MS, "unit": "core_ms",
            "price_nano": PRICE, "price_per": HOUR_MS, "price_book": 1, "net": 12, "records": 2 }],
        "net": 12, "vat_rule": "domestic", "vat_basis_points": 2000, "vat": 2, "total": 14, "currency": "EUR",
    })
}

fn usage() -> String {
    format!("GET /api/v1/organisations/{ORG}/usage")
}

fn invoice() -> String {
    format!("GET /api/v1/organisations/{ORG}/invoice-draft")
}

async fn billed(records: &[Value]) -> Fake {
    let fake = Fake::start().await;
    fake.on(&invoice(), &draft());
    fake.on(&usage(), &json!({ "items": records }));
    fake.on("GET /api/v1/prices", &json!({ "items": [price()] }));
    fake
}

#[tokio::test]
async fn a_draft_shows_its_lines_and_vat() {
    let fake = billed(&[]).await;
    let said = fake.run(&["invoice", "draft", "--month", "2026-11"]).await;
    assert_eq!((said.exit, said.err.as_str()), (0, ""));
    insta::assert_snapshot!(said.out, @r"
    LINE                ITEM     QUANTITY  UNIT        PRICE        FOR  NET EUR
    CPU core, per hour  cpu.1  10,800,000  core_ms  0.04 EUR  3,600,000     0.12

    organisation  org_00000000000000000000000001
    period        2026-11-01T00:00:00.000Z until 2026-12-01T00:00:00.000Z
    net           0.12 EUR
    VAT           0.02 EUR (20.00 %, domestic)
    total         0.14 EUR (draft, not issued)
    ");
    let query = &fake.asked(&invoice())[0].query;
    assert_eq!(query, "from=2026-11-01T00%3A00%3A00.000Z&until=2026-12-01T00%3A00%3A00.000Z");
}

#[tokio::test]
async fn an_honest_draft_re_derives_from_the_records() {
    let fake = billed(&[record(1, 1), record(2, 2)]).await;
    let said = fake.run(&["invoice", "verify"]).await;
    assert_eq!((said.exit, said.err.as_str()), (0, ""));
    insta::assert_snapshot!(said.out, @r"
    records       2
    net           0.12 EUR
    VAT           0.02 EUR
    total         0.14 EUR
    on the draft  0.14 EUR
    agrees        yes
    ");
    let json = fake.run(&["invoice", "verify", "--json"]).await.json();
    assert_eq!((&json["agrees"], &json["total_eur"], &json["differences"]), (&json!(true), &json!("0.14"), &json!([])));
}

#[tokio::test]
async fn a_changed_record_is_found_and_the_line_is_named() {
    let fake = billed(&[record(1, 1), record(2, 1)]).await;
    let said = fake.run(&["invoice", "verify"]).await;
    assert_eq!(said.exit, 1);
    insta::assert_snapshot!(said.out, @r"
    records       2
    net           0.08 EUR
    VAT           0.02 EUR
    total         0.10 EUR
    on the draft  0.14 EUR
    agrees        no
    differs       `cpu.1` on `compute_core` by price book 1: quantity is 7200000 by the records, 10800000 on the invoice
    differs       `cpu.1` on `compute_core` by price book 1: 0.08 by the records, 0.12 on the invoice
    differs       net: 0.08 by the records, 0.12 on the invoice
    differs       total: 0.10 by the records, 0.14 on the invoice
    ");
    assert!(
        said.err.starts_with("error: the draft does not re-derive from the records: 4 differences\n"),
        "{}",
        said.err
    );
}

#[tokio::test]
async fn use_that_arrives_between_draft_and_records_is_read_again() {
    let fake = Fake::start().await;
    let mut before = draft();
    before["lines"] = json!([]);
    for sum in ["net", "vat", "total"] {
        before[sum] = json!(0);
    }
    fake.on(&invoice(), &before).on(&invoice(), &draft());
    fake.on(&usage(), &json!({ "items": [record(1, 1), record(2, 2)] }));
    fake.on("GET /api/v1/prices", &json!({ "items": [price()] }));
    let said = fake.run(&["invoice", "verify"]).await;
    assert_eq!(said.exit, 0, "{}{}", said.out, said.err);
}

#[tokio::test]
async fn what_json_printed_verifies_later_without_a_server_or_a_key() {
    let fake = billed(&[record(1, 1), record(2, 2)]).await;
    let mut files = Vec::new();
    for (name, verb) in [("draft", ["invoice", "draft"]), ("usage", ["usage", "list"]), ("prices", ["price", "list"])] {
        let said = fake.run(&[verb[0], verb[1], "--json"]).await;
        let path = fake.state.path().join(name);
        std::fs::write(&path, said.out).unwrap();
        files.push(path.to_str().unwrap().to_owned());
    }
    let args = ["invoice", "verify", "--key", "", "--draft", &files[0], "--usage", &files[1], "--prices", &files[2]];
    let said = type_in(&args, None, "", true).await;
    assert_eq!((said.exit, said.err.as_str()), (0, ""), "{}", said.out);

    // One record changed by one unit of a thousand hours is seen; so is one that is gone.
    let text = std::fs::read_to_string(&files[1]).unwrap();
    std::fs::write(&files[1], text.replace("7200000", "7199999")).unwrap();
    let said = type_in(&args, None, "", true).await;
    assert_eq!(said.exit, 1);
    assert!(said.out.contains("quantity is 10799999 by the records, 10800000 on the invoice"), "{}", said.out);
}

#[tokio::test]
async fn a_draft_rated_by_an_older_price_book_asks_for_it() {
    let fake = billed(&[record(1, 1), record(2, 2)]).await;
    fake.forget("GET /api/v1/prices");
    let mut newer = price();
    newer["book"] = json!(2);
    fake.on("GET /api/v1/prices", &json!({ "items": [newer] }));
    let said = fake.run(&["invoice", "verify"]).await;
    assert_eq!(said.exit, 1);
    assert!(
        said.err.starts_with("error: the draft was rated by price book 1, which is not among the prices\n"),
        "{}",
        said.err
    );
}

#[tokio::test]
async fn a_sum_shows_the_unit_people_think_in() {
    let fake = Fake::start().await;
    let item = |meter: &str, unit: &str, quantity: u64| json!({ "meter": meter, "item": "cpu.1", "quantity": quantity, "unit": unit, "records": 3 });
    let summary = json!({ "from": "2026-11-01T00:00:00Z", "until": "2026-12-01T00:00:00Z",
        "items": [item("compute_core", "core_ms", 5_400_000), item("energy", "mJ", 3_600_000_000)] });
    fake.on(&format!("GET /api/v1/organisations/{ORG}/usage/summary"), &summary);
    let said = fake.run(&["usage", "summary"]).await;
    insta::assert_snapshot!(said.out, @r"
    METER         ITEM        QUANTITY  UNIT               SHOWN  RECORDS
    compute_core  cpu.1      5,400,000  core_ms          1.500 h        3
    energy        cpu.1  3,600,000,000  mJ       1.000000000 kWh        3
    ");
    assert_eq!(said.err, "from 2026-11-01T00:00:00.000Z until 2026-12-01T00:00:00.000Z\n");
}
