//! Whether a policy that an organisation wrote may be stored: it must hold to the schema, stay within what such a policy
//! may speak of, never err, and permit nothing that the cloud's own policies would not let it permit. What is refused is
//! refused with a case in point.

use std::collections::BTreeSet;

use cedar_policy::{
    Effect, Entities, Policy, PolicyId, PolicySet, PrincipalConstraint, Request, ValidationMode, Validator,
};
use gregal_core::{
    access::{Action, Role},
    id::OrganisationId,
    policy::{POLICY_BYTES_MAX, rule_of},
};

use crate::{
    Policies, catalogue,
    catalogue::Names,
    facts,
    load::Loaded,
    own::{Said, Written, is_about_places},
    place::Placement,
    prepared::Asked,
    principal::Principal,
    resource::Resource,
};

/// The most ids one policy may name: more are said better by role or project, and each makes more worlds to try.
const IDS_MAX: usize = 8;

/// A policy that may be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Whether it permits; else it forbids.
    pub permits: bool,
    /// Whether it speaks of places for content; else of who may do what.
    pub about_places: bool,
    /// The things it names, as kind (`Holder`, `Project`, ...) and id. Whether they are the organisation's is not known
    /// here.
    pub names: Vec<(String, String)>,
    /// How many cases it was tried in.
    pub tried: usize,
    /// In how many of them it applies.
    pub applies: usize,
}

/// Why a policy may not be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refused {
    /// What is wrong, with a case in point where there is one.
    pub detail: String,
    /// What would help.
    pub hint: String,
    /// The rule of the cloud that stands against it, if one does.
    pub rule: Option<String>,
}

impl Refused {
    fn new(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { detail: detail.into(), hint: hint.into(), rule: None }
    }

    fn by(self, rule: &str) -> Self {
        Self { rule: Some(rule.into()), ..self }
    }
}

impl Policies {
    /// Checks one policy of an organisation by itself: forms, bounds, and every case it could meet. Takes milliseconds,
    /// and more for policies that leave much open: not for the path of a request.
    pub fn check(&self, organisation: OrganisationId, one: Written<'_>) -> Result<Checked, Refused> {
        let policy = self.0.formed(one)?;
        let names = names_of(&policy, organisation)?;
        let about_places = is_about_places(&policy);
        let tally = if about_places {
            self.0.placing_tried(one, &policy, &names)?
        } else {
            self.0.access_tried(organisation, one, &policy, &names)?
        };
        if tally.applies == 0 {
            return Err(Refused::new(
                format!("it applies in none of {} cases: a rule that is not there", tally.tried),
                "look at what its conditions ask for together",
            ));
        }
        Ok(Checked {
            permits: policy.effect() == Effect::Permit,
            about_places,
            names: names.into_iter().collect(),
            tried: tally.tried,
            applies: tally.applies,
        })
    }
}

/// Cases tried, and those among them in which the policy applies.
#[derive(Debug, Default)]
struct Tally {
    tried: usize,
    applies: usize,
}

impl Loaded {
    /// The policy, if its form is one that an organisation may write.
    fn formed(&self, one: Written<'_>) -> Result<Policy, Refused> {
        if one.text.len() > POLICY_BYTES_MAX {
            let detail = format!("it is longer than {POLICY_BYTES_MAX} bytes");
            return Err(Refused::new(detail, "split it: every policy has a name of its own"));
        }
        let rule = rule_of(one.project.is_some(), one.name);
        let policy = Policy::parse(Some(PolicyId::new(&rule)), one.text).map_err(|error| {
            let detail = format!("it does not parse: {}", crate::load::full(&error));
            Refused::new(detail, "a name stands for one policy, `permit (...)` or `forbid (...)`, without slots")
        })?;
        let kind = match policy.principal_constraint() {
            PrincipalConstraint::Is(kind) | PrincipalConstraint::IsIn(kind, _) => kind.basename().to_owned(),
            PrincipalConstraint::Eq(uid) | PrincipalConstraint::In(uid) => uid.type_name().basename().to_owned(),
            PrincipalConstraint::Any => String::new(),
        };
        let about_places = is_about_places(&policy);
        let expected: &[&str] = if about_places { &["Ceiling"] } else { &["Holder", "Role"] };
        if !expected.contains(&kind.as_str()) {
            return Err(Refused::new(
                "it does not say in its scope whom it speaks of",
                "begin with `principal is Holder` or `principal is Holder in Role::\"developer\"`, or, of places, \
                 `principal is Ceiling`",
            ));
        }
        if about_places && policy.effect() == Effect::Permit {
            return Err(Refused::new(
                "it permits content somewhere, and places can only be forbidden",
                "what content may stand on is the residency policy's: `gregal organisation residency`",
            )
            .by("residency.base"));
        }
        if about_places && one.project.is_some() {
            return Err(Refused::new("places are the whole organisation's", "write it for the organisation"));
        }
        let mut set = PolicySet::new();
        set.add(policy.clone()).map_err(|error| Refused::new(error.to_string(), "choose another name"))?;
        let result = Validator::new(self.schema.clone()).validate(&set, ValidationMode::Strict);
        if !result.validation_passed_without_warnings() {
            let errors = result.validation_errors().map(ToString::to_string);
            let said: Vec<String> = errors.chain(result.validation_warnings().map(ToString::to_string)).collect();
            return Err(Refused::new(
                format!("it does not hold to the schema: {}", said.join("; ")),
                "the schema is in `docs/concepts/policy.md`; optional facts are asked for first: `principal has project`",
            ));
        }
        Ok(policy)
    }

    /// Tries it for every holder, everything, and every action it can apply to.
    fn access_tried(
        &self,
        organisation: OrganisationId,
        one: Written<'_>,
        policy: &Policy,
        names: &Names,
    ) -> Result<Tally, Refused> {
        let set = alone(policy)?;
        let envs: BTreeSet<(String, String)> = policy
            .get_valid_request_envs(&self.schema)
            .map(|env| (env.resource().basename().to_owned(), env.action().id().unescaped().to_owned()))
            .collect();
        let mut tally = Tally::default();
        let resources = catalogue::resources(organisation, names, one.project);
        let in_reach = |resource: &&Resource| one.project.is_none() || resource.project == one.project;
        for resource in resources.iter().filter(in_reach) {
            let actions: Vec<Action> = Action::ALL
                .iter()
                .copied()
                .filter(|action| envs.contains(&(resource.kind.as_str().to_owned(), action.as_str().to_owned())))
                .collect();
            if actions.is_empty() {
                continue;
            }
            for principal in catalogue::holders(organisation, names, one.project, policy.effect()) {
                let case = Case { organisation, principal: &principal, resource, rule: policy.id().to_string() };
                self.case_tried(&case, &actions, policy.effect(), &set, &mut tally)?;
            }
        }
        Ok(tally)
    }

    fn case_tried(
        &self,
        case: &Case<'_>,
        actions: &[Action],
        effect: Effect,
        set: &PolicySet,
        tally: &mut Tally,
    ) -> Result<(), Refused> {
        let Some(first) = actions.first() else { return Ok(()) };
        let broken = |error: String| Refused::new(error, "this is ours to mend: tell the operator");
        let world = facts::of_access(&self.names, case.principal, *first, case.resource)
            .map_err(|error| broken(error.to_string()))?;
        let entities = Entities::from_entities(world.entities, None).map_err(|error| broken(error.to_string()))?;
        for action in actions {
            let uid = self.names.action(action.as_str());
            let request =
                Request::new(world.principal.clone(), uid, world.resource.clone(), world.context.clone(), None)
                    .map_err(|error| broken(error.to_string()))?;
            let mut said = Said::default();
            said.ask(&self.authorizer, &request, &entities, set);
            tally.tried += 1;
            if let Some((_, why)) = said.errors.first() {
                return Err(case.erred(action.as_str(), why));
            }
            let applies = !said.permits.is_empty() || !said.forbids.is_empty();
            tally.applies += usize::from(applies);
            if applies
                && effect == Effect::Permit
                && !self.permits(self.reach.of(Asked::About(*action)), &request, &entities)
            {
                return Err(case.out_of_reach(*action));
            }
        }
        Ok(())
    }

    /// Tries it at sites on both sides of every word it says. It can only forbid: what is looked for is errors.
    fn placing_tried(&self, one: Written<'_>, policy: &Policy, names: &Names) -> Result<Tally, Refused> {
        let set = alone(policy)?;
        if let Some((kind, id)) = names.iter().find(|(kind, _)| kind != "Ground") {
            return Err(unknown(kind, id));
        }
        let mut words = BTreeSet::new();
        if let Ok(tree) = policy.to_json() {
            collect_words(&tree, &mut words);
        }
        let actions: BTreeSet<String> =
            policy.get_valid_request_envs(&self.schema).map(|env| env.action().id().unescaped().to_owned()).collect();
        let mut tally = Tally::default();
        let placements = Placement::ALL.iter().filter(|what| actions.contains(&format!("place:{}", what.as_str())));
        let placements: Vec<Placement> = placements.copied().collect();
        for ceiling in catalogue::ceilings(&words) {
            for site in catalogue::sites(names, &words) {
                for what in &placements {
                    let said = self
                        .placing_said(&set, &ceiling, &site, *what)
                        .map_err(|why| Refused::new(why, "this is ours to mend: tell the operator"))?;
                    tally.tried += 1;
                    tally.applies += usize::from(!said.forbids.is_empty());
                    if let Some((_, why)) = said.errors.first() {
                        let detail = format!(
                            "`{}` cannot be evaluated for a {} at a site under {} law: {why}",
                            one.name,
                            what.as_str(),
                            site.jurisdiction
                        );
                        return Err(Refused::new(detail, "an error denies: everything, until it is mended"));
                    }
                }
            }
        }
        Ok(tally)
    }

    fn placing_said(
        &self,
        set: &PolicySet,
        ceiling: &gregal_core::residency::ResidencyPolicy,
        site: &gregal_core::site::Site,
        what: Placement,
    ) -> Result<Said, String> {
        let world = facts::of_placement(&self.names, ceiling, site, what).map_err(|error| error.to_string())?;
        let request = Request::new(world.principal, world.action, world.resource, world.context, None)
            .map_err(|error| error.to_string())?;
        let entities = Entities::from_entities(world.entities, None).map_err(|error| error.to_string())?;
        let mut said = Said::default();
        said.ask(&self.authorizer, &request, &entities, set);
        Ok(said)
    }
}

/// What it names besides actions. Roles and the organisation itself are known here.
fn names_of(policy: &Policy, organisation: OrganisationId) -> Result<Names, Refused> {
    let mut names = Names::new();
    for uid in policy.entity_literals() {
        let (kind, id) = (uid.type_name().basename().to_owned(), uid.id().unescaped().to_owned());
        let known = match kind.as_str() {
            "Action" => continue,
            "Role" => Role::ALL.iter().any(|role| !role.is_operator() && role.as_str() == id),
            "Organisation" => id == organisation.to_string(),
            "Cloud" => id == "cloud",
            "Operator" | "Ceiling" => false,
            _ => {
                names.insert((kind, id));
                continue;
            }
        };
        if !known {
            return Err(unknown(&kind, &id));
        }
    }
    if names.len() > IDS_MAX {
        let detail = format!("it names {} things, and at most {IDS_MAX} may be named", names.len());
        return Err(Refused::new(detail, "say it by role or by project, or split it"));
    }
    Ok(names)
}

/// One case: who, and what.
struct Case<'a> {
    organisation: OrganisationId,
    principal: &'a Principal,
    resource: &'a Resource,
    rule: String,
}

impl Case<'_> {
    fn in_words(&self, action: &str) -> String {
        let who = catalogue::who(self.principal);
        format!("{who} could do `{action}` to {}", catalogue::what(self.resource, self.organisation))
    }

    fn erred(&self, action: &str, why: &str) -> Refused {
        let detail =
            format!("`{}` cannot be evaluated in a case in point ({}): {why}", self.rule, self.in_words(action));
        Refused::new(detail, "an error denies: everything it may apply to, until it is mended")
    }

    fn out_of_reach(&self, action: Action) -> Refused {
        let told = self.in_words(action.as_str());
        let detail = format!("`{}` permits too much; a case in point: {told}", self.rule);
        if self.resource.organisation == Some(self.organisation) {
            let hint = format!(
                "no permit gives `{}`: it is carried by roles alone; name the actions that are meant, in the scope",
                action.as_str()
            );
            return Refused::new(detail, hint).by("reach.permits");
        }
        Refused::new(detail, "add `when { resource in principal.organisation }`").by("tenant.isolation")
    }
}

/// What a policy names is not there, or not the organisation's: one answer for both.
fn unknown(kind: &str, id: &str) -> Refused {
    let id: String = id.chars().take(64).collect();
    Refused::new(
        format!("it names `{kind}::\"{id}\"`, which the organisation has not"),
        "a policy names what is there: a typing error would be a rule that is not there",
    )
}

fn alone(policy: &Policy) -> Result<PolicySet, Refused> {
    let mut set = PolicySet::new();
    set.add(policy.clone()).map_err(|error| Refused::new(error.to_string(), "choose another name"))?;
    Ok(set)
}

/// Every text a policy says, from its tree.
fn collect_words(tree: &serde_json::Value, words: &mut BTreeSet<String>) {
    const WORDS_MAX: usize = 16;
    match tree {
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect_words(item, words)),
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    serde_json::Value::String(word) if name == "Value" && words.len() < WORDS_MAX => {
                        words.insert(word.clone());
                    }
                    other => collect_words(other, words),
                }
            }
        }
        _ => {}
    }
}

/// How a thing that a policy names is refused where the organisation does not have it.
pub fn refuse_unknown(kind: &str, id: &str) -> Refused {
    unknown(kind, id)
}
