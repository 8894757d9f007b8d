//! `gregal organisation`: who pays, and where its content may be.

use clap::{Args, Subcommand};
use gregal_api::organisation::{OrganisationCreate, OrganisationCreated, OrganisationView, ResidencyView};

use crate::{
    context::Cx,
    failure::Failure,
    table::{Facts, Table},
    words,
};

mod billing;

fn credit(text: &str) -> Result<u32, String> {
    u32::try_from(words::cents(text)?).map_err(|_| format!("`{text}` is more than 42,949,672.95 euro"))
}

#[derive(Debug, Subcommand)]
pub enum OrganisationVerb {
    /// Make an organisation and its owner's key (operators)
    Create(Create),
    /// List the organisations the key may see
    List,
    /// Read an organisation
    Show {
        /// By name or id; absent: the key's own
        #[arg(value_name = "ORGANISATION")]
        reference: Option<String>,
    },
    /// Say where the organisation's content may be; without options, read it
    Residency(Residency),
    /// Say what invoices say of the organisation; without options, read it
    Billing(billing::Billing),
}

#[derive(Debug, Args)]
pub struct Create {
    /// What it is called, 1 to 80 characters
    name: String,
    /// Country it is billed in
    #[arg(long, value_name = "CODE")]
    country: String,
    /// Its VAT identification number
    #[arg(long, value_name = "NUMBER")]
    vat_id: Option<String>,
    /// How it buys
    #[arg(long, value_parser = ["self_service", "subscription", "dedicated"])]
    plan: Option<String>,
    /// Credit to begin with, in euro
    #[arg(long, value_name = "EUR", default_value = "0", value_parser = credit)]
    credit_eur: u32,
    /// Countries its content may be in, separated by commas; `EU` stands for all member states
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    jurisdictions: Vec<String>,
    /// Certifications a site must hold, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    certifications: Vec<String>,
    /// Operators that may run a site, separated by commas; absent: all in the jurisdictions
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    operators: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Residency {
    /// Countries its content may be in, separated by commas; `EU` stands for all member states
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    jurisdictions: Option<Vec<String>>,
    /// Certifications a site must hold, separated by commas; empty text for none
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    certifications: Option<Vec<String>>,
    /// Operators that may run a site, separated by commas; empty text for all in the jurisdictions
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    operators: Option<Vec<String>>,
}

pub(crate) async fn run(cx: &mut Cx<'_>, verb: OrganisationVerb) -> Result<(), Failure> {
    match verb {
        OrganisationVerb::Create(args) => create(cx, args).await,
        OrganisationVerb::List => {
            let all: Vec<OrganisationView> = cx.list("organisations_list", &[]).await?;
            cx.show_list("organisations", &all, |all| {
                let mut table = Table::new(["id", "name", "country", "plan", "created"]);
                for one in all {
                    table.row([
                        one.id.to_string(),
                        one.name.clone(),
                        one.country.clone(),
                        plan(one),
                        one.created_at.to_string(),
                    ]);
                }
                table
            })
        }
        OrganisationVerb::Show { reference } => {
            let asked = reference.or_else(|| cx.options.organisation.clone());
            let id = cx.organisation_called(asked).await?;
            let found: OrganisationView = cx.read("organisation_read", &[&id]).await?;
            cx.printer().data(&found, |found| facts(found).text())
        }
        OrganisationVerb::Residency(args) => residency(cx, args).await,
        OrganisationVerb::Billing(args) => billing::run(cx, args).await,
    }
}

async fn create(cx: &mut Cx<'_>, args: Create) -> Result<(), Failure> {
    // A ceiling that names only certifications or operators still needs a place; the Union is the default of the cloud too.
    let named = !(args.jurisdictions.is_empty() && args.certifications.is_empty() && args.operators.is_empty());
    let jurisdictions = if args.jurisdictions.is_empty() { vec!["EU".into()] } else { args.jurisdictions };
    let residency = named.then_some(ResidencyView {
        jurisdictions,
        certifications: args.certifications,
        operators: args.operators,
    });
    let wanted = OrganisationCreate {
        name: args.name,
        country: args.country,
        vat_id: args.vat_id,
        plan: args.plan,
        credit_cents: args.credit_eur,
        residency,
    };
    let made: OrganisationCreated = cx.create("organisation_create", &[], &wanted).await?;
    cx.printer().data(&made, |made| {
        facts(&made.organisation)
            .with("owner key", made.owner_key.key.id)
            .maybe("secret", made.owner_key.secret.as_ref())
            .text()
    })?;
    match &made.owner_key.secret {
        Some(_) => cx.printer().note(
            "the owner's secret is shown only now; next: `export GREGAL_KEY=SECRET`, `gregal project create NAME`",
        ),
        None => cx.printer().note("the owner's secret was shown when the organisation was made, and is not kept"),
    }
    Ok(())
}

async fn residency(cx: &mut Cx<'_>, args: Residency) -> Result<(), Failure> {
    let id = cx.organisation().await?;
    let now: OrganisationView = cx.read("organisation_read", &[&id]).await?;
    if args.jurisdictions.is_none() && args.certifications.is_none() && args.operators.is_none() {
        return cx.printer().data(&now.residency, |residency| ceiling(Facts::new(), residency).text());
    }
    let given = |list: Option<Vec<String>>, old: Vec<String>| {
        list.map_or(old, |list| list.into_iter().filter(|text| !text.is_empty()).collect())
    };
    let wanted = ResidencyView {
        jurisdictions: given(args.jurisdictions, now.residency.jurisdictions),
        certifications: given(args.certifications, now.residency.certifications),
        operators: given(args.operators, now.residency.operators),
    };
    let then: OrganisationView = cx.ask("residency_write", &[&id], &wanted).await?;
    cx.printer().data(&then.residency, |residency| ceiling(Facts::new(), residency).text())
}

fn facts(one: &OrganisationView) -> Facts {
    let facts = Facts::new()
        .with("id", one.id)
        .with("name", &one.name)
        .with("country", &one.country)
        .maybe("vat id", one.vat_id.as_ref())
        .with("plan", plan(one));
    ceiling(facts, &one.residency)
        .with("weight", one.weight)
        .with("priority max", one.priority_max)
        .with("created", one.created_at)
}

fn ceiling(facts: Facts, residency: &ResidencyView) -> Facts {
    let any = |list: &[String], otherwise: &str| if list.is_empty() { otherwise.to_owned() } else { list.join(", ") };
    facts
        .with("jurisdictions", any(&residency.jurisdictions, "none"))
        .with("certifications", any(&residency.certifications, "none asked for"))
        .with("operators", any(&residency.operators, "any"))
}

fn plan(one: &OrganisationView) -> String {
    use gregal_core::organisation::Plan;
    match one.plan {
        Plan::SelfService => "self_service",
        Plan::Subscription => "subscription",
        Plan::Dedicated => "dedicated",
    }
    .into()
}
