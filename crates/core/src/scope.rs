//! What a key is narrowed to, within what its role carries. A scope takes away and never adds.

use std::{collections::BTreeSet, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{
    access::Action,
    id::{ProjectId, SiteId},
    network::Network,
};

/// The most things one dimension of a scope names: scopes travel to sites with every intent.
pub const SCOPE_NAMES_MAX: usize = 32;

/// What a key is narrowed to. Each part that is none narrows nothing; the default narrows nothing at all. What cannot be
/// shown to be inside a part that is given is outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// The only actions it may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<BTreeSet<Action>>,
    /// The only models it may ask or read of: names or ids of endpoints, ids or names of models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<BTreeSet<String>>,
    /// The only projects it reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projects: Option<BTreeSet<ProjectId>>,
    /// The only sites at which it does anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sites: Option<BTreeSet<SiteId>>,
    /// The only networks it works from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<BTreeSet<Network>>,
}

/// A part of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `actions`
    Actions,
    /// `models`
    Models,
    /// `projects`
    Projects,
    /// `sites`
    Sites,
    /// `networks`
    Networks,
}

impl Part {
    /// How refusals and audit entries name it, as if it were a policy.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Actions => "key.scope.actions",
            Self::Models => "key.scope.models",
            Self::Projects => "key.scope.projects",
            Self::Sites => "key.scope.sites",
            Self::Networks => "key.scope.networks",
        }
    }
}

/// What is asked with a key, as far as scopes look at it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What should be done.
    pub action: Action,
    /// Whether it is about the cloud's public facts, which belong to no project, site or model.
    pub is_public: bool,
    /// Which project it is about, if about one.
    pub project: Option<ProjectId>,
    /// The site it is at, if that is known.
    pub site: Option<SiteId>,
    /// Names and ids by which the model or endpoint it is about is known; none for anything else.
    pub names: &'a [String],
}

impl Scope {
    /// Whether it narrows nothing.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// The part that refuses what is asked; none: it is within all of them. Networks are apart ([`Scope::works_from`]):
    /// they are looked at once, at the door.
    pub fn refuses(&self, asked: &Asked<'_>) -> Option<Part> {
        if self.actions.as_ref().is_some_and(|actions| !actions.contains(&asked.action)) {
            return Some(Part::Actions);
        }
        if asked.is_public {
            return None;
        }
        let within = |projects: &BTreeSet<_>| asked.project.is_some_and(|project| projects.contains(&project));
        if self.projects.as_ref().is_some_and(|projects| !within(projects)) {
            return Some(Part::Projects);
        }
        if is_nowhere(asked.action) {
            return None;
        }
        let within = |sites: &BTreeSet<_>| asked.site.is_some_and(|site| sites.contains(&site));
        if self.sites.as_ref().is_some_and(|sites| !within(sites)) {
            return Some(Part::Sites);
        }
        let within = |models: &BTreeSet<String>| asked.names.iter().any(|name| models.contains(name));
        if self.models.as_ref().is_some_and(|models| !within(models)) {
            return Some(Part::Models);
        }
        None
    }

    /// Whether a key so narrowed works from this address. An address nobody knows is in no network.
    pub fn works_from(&self, peer: Option<IpAddr>) -> bool {
        let inside = |networks: &BTreeSet<Network>| {
            peer.is_some_and(|peer| networks.iter().any(|network| network.contains(peer)))
        };
        self.networks.as_ref().is_none_or(inside)
    }

    /// The part in which this scope is wider than `outer`, if in any. A part left open is wider than any that is given.
    pub fn wider_than(&self, outer: &Self) -> Option<Part> {
        if exceeds(self.actions.as_ref(), outer.actions.as_ref()) {
            return Some(Part::Actions);
        }
        if exceeds(self.models.as_ref(), outer.models.as_ref()) {
            return Some(Part::Models);
        }
        if exceeds(self.projects.as_ref(), outer.projects.as_ref()) {
            return Some(Part::Projects);
        }
        if exceeds(self.sites.as_ref(), outer.sites.as_ref()) {
            return Some(Part::Sites);
        }
        let covered = |inner: &BTreeSet<Network>, outer: &BTreeSet<Network>| {
            inner.iter().all(|one| outer.iter().any(|network| network.covers(one)))
        };
        let is_within = match (&self.networks, &outer.networks) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(inner), Some(outer)) => covered(inner, outer),
        };
        (!is_within).then_some(Part::Networks)
    }

    /// This scope with every part that it leaves open narrowed as in `outer`.
    #[must_use]
    pub fn filled_from(self, outer: &Self) -> Self {
        Self {
            actions: self.actions.or_else(|| outer.actions.clone()),
            models: self.models.or_else(|| outer.models.clone()),
            projects: self.projects.or_else(|| outer.projects.clone()),
            sites: self.sites.or_else(|| outer.sites.clone()),
            networks: self.networks.or_else(|| outer.networks.clone()),
        }
    }

    /// The part that names nothing, or more than [`SCOPE_NAMES_MAX`] things (actions: none), if there is one.
    pub fn senseless(&self) -> Option<Part> {
        fn wrong<T>(set: Option<&BTreeSet<T>>, max: usize) -> bool {
            set.is_some_and(|set| set.is_empty() || set.len() > max)
        }
        [
            (wrong(self.actions.as_ref(), Action::ALL.len()), Part::Actions),
            (wrong(self.models.as_ref(), SCOPE_NAMES_MAX), Part::Models),
            (wrong(self.projects.as_ref(), SCOPE_NAMES_MAX), Part::Projects),
            (wrong(self.sites.as_ref(), SCOPE_NAMES_MAX), Part::Sites),
            (wrong(self.networks.as_ref(), SCOPE_NAMES_MAX), Part::Networks),
        ]
        .into_iter()
        .find_map(|(is_wrong, part)| is_wrong.then_some(part))
    }
}

fn exceeds<T: Ord>(inner: Option<&BTreeSet<T>>, outer: Option<&BTreeSet<T>>) -> bool {
    match (inner, outer) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(inner), Some(outer)) => !inner.is_subset(outer),
    }
}

/// Whether an action is about something that is at no site and no model: who there is, and keys, which are bounded by the
/// scope of whoever makes them.
const fn is_nowhere(action: Action) -> bool {
    matches!(
        action,
        Action::OrganisationRead
            | Action::ProjectRead
            | Action::QuotaRead
            | Action::KeyCreate
            | Action::KeyRotate
            | Action::KeyRevoke
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "it makes a part of a scope, which is optional")]
    fn set<T: Ord>(values: impl IntoIterator<Item = T>) -> Option<BTreeSet<T>> {
        Some(values.into_iter().collect())
    }

    const HERE: SiteId = SiteId::from_u128(1);
    const THERE: SiteId = SiteId::from_u128(2);
    const OURS: ProjectId = ProjectId::from_u128(3);

    fn asked(action: Action, site: Option<SiteId>, names: &[String]) -> Asked<'_> {
        Asked { action, is_public: false, project: Some(OURS), site, names }
    }

    #[test]
    fn what_cannot_be_shown_to_be_inside_is_outside() {
        let at_site = Scope { sites: set([HERE]), ..Scope::default() };
        assert_eq!(at_site.refuses(&asked(Action::JobRead, Some(HERE), &[])), None);
        assert_eq!(at_site.refuses(&asked(Action::JobRead, Some(THERE), &[])), Some(Part::Sites));
        assert_eq!(at_site.refuses(&asked(Action::JobRead, None, &[])), Some(Part::Sites));
        let of_model = Scope { models: set(["chat".to_owned()]), ..Scope::default() };
        assert_eq!(of_model.refuses(&asked(Action::EndpointInfer, None, &["chat".into()])), None);
        assert_eq!(of_model.refuses(&asked(Action::EndpointInfer, None, &["other".into()])), Some(Part::Models));
        assert_eq!(of_model.refuses(&asked(Action::DatasetRead, None, &[])), Some(Part::Models));
        let in_project = Scope { projects: set([OURS]), ..Scope::default() };
        let whole = Asked { project: None, ..asked(Action::OrganisationRead, None, &[]) };
        assert_eq!(in_project.refuses(&whole), Some(Part::Projects));
        let from_network = Scope { networks: set(["10.0.0.0/8".parse().unwrap()]), ..Scope::default() };
        assert!(from_network.works_from(Some("10.1.1.1".parse().unwrap())));
        assert!(!from_network.works_from(Some("192.0.2.1".parse().unwrap())));
        assert!(!from_network.works_from(None));
    }

    #[test]
    fn a_part_that_names_nothing_is_senseless() {
        assert_eq!(Scope { actions: set([]), ..Scope::default() }.senseless(), Some(Part::Actions));
        assert_eq!(Scope { networks: set([]), ..Scope::default() }.senseless(), Some(Part::Networks));
        let many = Scope { models: set((0..33).map(|n| n.to_string())), ..Scope::default() };
        assert_eq!(many.senseless(), Some(Part::Models));
        assert_eq!(Scope::default().senseless(), None);
    }

    fn any_set<T: Ord + Clone + std::fmt::Debug + 'static>(all: Vec<T>) -> impl Strategy<Value = Option<BTreeSet<T>>> {
        let len = all.len();
        proptest::option::of(proptest::sample::subsequence(all, 0..=len).prop_map(|some| some.into_iter().collect()))
    }

    fn any_scope() -> impl Strategy<Value = Scope> {
        let actions = vec![Action::JobRead, Action::EndpointInfer, Action::ProjectRead, Action::KeyCreate];
        let networks: Vec<Network> =
            ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "::/0"].map(|text| text.parse().unwrap()).to_vec();
        (
            any_set(actions),
            any_set(vec!["a".to_owned(), "b".to_owned()]),
            any_set(vec![OURS, ProjectId::from_u128(4)]),
            any_set(vec![HERE, THERE]),
            any_set(networks),
        )
            .prop_map(|(actions, models, projects, sites, networks)| Scope {
                actions,
                models,
                projects,
                sites,
                networks,
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2048) })]

        /// The made key does nothing the maker could not, whatever is asked and from wherever.
        #[test]
        fn a_scope_that_is_not_wider_lets_nothing_through_that_the_outer_refuses(
            inner in any_scope(),
            outer in any_scope(),
            action in proptest::sample::select(vec![Action::JobRead, Action::EndpointInfer, Action::ProjectRead]),
            project in proptest::option::of((3..5_u128).prop_map(ProjectId::from_u128)),
            site in proptest::option::of((1..3_u128).prop_map(SiteId::from_u128)),
            names in proptest::collection::vec(proptest::sample::select(vec!["a".to_owned(), "b".to_owned()]), 0..2),
            peer in proptest::option::of(proptest::sample::select(vec!["10.1.2.3", "10.9.9.9", "192.0.2.1", "::9"])),
        ) {
            let inner = inner.filled_from(&outer);
            if inner.wider_than(&outer).is_some() {
                return Ok(());
            }
            let asked = Asked { action, is_public: false, project, site, names: &names };
            if inner.refuses(&asked).is_none() {
                prop_assert_eq!(outer.refuses(&asked), None);
            }
            let peer = peer.map(|text| text.parse().unwrap());
            prop_assert!(!inner.works_from(peer) || outer.works_from(peer));
        }
    }
}
