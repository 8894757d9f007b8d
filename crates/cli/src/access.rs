//! `gregal access`: looks that operators ask for into what an organisation owns, and what it says of them.

use clap::{Args, Subcommand, ValueEnum};
use gregal_api::access::{AccessRequest, AccessSetting, AccessView};
use gregal_core::support::SupportSetting;

use crate::{
    context::Cx,
    failure::Failure,
    table::{Facts, Table},
    words,
};

#[derive(Debug, Subcommand)]
pub enum AccessVerb {
    /// Ask for a look at an organisation's facts: names and states, never content (support)
    Request(Request),
    /// Approve the look another operator asked for (operators)
    Approve(Named),
    /// Approve, for your organisation, the look an operator asked for
    Consent(Named),
    /// End a look, or turn the wish for one down
    End(Named),
    /// List the looks that were asked for, and where each stands
    List {
        /// The organisation, by id; yours if left out
        organisation: Option<String>,
    },
    /// Say what operators may see of your organisation's facts, and who has to agree
    Set {
        /// What they may see
        setting: Setting,
    },
}

#[derive(Debug, Args)]
pub struct Request {
    /// The organisation, by name or id
    organisation: String,
    /// Why; the organisation reads it
    #[arg(long)]
    reason: String,
    /// How long, at most four hours: `30m`, `1h`
    #[arg(long = "for", value_name = "SPAN", value_parser = words::stretch)]
    seconds: u32,
    /// Only this project, by id
    #[arg(long, value_name = "PROJECT_ID")]
    only_project: Option<String>,
}

#[derive(Debug, Args)]
pub struct Named {
    /// The access's id
    #[arg(value_name = "ACCESS_ID")]
    reference: String,
}

/// What operators may see, as people type it.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Setting {
    /// Nothing, ever
    Refused,
    /// What a second operator and the organisation approve
    Consent,
    /// What a second operator approves; the organisation is told and may end it
    Notify,
}

pub(crate) async fn run(cx: &mut Cx<'_>, verb: AccessVerb) -> Result<(), Failure> {
    let empty = gregal_api::catalogue::Empty {};
    let access: AccessView = match verb {
        AccessVerb::Request(args) => {
            let organisation = cx.organisation_called(Some(args.organisation)).await?;
            let project = args.only_project.map(|id| id.parse()).transpose();
            let project = project.map_err(|_| Failure::yours("`--only-project` is not the id of a project"))?;
            let wanted = AccessRequest { reason: args.reason, seconds: args.seconds, project };
            cx.create("access_request", &[&organisation], &wanted).await?
        }
        AccessVerb::Approve(named) => cx.ask("access_approve", &[&named.reference], &empty).await?,
        AccessVerb::Consent(named) => cx.ask("access_consent", &[&named.reference], &empty).await?,
        AccessVerb::End(named) => cx.read("access_end", &[&named.reference]).await?,
        AccessVerb::List { organisation } => return list(cx, organisation).await,
        AccessVerb::Set { setting } => return set(cx, setting).await,
    };
    cx.printer().data(&access, |access| facts(access).text())
}

async fn list(cx: &mut Cx<'_>, organisation: Option<String>) -> Result<(), Failure> {
    let organisation = cx.organisation_called(organisation).await?;
    let all: Vec<AccessView> = cx.list("accesses_list", &[&organisation]).await?;
    cx.show_list("accesses", &all, |all| {
        let mut table = Table::new(["id", "state", "asked", "by", "ends", "reason"]);
        for one in all {
            table.row([
                one.id.to_string(),
                one.state.clone(),
                one.requested_at.to_string(),
                one.requested_by.to_string(),
                words::dash(one.ends_at),
                one.reason.clone(),
            ]);
        }
        table
    })
}

async fn set(cx: &mut Cx<'_>, setting: Setting) -> Result<(), Failure> {
    let organisation = cx.organisation().await?;
    let setting = match setting {
        Setting::Refused => SupportSetting::Refused,
        Setting::Consent => SupportSetting::Consent,
        Setting::Notify => SupportSetting::Notify,
    };
    let set: AccessSetting = cx.ask("access_setting_write", &[&organisation], &AccessSetting { setting }).await?;
    cx.printer().data(&set, |set| Facts::new().with("setting", set.setting.as_str()).text())
}

fn facts(one: &AccessView) -> Facts {
    Facts::new()
        .with("id", one.id)
        .with("organisation", one.organisation)
        .maybe("project", one.project)
        .with("state", &one.state)
        .with("reason", &one.reason)
        .with("asked by", one.requested_by)
        .with("asked", one.requested_at)
        .maybe("approved by", one.approved_by)
        .maybe("consented by", one.consented_by)
        .with("lasts", format!("{} s", one.seconds))
        .maybe("ends", one.ends_at)
        .maybe("ended by", one.ended_by)
}
