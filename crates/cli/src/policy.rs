//! `gregal policy`: what an organisation or a project wrote for itself, and why something is allowed or not.

use std::{fmt::Write as _, path::PathBuf};

use clap::{Args, Subcommand};
use gregal_api::policy::{PolicyChecked, PolicyExplain, PolicyExplanation, PolicyView, PolicyWrite};

use crate::{
    context::Cx,
    failure::Failure,
    files,
    table::{Facts, Table},
    words,
};

#[derive(Debug, Subcommand)]
pub enum PolicyVerb {
    /// List the organisation's own policies and its projects'
    List {
        #[command(flatten)]
        of: Of,
    },
    /// Show a policy's text
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        of: Of,
    },
    /// Write a guardrail (`forbid`) or a permit under a name, in place of what stood there; it is checked first
    Put {
        /// Its name: `a-z`, `0-9` and `-`
        name: String,
        /// A file with one policy in Cedar
        file: PathBuf,
        #[command(flatten)]
        of: Of,
    },
    /// Remove a policy
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        of: Of,
    },
    /// Try a policy in every case it could meet, and store nothing
    Check {
        /// A file with one policy in Cedar
        file: PathBuf,
        #[command(flatten)]
        of: Of,
    },
    /// Say why something is allowed or not, by which policies, and what would have to change
    Explain {
        /// What would be done, such as `job:create`
        action: String,
        /// To what: an id, or `cloud`
        object: String,
        /// By which key, by id; absent: your own
        #[arg(long = "as", value_name = "KEY")]
        of_key: Option<String>,
    },
}

/// Whose policies are meant.
#[derive(Debug, Args)]
pub struct Of {
    /// The project's (`--project`) rather than the organisation's
    #[arg(long)]
    of_project: bool,
}

/// Whose policies are meant, and the routes to them.
struct Holder {
    id: String,
    list: &'static str,
    write: &'static str,
    remove: &'static str,
    check: &'static str,
    is_project: bool,
}

impl Of {
    /// A key that is bound to a project means that project's: it reaches nothing above it.
    async fn holder(&self, cx: &mut Cx<'_>) -> Result<Holder, Failure> {
        if self.of_project || cx.whoami().await?.key.project.is_some() {
            return Ok(Holder {
                id: cx.project().await?,
                list: "project_policies_list",
                write: "project_policy_write",
                remove: "project_policy_remove",
                check: "project_policy_check",
                is_project: true,
            });
        }
        Ok(Holder {
            id: cx.organisation().await?,
            list: "policies_list",
            write: "policy_write",
            remove: "policy_remove",
            check: "policy_check",
            is_project: false,
        })
    }
}

pub(crate) async fn run(cx: &mut Cx<'_>, verb: PolicyVerb) -> Result<(), Failure> {
    match verb {
        PolicyVerb::List { of } => {
            let of = of.holder(cx).await?;
            let all: Vec<PolicyView> = cx.list(of.list, &[&of.id]).await?;
            cx.show_list("policies of its own", &all, table)
        }
        PolicyVerb::Show { name, of } => {
            let of = of.holder(cx).await?;
            let all: Vec<PolicyView> = cx.list(of.list, &[&of.id]).await?;
            let is_meant = |one: &&PolicyView| one.name == name && one.project.is_some() == of.is_project;
            // What binds a project may be its organisation's.
            let found =
                all.iter().find(is_meant).or_else(|| all.iter().find(|one| one.rule == name || one.name == name));
            let missing =
                || Failure::yours(format!("no policy is called `{name}`")).hint("`gregal policy list` lists them");
            cx.printer().data(found.ok_or_else(missing)?, facts)
        }
        PolicyVerb::Put { name, file, of } => {
            let wanted = PolicyWrite { text: files::text(&file)? };
            let of = of.holder(cx).await?;
            let written: PolicyView = cx.ask(of.write, &[&of.id, &name], &wanted).await?;
            cx.printer().data(&written, facts)
        }
        PolicyVerb::Delete { name, of } => {
            let of = of.holder(cx).await?;
            let gone: PolicyView = cx.read(of.remove, &[&of.id, &name]).await?;
            cx.printer().data(&gone, facts)
        }
        PolicyVerb::Check { file, of } => {
            let wanted = PolicyWrite { text: files::text(&file)? };
            let of = of.holder(cx).await?;
            let checked: PolicyChecked = cx.ask(of.check, &[&of.id], &wanted).await?;
            cx.printer().data(&checked, |checked| {
                let sites = checked.sites_forbidden.join(", ");
                Facts::new()
                    .with("effect", &checked.effect)
                    .with("about", &checked.about)
                    .with("cases tried", checked.tried)
                    .with("applies in", checked.applies)
                    .maybe("closes sites", (!sites.is_empty()).then_some(sites))
                    .text()
            })
        }
        PolicyVerb::Explain { action, object, of_key } => {
            explain(cx, PolicyExplain { action, object, key: of_key }).await
        }
    }
}

async fn explain(cx: &mut Cx<'_>, asked: PolicyExplain) -> Result<(), Failure> {
    let answer: PolicyExplanation = cx.ask("policy_explain", &[], &asked).await?;
    cx.printer().data(&answer, |answer| {
        let mut text = Facts::new()
            .with("key", &answer.key)
            .with("role", &answer.role)
            .with("action", &answer.action)
            .with("object", &answer.object)
            .with("allowed", if answer.allowed { "yes" } else { "no" })
            .maybe("reason", answer.reason.clone())
            .text();
        if answer.policies.is_empty() {
            text.push_str("\nno policy permits it\n");
        }
        for policy in &answer.policies {
            let verb = if policy.effect == "permit" { "permitted" } else { "forbidden" };
            let _ = writeln!(text, "\n{verb} by {}", policy.rule);
            text.extend(policy.text.trim().lines().map(|line| format!("    {line}\n")));
        }
        for (index, need) in answer.would_need.iter().enumerate() {
            text.push_str(if index == 0 { "\nwould need " } else { "        or " });
            text.push_str(need);
            text.push('\n');
        }
        text
    })
}

fn table(all: &[PolicyView]) -> Table {
    let mut table = Table::new(["name", "of project", "effect", "version", "written"]);
    for one in all {
        table.row([
            one.name.clone(),
            words::dash(one.project.map(|project| project.to_string()).as_ref()),
            one.effect.clone(),
            one.version.to_string(),
            one.created_at.to_string(),
        ]);
    }
    table
}

fn facts(one: &PolicyView) -> String {
    let facts = Facts::new()
        .with("name", &one.name)
        .with("rule", &one.rule)
        .with("effect", &one.effect)
        .maybe("project", one.project)
        .with("version", one.version)
        .with("written", one.created_at)
        .text();
    format!("{facts}\n{}\n", one.text.trim_end())
}
