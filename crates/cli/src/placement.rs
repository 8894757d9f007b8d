//! `gregal place explain`: where content could be, before anything is placed.

use clap::Subcommand;
use gregal_api::placement::{PlacementAnswer, PlacementAsk};

use crate::{context::Cx, failure::Failure, table::Table, words};

#[derive(Debug, Subcommand)]
pub enum PlaceVerb {
    /// Say of every site, or of one, whether the residency policy allows it, by which rule, and what would have to change
    Explain {
        /// A site by name or id; absent: all
        #[arg(long)]
        site: Option<String>,
    },
}

pub(crate) async fn run(cx: &mut Cx<'_>, verb: PlaceVerb) -> Result<(), Failure> {
    let PlaceVerb::Explain { site } = verb;
    let project = cx.project().await?;
    let answer: PlacementAnswer = cx.ask("placement_explain", &[&project], &PlacementAsk { site }).await?;
    cx.printer().data(&answer, |answer| {
        let mut table = Table::new(["site", "allowed", "rule", "because", "would need"]);
        for verdict in &answer.sites {
            table.row([
                verdict.name.clone(),
                if verdict.allowed { "yes" } else { "no" }.into(),
                words::dash(verdict.rule.as_ref()),
                verdict.because.clone(),
                words::dash(verdict.would_need.as_ref()),
            ]);
        }
        table.text()
    })?;
    if answer.sites.is_empty() && !cx.printer().json() {
        cx.printer().note("no sites");
    }
    Ok(())
}
