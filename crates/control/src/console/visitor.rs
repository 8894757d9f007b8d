//! Who looks at a page: the session from the cookie, the API with its key, and what that key may do.

use std::{collections::BTreeMap, str::FromStr};

use axum::{
    extract::{FromRequestParts, Path, Query},
    http::{HeaderMap, header, request::Parts},
};
use gregal_api::{
    key::WhoAmI,
    page::ProjectList,
    problem::{Code, Problem},
    project::ProjectView,
    site::SiteView,
};
use gregal_core::{
    access::Action,
    id::{OrganisationId, ProjectId, SiteId},
};
use serde::de::DeserializeOwned;

use crate::app::sign_in::Vouched;

use super::{
    Console,
    api::Api,
    failure::Failure,
    page::{Group, Here, Link, Shell},
    provider::told,
    session::{Session, SessionId},
};
use crate::http::peer::Peer;

/// Name of the cookie. Its text is random and stands for nothing outside this process.
pub(crate) const COOKIE: &str = "gregal_console";

/// Whoever is signed in.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    /// The API with the visitor's key.
    pub(crate) api: Api,
    /// Whom the key acts for.
    pub(crate) me: WhoAmI,
    /// What every form carries.
    pub(crate) csrf: String,
    console: Console,
    id: SessionId,
    vouched: Option<Vouched>,
    project_last: Option<ProjectId>,
}

impl FromRequestParts<Console> for Visitor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Failure> {
        let id = session_id(&parts.headers).ok_or(Failure::SignedOut)?;
        let session = console.0.sessions.used(id, console.0.world.steady()).ok_or(Failure::SignedOut)?;
        let Session { key, csrf, project, vouched, .. } = session;
        if key.is_empty() {
            return Err(Failure::Unplaced);
        }
        if let Some(vouched) = &vouched
            && !console.0.door.is_still_vouched(vouched).await.map_err(told)?
        {
            // The address is another provider's to vouch for since: its own has to say so.
            console.0.door.session_end(&key).await.map_err(told)?;
            console.0.sessions.end(id);
            return Err(Failure::SignedOut);
        }
        let api = Api::new(console.0.api.clone(), key, Peer::of(&parts.extensions));
        // Asked anew for each page: a key that was revoked ends its sessions at once.
        let me = api.read("whoami", &[]).await.inspect_err(|failure| {
            if matches!(failure, Failure::SignedOut) {
                console.0.sessions.end(id);
            }
        })?;
        Ok(Self { api, me, csrf, console: console.clone(), id, vouched, project_last: project })
    }
}

/// The session a request's cookie stands for.
pub(crate) fn session_id(headers: &HeaderMap) -> Option<SessionId> {
    cookie_of(headers, COOKIE).map(SessionId::of)
}

/// The random text of a cookie of ours.
pub(crate) fn cookie_of<'a>(headers: &'a HeaderMap, called: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let token = pairs.find(|(name, _)| *name == called).map(|(_, token)| token)?;
    (token.len() == 64).then_some(token)
}

impl Visitor {
    /// Whether the key's role carries an action somewhere.
    pub(crate) fn can(&self, action: Action) -> bool {
        self.me.actions.iter().any(|carried| carried == action.as_str())
    }

    /// Whether the key may ask about the whole organisation: a key bound to a project may not.
    pub(crate) fn can_in_organisation(&self, action: Action) -> bool {
        self.organisation().is_some() && self.me.key.project.is_none() && self.can(action)
    }

    /// The organisation the key acts for; none for operators.
    pub(crate) fn organisation(&self) -> Option<OrganisationId> {
        self.me.key.organisation
    }

    /// The organisation, or that this page is not for operators.
    pub(crate) fn organisation_needed(&self) -> Result<OrganisationId, Failure> {
        self.organisation().ok_or_else(|| {
            Problem::new(Code::Forbidden, "an operator's key belongs to no organisation and sees nothing of tenants")
                .hint("sign in with a key of the organisation")
                .into()
        })
    }

    /// Whether this is an operator.
    pub(crate) fn is_operator(&self) -> bool {
        self.me.key.role.is_operator()
    }

    /// Text that nobody can guess, for what must not be made twice.
    pub(crate) fn once(&self) -> String {
        self.console.random()
    }

    /// The time.
    pub(crate) fn now(&self) -> gregal_core::time::Time {
        self.console.0.world.now()
    }

    /// The projects the key reaches; the first hundred.
    pub(crate) async fn projects(&self) -> Result<Vec<ProjectView>, Failure> {
        if !self.can(Action::ProjectRead) {
            return Ok(Vec::new());
        }
        match (self.me.key.project, self.organisation()) {
            (Some(bound), _) => Ok(vec![self.api.read("project_read", &[&bound]).await?]),
            (None, Some(organisation)) => {
                let list: ProjectList = self.api.read("projects_list", &[&organisation]).await?;
                Ok(list.items)
            }
            (None, None) => Ok(Vec::new()),
        }
    }

    /// The sites by id; none for keys that may not read the catalogue.
    pub(crate) async fn sites(&self) -> Result<BTreeMap<SiteId, SiteView>, Failure> {
        if !self.can(Action::CatalogueRead) {
            return Ok(BTreeMap::new());
        }
        let (sites, _) = self.api.gather::<SiteView>("sites_list", &[]).await?;
        Ok(sites.into_iter().map(|site| (site.id, site)).collect())
    }

    /// The frame of a page. `project` is the one the page is about.
    pub(crate) async fn shell(&self, title: &str, here: Here, project: Option<ProjectId>) -> Result<Shell, Failure> {
        if let Some(project) = project {
            self.console.0.sessions.look_at(self.id, project);
        }
        let projects = self.projects().await?;
        let known = |id: &ProjectId| projects.iter().any(|project| project.id == *id);
        let current = project.or(self.me.key.project).or(self.project_last.filter(known));
        let current = current.or_else(|| projects.first().map(|project| project.id));
        let mut groups = vec![Group { title: None, links: vec![here.link(Here::Overview, "/console", "Overview")] }];
        if let Some(id) = current {
            let name = projects.iter().find(|project| project.id == id).map_or("Project", |project| &project.name);
            groups.push(Group { title: Some(name.to_owned()), links: self.project_links(here, id) });
        }
        groups.push(Group { title: Some(self.upper_title()), links: self.upper_links(here) });
        groups.retain(|group| !group.links.is_empty());
        let others = projects.iter().filter(|project| Some(project.id) != current);
        let others = others.map(|project| Link {
            href: format!("/console/projects/{}/jobs", project.id),
            words: project.name.clone(),
            is_here: false,
        });
        Ok(Shell {
            title: title.to_owned(),
            csrf: self.csrf.clone(),
            // A session's key is called what the log calls its person; they know themselves by their address.
            who: self.vouched.as_ref().map_or_else(|| self.me.key.name.clone(), |person| person.email.clone()),
            may_switch: self.vouched.is_some(),
            role: self.me.key.role.as_str(),
            groups,
            others: others.collect(),
            refresh_s: None,
        })
    }

    fn project_links(&self, here: Here, id: ProjectId) -> Vec<Link> {
        let pages = [
            (Here::Jobs, "jobs", "Jobs", Action::JobRead),
            (Here::Models, "models", "Models", Action::ModelRead),
            (Here::Endpoints, "endpoints", "Endpoints", Action::EndpointRead),
            (Here::Reservations, "reservations", "Reservations", Action::ReservationRead),
            (Here::Datasets, "datasets", "Datasets", Action::DatasetRead),
            (Here::Keys, "keys", "Keys", Action::KeyRead),
            (Here::Placement, "placement", "Placement", Action::PlacementExplain),
            (Here::Policies, "policies", "Policies", Action::PolicyRead),
        ];
        let mine = pages.into_iter().filter(|(.., action)| self.can(*action));
        mine.map(|(page, path, words, _)| here.link(page, &format!("/console/projects/{id}/{path}"), words)).collect()
    }

    fn upper_title(&self) -> String {
        if self.is_operator() { "Cloud" } else { "Organisation" }.to_owned()
    }

    fn upper_links(&self, here: Here) -> Vec<Link> {
        let operator = self.is_operator();
        let bound_usage = self.me.key.project.is_some() && self.can(Action::UsageRead);
        let quotas = match (self.me.key.project, self.organisation()) {
            (Some(bound), _) => format!("/console/projects/{bound}/quotas"),
            (None, Some(own)) => format!("/console/organisations/{own}/quotas"),
            (None, None) => String::new(),
        };
        let pages = [
            (Here::Quotas, quotas.as_str(), "Quotas", !operator && self.can(Action::QuotaRead)),
            (Here::Usage, "/console/usage", "Usage", bound_usage || self.can_in_organisation(Action::UsageRead)),
            (Here::Invoice, "/console/invoice", "Invoice", self.can_in_organisation(Action::InvoiceRead)),
            (Here::Members, "/console/members", "Members", self.can_in_organisation(Action::MemberRead)),
            (
                Here::Organisations,
                "/console/organisations",
                "Organisations",
                operator && self.can(Action::OrganisationRead),
            ),
            (Here::Sites, "/console/sites", "Sites", self.can(Action::CatalogueRead)),
            (Here::Skus, "/console/skus", "SKUs", self.can(Action::CatalogueRead)),
            (
                Here::Audit,
                "/console/audit",
                "Audit",
                self.can(Action::AuditReadAll) || self.can_in_organisation(Action::AuditRead),
            ),
        ];
        pages
            .into_iter()
            .filter(|(.., shown)| *shown)
            .map(|(page, href, words, _)| here.link(page, href, words))
            .collect()
    }
}

/// The id in the path. One that is not even spelled like an id is answered like one that does not exist.
#[derive(Debug)]
pub(crate) struct Id<T>(pub(crate) T);

impl<T: FromStr> FromRequestParts<Console> for Id<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Failure> {
        let missing = || Failure::from(Problem::new(Code::NotFound, "there is nothing by this address"));
        let Path(text) = Path::<String>::from_request_parts(parts, console).await.map_err(|_| missing())?;
        text.parse().map(Self).map_err(|_| missing())
    }
}

/// The query of an address.
#[derive(Debug)]
pub(crate) struct Wanted<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Console> for Wanted<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Failure> {
        let query = Query::<T>::from_request_parts(parts, console).await;
        query.map(|Query(query)| Self(query)).map_err(|_| Failure::invalid("the address has a part that does not fit"))
    }
}
