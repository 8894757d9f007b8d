//! Projects: who shares.

use gregal_api::project::{ProjectCreate, ProjectView};
use gregal_core::{
    access::Action,
    id::{OrganisationId, ProjectId},
    organisation::Project,
};
use gregal_policy::Resource;
use gregal_store::{Listed, Page};

use crate::{Control, Cx, Error, Result, app::site::site_found, context::Facts as _, names, wakes::Wake};

impl Control {
    /// Makes a project.
    pub(crate) async fn project_create(
        &self,
        cx: &Cx,
        organisation: OrganisationId,
        wanted: ProjectCreate,
    ) -> Result<ProjectView> {
        let (_, policies) = self.organisation_seen(cx, organisation, Action::ProjectCreate).await?;
        names::label("name", &wanted.name)?;
        let id = ProjectId::new(self.world());
        let project = Project { id, organisation, name: wanted.name, created_at: cx.now, version: 1 };
        let tx = self.begin(cx).await?;
        tx.project_insert(&project).await?;
        let answer = ProjectView::from(&project);
        let entry = cx.done(Some(organisation), Action::ProjectCreate.as_str(), id).by(&policies);
        self.finish_created(cx, tx, &[entry], Wake::Nobody, &answer).await?;
        Ok(answer)
    }

    /// An organisation's projects. A key bound to one sees that one.
    pub(crate) async fn projects_list(&self, cx: &Cx, id: OrganisationId, page: &Page) -> Result<Listed<Project>> {
        if let (Some(own), Some(bound)) = (cx.key()?.organisation, cx.key()?.project)
            && own == id
        {
            let items = vec![self.project_read(cx, bound).await?];
            let beyond = page.after.as_ref().is_some_and(|after| *after >= bound.to_string());
            return Ok(Listed { items: if beyond { Vec::new() } else { items }, next: None });
        }
        self.organisation_seen(cx, id, Action::ProjectRead).await?;
        Ok(self.store().projects_list(id, page).await?)
    }

    /// A project.
    pub(crate) async fn project_read(&self, cx: &Cx, id: ProjectId) -> Result<Project> {
        Ok(self.project_seen(cx, id, Action::ProjectRead).await?.0)
    }

    /// A project in which this action is allowed, and the policies that allow it.
    pub(crate) async fn project_seen(&self, cx: &Cx, id: ProjectId, action: Action) -> Result<(Project, Vec<String>)> {
        self.project_seen_for(cx, id, action, None, Vec::new()).await
    }

    /// As [`Control::project_seen`], for what shall be made in it at a site, by the site's name or id, and under these
    /// names: a key may be narrowed to some.
    pub(crate) async fn project_seen_for(
        &self,
        cx: &Cx,
        id: ProjectId,
        action: Action,
        site: Option<&str>,
        names: Vec<String>,
    ) -> Result<(Project, Vec<String>)> {
        let project = self.store().project_get(id).await?.ok_or_else(|| Error::missing("project", id))?;
        let at = match site {
            // One that does not exist is told to whoever may make something there.
            Some(site) if cx.key()?.scope.sites.is_some() => site_found(self.store(), site).await.ok(),
            _ => None,
        };
        let resource = Resource::project(project.organisation, id).at(at.map(|site| site.id)).called(names);
        let policies = self.authorize(cx, action, &resource).await?;
        Ok((project, policies))
    }
}
