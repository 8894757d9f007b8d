//! `gregal member` and `gregal domain`: people in an organisation, inviting them, and who vouches for their domains.

use clap::{Args, Subcommand};
use gregal_api::person::{
    DomainView, DomainWrite, InvitationCreate, InvitationCreated, InvitationView, MemberView, MemberWrite, PersonView,
};
use gregal_core::{access::Role, id::ProjectId};

use crate::{
    context::Cx,
    failure::Failure,
    key::role,
    table::{Facts, Table},
    words,
};

#[derive(Debug, Subcommand)]
pub enum MemberVerb {
    /// List members
    List,
    /// Invite somebody by their address; the text that takes it up is shown once, and no mail is sent
    Invite(Invite),
    /// List invitations, never their texts
    Invitations,
    /// Take an invitation back
    Uninvite {
        /// The invitation's id
        #[arg(value_name = "INVITATION_ID")]
        reference: String,
    },
    /// Say what a member may do; their sessions end
    Set(Set),
    /// Take a member out; their sessions end
    Remove {
        /// The person's id
        #[arg(value_name = "PERSON_ID")]
        reference: String,
    },
    /// Leave the organisation you are signed in to
    Leave,
    /// Be forgotten: memberships and sessions end, and the log no longer says whom it means
    ForgetMe {
        /// Say that it is meant: it cannot be undone
        #[arg(long)]
        yes: bool,
    },
    /// Forget a person, on a data protection request (operators)
    Erase {
        /// The person's id
        #[arg(value_name = "PERSON_ID")]
        reference: String,
        /// Say that it is meant: it cannot be undone
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub struct Invite {
    /// The address they will sign in with
    email: String,
    /// What they may do: owner, admin, developer, inference, viewer, billing or auditor
    #[arg(long, default_value = "developer", value_parser = role)]
    role: Role,
    /// The id of the one project they reach; absent: all of them
    #[arg(long, value_name = "PROJECT_ID")]
    only: Option<ProjectId>,
    /// Stops standing after this long, 30 days at most: `12h`, `7d`
    #[arg(long, value_name = "SPAN", value_parser = words::stretch)]
    expires_in: Option<u32>,
    /// Let whoever holds the text take it up with a passkey: nobody vouches for the address then
    #[arg(long)]
    passkey: bool,
}

#[derive(Debug, Args)]
pub struct Set {
    /// The person's id
    #[arg(value_name = "PERSON_ID")]
    reference: String,
    /// What they may do: owner, admin, developer, inference, viewer, billing or auditor
    #[arg(long, value_parser = role)]
    role: Role,
    /// The id of the one project they reach; absent: all of them
    #[arg(long, value_name = "PROJECT_ID")]
    only: Option<ProjectId>,
}

#[derive(Debug, Subcommand)]
pub enum DomainVerb {
    /// List the domains whose people sign in with a provider of the organisation's own
    List,
    /// Give a domain to an organisation, and say who vouches for its people (operators)
    Set {
        /// The domain
        name: String,
        /// The provider's issuer address
        #[arg(long, value_name = "URL")]
        issuer: String,
        /// What the cloud is called there: a public client with PKCE
        #[arg(long, value_name = "ID")]
        client_id: String,
    },
    /// Take a domain away (operators)
    Remove {
        /// The domain
        name: String,
    },
}

pub(crate) async fn run(cx: &mut Cx<'_>, verb: MemberVerb) -> Result<(), Failure> {
    match verb {
        MemberVerb::List => {
            let organisation = cx.organisation().await?;
            let all: Vec<MemberView> = cx.list("members_list", &[&organisation]).await?;
            cx.show_list("members", &all, |all| {
                let mut table = Table::new(["person", "email", "role", "project", "joined"]);
                for one in all {
                    table.row([
                        one.person.to_string(),
                        one.email.clone(),
                        one.role.as_str().into(),
                        words::dash(one.project),
                        one.created_at.to_string(),
                    ]);
                }
                table
            })
        }
        MemberVerb::Invite(args) => {
            let organisation = cx.organisation().await?;
            let wanted = InvitationCreate {
                email: args.email,
                role: args.role,
                project: args.only,
                expires_in_s: args.expires_in,
                passkey: args.passkey,
            };
            let made: InvitationCreated = cx.create("invitation_create", &[&organisation], &wanted).await?;
            cx.printer().data(&made, |made| {
                offer(&made.invitation).with("join at", &made.join_at).maybe("text", made.text.as_ref()).text()
            })?;
            cx.printer().note("hand the text over yourself: it is shown only now, and no mail is sent");
            Ok(())
        }
        MemberVerb::Invitations => {
            let organisation = cx.organisation().await?;
            let all: Vec<InvitationView> = cx.list("invitations_list", &[&organisation]).await?;
            cx.show_list("invitations", &all, |all| {
                let mut table = Table::new(["id", "email", "role", "expires", "ended"]);
                for one in all {
                    table.row([
                        one.id.to_string(),
                        one.email.clone(),
                        one.role.as_str().into(),
                        one.expires_at.to_string(),
                        words::dash(one.ended_at),
                    ]);
                }
                table
            })
        }
        MemberVerb::Uninvite { reference } => {
            let gone: InvitationView = cx.read("invitation_revoke", &[&reference]).await?;
            cx.printer().data(&gone, |gone| offer(gone).text())
        }
        MemberVerb::Set(args) => {
            let organisation = cx.organisation().await?;
            let wanted = MemberWrite { role: args.role, project: args.only };
            let set: MemberView = cx.ask("member_write", &[&organisation, &args.reference], &wanted).await?;
            cx.printer().data(&set, facts)
        }
        MemberVerb::Remove { reference } => {
            let organisation = cx.organisation().await?;
            let gone: MemberView = cx.read("member_remove", &[&organisation, &reference]).await?;
            cx.printer().data(&gone, facts)
        }
        MemberVerb::Leave => {
            let gone: MemberView = cx.ask("membership_leave", &[], &serde_json::json!({})).await?;
            cx.printer().data(&gone, facts)
        }
        MemberVerb::ForgetMe { yes } => {
            meant(yes)?;
            let gone: PersonView = cx.ask("person_forget", &[], &serde_json::json!({})).await?;
            cx.printer().data(&gone, forgotten)
        }
        MemberVerb::Erase { reference, yes } => {
            meant(yes)?;
            let gone: PersonView = cx.read("person_erase", &[&reference]).await?;
            cx.printer().data(&gone, forgotten)
        }
    }
}

pub(crate) async fn run_domain(cx: &mut Cx<'_>, verb: DomainVerb) -> Result<(), Failure> {
    let organisation = cx.organisation().await?;
    let one: DomainView = match verb {
        DomainVerb::List => {
            let all: Vec<DomainView> = cx.list("domains_list", &[&organisation]).await?;
            return cx.show_list("domains", &all, |all| {
                let mut table = Table::new(["domain", "issuer", "client id"]);
                for one in all {
                    table.row([one.name.clone(), one.issuer.clone(), one.client_id.clone()]);
                }
                table
            });
        }
        DomainVerb::Set { name, issuer, client_id } => {
            cx.ask("domain_write", &[&organisation, &name], &DomainWrite { issuer, client_id }).await?
        }
        DomainVerb::Remove { name } => cx.read("domain_remove", &[&organisation, &name]).await?,
    };
    cx.printer().data(&one, |one| {
        Facts::new()
            .with("domain", &one.name)
            .with("organisation", one.organisation)
            .with("issuer", &one.issuer)
            .with("client id", &one.client_id)
            .text()
    })
}

fn meant(yes: bool) -> Result<(), Failure> {
    if yes { Ok(()) } else { Err(Failure::yours("this cannot be undone").hint("say that it is meant: `--yes`")) }
}

fn facts(one: &MemberView) -> String {
    Facts::new()
        .with("person", one.person)
        .with("email", &one.email)
        .with("organisation", one.organisation)
        .with("role", one.role.as_str())
        .maybe("project", one.project)
        .maybe("in the log", one.log_name.as_ref())
        .text()
}

fn offer(one: &InvitationView) -> Facts {
    Facts::new()
        .with("id", one.id)
        .with("email", &one.email)
        .with("role", one.role.as_str())
        .maybe("project", one.project)
        .with("expires", one.expires_at)
        .maybe("ended", one.ended_at)
}

fn forgotten(one: &PersonView) -> String {
    Facts::new().with("person", one.id).maybe("forgotten", one.erased_at).text()
}
