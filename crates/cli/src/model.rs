//! `gregal model`: versioned weights and where they came from.

use clap::Subcommand;
use gregal_api::model::ModelView;
use gregal_core::id::ModelId;

use crate::{
    context::Cx,
    failure::Failure,
    table::{Facts, Table},
    words,
};

#[derive(Debug, Subcommand)]
pub enum ModelVerb {
    /// List models
    List,
    /// Read a model and its lineage
    Show {
        /// An id, a name (its newest version) or `NAME@VERSION`
        #[arg(value_name = "MODEL")]
        reference: String,
    },
}

pub(crate) async fn run(cx: &mut Cx<'_>, verb: ModelVerb) -> Result<(), Failure> {
    match verb {
        ModelVerb::List => {
            let project = cx.project().await?;
            let all: Vec<ModelView> = cx.list("models_list", &[&project]).await?;
            cx.show_list("models", &all, |all| {
                let mut table =
                    Table::new(["id", "name", "version", "parameters", "size", "job", "created"]).right([2, 3, 4]);
                for one in all {
                    table.row([
                        one.id.to_string(),
                        one.name.clone(),
                        one.number.to_string(),
                        words::count(one.parameters),
                        words::size(one.bytes),
                        one.lineage.job.to_string(),
                        one.created_at.to_string(),
                    ]);
                }
                table
            })
        }
        ModelVerb::Show { reference } => {
            let found = find(cx, &reference).await?;
            cx.printer().data(&found, |found| facts(found).text())
        }
    }
}

/// The model an id, a name or `NAME@VERSION` stands for.
pub(crate) async fn find(cx: &mut Cx<'_>, reference: &str) -> Result<ModelView, Failure> {
    if words::is_id::<ModelId>(reference) {
        return cx.read("model_read", &[reference]).await;
    }
    let (name, number) = match reference.split_once('@') {
        Some((name, number)) => {
            let number: u32 = number.parse().map_err(|_| {
                Failure::yours(format!("`{reference}` names no version")).hint("a version is a number: `atlas@2`")
            })?;
            (name, Some(number))
        }
        None => (reference, None),
    };
    let project = cx.project().await?;
    let all: Vec<ModelView> = cx.list("models_list", &[&project]).await?;
    let fits = all.into_iter().filter(|model| model.name == name && number.is_none_or(|number| number == model.number));
    fits.max_by_key(|model| model.number).ok_or_else(|| {
        Failure::yours(format!("no model is called `{reference}`")).hint("`gregal model list` lists them")
    })
}

fn facts(one: &ModelView) -> Facts {
    let lineage = &one.lineage;
    Facts::new()
        .with("id", one.id)
        .with("name", format!("{} version {}", one.name, one.number))
        .with("project", one.project)
        .with("site", one.site)
        .with("digest", &one.digest)
        .with("size", words::size(one.bytes))
        .with("parameters", words::count(one.parameters))
        .with("job", lineage.job)
        .with("dataset", format!("{} (sha256 {})", lineage.dataset, lineage.dataset_digest))
        .maybe(
            "base model",
            lineage
                .base_model
                .map(|id| format!("{id} (sha256 {})", lineage.base_model_digest.as_deref().unwrap_or("unknown"))),
        )
        .with("code version", &lineage.code_version)
        .with("tokens", words::count(lineage.tokens))
        .with("flop", words::count(lineage.flop))
        .with("energy", format!("{} kWh ({})", one.kwh, lineage.energy_method))
        .with("created", one.created_at)
}
