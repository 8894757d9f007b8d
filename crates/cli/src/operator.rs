//! `gregal operator`: the keys of those who run the cloud.

use clap::{Args, Subcommand};
use gregal_api::{
    key::{KeyCreated, KeyView},
    operator_key::OperatorKeyCreate,
    scope::ScopeView,
};
use gregal_core::access::Role;

use crate::{context::Cx, failure::Failure, key, words};

#[derive(Debug, Subcommand)]
pub enum OperatorVerb {
    /// Operators' keys
    #[command(subcommand)]
    Key(OperatorKeyVerb),
}

#[derive(Debug, Subcommand)]
pub enum OperatorKeyVerb {
    /// Make an operator's key; its secret is shown once
    Create(Create),
    /// List operators' keys, never their secrets
    List,
    /// Revoke an operator's key; never the last that can make others
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
    /// What it may do: `site_operator`, `billing_operator`, `support`, `operator_auditor`, or `operator` for all of that
    #[arg(long, value_parser = key::role)]
    role: Role,
    /// Stops working by itself after this long: `12h`, `30d`
    #[arg(long, visible_alias = "expires", value_name = "SPAN", value_parser = words::stretch)]
    expires_in: Option<u32>,
    /// Only from this network: `10.0.0.0/8`, `2001:db8::/32`, or one address; several times for several
    #[arg(long, value_name = "NETWORK")]
    network: Vec<String>,
}

pub(crate) async fn run(cx: &mut Cx<'_>, verb: OperatorVerb) -> Result<(), Failure> {
    let OperatorVerb::Key(verb) = verb;
    match verb {
        OperatorKeyVerb::Create(args) => {
            let networks = (!args.network.is_empty()).then_some(args.network);
            let scope = ScopeView { networks, ..ScopeView::default() };
            let wanted = OperatorKeyCreate { name: args.name, role: args.role, expires_in_s: args.expires_in, scope };
            let made: KeyCreated = cx.create("operator_key_create", &[], &wanted).await?;
            key::show_made(cx, &made)
        }
        OperatorKeyVerb::List => {
            let all: Vec<KeyView> = cx.list("operator_keys_list", &[]).await?;
            cx.show_list("operators' keys", &all, key::table)
        }
        OperatorKeyVerb::Revoke { reference } => {
            let gone: KeyView = cx.read("operator_key_revoke", &[&reference]).await?;
            cx.printer().data(&gone, |gone| key::facts(gone).text())
        }
    }
}
