//! `gregal endpoint`: served models.

use clap::{Args, Subcommand};
use gregal_api::endpoint::{EndpointCreate, EndpointView};
use gregal_core::{endpoint::EndpointState, id::EndpointId};

use crate::{
    context::Cx,
    failure::Failure,
    model,
    table::{Facts, Table},
    words,
};

#[derive(Debug, Subcommand)]
pub enum EndpointVerb {
    /// Serve a model
    Create(Create),
    /// List endpoints
    List,
    /// Read an endpoint
    Show {
        /// By name or id
        #[arg(value_name = "ENDPOINT")]
        reference: String,
    },
    /// Drain an endpoint and stop it
    Delete {
        /// By name or id
        #[arg(value_name = "ENDPOINT")]
        reference: String,
        /// Wait until it has stopped
        #[arg(long)]
        wait: bool,
    },
}

#[derive(Debug, Args)]
pub struct Create {
    /// What requests will carry as `model`: 1 to 63 of `a-z`, `0-9`, `-`, beginning with a letter
    name: String,
    /// What to serve: an id, a name (its newest version) or `NAME@VERSION`
    #[arg(long, required_unless_present = "shared")]
    model: Option<String>,
    /// Stand for a shared model that a site offers by the token, by its name there
    #[arg(long, conflicts_with_all = ["model", "sku"])]
    shared: Option<String>,
    /// The site to serve at; absent: where the weights are
    #[arg(long)]
    site: Option<String>,
    /// What it stands on, paid for the time it answers; absent: the smallest whose memory carries the weights
    #[arg(long)]
    sku: Option<String>,
    /// Wait until it answers
    #[arg(long)]
    wait: bool,
}

pub(crate) async fn run(cx: &mut Cx<'_>, verb: EndpointVerb) -> Result<(), Failure> {
    match verb {
        EndpointVerb::Create(args) => create(cx, args).await,
        EndpointVerb::List => {
            let project = cx.project().await?;
            let all: Vec<EndpointView> = cx.list("endpoints_list", &[&project]).await?;
            cx.show_list("endpoints", &all, |all| {
                let mut table = Table::new(["id", "name", "state", "sku", "model", "url", "message"]);
                for one in all {
                    table.row([
                        one.id.to_string(),
                        one.name.clone(),
                        one.state.as_str().into(),
                        one.sku.clone(),
                        served(one),
                        words::dash(one.base_url.as_ref()),
                        words::dash(one.message.as_ref()),
                    ]);
                }
                table
            })
        }
        EndpointVerb::Show { reference } => {
            let found = find(cx, &reference).await?;
            cx.printer().data(&found, facts)
        }
        EndpointVerb::Delete { reference, wait } => {
            let found = find(cx, &reference).await?;
            let mut gone: EndpointView = cx.read("endpoint_delete", &[&found.id.to_string()]).await?;
            if wait {
                gone = settled(cx, gone, "stopping", EndpointState::is_final).await?;
            }
            cx.printer().data(&gone, facts)
        }
    }
}

async fn create(cx: &mut Cx<'_>, args: Create) -> Result<(), Failure> {
    let model = match &args.model {
        Some(model) => Some(model::find(cx, model).await?),
        None => None,
    };
    // Where the model is, so that a key of the whole organisation need not name the project again.
    let project = match (&model, cx.options.project.is_some()) {
        (Some(model), false) => model.project.to_string(),
        _ => cx.project().await?,
    };
    let model = model.map(|model| model.id);
    let wanted = EndpointCreate { name: args.name, model, shared: args.shared, site: args.site, sku: args.sku };
    let mut made: EndpointView = cx.create("endpoint_create", &[&project], &wanted).await?;
    if args.wait {
        made = settled(cx, made, "loading", |state| state == EndpointState::Ready || state.is_final()).await?;
    }
    cx.printer().data(&made, facts)?;
    if made.state.is_final() {
        let why = made.message.as_deref().unwrap_or("it does not say why");
        return Err(Failure::yours(format!("endpoint `{}` {}: {why}", made.name, made.state.as_str())));
    }
    if made.state == EndpointState::Ready {
        cx.printer().note(&format!("next: `gregal chat {} \"...\"`", made.name));
    }
    Ok(())
}

/// Looks at an endpoint until it stands where it should.
async fn settled(
    cx: &mut Cx<'_>,
    mut endpoint: EndpointView,
    doing: &'static str,
    there: impl Fn(EndpointState) -> bool,
) -> Result<EndpointView, Failure> {
    let bar = cx.printer().bar("{spinner} {msg} {elapsed}", None);
    let until = cx.here.world.steady() + cx.here.patience;
    while !there(endpoint.state) {
        let why = endpoint.message.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        bar.set_message(format!("{doing} `{}`: {}{why}", endpoint.name, endpoint.state.as_str()));
        bar.tick();
        if cx.here.world.steady() >= until {
            bar.finish_and_clear();
            let why = endpoint.message.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            let detail = format!("endpoint `{}` is still {}{why}", endpoint.name, endpoint.state.as_str());
            return Err(
                Failure::ours(detail).hint(format!("`gregal endpoint show {}` says how it goes on", endpoint.id))
            );
        }
        tokio::time::sleep(cx.here.poll).await;
        endpoint = cx.read("endpoint_read", &[&endpoint.id.to_string()]).await?;
    }
    bar.finish_and_clear();
    Ok(endpoint)
}

/// The endpoint an id or a name stands for: the one that has not ended, else the newest.
pub(crate) async fn find(cx: &mut Cx<'_>, reference: &str) -> Result<EndpointView, Failure> {
    if words::is_id::<EndpointId>(reference) {
        return cx.read("endpoint_read", &[reference]).await;
    }
    let project = cx.project().await?;
    let all: Vec<EndpointView> = cx.list("endpoints_list", &[&project]).await?;
    all.into_iter()
        .filter(|endpoint| endpoint.name == reference)
        .max_by_key(|endpoint| (!endpoint.state.is_final(), endpoint.created_at))
        .ok_or_else(|| {
            Failure::yours(format!("no endpoint is called `{reference}`")).hint("`gregal endpoint list` lists them")
        })
}

/// What it serves, in a word.
fn served(one: &EndpointView) -> String {
    one.shared.as_ref().map_or_else(|| one.model.to_string(), |shared| format!("{shared} (shared)"))
}

fn facts(one: &EndpointView) -> String {
    Facts::new()
        .with("id", one.id)
        .with("name", &one.name)
        .with("state", one.state.as_str())
        .maybe("message", one.message.as_ref())
        .with("sku", &one.sku)
        .with("model", served(one))
        .with("project", one.project)
        .with("site", one.site)
        .maybe("url", one.base_url.as_ref())
        .with("created", one.created_at)
        .maybe("placed", one.placed_at)
        .maybe("ready", one.ready_at)
        .with("held", format!("{} of answering, {} of it billed", span(one.held_ms), span(one.billed_ms)))
        .text()
}

/// Milliseconds in hours, minutes and seconds, as far as there are any.
fn span(millis: u64) -> String {
    let seconds = millis / 1000;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}
