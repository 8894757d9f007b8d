//! `gregal service-account`: names that programs act under, their keys, and whose tokens stand for them.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use gregal_api::{
    key::{KeyCreated, KeyView},
    scope::ScopeView,
    service_account::{
        ServiceAccountCreate, ServiceAccountKeyCreate, ServiceAccountView, ServiceAccountWrite, TrustView,
    },
};
use gregal_core::{
    access::Role,
    id::{ProjectId, ServiceAccountId},
};

use crate::{
    context::Cx,
    failure::Failure,
    key::{self, ScopeArgs, role},
    table::{Facts, Table},
    words,
};

#[derive(Debug, Subcommand)]
pub enum ServiceAccountVerb {
    /// Make a service account; `gregal key create --service-account` makes keys of it
    Create(Create),
    /// List service accounts
    List,
    /// Show a service account, and whose tokens stand for it
    Show(Which),
    /// List a service account's keys, never their secrets
    Keys(Which),
    /// Let another system's tokens stand for it, such as those of a CI
    Trust(TrustArgs),
    /// Let no tokens of an issuer stand for it any more
    Distrust {
        #[command(flatten)]
        which: Which,
        /// The issuer's address
        #[arg(long, value_name = "URL")]
        issuer: String,
    },
    /// End its keys, and let nothing work under it
    Disable(Which),
    /// Let it be used again; its ended keys stay ended
    Enable(Which),
    /// Remove it; its keys end
    Remove(Which),
}

/// Which service account.
#[derive(Debug, Args)]
pub struct Which {
    /// Its name or id
    #[arg(value_name = "SERVICE_ACCOUNT")]
    reference: String,
}

#[derive(Debug, Args)]
pub struct Create {
    /// What it is called, 1 to 80 characters
    name: String,
    /// What its keys may do: owner, admin, developer, inference, viewer, billing or auditor
    #[arg(long, value_parser = role)]
    role: Role,
    /// The id of the one project it reaches; absent: all of them
    #[arg(long, value_name = "PROJECT_ID")]
    only: Option<ProjectId>,
    #[command(flatten)]
    scope: ScopeArgs,
}

#[derive(Debug, Args)]
pub struct TrustArgs {
    #[command(flatten)]
    which: Which,
    /// The issuer's address, as its tokens spell it
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// Whom its tokens must be for, alone
    #[arg(long)]
    audience: String,
    /// What a token must say: `repository=acme/app`; `*` stands for anything without `/`, `**` for anything
    #[arg(long, value_name = "NAME=TEXT", required = true, value_parser = claim)]
    claim: Vec<(String, String)>,
}

fn claim(text: &str) -> Result<(String, String), String> {
    let (name, text) = text.split_once('=').ok_or("expected `NAME=TEXT`")?;
    Ok((name.to_owned(), text.to_owned()))
}

pub(crate) async fn run(cx: &mut Cx<'_>, verb: ServiceAccountVerb) -> Result<(), Failure> {
    match verb {
        ServiceAccountVerb::Create(args) => {
            let organisation = cx.organisation().await?;
            let wanted = ServiceAccountCreate {
                name: args.name,
                role: args.role,
                project: args.only,
                scope: args.scope.view(),
            };
            let made: ServiceAccountView = cx.create("service_account_create", &[&organisation], &wanted).await?;
            cx.printer().data(&made, facts)
        }
        ServiceAccountVerb::List => {
            let organisation = cx.organisation().await?;
            let all: Vec<ServiceAccountView> = cx.list("service_accounts_list", &[&organisation]).await?;
            cx.show_list("service accounts", &all, table)
        }
        ServiceAccountVerb::Show(which) => {
            let found = found(cx, &which.reference).await?;
            cx.printer().data(&found, facts)
        }
        ServiceAccountVerb::Keys(which) => {
            let id = found(cx, &which.reference).await?.id.to_string();
            let all: Vec<KeyView> = cx.list("service_account_keys_list", &[&id]).await?;
            cx.show_list("keys", &all, key::table)
        }
        ServiceAccountVerb::Trust(args) => {
            let account = found(cx, &args.which.reference).await?;
            let claims: BTreeMap<String, String> = args.claim.into_iter().collect();
            let trust = TrustView { issuer: args.issuer, audience: args.audience, claims };
            let mut trusts = account.trusts;
            if !trusts.contains(&trust) {
                trusts.push(trust);
            }
            write(cx, account.id, ServiceAccountWrite { enabled: None, trusts: Some(trusts) }).await
        }
        ServiceAccountVerb::Distrust { which, issuer } => {
            let account = found(cx, &which.reference).await?;
            let trusts: Vec<TrustView> =
                account.trusts.iter().filter(|trust| trust.issuer != issuer).cloned().collect();
            if trusts.len() == account.trusts.len() {
                return Err(Failure::yours(format!("no tokens of `{issuer}` stand for it"))
                    .hint("`gregal service-account show` shows whose do"));
            }
            write(cx, account.id, ServiceAccountWrite { enabled: None, trusts: Some(trusts) }).await
        }
        ServiceAccountVerb::Disable(which) => enabled(cx, &which, false).await,
        ServiceAccountVerb::Enable(which) => enabled(cx, &which, true).await,
        ServiceAccountVerb::Remove(which) => {
            let id = found(cx, &which.reference).await?.id.to_string();
            let gone: ServiceAccountView = cx.read("service_account_remove", &[&id]).await?;
            cx.printer().data(&gone, facts)?;
            cx.printer().note("its keys have ended");
            Ok(())
        }
    }
}

async fn enabled(cx: &mut Cx<'_>, which: &Which, enabled: bool) -> Result<(), Failure> {
    let id = found(cx, &which.reference).await?.id;
    write(cx, id, ServiceAccountWrite { enabled: Some(enabled), trusts: None }).await
}

async fn write(cx: &mut Cx<'_>, id: ServiceAccountId, wanted: ServiceAccountWrite) -> Result<(), Failure> {
    let written: ServiceAccountView = cx.ask("service_account_write", &[&id.to_string()], &wanted).await?;
    cx.printer().data(&written, facts)
}

/// The account of this name or id. A name that several have names none.
async fn found(cx: &mut Cx<'_>, reference: &str) -> Result<ServiceAccountView, Failure> {
    if words::is_id::<ServiceAccountId>(reference) {
        return cx.read("service_account_read", &[reference]).await;
    }
    let organisation = cx.organisation().await?;
    let all: Vec<ServiceAccountView> = cx.list("service_accounts_list", &[&organisation]).await?;
    let mut called = all.into_iter().filter(|one| one.name == reference);
    match (called.next(), called.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(Failure::yours(format!("several service accounts are called `{reference}`"))
            .hint("say which by its id; `gregal service-account list` shows them")),
        (None, _) => Err(Failure::yours(format!("no service account is called `{reference}`"))
            .hint("`gregal service-account list` lists them")),
    }
}

/// Makes a key of a service account: for `gregal key create --service-account`.
pub(crate) async fn key_create(
    cx: &mut Cx<'_>,
    reference: &str,
    name: String,
    expires_in_s: Option<u32>,
    scope: ScopeView,
) -> Result<(), Failure> {
    let id = found(cx, reference).await?.id.to_string();
    let wanted = ServiceAccountKeyCreate { name, expires_in_s, scope };
    let made: KeyCreated = cx.create("service_account_key_create", &[&id], &wanted).await?;
    key::show_made(cx, &made)
}

fn table(all: &[ServiceAccountView]) -> Table {
    let mut table = Table::new(["id", "name", "role", "project", "trusts", "disabled"]);
    for one in all {
        table.row([
            one.id.to_string(),
            one.name.clone(),
            one.role.as_str().into(),
            words::dash(one.project),
            one.trusts.len().to_string(),
            words::dash(one.disabled_at),
        ]);
    }
    table
}

fn facts(one: &ServiceAccountView) -> String {
    let facts = Facts::new()
        .with("id", one.id)
        .with("name", &one.name)
        .with("role", one.role.as_str())
        .with("organisation", one.organisation)
        .maybe("project", one.project)
        .with("created", one.created_at)
        .maybe("disabled", one.disabled_at);
    let mut text = key::with_scope(facts, &one.scope).text();
    for trust in &one.trusts {
        let claims: Vec<String> = trust.claims.iter().map(|(name, text)| format!("{name}={text}")).collect();
        let trust = Facts::new()
            .with("trusts", &trust.issuer)
            .with("for", &trust.audience)
            .with("if", claims.join(", "));
        text.push('\n');
        text.push_str(&trust.text());
    }
    text
}
