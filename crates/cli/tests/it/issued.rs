//! Issued invoices at the prompt: computed again from a file with no server, and shown as the server tells them.

use gregal_core::{
    id::{OrganisationId, ProjectId, SiteId},
    invoice::{self, Address, Billing, Exported, Gathered, Invoice, Numbered, Reach, Seller},
    meter::{Meter, UsageEvent},
    money::Nano,
    month::Month,
    organisation::{FairShare, Organisation, Plan},
    price::default_book,
    residency::ResidencyPolicy,
    time::Time,
};
use serde_json::{Value, json};

use crate::fake::{Fake, ORG, type_in};

fn event(number: u32, quantity: u64) -> UsageEvent {
    let site = SiteId::from_u128(1);
    UsageEvent {
        id: UsageEvent::id_of(site, "job_1", Meter::ComputeCore, &number.to_string()),
        organisation: OrganisationId::from_u128(1),
        project: ProjectId::from_u128(1),
        site,
        meter: Meter::ComputeCore,
        item: "cpu.1".into(),
        quantity,
        subject: "job_1".into(),
        started_at: Time::from_millis(0),
        ended_at: "2026-10-05T00:00:00Z".parse().unwrap(),
        allowance: None,
        estimated: None,
    }
}

fn issued(events: &[UsageEvent]) -> Invoice {
    let address = Address { street: "1".into(), city: "Lyon".into(), post_code: "69001".into() };
    let billing = Billing {
        legal_name: "Acme SARL".into(),
        address: address.clone(),
        reference: None,
        order: None,
        electronic: None,
        exemption: None,
    };
    let organisation = Organisation {
        id: OrganisationId::from_u128(1),
        name: "Acme".into(),
        country: "FR".parse().unwrap(),
        vat_id: None,
        billing: Some(billing.clone()),
        plan: Plan::SelfService,
        credit: Nano::ZERO,
        residency: ResidencyPolicy::eu(),
        share: FairShare::default(),
        policies: 0,
        support: gregal_core::support::SupportSetting::default(),
        created_at: Time::from_millis(0),
        version: 1,
    };
    let seller = Seller {
        name: "Gregal".into(),
        registration: "732829320".into(),
        vat_id: "FR44732829320".into(),
        country: "FR".parse().unwrap(),
        address,
        iban: "FR7630006000011234567890189".into(),
        electronic: None,
    };
    let month: Month = "2026-10".parse().unwrap();
    let books = [default_book(Time::from_millis(0))];
    let mut gathered = Gathered::new(&organisation, month, &books);
    for event in events {
        gathered.add(event, Nano::ZERO).unwrap();
    }
    let numbered = Numbered { number: "GRG-000001".into(), at: month.until };
    let lines = gathered.made().unwrap();
    let period = (month, Reach::default(), 2);
    invoice::issue(numbered, (&organisation, &billing), (&seller, 30), period, lines).unwrap().unwrap()
}

#[tokio::test]
async fn an_export_is_verified_without_a_server_or_a_key_and_a_changed_record_is_named() {
    let events = [event(1, 3_600_000 * 10), event(2, 3_600_000 * 15)];
    let document = serde_json::to_string(&issued(&events)).unwrap();
    let digest = invoice::digest(&document);
    let mut lines = vec![
        Exported::Invoice { digest: digest.clone(), document },
        Exported::PriceBook { book: default_book(Time::from_millis(0)) },
    ];
    lines.extend(events.iter().map(|event| Exported::Record { record: serde_json::to_value(event).unwrap() }));
    let text: Vec<String> = lines.iter().map(|line| serde_json::to_string(line).unwrap()).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("october.jsonl");
    std::fs::write(&path, text.join("\n")).unwrap();
    let args = ["invoice", "verify", "--key", "", path.to_str().unwrap()];
    let said = type_in(&args, None, "", true).await;
    assert_eq!((said.exit, said.err.as_str()), (0, ""), "{}", said.out);
    insta::assert_snapshot!(said.out.replace(&digest, "(digest)"), @r"
    number   GRG-000001
    records  2
    lines    1
    total    1.20 EUR
    digest   (digest)
    agrees   yes; hold the digest against the `invoice:issue` entry of your audit log
    ");
    std::fs::write(&path, text.join("\n").replace("\"quantity\":54000000", "\"quantity\":53999999")).unwrap();
    let said = type_in(&args, None, "", true).await;
    assert_eq!((said.exit, said.out.as_str()), (1, ""));
    assert!(
        said.err.starts_with(
            "error: the invoice does not re-derive: line 1 (`CPU core, per hour`): quantity: 89999999 by the records, 90000000 on the invoice\n"
        ),
        "{}",
        said.err
    );
    std::fs::write(&path, "{}").unwrap();
    let said = type_in(&args, None, "", true).await;
    assert!(
        said.exit == 1 && said.err.starts_with("error: the invoice does not re-derive: line 1 of the export:"),
        "{}",
        said.err
    );
}

#[tokio::test]
async fn an_issued_invoice_shows_its_lines_and_where_it_stands() {
    let fake = Fake::start().await;
    let view = json!({
        "invoice": issued(&[event(1, 3_600_000 * 25)]), "digest": "ab".repeat(32), "standing": "overdue", "due_cents": 120,
    });
    fake.on(&format!("GET /api/v1/organisations/{ORG}/invoices"), &json!({ "items": [view] }));
    fake.on(&format!("GET /api/v1/organisations/{ORG}/invoices/GRG-000001"), &view);
    let said = fake.run(&["invoice", "list"]).await;
    insta::assert_snapshot!(said.out, @r"
    NUMBER      KIND     ISSUED      MONTH    TOTAL EUR  DUE EUR  STATE
    GRG-000001  invoice  2026-11-01  2026-10       1.20     1.20  overdue
    ");
    let said = fake.run(&["invoice", "show", "GRG-000001"]).await;
    assert_eq!((said.exit, said.err.as_str()), (0, ""));
    assert!(said.out.contains("VAT           0.20 EUR (20.00 %, category S)\n"), "{}", said.out);
    let shown: Value = fake.run(&["invoice", "show", "GRG-000001", "--json"]).await.json();
    assert_eq!(shown["invoice"]["total"], 120);
}
