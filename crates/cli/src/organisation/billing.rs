//! `gregal organisation billing`: what invoices say of an organisation.

use clap::Args;
use gregal_api::invoice::{BillingView, BillingWrite};

use crate::{context::Cx, failure::Failure, table::Facts};

#[derive(Debug, Args)]
pub struct Billing {
    /// Legal name
    #[arg(long, value_name = "NAME")]
    legal_name: Option<String>,
    /// Street and number
    #[arg(long)]
    street: Option<String>,
    /// Post code
    #[arg(long, value_name = "CODE")]
    post_code: Option<String>,
    /// Town
    #[arg(long)]
    city: Option<String>,
    /// VAT identification number, its country in front; empty text for none
    #[arg(long, value_name = "NUMBER")]
    vat_id: Option<String>,
    /// What the buyer's books know it by; empty text for none
    #[arg(long)]
    reference: Option<String>,
    /// Purchase order; empty text for none
    #[arg(long)]
    order: Option<String>,
    /// Where invoices are taken electronically, as SCHEME:ADDRESS; empty text for nowhere
    #[arg(long, value_name = "SCHEME:ADDRESS")]
    electronic: Option<String>,
    /// Why no VAT is charged (operators); empty text to charge it
    #[arg(long, value_name = "REASON")]
    exemption: Option<String>,
}

impl Billing {
    const fn is_empty(&self) -> bool {
        self.legal_name.is_none()
            && self.street.is_none()
            && self.post_code.is_none()
            && self.city.is_none()
            && self.vat_id.is_none()
            && self.reference.is_none()
            && self.order.is_none()
            && self.electronic.is_none()
            && self.exemption.is_none()
    }
}

pub(super) async fn run(cx: &mut Cx<'_>, args: Billing) -> Result<(), Failure> {
    let id = cx.organisation().await?;
    let now: BillingView = cx.read("billing_read", &[&id]).await?;
    if args.is_empty() {
        return shown(cx, &now);
    }
    let old = now.billing;
    let needed = |given: Option<String>, old: Option<String>, flag: &str| {
        given.or(old).ok_or_else(|| {
            Failure::yours(format!("nobody said `{flag}` yet")).hint("name, street, post code and city are needed")
        })
    };
    let maybe = |given: Option<String>, old: Option<String>| match given {
        Some(text) => Some(text).filter(|text| !text.is_empty()),
        None => old,
    };
    let was = |of: fn(&BillingWrite) -> &String| old.as_ref().map(|old| of(old).clone());
    let was_maybe = |of: fn(&BillingWrite) -> &Option<String>| old.as_ref().and_then(|old| of(old).clone());
    let wanted = BillingWrite {
        legal_name: needed(args.legal_name, was(|old| &old.legal_name), "--legal-name")?,
        street: needed(args.street, was(|old| &old.street), "--street")?,
        post_code: needed(args.post_code, was(|old| &old.post_code), "--post-code")?,
        city: needed(args.city, was(|old| &old.city), "--city")?,
        vat_id: maybe(args.vat_id, was_maybe(|old| &old.vat_id)),
        reference: maybe(args.reference, was_maybe(|old| &old.reference)),
        order: maybe(args.order, was_maybe(|old| &old.order)),
        electronic: maybe(args.electronic, was_maybe(|old| &old.electronic)),
        exemption: maybe(args.exemption, was_maybe(|old| &old.exemption)),
    };
    let then: BillingView = cx.ask("billing_write", &[&id], &wanted).await?;
    shown(cx, &then)
}

fn shown(cx: &mut Cx<'_>, view: &BillingView) -> Result<(), Failure> {
    cx.printer().data(view, |view| {
        let facts = Facts::new().with("country", &view.country);
        let Some(billing) = &view.billing else { return facts.with("billing", "nobody said yet").text() };
        facts
            .with("legal name", &billing.legal_name)
            .with("street", &billing.street)
            .with("post code", &billing.post_code)
            .with("city", &billing.city)
            .maybe("vat id", billing.vat_id.as_ref())
            .maybe("reference", billing.reference.as_ref())
            .maybe("order", billing.order.as_ref())
            .maybe("electronic", billing.electronic.as_ref())
            .maybe("exemption", billing.exemption.as_ref())
            .text()
    })
}
