//! `gregal key`: credentials of a project. A secret is shown once, when it is made.

use clap::{Args, Subcommand};
use gregal_api::{
    key::{KeyCreate, KeyCreated, KeyRotate, KeyView},
    scope::ScopeView,
};
use gregal_core::{access::Role, time::Time};

use crate::{
    context::Cx,
    failure::Failure,
    service_account,
    table::{Facts, Table},
    words,
};

#[derive(Debug, Subcommand)]
pub enum KeyVerb {
    /// Make a key; its secret is shown once
    Create(Create),
    /// List keys, never their secrets
    List {
        /// Only keys that work and were not used for this long, or never since they were made so long ago: `90d`
        #[arg(long, value_name = "SPAN", value_parser = words::stretch)]
        unused_for: Option<u32>,
    },
    /// Show a key of the project
    Show {
        /// The key's id
        #[arg(value_name = "KEY_ID")]
        reference: String,
    },
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
    /// What it may do: owner, admin, developer, inference, viewer, billing or auditor; developer if nothing is said
    #[arg(long, value_parser = role, conflicts_with = "service_account")]
    role: Option<Role>,
    /// Make it a key of this service account, by name or id: of its role, and it ends with it
    #[arg(long, value_name = "SERVICE_ACCOUNT")]
    service_account: Option<String>,
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
    pub(crate) fn view(self) -> ScopeView {
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
            let scope = args.scope.view();
            if let Some(account) = args.service_account {
                return service_account::key_create(cx, &account, args.name, args.expires_in, scope).await;
            }
            let project = cx.project().await?;
            let role = args.role.unwrap_or(Role::Developer);
            let wanted = KeyCreate { name: args.name, role, expires_in_s: args.expires_in, scope };
            let made: KeyCreated = cx.create("key_create", &[&project], &wanted).await?;
            show_made(cx, &made)
        }
        KeyVerb::Rotate(args) => {
            let wanted = KeyRotate { overlap_s: Some(args.overlap), expires_in_s: args.expires_in };
            let made: KeyCreated = cx.create("key_rotate", &[&args.reference], &wanted).await?;
            show_made(cx, &made)
        }
        KeyVerb::List { unused_for } => {
            let project = cx.project().await?;
            let mut all: Vec<KeyView> = cx.list("keys_list", &[&project]).await?;
            if let Some(seconds) = unused_for {
                let now = cx.here.world.now();
                all.retain(|key| is_idle(key, now, seconds));
            }
            cx.show_list("keys", &all, table)
        }
        KeyVerb::Show { reference } => {
            let project = cx.project().await?;
            let all: Vec<KeyView> = cx.list("keys_list", &[&project]).await?;
            let found = all.iter().find(|key| key.id.to_string() == reference);
            let missing = || {
                Failure::yours(format!("this project has no key `{reference}`")).hint("`gregal key list` lists them")
            };
            cx.printer().data(found.ok_or_else(missing)?, |one| facts(one).text())
        }
        KeyVerb::Revoke { reference } => {
            let gone: KeyView = cx.read("key_revoke", &[&reference]).await?;
            cx.printer().data(&gone, |gone| facts(gone).text())
        }
    }
}

/// Whether a key works and nobody used it for so long. One that was never used counts from when it was made.
fn is_idle(key: &KeyView, now: Time, seconds: u32) -> bool {
    let works = key.revoked_at.is_none() && key.expires_at.is_none_or(|end| now < end);
    works && key.last_used_at.unwrap_or(key.created_at) <= now.plus_seconds(-i64::from(seconds))
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
    let mut table = Table::new(["id", "name", "role", "created", "last used", "expires", "revoked"]);
    for one in all {
        table.row([
            one.id.to_string(),
            one.name.clone(),
            one.role.as_str().into(),
            one.created_at.to_string(),
            words::dash(one.last_used_at),
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
        .maybe("service account", one.service_account)
        .with("created", one.created_at)
        .maybe("last used", one.last_used_at)
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
