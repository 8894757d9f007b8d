//! The facts of one question, as Cedar entities: who asks, what about, and what each belongs to. Nothing is decided here.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Context, Entity, EntityId, EntityTypeName, EntityUid, ParseErrors, RestrictedExpression};
use gregal_core::{
    access::{Action, Role},
    residency::ResidencyPolicy,
    site::Site,
};

use crate::{
    place::Placement,
    principal::Principal,
    resource::{Resource, ResourceKind},
};

/// Why the facts contradict themselves. A bug of the asking room; it denies.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FactError {
    #[error("{kind} `{id}` is said to belong to another {noun} than itself")]
    Contradiction { kind: &'static str, id: String, noun: &'static str },
    #[error("a key with role `{0}` names no organisation")]
    Homeless(&'static str),
    #[error("an operator's key belongs to an organisation")]
    Bound,
    #[error("a fact could not be said: {0}")]
    Attribute(String),
}

/// One question and its facts.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) principal: EntityUid,
    pub(crate) action: EntityUid,
    pub(crate) resource: EntityUid,
    pub(crate) context: Context,
    pub(crate) entities: Vec<Entity>,
}

/// Entity type names, parsed once.
#[derive(Debug)]
pub(crate) struct Names {
    action: EntityTypeName,
    role: EntityTypeName,
    holder: EntityTypeName,
    operator: EntityTypeName,
    cloud: EntityTypeName,
    site: EntityTypeName,
    organisation: EntityTypeName,
    project: EntityTypeName,
    key: EntityTypeName,
    member: EntityTypeName,
    dataset: EntityTypeName,
    job: EntityTypeName,
    model: EntityTypeName,
    endpoint: EntityTypeName,
    reservation: EntityTypeName,
    ceiling: EntityTypeName,
    ground: EntityTypeName,
}

impl Names {
    pub(crate) fn new() -> Result<Self, Box<ParseErrors>> {
        let kind = |kind: ResourceKind| kind.as_str().parse().map_err(Box::new);
        Ok(Self {
            action: "Action".parse()?,
            role: "Role".parse()?,
            holder: "Holder".parse()?,
            operator: "Operator".parse()?,
            cloud: kind(ResourceKind::Cloud)?,
            site: kind(ResourceKind::Site)?,
            organisation: kind(ResourceKind::Organisation)?,
            project: kind(ResourceKind::Project)?,
            key: kind(ResourceKind::Key(Role::Inference))?,
            member: kind(ResourceKind::Member(Role::Inference))?,
            dataset: kind(ResourceKind::Dataset)?,
            job: kind(ResourceKind::Job)?,
            model: kind(ResourceKind::Model)?,
            endpoint: kind(ResourceKind::Endpoint)?,
            reservation: kind(ResourceKind::Reservation)?,
            ceiling: "Ceiling".parse()?,
            ground: "Ground".parse()?,
        })
    }

    fn of(&self, kind: ResourceKind) -> &EntityTypeName {
        match kind {
            ResourceKind::Cloud => &self.cloud,
            ResourceKind::Site => &self.site,
            ResourceKind::Organisation => &self.organisation,
            ResourceKind::Project => &self.project,
            ResourceKind::Key(_) => &self.key,
            ResourceKind::Member(_) => &self.member,
            ResourceKind::Dataset => &self.dataset,
            ResourceKind::Job => &self.job,
            ResourceKind::Model => &self.model,
            ResourceKind::Endpoint => &self.endpoint,
            ResourceKind::Reservation => &self.reservation,
        }
    }

    /// An action by its text.
    pub(crate) fn action(&self, action: &str) -> EntityUid {
        uid(&self.action, action)
    }

    fn role(&self, role: Role) -> EntityUid {
        uid(&self.role, role.as_str())
    }
}

/// The facts behind one authorisation question.
pub(crate) fn of_access(
    names: &Names,
    principal: &Principal,
    action: Action,
    resource: &Resource,
) -> Result<World, FactError> {
    let asker = asker(names, principal)?;
    let mut entities = Vec::with_capacity(3);
    let subject = subject(names, resource, &mut entities)?;
    let principal = asker.uid();
    // A site that asks about itself is one entity, not two.
    if principal != subject {
        entities.push(asker);
    }
    let action = uid(&names.action, action.as_str());
    Ok(World { principal, action, resource: subject, context: Context::empty(), entities })
}

fn asker(names: &Names, principal: &Principal) -> Result<Entity, FactError> {
    match *principal {
        Principal::Site(site) => Ok(Entity::with_uid(uid(&names.site, &site))),
        Principal::Key { key, role, organisation: None, project: None } if role.is_operator() => {
            let operator = uid(&names.operator, &key);
            entity(operator, HashMap::new(), HashSet::from([names.role(role)]))
        }
        Principal::Key { role, .. } if role.is_operator() => Err(FactError::Bound),
        Principal::Key { role, organisation: None, .. } => Err(FactError::Homeless(role.as_str())),
        Principal::Key { key, role, organisation: Some(organisation), project } => {
            let grants = Role::ALL.iter().filter(|other| role.may_grant(**other));
            let grants = grants.map(|other| RestrictedExpression::new_entity_uid(names.role(*other)));
            let organisation = RestrictedExpression::new_entity_uid(uid(&names.organisation, &organisation));
            let mut facts = HashMap::from([
                ("organisation".to_owned(), organisation),
                ("bound".to_owned(), RestrictedExpression::new_bool(project.is_some())),
                ("grants".to_owned(), RestrictedExpression::new_set(grants)),
            ]);
            if let Some(project) = project {
                let project = RestrictedExpression::new_entity_uid(uid(&names.project, &project));
                facts.insert("project".to_owned(), project);
            }
            entity(uid(&names.holder, &key), facts, HashSet::from([names.role(role)]))
        }
    }
}

/// Adds the resource and the project between it and its organisation; gives the resource's name.
fn subject(names: &Names, resource: &Resource, entities: &mut Vec<Entity>) -> Result<EntityUid, FactError> {
    let contradiction = |noun| FactError::Contradiction { kind: resource.kind.as_str(), id: resource.id.clone(), noun };
    let subject = uid(names.of(resource.kind), &resource.id);
    let organisation = resource.organisation.map(|id| uid(&names.organisation, &id));
    let project = resource.project.map(|id| uid(&names.project, &id));
    let parent = match resource.kind {
        ResourceKind::Cloud | ResourceKind::Site => None,
        ResourceKind::Organisation => {
            if organisation.is_some_and(|claimed| claimed != subject) {
                return Err(contradiction("organisation"));
            }
            None
        }
        ResourceKind::Project => {
            if project.is_some_and(|claimed| claimed != subject) {
                return Err(contradiction("project"));
            }
            organisation
        }
        _ => match project {
            Some(project) => {
                entities.push(Entity::new_no_attrs(project.clone(), organisation.into_iter().collect()));
                Some(project)
            }
            None => organisation,
        },
    };
    let facts = match resource.kind {
        ResourceKind::Key(role) | ResourceKind::Member(role) => {
            HashMap::from([("role".to_owned(), RestrictedExpression::new_entity_uid(names.role(role)))])
        }
        _ => HashMap::new(),
    };
    entities.push(entity(subject.clone(), facts, parent.into_iter().collect())?);
    Ok(subject)
}

/// The facts behind one residency question.
pub(crate) fn of_placement(
    names: &Names,
    policy: &ResidencyPolicy,
    site: &Site,
    what: Placement,
) -> Result<World, FactError> {
    let ceiling = uid(&names.ceiling, "policy");
    let ground = uid(&names.ground, &site.id);
    let allowed = HashMap::from([
        ("jurisdictions".to_owned(), set(policy.jurisdictions.iter())),
        ("certifications".to_owned(), set(policy.certifications.iter())),
        ("operators".to_owned(), set(policy.operators.iter())),
    ]);
    let found = HashMap::from([
        ("jurisdiction".to_owned(), text(&site.jurisdiction)),
        ("operator".to_owned(), text(&site.operator.name)),
        ("operator_jurisdiction".to_owned(), text(&site.operator.jurisdiction)),
        ("parent_jurisdiction".to_owned(), text(&site.operator.parent_jurisdiction)),
        ("certifications".to_owned(), set(site.certifications.iter())),
    ]);
    let entities =
        vec![entity(ceiling.clone(), allowed, HashSet::new())?, entity(ground.clone(), found, HashSet::new())?];
    let action = uid(&names.action, &format!("place:{}", what.as_str()));
    Ok(World { principal: ceiling, action, resource: ground, context: Context::empty(), entities })
}

fn uid(kind: &EntityTypeName, id: &(impl ToString + ?Sized)) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id.to_string()))
}

fn entity(
    uid: EntityUid,
    facts: HashMap<String, RestrictedExpression>,
    parents: HashSet<EntityUid>,
) -> Result<Entity, FactError> {
    Entity::new(uid, facts, parents).map_err(|error| FactError::Attribute(error.to_string()))
}

fn text(value: &(impl ToString + ?Sized)) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_string())
}

fn set<T: ToString>(values: impl Iterator<Item = T>) -> RestrictedExpression {
    RestrictedExpression::new_set(values.map(|value| RestrictedExpression::new_string(value.to_string())))
}
