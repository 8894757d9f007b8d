//! Issued invoices: numbered without gaps, never changed, computed again by anyone; late use, credit notes, payments.

use gregal_control::Invoicing;
use gregal_core::{
    id::{JobId, SiteId},
    invoice::{
        self, Address, Billing, Exported, Gathered, Invoice, Numbered, Reach, Seller, VerifyError, digest, number,
        verify,
    },
    meter::{Meter, UsageEvent},
    money::Nano,
    month::Month,
    world::World as _,
};
use serde_json::{Value, json};

use crate::world::{Cloud, FakeSite, Tenant, entry, running, with_dataset};

pub(crate) fn invoicing(after_s: Option<u32>) -> Invoicing {
    let address = Address { street: "1 rue Mercière".into(), city: "Lyon".into(), post_code: "69002".into() };
    let seller = Seller {
        name: "Gregal SAS".into(),
        registration: "732829320".into(),
        vat_id: "FR44732829320".into(),
        country: "FR".parse().unwrap(),
        address,
        iban: "FR7630006000011234567890189".into(),
        electronic: None,
    };
    Invoicing { seller, series: "T".into(), due_days: 30, after_s }
}

pub(crate) fn billing() -> Value {
    json!({ "legal_name": "Acme SARL", "street": "2 rue du Port", "post_code": "69001", "city": "Lyon", "vat_id": "FR 40 303 265 045" })
}

/// Puts the invoice of October into the store, of 1000 euro: numbered `T-000001`.
pub(crate) async fn issued_before(cloud: &Cloud, tenant: &Tenant, site: SiteId) {
    let month: Month = "2026-10".parse().unwrap();
    let event = UsageEvent {
        id: UsageEvent::id_of(site, "job_1", Meter::ComputeCore, "october"),
        organisation: tenant.organisation,
        project: tenant.project,
        site,
        meter: Meter::ComputeCore,
        item: "cpu.1".into(),
        quantity: 3_600_000 * 25_000,
        subject: "job_1".into(),
        started_at: month.from,
        ended_at: month.from,
        allowance: None,
        estimated: None,
    };
    let organisation = cloud.store.organisation_get(tenant.organisation).await.unwrap().unwrap();
    let books = cloud.store.price_books_all().await.unwrap();
    let mut gathered = Gathered::new(&organisation, month, &books);
    gathered.add(&event, Nano::ZERO).unwrap();
    let lines = gathered.made().unwrap();
    let address = Address { street: "1".into(), city: "Lyon".into(), post_code: "69001".into() };
    let billing =
        Billing { legal_name: "Acme".into(), address, reference: None, order: None, electronic: None, exemption: None };
    let numbered = Numbered { number: number("T", 1), at: month.until };
    let seller = invoicing(None).seller;
    let period = (month, Reach::default(), 0);
    let invoice = invoice::issue(numbered, (&organisation, &billing), (&seller, 30), period, lines).unwrap().unwrap();
    let tx = cloud.store.begin().await.unwrap();
    tx.invoice_insert("T", 1, &invoice).await.unwrap();
    tx.commit(&[entry(cloud.world.now(), "test:invoice")]).await.unwrap();
}

/// A tenant with billing details and a running job on 22 November; the cloud issues invoices.
async fn billed(after_s: Option<u32>) -> (Cloud, FakeSite, Tenant, JobId) {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let cloud = cloud.restarted_invoicing(invoicing(after_s)).await;
    let job = cloud.job(&tenant, &dataset, "first").await;
    cloud.control.step().await.unwrap();
    site.says(&cloud, job, 1, running(&cloud)).await;
    cloud.world.pass_seconds(100);
    cloud.call(&tenant.owner, "billing_write", &[&tenant.organisation()], billing()).await.good();
    (cloud, site, tenant, job)
}

const DAY_S: i64 = 86_400;

fn pass_days(cloud: &Cloud, days: i64) {
    cloud.world.pass_seconds(days * DAY_S);
}

async fn issue(cloud: &Cloud, tenant: &Tenant, month: &str) -> crate::world::Answer {
    cloud.call(&cloud.operator, "invoice_issue", &[&tenant.organisation()], json!({ "month": month })).await
}

fn uses(cloud: &Cloud, site: &FakeSite, tenant: &Tenant, job: JobId, names: &[&str]) -> Vec<UsageEvent> {
    names.iter().map(|name| site.core_seconds(cloud, tenant, job, name, 1_000)).collect()
}

/// What the tenant downloads to compute an invoice again.
async fn export(cloud: &Cloud, tenant: &Tenant, number: &str) -> Vec<String> {
    let path = [&tenant.organisation()[..], number];
    let view = cloud.call(&tenant.owner, "invoice_read", &path, Value::Null).await.good();
    let document = cloud.call(&tenant.owner, "invoice_document", &path, Value::Null).await.text;
    let books = cloud.call(&tenant.owner, "invoice_books", &path, Value::Null).await.good();
    let digest = view["digest"].as_str().unwrap().to_owned();
    let mut lines = vec![Exported::Invoice { digest, document }];
    let books: Vec<gregal_core::price::PriceBook> = serde_json::from_value(books["books"].clone()).unwrap();
    lines.extend(books.into_iter().map(|book| Exported::PriceBook { book }));
    let mut after = String::new();
    loop {
        let route = crate::world::path_of("invoice_records", &path);
        let page = cloud.get(&tenant.owner, &format!("{route}?limit=2{after}")).await.good();
        let records = page["items"].as_array().unwrap().iter().cloned();
        lines.extend(records.map(|record| Exported::Record { record }));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    lines.iter().map(|line| serde_json::to_string(line).unwrap()).collect()
}

fn checked(lines: &[String]) -> Result<gregal_core::invoice::Verified, VerifyError> {
    verify(lines.iter().map(|line| Ok::<_, std::fmt::Error>(line.clone())))
}

/// Leaves a document for the official validators (`cargo xtask test --only invoice`).
fn keep(name: &str, format: &str, text: &str) {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("invoices");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(format!("{name}.{format}.xml")), text).unwrap();
}

#[tokio::test]
async fn a_month_is_issued_once_whole_and_the_tenant_computes_it_again() {
    let (cloud, site, tenant, job) = billed(None).await;
    site.uses(&cloud, &uses(&cloud, &site, &tenant, job, &["a", "b", "c"])).await;
    let used = cloud.balances(tenant.organisation).await.accrued;
    assert_eq!(issue(&cloud, &tenant, "2026-11").await.problem(), "conflict", "the month has not ended");
    pass_days(&cloud, 10);

    let first = issue(&cloud, &tenant, "2026-11").await.good();
    let invoice = &first["invoice"];
    assert_eq!((&invoice["number"], &invoice["lines"][0]["records"]), (&json!("T-000001"), &json!(3)));
    // 3000 s at 0.04 EUR an hour: 0.0333 EUR, and 20 % of 0.03 EUR.
    assert_eq!((&invoice["net"], &invoice["vat"]["amount"], &invoice["total"]), (&json!(3), &json!(1), &json!(4)));
    assert_eq!((&invoice["issued_on"], &invoice["due_on"]), (&json!("2026-12-02"), &json!("2027-01-01")));
    assert_eq!((&first["standing"], &first["due_cents"]), (&json!("issued"), &json!(4)));
    assert_eq!(invoice["buyer"]["vat_id"], "FR40303265045");
    assert_eq!(issue(&cloud, &tenant, "2026-11").await.good(), first, "the same month is the same invoice");

    // What was used left the ledger with the invoice, to the nano-euro.
    let balances = cloud.balances(tenant.organisation).await;
    assert!(used > Nano::ZERO);
    assert_eq!(balances.accrued, Nano::ZERO);

    let path = [&tenant.organisation()[..], "T-000001"];
    let frozen = cloud.call(&tenant.owner, "invoice_document", &path, Value::Null).await;
    assert_eq!(frozen.headers["content-type"], "application/json");
    assert_eq!(digest(&frozen.text), first["digest"]);
    let route = crate::world::path_of("invoice_document", &path);
    for (format, root) in [("ubl", "<Invoice xmlns="), ("cii", "<rsm:CrossIndustryInvoice")] {
        let document = cloud.get(&tenant.owner, &format!("{route}?format={format}")).await;
        assert_eq!(document.headers["content-type"], "application/xml");
        assert!(document.text.contains(root) && document.text.contains("T-000001"), "{}", document.text);
        keep("month", format, &document.text);
    }
    let verified = checked(&export(&cloud, &tenant, "T-000001").await).unwrap();
    assert_eq!((verified.records, verified.lines, verified.total.get()), (3, 1, 4));

    let log = cloud.call(&tenant.owner, "audit_list", &[&tenant.organisation()], Value::Null).await.text;
    assert!(log.contains("invoice:issue") && log.contains(first["digest"].as_str().unwrap()), "{log}");
}

#[tokio::test]
async fn use_that_arrives_after_its_month_was_issued_is_a_line_of_the_next_invoice_that_names_the_month() {
    let (cloud, site, tenant, job) = billed(None).await;
    let november = uses(&cloud, &site, &tenant, job, &["a", "late 1", "late 2"]);
    site.uses(&cloud, &november[..1]).await;
    pass_days(&cloud, 10);
    issue(&cloud, &tenant, "2026-11").await.good();
    let december = uses(&cloud, &site, &tenant, job, &["b"]);
    // Out of order, in several batches, and each twice.
    for batch in [&november[2..], &december[..], &november[1..], &november[..], &december[..]] {
        site.uses(&cloud, batch).await;
    }
    pass_days(&cloud, 31);
    let issued = issue(&cloud, &tenant, "2026-12").await.good();
    let lines = issued["invoice"]["lines"].as_array().unwrap();
    let said: Vec<_> = lines.iter().map(|line| (line["late"].as_str(), line["records"].as_u64().unwrap())).collect();
    assert_eq!(said, [(None, 1), (Some("2026-11"), 2)]);
    assert_eq!(cloud.balances(tenant.organisation).await.accrued, Nano::ZERO);
    for (number, records) in [("T-000001", 1), ("T-000002", 3)] {
        assert_eq!(checked(&export(&cloud, &tenant, number).await).unwrap().records, records);
    }
    // The first one is as it was, and its month cannot be issued anew.
    let first = issue(&cloud, &tenant, "2026-11").await.good();
    assert_eq!(
        (&first["invoice"]["number"], &first["invoice"]["lines"][0]["records"]),
        (&json!("T-000001"), &json!(1))
    );
    assert_eq!(issue(&cloud, &tenant, "2026-10").await.problem(), "conflict");
}

#[tokio::test]
async fn an_export_that_was_tampered_with_names_the_first_difference() {
    let (cloud, site, tenant, job) = billed(None).await;
    site.uses(&cloud, &uses(&cloud, &site, &tenant, job, &["a", "b", "c", "d", "e", "f", "g", "h"])).await;
    pass_days(&cloud, 10);
    issue(&cloud, &tenant, "2026-11").await.good();
    let export = export(&cloud, &tenant, "T-000001").await;
    checked(&export).unwrap();

    let with = |line: usize, from: &str, to: &str| {
        let mut lines = export.clone();
        assert!(lines[line].contains(from), "{from} is not in {}", lines[line]);
        lines[line] = lines[line].replace(from, to);
        lines
    };
    // As whoever forges the invoice would: with the digest made anew.
    let forged = |from: &str, to: &str| {
        let Exported::Invoice { document, .. } = serde_json::from_str(&export[0]).unwrap() else { panic!() };
        assert!(document.contains(from), "{from} is not in {document}");
        let document = document.replace(from, to);
        let mut lines = export.clone();
        lines[0] = serde_json::to_string(&Exported::Invoice { digest: digest(&document), document }).unwrap();
        lines
    };
    let mut missing = export.clone();
    missing.remove(2);
    let mut twice = export.clone();
    twice.push(export[2].clone());
    let mut books = export.clone();
    books.insert(2, export[1].replace("40000000", "80000000"));
    // One record counts more and another one less; then what costs nothing.
    let mut moved = with(3, "\"quantity\":1000000", "\"quantity\":1000001");
    moved[4] = moved[4].replace("\"quantity\":1000000", "\"quantity\":999999");
    let elsewhere = with(3, &tenant.project.to_string(), "prj_00000000000000000000000000");
    for (what, lines, why) in [
        (
            "a changed record",
            with(3, "\"quantity\":1000000", "\"quantity\":1000001"),
            "quantity: 8000001 by the records, 8000000 on",
        ),
        ("a missing record", missing, "records: 7 by the records, 8 on the invoice"),
        ("a record twice", twice, "a record that was there before"),
        ("two that cancel out", moved, "the digest of all records"),
        ("another project", elsewhere, "the digest of all records"),
        ("a second book of one version", books, "a second price book 1"),
        ("another currency", forged("\"EUR\"", "\"USD\""), "currency, by seller and buyer: EUR by"),
        (
            "a forged rate",
            forged("\"basis_points\":2000", "\"basis_points\":5000"),
            "VAT rate in hundredths of a percent, by seller and buyer: 2000",
        ),
        (
            "a forged category",
            forged("\"category\":\"S\"", "\"category\":\"AE\""),
            "VAT category, by seller and buyer: S by",
        ),
        ("a changed price", with(1, "40000000", "40000001"), "price in nano-euro: 40000001 by the records"),
        ("a changed document", with(0, "Acme", "Acne"), "the invoice's digest is"),
        ("a forged price", forged("40000000", "50000000"), "price in nano-euro: 40000000 by the records"),
        ("a forged quantity", forged("8000000", "9000000"), "quantity: 8000000 by the records"),
        ("a forged net", forged("\"net\":9", "\"net\":8"), "net: 0.09 by the records, 0.08 on the invoice"),
        ("a forged VAT", forged("\"amount\":2", "\"amount\":3"), "VAT: 0.02 by the records, 0.03 on the invoice"),
        ("a forged total", forged("\"total\":11", "\"total\":12"), "total: 0.11 by the records, 0.12 on the invoice"),
    ] {
        let error = checked(&lines).expect_err(what).to_string();
        assert!(error.contains(why), "{what}: {error}");
    }
}

#[tokio::test]
async fn numbers_have_no_gaps_whatever_is_refused_or_undone_between_them() {
    let (cloud, site, tenant, job) = billed(None).await;
    site.uses(&cloud, &uses(&cloud, &site, &tenant, job, &["a"])).await;
    let other = cloud.tenant("Other", 1_000).await;
    pass_days(&cloud, 10);
    // Nothing was used: no invoice. Then a transaction that takes a number and is undone.
    cloud.call(&other.owner, "billing_write", &[&other.organisation()], billing()).await.good();
    assert_eq!(issue(&cloud, &other, "2026-11").await.problem(), "conflict");
    let first = issue(&cloud, &tenant, "2026-11").await.good();
    let mut undone: Invoice = serde_json::from_value(first["invoice"].clone()).unwrap();
    undone.number = "T-000002".into();
    undone.from = undone.until;
    let tx = cloud.store.begin().await.unwrap();
    assert_eq!(tx.invoice_place_next("T").await.unwrap(), 2);
    tx.invoice_insert("T", 2, &undone).await.unwrap();
    drop(tx);
    assert!(cloud.store.invoice_get("T-000002").await.unwrap().is_none());
    let wanted = json!({ "reason": "a gift" });
    let path = [&tenant.organisation()[..], "T-000001"];
    let note = cloud.call(&cloud.operator, "credit_note_issue", &path, wanted).await.good();
    assert_eq!(note["invoice"]["number"], "T-000002");
    // Written is written: neither row can be changed or removed, not even by this program.
    let tx = cloud.store.begin().await.unwrap();
    assert!(tx.invoice_insert("T", 2, &undone).await.is_err());
    drop(tx);
    let tx = cloud.store.begin().await.unwrap();
    assert_eq!(tx.invoice_place_next("T").await.unwrap(), 3);
    tx.commit(&[entry(cloud.world.now(), "test:nothing")]).await.unwrap();
}

#[tokio::test]
async fn credit_notes_never_exceed_their_invoice_and_payments_never_what_is_due() {
    let (cloud, site, tenant, job) = billed(None).await;
    // 90 records of 1000 seconds are 25 hours.
    let names: Vec<String> = (0..90).map(|number| number.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    site.uses(&cloud, &uses(&cloud, &site, &tenant, job, &names)).await;
    pass_days(&cloud, 10);
    let before = cloud.balances(tenant.organisation).await.available;
    let issued = issue(&cloud, &tenant, "2026-11").await.good();
    // 1.00 EUR and 0.20 EUR.
    assert_eq!(issued["due_cents"], 120);
    let path = [&tenant.organisation()[..], "T-000001"];
    let credit = async |wanted: Value| cloud.call(&cloud.operator, "credit_note_issue", &path, wanted).await;
    let pay = async |cents: i64, reference: &str| {
        let wanted = json!({ "amount_cents": cents, "reference": reference });
        cloud.call(&cloud.operator, "payment_create", &path, wanted).await
    };
    let part = |cents: i64| json!({ "reason": format!("service level, {cents} cents"), "parts": [{ "line": 1, "net": cents }] });
    assert_eq!(credit(part(101)).await.problem(), "conflict");
    assert_eq!(credit(part(0)).await.problem(), "conflict");
    assert_eq!(credit(json!({ "reason": "x", "parts": [{ "line": 2, "net": 1 }] })).await.problem(), "invalid_request");
    // VAT of three parts is rounded together: 0.03 x 20 % twice is 0.01, then nothing.
    let mut vat = Vec::new();
    for (cents, why) in [(3, "outage of the 3rd"), (3, "outage of the 7th"), (4, "outage of the 7th")] {
        let mut wanted = part(cents);
        wanted["reason"] = json!(why);
        vat.push(credit(wanted.clone()).await.good()["invoice"]["vat"]["amount"].as_i64().unwrap());
        // The answer was lost, and somebody types it again.
        assert_eq!(credit(wanted).await.problem(), "conflict");
    }
    assert_eq!(vat, [1, 0, 1]);
    let read = async || cloud.call(&tenant.owner, "invoice_read", &path, Value::Null).await.good();
    assert_eq!((&read().await["due_cents"], &read().await["standing"]), (&json!(108), &json!("issued")));

    assert_eq!(pay(109, "bank 1").await.problem(), "conflict");
    assert_eq!(pay(0, "bank 1").await.problem(), "invalid_request");
    assert_eq!(pay(-1, "bank 1").await.problem(), "conflict", "nothing was paid yet");
    assert_eq!(pay(100, "bank 1").await.good()["due_cents"], 8);
    assert_eq!(pay(100, "bank 1").await.good()["due_cents"], 8, "the same payment again is the same payment");
    assert_eq!(pay(1, "bank 1").await.problem(), "conflict");
    // Entered on the wrong invoice, and put right. People pay with the number that the invoice tells them to name.
    assert_eq!(pay(-101, "not ours").await.problem(), "conflict");
    assert_eq!(pay(-100, "not ours").await.good()["due_cents"], 108);
    assert_eq!(pay(100, "T-000001").await.good()["due_cents"], 8);
    pass_days(&cloud, 40);
    assert_eq!(read().await["standing"], "overdue");
    // What the next document will be called.
    assert_eq!(pay(8, "T-000005").await.good()["standing"], "paid");

    // The rest of it, after it was paid: something is owed to the buyer, and nothing is left to take back.
    let rest = credit(json!({ "reason": "all of it" })).await.good();
    assert_eq!((&rest["invoice"]["net"], &rest["invoice"]["vat"]["amount"]), (&json!(90), &json!(18)));
    assert_eq!((&read().await["due_cents"], &read().await["standing"]), (&json!(-108), &json!("credited")));
    assert_eq!(credit(json!({ "reason": "more" })).await.problem(), "conflict");
    let back = pay(-108, "bank 9").await.good();
    assert_eq!((&back["due_cents"], &back["standing"]), (&json!(0), &json!("credited")));
    let entries = cloud.store.invoice_entries("T-000001").await.unwrap();
    assert_eq!(entries.len(), 10);
    assert!(entries.iter().all(|entry| entry.sum() == 0), "{entries:?}");
    // What was taken back may be spent again.
    let after = cloud.balances(tenant.organisation).await.available;
    assert_eq!(after.sub(before).unwrap(), Nano::from_euro(1));
    let note = rest["invoice"]["number"].as_str().unwrap();
    let path = [&tenant.organisation()[..], note];
    let route = crate::world::path_of("invoice_document", &path);
    for (format, root) in [("ubl", "<CreditNote xmlns="), ("cii", "<rsm:CrossIndustryInvoice")] {
        let document = cloud.get(&tenant.owner, &format!("{route}?format={format}")).await;
        assert!(document.text.contains(root) && document.text.contains("T-000001"), "{}", document.text);
        keep("credit_note", format, &document.text);
    }
}

#[tokio::test]
async fn last_month_is_issued_by_itself_some_hours_after_its_end_and_only_once() {
    let (cloud, site, tenant, job) = billed(Some(48 * 3600)).await;
    site.uses(&cloud, &uses(&cloud, &site, &tenant, job, &["a"])).await;
    let count = async || {
        let list = cloud.call(&tenant.owner, "invoices_list", &[&tenant.organisation()], Value::Null).await.good();
        list["items"].as_array().unwrap().len()
    };
    // 2 December, a day and some hours after the end.
    pass_days(&cloud, 10);
    cloud.control.step().await.unwrap();
    assert_eq!(count().await, 0);
    pass_days(&cloud, 1);
    for _ in 0..2 {
        cloud.control.step().await.unwrap();
        assert_eq!(count().await, 1);
    }
}

#[tokio::test]
async fn nobody_frees_itself_from_vat_and_a_vat_id_has_check_digits() {
    let (cloud, _site, tenant, _) = billed(None).await;
    let organisation = tenant.organisation();
    let write = async |key: &str, field: &str, value: &str| {
        let mut wanted = billing();
        wanted[field] = json!(value);
        cloud.call(key, "billing_write", &[&organisation], wanted).await
    };
    assert_eq!(write(&tenant.owner, "exemption", "because").await.problem(), "forbidden");
    assert_eq!(write(&tenant.owner, "vat_id", "FR41303265045").await.problem(), "invalid_request");
    assert_eq!(write(&tenant.owner, "vat_id", "DE136695976").await.problem(), "invalid_request");
    for address in ["nowhere", "ZZ:1", "0225:"] {
        assert_eq!(write(&tenant.owner, "electronic", address).await.problem(), "invalid_request", "{address}");
    }
    write(&cloud.operator, "exemption", "Article 151").await.good();
    let draft = cloud.call(&tenant.owner, "invoice_draft", &[&organisation], Value::Null).await.good();
    assert_eq!((&draft["vat_rule"], &draft["vat_basis_points"]), (&json!("exempt"), &json!(0)));
    // The tenant changes the rest and keeps what the operator said; it cannot take it away either.
    let mut wanted = billing();
    wanted["exemption"] = json!("Article 151");
    wanted["city"] = json!("Paris");
    let kept = cloud.call(&tenant.owner, "billing_write", &[&organisation], wanted).await.good();
    assert_eq!((&kept["billing"]["city"], &kept["billing"]["exemption"]), (&json!("Paris"), &json!("Article 151")));
    assert_eq!(cloud.call(&tenant.owner, "billing_write", &[&organisation], billing()).await.problem(), "forbidden");
}

#[tokio::test]
async fn somebody_elses_invoice_is_not_there() {
    let (cloud, site, tenant, job) = billed(None).await;
    site.uses(&cloud, &uses(&cloud, &site, &tenant, job, &["a"])).await;
    pass_days(&cloud, 10);
    issue(&cloud, &tenant, "2026-11").await.good();
    let other = cloud.tenant("Other", 1_000).await;
    for route in ["invoice_read", "invoice_document", "invoice_records", "invoice_books"] {
        let mine = cloud.call(&other.owner, route, &[&other.organisation(), "T-000001"], Value::Null).await;
        assert_eq!(mine.problem(), "not_found", "{route}");
        let theirs = cloud.call(&other.owner, route, &[&tenant.organisation(), "T-000001"], Value::Null).await;
        assert_eq!(theirs.problem(), "not_found", "{route}");
    }
}
