//! `gregal project`: who shares.

use clap::Subcommand;
use gregal_api::project::{ProjectCreate, ProjectView};

use crate::{
    context::Cx,
    failure::Failure,
    table::{Facts, Table},
};

#[derive(Debug, Subcommand)]
pub enum ProjectVerb {
    /// Make a project
    Create {
        /// 1 to 63 of `a-z`, `0-9`, `-`, beginning with a letter
        name: String,
    },
    /// List projects
    List,
    /// Read a project
    Show {
        /// By name or id; absent: the key's own, or the only one
        #[arg(value_name = "PROJECT")]
        reference: Option<String>,
    },
}

pub(crate) async fn run(cx: &mut Cx<'_>, verb: ProjectVerb) -> Result<(), Failure> {
    match verb {
        ProjectVerb::Create { name } => {
            let organisation = cx.organisation().await?;
            let made: ProjectView = cx.create("project_create", &[&organisation], &ProjectCreate { name }).await?;
            cx.printer().data(&made, facts)
        }
        ProjectVerb::List => {
            let organisation = cx.organisation().await?;
            let all: Vec<ProjectView> = cx.list("projects_list", &[&organisation]).await?;
            cx.show_list("projects", &all, |all| {
                let mut table = Table::new(["id", "name", "created"]);
                for one in all {
                    table.row([one.id.to_string(), one.name.clone(), one.created_at.to_string()]);
                }
                table
            })
        }
        ProjectVerb::Show { reference } => {
            let asked = reference.or_else(|| cx.options.project.clone());
            let id = cx.project_called(asked).await?;
            let found: ProjectView = cx.read("project_read", &[&id]).await?;
            cx.printer().data(&found, facts)
        }
    }
}

fn facts(one: &ProjectView) -> String {
    Facts::new()
        .with("id", one.id)
        .with("name", &one.name)
        .with("organisation", one.organisation)
        .with("created", one.created_at)
        .text()
}
