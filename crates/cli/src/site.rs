//! `gregal site`: machines in one place under one law.

use clap::{Args, Subcommand};
use gregal_api::{
    site::{SiteCreate, SiteCreated, SiteView},
    usage::QuarantinedUsage,
};

use crate::{
    context::Cx,
    failure::Failure,
    table::{Facts, Table},
    words,
};

#[derive(Debug, Subcommand)]
pub enum SiteVerb {
    /// Register a site; its secret is shown once (operators)
    Create(Create),
    /// List the sites and the law they stand under
    List,
    /// Read a site's facts
    Show {
        /// By name or id
        #[arg(value_name = "SITE")]
        reference: String,
    },
    /// List the usage records it sent that could not be counted, and why (operators)
    Quarantine {
        /// By name or id
        #[arg(value_name = "SITE")]
        reference: String,
    },
}

#[derive(Debug, Args)]
pub struct Create {
    /// 1 to 63 of `a-z`, `0-9`, `-`, beginning with a letter
    name: String,
    /// The law its machines stand under
    #[arg(long, value_name = "CODE")]
    jurisdiction: String,
    /// Who runs it
    #[arg(long, value_name = "NAME")]
    operator: String,
    /// Where the operator is established; absent: as the site
    #[arg(long, value_name = "CODE")]
    operator_jurisdiction: Option<String>,
    /// Where the operator's ultimate parent is established; absent: as the operator
    #[arg(long, value_name = "CODE")]
    parent_jurisdiction: Option<String>,
    /// Certifications it holds, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    certifications: Vec<String>,
}

pub(crate) async fn run(cx: &mut Cx<'_>, verb: SiteVerb) -> Result<(), Failure> {
    match verb {
        SiteVerb::Create(args) => create(cx, args).await,
        SiteVerb::List => {
            let all: Vec<SiteView> = cx.list("sites_list", &[]).await?;
            cx.show_list("sites", &all, |all| {
                let mut table = Table::new(["id", "name", "law", "operator", "certifications", "alive", "url"]);
                for one in all {
                    table.row([
                        one.id.to_string(),
                        one.name.clone(),
                        one.jurisdiction.clone(),
                        one.operator_name.clone(),
                        one.certifications.join(", "),
                        alive(one).into(),
                        words::dash(one.url.as_ref()),
                    ]);
                }
                table
            })
        }
        SiteVerb::Show { reference } => {
            let found: SiteView = cx.read("site_read", &[&reference]).await?;
            cx.printer().data(&found, |found| facts(found).text())
        }
        SiteVerb::Quarantine { reference } => {
            let all: Vec<QuarantinedUsage> = cx.list("site_quarantine", &[&reference]).await?;
            cx.show_list("usage records in quarantine", &all, quarantined)
        }
    }
}

fn quarantined(all: &[QuarantinedUsage]) -> Table {
    let mut table = Table::new(["arrived", "why", "ended", "meter", "item", "quantity", "subject", "id"]).right([5]);
    for QuarantinedUsage { record, reason, arrived_at } in all {
        table.row([
            arrived_at.to_string(),
            reason.clone(),
            record.ended_at.to_string(),
            record.meter.as_str().into(),
            record.item.clone(),
            words::count(record.quantity),
            record.subject.clone(),
            record.id.clone(),
        ]);
    }
    table
}

async fn create(cx: &mut Cx<'_>, args: Create) -> Result<(), Failure> {
    let operator_jurisdiction = args.operator_jurisdiction.unwrap_or_else(|| args.jurisdiction.clone());
    let wanted = SiteCreate {
        name: args.name,
        jurisdiction: args.jurisdiction,
        operator_name: args.operator,
        operator_parent_jurisdiction: args.parent_jurisdiction.unwrap_or_else(|| operator_jurisdiction.clone()),
        operator_jurisdiction,
        certifications: args.certifications,
        grid: None,
    };
    let made: SiteCreated = cx.create("site_create", &[], &wanted).await?;
    cx.printer().data(&made, |made| facts(&made.site).maybe("secret", made.secret.as_ref()).text())?;
    cx.printer().note(match made.secret {
        Some(_) => "the secret is shown only now; the site dials in with it",
        None => "the secret was shown when the site was registered, and is not kept",
    });
    Ok(())
}

fn facts(one: &SiteView) -> Facts {
    let mut facts = Facts::new()
        .with("id", one.id)
        .with("name", &one.name)
        .with("law", &one.jurisdiction)
        .with(
            "operator",
            format!(
                "{} (established in {}, parent in {})",
                one.operator_name, one.operator_jurisdiction, one.operator_parent_jurisdiction
            ),
        )
        .with("certifications", one.certifications.join(", "))
        .with("alive", alive(one))
        .maybe("url", one.url.as_ref());
    if let Some(capacity) = &one.capacity {
        facts = facts
            .with("engine", &capacity.engine)
            .with("cores", words::cores(capacity.cpus_milli))
            .with("memory", words::size(capacity.memory_bytes));
        for accelerator in &capacity.accelerators {
            let health = if accelerator.healthy { "healthy" } else { "unfit" };
            let text = format!("{}, {}, {health}", accelerator.model, words::size(accelerator.memory_bytes));
            facts = facts.with("accelerator", text);
        }
        for missing in &capacity.protections_missing {
            facts = facts.with("cannot protect", missing);
        }
    }
    facts.maybe(
        "grid",
        one.grid
            .as_ref()
            .map(|grid| format!("{} g CO2e/kWh ({}, {})", grid.grams_co2e_per_kwh, grid.year, grid.source)),
    )
}

const fn alive(one: &SiteView) -> &'static str {
    if one.alive { "yes" } else { "no" }
}
