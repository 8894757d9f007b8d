//! May content be at this site? Residency is a set of forbids that no permit overrides, and an independent ceiling that
//! must permit: both have to agree.

use cedar_policy::{Decision, Entities, PolicySet, Request};
use gregal_core::{
    residency::{
        CERTIFICATION, Jurisdiction, OPERATOR, OPERATOR_JURISDICTION, PARENT_JURISDICTION, RULES, ResidencyPolicy,
        SITE_JURISDICTION,
    },
    site::Site,
};

use crate::{
    Policies, facts,
    facts::World,
    load::{Loaded, known_entities},
    own::OwnPolicies,
};

/// The rule named when a decision could not be made.
const EVALUATION_ERROR: &str = "residency.evaluation_error";
/// The rule named when no forbid speaks, yet the ceiling does not permit.
const CEILING: &str = "residency.ceiling";

/// What would be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Placement {
    /// A dataset would be stored there.
    Dataset,
    /// A job would run there.
    Job,
    /// A model's weights would be kept there.
    Model,
    /// A model would be served there.
    Endpoint,
    /// A request would be sent there.
    Route,
    /// Bytes that stand elsewhere would be copied there.
    Copy,
    /// A served model would be answered from there again, after its place was lost.
    Replica,
    /// A backup would be kept there.
    Backup,
    /// A key that opens content would be wrapped for, or kept, there.
    KeyWrap,
    /// Whoever runs the site would be let in to help.
    Support,
}

impl Placement {
    /// Everything that can be placed.
    pub const ALL: &'static [Self] = &[
        Self::Dataset,
        Self::Job,
        Self::Model,
        Self::Endpoint,
        Self::Route,
        Self::Copy,
        Self::Replica,
        Self::Backup,
        Self::KeyWrap,
        Self::Support,
    ];

    /// How policies and people spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dataset => "dataset",
            Self::Job => "job",
            Self::Model => "model",
            Self::Endpoint => "endpoint",
            Self::Route => "route",
            Self::Copy => "copy",
            Self::Replica => "replica",
            Self::Backup => "backup",
            Self::KeyWrap => "key_wrap",
            Self::Support => "support",
        }
    }

    /// What would be there, as a sentence begins.
    const fn words(self) -> &'static str {
        match self {
            Self::Dataset => "a dataset",
            Self::Job => "a job",
            Self::Model => "a model",
            Self::Endpoint => "an endpoint",
            Self::Route => "a route",
            Self::Copy => "a copy",
            Self::Replica => "a replica",
            Self::Backup => "a backup",
            Self::KeyWrap => "a wrapped key",
            Self::Support => "support access",
        }
    }
}

/// Whether content may be at a site, and if not, which rule says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementVerdict {
    /// Whether it may be there.
    pub allowed: bool,
    /// The first rule that refuses, such as `residency.parent_jurisdiction`; none if allowed.
    pub rule: Option<String>,
    /// Every rule that refuses, in the order site, operator, parent, certification, named operators.
    pub rules: Vec<String>,
    /// Why, as a sentence for the tenant, about the first rule.
    pub because: String,
    /// What would have to be different for the first rule to allow it; none if allowed or if nothing would help.
    pub would_need: Option<String>,
}

impl Policies {
    /// Decides whether content of an organisation with this residency policy may be at `site`. Pure.
    pub fn place(&self, policy: &ResidencyPolicy, site: &Site, what: Placement) -> PlacementVerdict {
        self.place_within(policy, site, what, None)
    }

    /// As [`Policies::place`], with what the organisation wrote for itself: it can forbid more, never allow more.
    pub fn place_within(
        &self,
        policy: &ResidencyPolicy,
        site: &Site,
        what: Placement,
        own: Option<&OwnPolicies>,
    ) -> PlacementVerdict {
        let own = own.filter(|own| own.speaks_of_places());
        let rules = facts::of_placement(&self.0.names, policy, site, what)
            .map_err(|error| error.to_string())
            .and_then(|world| self.0.residency_of(world, own));
        match rules {
            Ok(rules) => describe(policy, site, what, rules),
            Err(error) => unsure(site, &error),
        }
    }
}

impl Loaded {
    fn residency_of(&self, world: World, own: Option<&OwnPolicies>) -> Result<Vec<String>, String> {
        let World { principal, action, resource, context, entities } = world;
        debug_assert!(self.entities(entities.clone()).is_ok(), "the facts of a place hold to the schema");
        let request = Request::new(principal, action, resource, context, None).map_err(|error| error.to_string())?;
        let entities = known_entities(entities).map_err(|error| error.to_string())?;
        let mut rules = self.residency_rules(&request, &entities)?;
        rules.extend(own.map_or_else(|| Ok(Vec::new()), |own| self.own_rules(&request, &entities, own))?);
        Ok(rules)
    }

    /// The rules of an organisation's own that refuse. An error is a text.
    pub(crate) fn own_rules(
        &self,
        request: &Request,
        entities: &Entities,
        own: &OwnPolicies,
    ) -> Result<Vec<String>, String> {
        let said = own.of_place(&self.authorizer, request, entities);
        if let Some((rule, why)) = said.errors.into_iter().next() {
            return Err(format!("the organisation's own policy `{rule}` could not be evaluated: {why}"));
        }
        let mut rules = said.forbids;
        rules.sort_unstable();
        Ok(rules)
    }

    /// The rules that refuse, in their order; empty if both sets allow. An error is a text for operators.
    /// Apart from [`Policies::place`] only so that tests can take facts away.
    pub(crate) fn residency_rules(&self, request: &Request, entities: &Entities) -> Result<Vec<String>, String> {
        let ask = |policies: &PolicySet| {
            let response = self.authorizer.is_authorized(request, policies, entities);
            let errors: Vec<String> = response.diagnostics().errors().map(ToString::to_string).collect();
            if !errors.is_empty() {
                return Err(errors.join("; "));
            }
            let reasons: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
            Ok((response.decision() == Decision::Allow, reasons))
        };
        let (not_forbidden, reasons) = ask(&self.residency)?;
        let (under_ceiling, _) = ask(&self.ceiling)?;
        let mut rules = if not_forbidden { Vec::new() } else { reasons };
        rules.sort_by_key(|rule| RULES.iter().position(|known| known == rule).unwrap_or(RULES.len()));
        if rules.is_empty() && !(not_forbidden && under_ceiling) {
            rules.push(CEILING.into());
        }
        Ok(rules)
    }
}

fn unsure(site: &Site, detail: &str) -> PlacementVerdict {
    PlacementVerdict {
        allowed: false,
        rule: Some(EVALUATION_ERROR.into()),
        rules: vec![EVALUATION_ERROR.into()],
        because: format!("whether content may be at site `{}` could not be decided: {detail}", site.name),
        would_need: None,
    }
}

fn describe(policy: &ResidencyPolicy, site: &Site, what: Placement, rules: Vec<String>) -> PlacementVerdict {
    let Some(first) = rules.first() else {
        let because = format!(
            "site `{}` under {} law, run by `{}`, is within the organisation's residency policy",
            site.name, site.jurisdiction, site.operator.name
        );
        return PlacementVerdict { allowed: true, rule: None, rules, because, would_need: None };
    };
    let (fact, would_need) = words(first, policy, site);
    let because = format!("{} may not be at site `{}`: {fact}", what.words(), site.name);
    PlacementVerdict { allowed: false, rule: Some(first.clone()), because, would_need, rules }
}

/// What a rule says about this site, and what would satisfy it.
fn words(rule: &str, policy: &ResidencyPolicy, site: &Site) -> (String, Option<String>) {
    let operator = &site.operator;
    let among = |law: Jurisdiction| {
        let need = format!("`{law}` among the organisation's allowed jurisdictions");
        (allowed_jurisdictions(policy), Some(need))
    };
    match rule {
        SITE_JURISDICTION => {
            let (allowed, need) = among(site.jurisdiction);
            (format!("it stands under {} law, {allowed}", site.jurisdiction), need)
        }
        OPERATOR_JURISDICTION => {
            let (allowed, need) = among(operator.jurisdiction);
            (format!("its operator `{}` is established in {}, {allowed}", operator.name, operator.jurisdiction), need)
        }
        PARENT_JURISDICTION => {
            let (allowed, need) = among(operator.parent_jurisdiction);
            let law = operator.parent_jurisdiction;
            (format!("the parent of its operator `{}` is established in {law}, {allowed}", operator.name), need)
        }
        CERTIFICATION => {
            let missing: Vec<String> =
                policy.certifications.difference(&site.certifications).map(|name| format!("`{name}`")).collect();
            let missing = missing.join(", ");
            (format!("it does not hold {missing}"), Some(format!("{missing} held by the site")))
        }
        OPERATOR => (
            format!("its operator `{}` is not one the organisation named", operator.name),
            Some(format!("`{}` among the organisation's named operators", operator.name)),
        ),
        own if own.starts_with("organisation:") => (
            format!("the organisation's own policy `{own}` forbids it"),
            Some(format!("`{own}` changed or removed by an owner")),
        ),
        _ => ("it is not within the organisation's residency policy".into(), None),
    }
}

fn allowed_jurisdictions(policy: &ResidencyPolicy) -> String {
    if policy.jurisdictions == Jurisdiction::eu() {
        return "allowed are the member states of the European Union".into();
    }
    if policy.jurisdictions.is_empty() {
        return "no jurisdiction is allowed".into();
    }
    let codes: Vec<String> = policy.jurisdictions.iter().map(ToString::to_string).collect();
    format!("allowed are {}", codes.join(", "))
}
