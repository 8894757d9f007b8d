//! Writes issued invoices and credit notes of every VAT category, with late use and awkward amounts, as frozen JSON, UBL and
//! CII into a folder: what the official validators are fed. `cargo run -p gregal-core --example invoices -- DIR`

use std::{error::Error, fs, path::Path};

use gregal_core::{
    id::{OrganisationId, ProjectId, SiteId},
    invoice::{
        Address, Billing, ElectronicAddress, Gathered, Invoice, Numbered, Reach, Seller, Taken, credit, document,
        issue, number,
    },
    meter::{Meter, UsageEvent},
    money::{Cents, Nano},
    month::Month,
    organisation::{FairShare, Organisation, Plan},
    price::{PriceBook, PriceRow, default_book},
    residency::ResidencyPolicy,
    support::SupportSetting,
    time::Time,
};

type Failed = Box<dyn Error>;

fn main() -> Result<(), Failed> {
    let folder = std::env::args().nth(1).ok_or("name a folder to write to")?;
    let folder = Path::new(&folder);
    fs::create_dir_all(folder)?;
    let mut place = 0;
    let cases: [(&str, &str, Option<&str>, Option<&str>); 5] = [
        ("domestic", "FR", Some("FR 40 303 265 045"), None),
        ("reverse_charge", "DE", Some("DE136695976"), None),
        ("one_stop_shop", "FI", None, None),
        ("outside", "CH", None, None),
        ("exempt", "FR", None, Some("Exempt under Article 151 of Directive 2006/112/EC")),
    ];
    for (name, country, vat_id, exemption) in cases {
        for travels in [false, true] {
            let invoice = invoice(&mut place, (country, vat_id, exemption), travels)?;
            let name = if travels { format!("{name}_peppol") } else { name.to_owned() };
            write(folder, &name, &invoice)?;
            let at = invoice.issued_at.plus_seconds(3600);
            let reason = "Service level missed: <2 % & \"down\" > 4 h";
            let line = invoice.lines.first().ok_or("no lines")?;
            let part = Taken { line: line.number, net: Cents::new(line.line.net.get() / 3) };
            let first = credit(next(&mut place, at), &invoice, &[], Some(&[part]), reason)?;
            write(folder, &format!("{name}_credit_part"), &first)?;
            let rest = credit(next(&mut place, at), &invoice, &[first], None, reason)?;
            write(folder, &format!("{name}_credit_rest"), &rest)?;
        }
    }
    println!("{place} documents");
    Ok(())
}

fn next(place: &mut u64, at: Time) -> Numbered {
    *place += 1;
    Numbered { number: number("GRG", *place), at }
}

fn write(folder: &Path, name: &str, invoice: &Invoice) -> Result<(), Failed> {
    fs::write(folder.join(format!("{name}.json")), serde_json::to_string(invoice)?)?;
    fs::write(folder.join(format!("{name}.ubl.xml")), document::ubl(invoice))?;
    fs::write(folder.join(format!("{name}.cii.xml")), document::cii(invoice))?;
    Ok(())
}

fn invoice(
    place: &mut u64,
    (country, vat_id, exemption): (&str, Option<&str>, Option<&str>),
    travels: bool,
) -> Result<Invoice, Failed> {
    let month: Month = "2026-10".parse()?;
    let electronic = |id: &str| travels.then(|| ElectronicAddress { scheme: "0225".into(), id: id.into() });
    let seller = Seller {
        name: "Gregal Cloud SAS".into(),
        registration: "732829320".into(),
        vat_id: "FR44732829320".into(),
        country: "FR".parse()?,
        address: Address { street: "1 rue de la République".into(), city: "Lyon".into(), post_code: "69001".into() },
        iban: "FR7630006000011234567890189".into(),
        electronic: electronic("732829320"),
    };
    let billing = Billing {
        legal_name: "Søren & Søn <GmbH>".into(),
        address: Address { street: "Hauptstraße 5".into(), city: "Zürich".into(), post_code: "8001".into() },
        reference: travels.then(|| "Dept. 7 / \"ML\"".into()),
        order: Some("PO-4711".into()),
        electronic: electronic("303265045"),
        exemption: exemption.map(Into::into),
    };
    let organisation = organisation(country, vat_id)?;
    let book = book();
    let books = [book];
    let mut gathered = Gathered::new(&organisation, month, &books);
    for event in events(&organisation) {
        gathered.add(&event, Nano::ZERO)?;
    }
    let lines = gathered.made()?;
    let at = month.until.plus_seconds(21_600);
    let issued = issue(next(place, at), (&organisation, &billing), (&seller, 30), (month, Reach::default(), 9), lines)?;
    Ok(issued.ok_or("nothing to invoice")?)
}

/// Prices whose amounts come to half cents, to thousandths of them, and to nothing.
fn book() -> PriceBook {
    let mut book = default_book(Time::from_millis(0));
    let row = |item: &str, nano, per| PriceRow {
        meter: Meter::TokensIn,
        item: item.into(),
        nano,
        per,
        label: format!("Tokens read by {item}"),
    };
    book.rows.extend([
        row("half", 5_000_000, 1),
        row("tiny", 1, 1_000_000),
        row("free", 0, 1),
        row("third", 10_000_000, 3),
    ]);
    book
}

fn organisation(country: &str, vat_id: Option<&str>) -> Result<Organisation, Failed> {
    Ok(Organisation {
        id: OrganisationId::from_u128(1),
        name: "buyer".into(),
        country: country.parse()?,
        vat_id: vat_id.map(Into::into),
        billing: None,
        plan: Plan::SelfService,
        credit: Nano::ZERO,
        residency: ResidencyPolicy::eu(),
        share: FairShare::default(),
        policies: 0,
        support: SupportSetting::default(),
        created_at: Time::from_millis(0),
        version: 1,
    })
}

fn events(organisation: &Organisation) -> Vec<UsageEvent> {
    let event = |meter: Meter, item: &str, quantity, ended_at: &str| UsageEvent {
        id: UsageEvent::id_of(SiteId::from_u128(1), "job", meter, &format!("{item} {ended_at}")),
        organisation: organisation.id,
        project: ProjectId::from_u128(1),
        site: SiteId::from_u128(1),
        meter,
        item: item.into(),
        quantity,
        subject: "job".into(),
        started_at: Time::from_millis(0),
        ended_at: ended_at.parse().unwrap_or_default(),
        allowance: None,
        estimated: None,
    };
    vec![
        event(Meter::ComputeCore, "cpu.4", 999_999_999_999, "2026-10-31T23:59:59.999Z"),
        event(Meter::Accelerator, "gpu.1", 1_234_567_891, "2026-10-01T00:00:00Z"),
        event(Meter::TokensIn, "half", 1, "2026-10-07T00:00:00Z"),
        event(Meter::TokensIn, "tiny", 1, "2026-10-07T00:00:00Z"),
        event(Meter::TokensIn, "free", 7_000, "2026-10-07T00:00:00Z"),
        event(Meter::TokensIn, "third", 7, "2026-10-07T00:00:00Z"),
        event(Meter::TokensOut, "chat", 123_456_789, "2026-09-30T23:59:59.999Z"),
        event(Meter::ComputeCore, "cpu.4", 86_400_000, "2026-08-15T12:00:00Z"),
    ]
}
