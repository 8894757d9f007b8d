//! `gregal key`: credentials of a project. A secret is shown once, when it is made.

use clap::{Args, Subcommand};
use gregal_api::key::{KeyCreate, KeyCreated, KeyView};
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
    #[arg(long, value_name = "SPAN", value_parser = words::stretch)]
    expires_in: Option<u32>,
}

pub(crate) async fn run(cx: &mut Cx<'_>, verb: KeyVerb) -> Result<(), Failure> {
    match verb {
        KeyVerb::Create(args) => {
            let project = cx.project().await?;
            let wanted = KeyCreate { name: args.name, role: args.role, expires_in_s: args.expires_in };
            let made: KeyCreated = cx.create("key_create", &[&project], &wanted).await?;
            cx.printer().data(&made, |made| facts(&made.key).maybe("secret", made.secret.as_ref()).text())?;
            cx.printer().note(match made.secret {
                Some(_) => "the secret is shown only now",
                None => "the secret was shown when the key was made, and is not kept",
            });
            Ok(())
        }
        KeyVerb::List => {
            let project = cx.project().await?;
            let all: Vec<KeyView> = cx.list("keys_list", &[&project]).await?;
            cx.show_list("keys", &all, |all| {
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
            })
        }
        KeyVerb::Revoke { reference } => {
            let gone: KeyView = cx.read("key_revoke", &[&reference]).await?;
            cx.printer().data(&gone, |gone| facts(gone).text())
        }
    }
}

fn facts(one: &KeyView) -> Facts {
    Facts::new()
        .with("id", one.id)
        .with("name", &one.name)
        .with("role", one.role.as_str())
        .maybe("organisation", one.organisation)
        .maybe("project", one.project)
        .with("created", one.created_at)
        .maybe("expires", one.expires_at)
        .maybe("revoked", one.revoked_at)
}

pub(crate) fn role(text: &str) -> Result<Role, String> {
    let found = Role::ALL.iter().copied().find(|role| role.as_str() == text);
    found.ok_or_else(|| {
        let names: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
        format!("there is no role `{text}`; there are {}", names.join(", "))
    })
}
