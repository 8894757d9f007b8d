//! `gregal key`: credentials of a project. A secret is shown once, when it is made.

use clap::{Args, Subcommand};
use gregal_api::{
    key::{KeyCreate, KeyCreated, KeyRotate, KeyView},
    scope::ScopeView,
};
use gregal_core::access::Role;

use crate::{
    context::Cx,
    failure::Failure,
    table::{Facts, Table},
    words,
};

#[derive(Debug, Subcommand)]
pub enum KeyVerb {
    /// Make a key; its secret is shown once
    Create(Create),
    /// List keys, never their secrets
    List,
    /// Give a key's place to a new one; both work until the overlap ends
    Rotate(Rotate),
    /// Revoke a key everywhere
    Revoke {
        /// The key's id
        #[arg(value_name = "KEY_ID")]
        reference: String,
    },
}

#[derive(Debug, Args)]
pub struct Create {
    /// What it is called, 1 to 80 characters
    name: String,
    /// What it may do: owner, admin, developer, inference, viewer, billing or auditor
    #[arg(long, default_value = "developer", value_parser = role)]
    role: Role,
    /// Stops working by itself after this long: `90s`, `15m`, `12h`, `30d`
    #[arg(long, visible_alias = "expires", value_name = "SPAN", value_parser = words::stretch)]
    expires_in: Option<u32>,
    #[command(flatten)]
    scope: ScopeArgs,
}

/// What a key is narrowed to. Each may be given several times; one that is left out narrows nothing.
#[derive(Debug, Args)]
pub(crate) struct ScopeArgs {
    /// Only this action, such as endpoint:infer
    #[arg(long, value_name = "ACTION")]
    action: Vec<String>,
    /// Only this model: the name or id of an endpoint or a model
    #[arg(long, value_name = "MODEL")]
    model: Vec<String>,
    /// Only this project, by id, where the key that asks reaches several
    #[arg(long, value_name = "PROJECT_ID")]
    only_project: Vec<String>,
    /// Only at this site, by name or id
    #[arg(long, value_name = "SITE")]
    site: Vec<String>,
    /// Only from this network: `10.0.0.0/8`, `2001:db8::/32`, or one address
    #[arg(long, value_name = "NETWORK")]
    network: Vec<String>,
}

impl ScopeArgs {
    fn view(self) -> ScopeView {
        let given = |names: Vec<String>| (!names.is_empty()).then_some(names);
        ScopeView {
            actions: given(self.action),
            models: given(self.model),
            projects: given(self.only_project),
            sites: given(self.site),
            networks: given(self.network),
        }
    }
}

#[derive(Debug, Args)]
pub struct Rotate {
    /// The key's id
    #[arg(value_name = "KEY_ID")]
    reference: String,
    /// Both work for this long, at most 30d: `0s`, `15m`, `24h`
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = overlap)]
    overlap: u32,
    /// The new one stops working by itself after this long; without: when the old one would have
    #[arg(long, visible_alias = "expires", value_name = "SPAN", value_parser = words::stretch)]
    expires_in: Option<u32>,
}

pub(crate) async fn run(cx: &mut Cx<'_>, verb: KeyVerb) -> Result<(), Failure> {
    match verb {
        KeyVerb::Create(args) => {
            let project = cx.project().await?;
            let scope = args.scope.view();
            let wanted = KeyCreate { name: args.name, role: args.role, expires_in_s: args.expires_in, scope };
            let made: KeyCreated = cx.create("key_create", &[&project], &wanted).await?;
            show_made(cx, &made)
        }
        KeyVerb::Rotate(args) => {
            let wanted = KeyRotate { overlap_s: Some(args.overlap), expires_in_s: args.expires_in };
            let made: KeyCreated = cx.create("key_rotate", &[&args.reference], &wanted).await?;
            show_made(cx, &made)
        }
        KeyVerb::List => {
            let project = cx.project().await?;
            let all: Vec<KeyView> = cx.list("keys_list", &[&project]).await?;
            cx.show_list("keys", &all, table)
        }
        KeyVerb::Revoke { reference } => {
            let gone: KeyView = cx.read("key_revoke", &[&reference]).await?;
            cx.printer().data(&gone, |gone| facts(gone).text())
        }
    }
}

/// An overlap: a time span, or none at all.
fn overlap(text: &str) -> Result<u32, String> {
    if matches!(text, "0" | "0s") { Ok(0) } else { words::stretch(text) }
}

pub(crate) fn show_made(cx: &mut Cx<'_>, made: &KeyCreated) -> Result<(), Failure> {
    cx.printer().data(made, |made| facts(&made.key).maybe("secret", made.secret.as_ref()).text())?;
    cx.printer().note(match made.secret {
        Some(_) => "the secret is shown only now",
        None => "the secret was shown when the key was made, and is not kept",
    });
    Ok(())
}

/// The parts of a scope, one a line of facts.
pub(crate) fn with_scope(facts: Facts, scope: &ScopeView) -> Facts {
    let listed = |names: &Option<Vec<String>>| names.as_ref().map(|names| names.join(", "));
    facts
        .maybe("only actions", listed(&scope.actions))
        .maybe("only models", listed(&scope.models))
        .maybe("only projects", listed(&scope.projects))
        .maybe("only sites", listed(&scope.sites))
        .maybe("only networks", listed(&scope.networks))
}

/// Keys as a table.
pub(crate) fn table(all: &[KeyView]) -> Table {
    let mut table = Table::new(["id", "name", "role", "created", "expires", "revoked"]);
    for one in all {
        table.row([
            one.id.to_string(),
            one.name.clone(),
            one.role.as_str().into(),
            one.created_at.to_string(),
            words::dash(one.expires_at),
            words::dash(one.revoked_at),
        ]);
    }
    table
}

pub(crate) fn facts(one: &KeyView) -> Facts {
    let facts = Facts::new()
        .with("id", one.id)
        .with("name", &one.name)
        .with("role", one.role.as_str())
        .maybe("organisation", one.organisation)
        .maybe("project", one.project)
        .with("created", one.created_at)
        .maybe("expires", one.expires_at)
        .maybe("revoked", one.revoked_at)
        .maybe("replaces", one.replaces)
        .maybe("replaced by", one.replaced_by);
    with_scope(facts, &one.scope)
}

pub(crate) fn role(text: &str) -> Result<Role, String> {
    let found = Role::ALL.iter().copied().find(|role| role.as_str() == text);
    found.ok_or_else(|| {
        let names: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
        format!("there is no role `{text}`; there are {}", names.join(", "))
    })
}
