//! `gregal quota`: what organisations and projects have of each family of SKUs, and how organisations stand to each other.

use clap::{Args, Subcommand};
use gregal_api::{
    organisation::OrganisationView,
    quota::{QuotaView, QuotaWrite, ShareWrite},
};

use crate::{
    context::Cx,
    failure::Failure,
    table::{Facts, Table},
};

#[derive(Debug, Subcommand)]
pub enum QuotaVerb {
    /// List what an organisation and its projects have, and use now; with a key bound to a project, that project's
    List {
        /// By name or id; absent: the key's own
        #[arg(value_name = "ORGANISATION")]
        reference: Option<String>,
    },
    /// Set what an organisation has of a family of SKUs (operators); without one, what the project (`--project`) has
    Set(Set),
    /// Take a quota away: nothing guaranteed, and no limit
    Remove {
        /// By name or id (operators); absent: the project's (`--project`)
        #[arg(value_name = "ORGANISATION")]
        reference: Option<String>,
        /// Of which family of SKUs
        #[arg(long, visible_alias = "family", value_name = "FAMILY")]
        sku: String,
    },
    /// Set an organisation's weight among the others, and the highest priority its jobs may ask for (operators)
    Share {
        /// By name or id
        #[arg(value_name = "ORGANISATION")]
        reference: String,
        /// Who has twice another's is given twice as much; absent: as it is
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1000))]
        weight: Option<u32>,
        /// 0 to 9; absent: as it is
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(0..=9))]
        priority_max: Option<u8>,
    },
}

#[derive(Debug, Args)]
pub struct Set {
    /// By name or id (operators); absent: the project's (`--project`)
    #[arg(value_name = "ORGANISATION")]
    reference: Option<String>,
    /// Of which family of SKUs (a SKU of no other is its own), in the units `gregal sku list` shows
    #[arg(long, visible_alias = "family", value_name = "FAMILY")]
    sku: String,
    /// Its own: room that is made for it when it asks
    #[arg(long, value_name = "UNITS", default_value = "0")]
    guarantee: u32,
    /// The most it may use beyond its own; absent: as much as others lend
    #[arg(long, value_name = "UNITS")]
    borrow_max: Option<u32>,
    /// The most of its own that others may use while it does not; absent: all of it
    #[arg(long, value_name = "UNITS")]
    lend_max: Option<u32>,
}

pub(crate) async fn run(cx: &mut Cx<'_>, verb: QuotaVerb) -> Result<(), Failure> {
    match verb {
        QuotaVerb::List { reference } => list(cx, reference).await,
        QuotaVerb::Set(args) => {
            let wanted = QuotaWrite { guarantee: args.guarantee, borrow_max: args.borrow_max, lend_max: args.lend_max };
            let (whose, id) = holder(cx, args.reference).await?;
            let set: QuotaView = cx.ask(whose.write, &[&id, &args.sku], &wanted).await?;
            cx.printer().data(&set, facts)
        }
        QuotaVerb::Remove { reference, sku } => {
            let (whose, id) = holder(cx, reference).await?;
            let left: QuotaView = cx.read(whose.remove, &[&id, &sku]).await?;
            cx.printer().data(&left, facts)
        }
        QuotaVerb::Share { reference, weight, priority_max } => {
            let id = cx.organisation_called(Some(reference)).await?;
            let now: OrganisationView = cx.read("organisation_read", &[&id]).await?;
            let wanted = ShareWrite {
                weight: weight.unwrap_or(now.weight),
                priority_max: priority_max.unwrap_or(now.priority_max),
            };
            let then: OrganisationView = cx.ask("share_write", &[&id], &wanted).await?;
            cx.printer().data(&then, |then| {
                Facts::new()
                    .with("id", then.id)
                    .with("name", &then.name)
                    .with("weight", then.weight)
                    .with("priority max", then.priority_max)
                    .text()
            })
        }
    }
}

/// The routes of a kind of holder.
struct Routes {
    write: &'static str,
    remove: &'static str,
}

/// Whose quota is meant: the organisation named, else the project.
async fn holder(cx: &mut Cx<'_>, organisation: Option<String>) -> Result<(Routes, String), Failure> {
    if organisation.is_some() {
        let id = cx.organisation_called(organisation).await?;
        return Ok((Routes { write: "quota_write", remove: "quota_remove" }, id));
    }
    let id = cx.project().await?;
    Ok((Routes { write: "project_quota_write", remove: "project_quota_remove" }, id))
}

async fn list(cx: &mut Cx<'_>, organisation: Option<String>) -> Result<(), Failure> {
    let bound = cx.whoami().await?.key.project;
    let all: Vec<QuotaView> = match (organisation, bound) {
        (None, Some(project)) => cx.list("project_quotas_list", &[&project.to_string()]).await?,
        (asked, _) => {
            let asked = asked.or_else(|| cx.options.organisation.clone());
            let id = cx.organisation_called(asked).await?;
            cx.list("quotas_list", &[&id]).await?
        }
    };
    cx.show_list("quotas", &all, |all| {
        let head = ["holder", "sku", "guarantee", "borrow max", "lend max", "limit", "used", "borrowed"];
        let mut table = Table::new(head).right([2, 3, 4, 5, 6, 7]);
        for one in all {
            table.row([
                whose(one),
                one.sku.clone(),
                one.guarantee.to_string(),
                or(one.borrow_max, "any"),
                or(one.lend_max, "all"),
                or(one.limit, "none"),
                one.used.to_string(),
                one.borrowed.to_string(),
            ]);
        }
        table
    })
}

fn whose(one: &QuotaView) -> String {
    one.project.map_or_else(|| one.organisation.to_string(), |project| project.to_string())
}

fn or(units: Option<u32>, otherwise: &str) -> String {
    units.map_or_else(|| otherwise.to_owned(), |units| units.to_string())
}

fn facts(one: &QuotaView) -> String {
    Facts::new()
        .with("holder", whose(one))
        .with("sku", &one.sku)
        .with("guarantee", one.guarantee)
        .with("borrow max", or(one.borrow_max, "as much as others lend"))
        .with("lend max", or(one.lend_max, "all of it"))
        .with("limit", or(one.limit, "none"))
        .with("used", one.used)
        .with("borrowed", one.borrowed)
        .text()
}
