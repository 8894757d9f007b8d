//! Own policies: what binds a project beside the roles, in its organisation's words and its own.

use askama::Template;
use axum::response::Response;
use gregal_api::{page::PolicyList, policy::PolicyView};
use gregal_core::{access::Action, id::ProjectId};

use super::{
    failure::Failure,
    page::{self, Here, Shell},
    visitor::{Id, Visitor},
};

#[derive(Template)]
#[template(path = "policies.html")]
struct ListPage {
    shell: Shell,
    policies: Vec<PolicyView>,
    may_write: bool,
}

pub(crate) async fn list(visitor: Visitor, Id(project): Id<ProjectId>) -> Result<Response, Failure> {
    let list: PolicyList = visitor.api.read("project_policies_list", &[&project]).await?;
    page::page(&ListPage {
        shell: visitor.shell("Policies", Here::Policies, Some(project)).await?,
        policies: list.items,
        may_write: visitor.can(Action::PolicyWrite),
    })
}
