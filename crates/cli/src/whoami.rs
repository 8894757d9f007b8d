//! `gregal whoami`: whom the key acts for.

use clap::Args;

use crate::{context::Cx, failure::Failure, options::Options, table::Facts};

#[derive(Debug, Args)]
pub struct WhoamiArgs {
    #[command(flatten)]
    pub(crate) options: Options,
}

pub(crate) async fn run(cx: &mut Cx<'_>) -> Result<(), Failure> {
    let who = cx.whoami().await?;
    cx.printer().data(&who, |who| {
        let facts = Facts::new()
            .with("key", who.key.id)
            .with("name", &who.key.name)
            .with("role", who.key.role.as_str())
            .maybe("organisation", who.key.organisation)
            .maybe("project", who.key.project)
            .maybe("expires", who.key.expires_at)
            .with("may", who.actions.join(", "));
        crate::key::with_scope(facts, &who.key.scope).text()
    })
}
