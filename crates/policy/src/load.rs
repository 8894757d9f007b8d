//! The embedded schema and policies, parsed and validated once.

use cedar_policy::{
    Authorizer, Entities, Entity, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator,
    entities_errors::EntitiesError,
};

use crate::{
    facts::Names,
    prepared::{Applies, Slices},
};

/// What the embedded files can be wrong about. Each says which file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The schema does not parse.
    #[error("the policy schema does not parse: {0}")]
    Schema(String),
    /// A policy file does not parse.
    #[error("`{file}` does not parse: {detail}")]
    Parse {
        /// The file.
        file: &'static str,
        /// What the parser said.
        detail: String,
    },
    /// A policy has no `@id`, or shares one.
    #[error("a policy of `{file}` {detail}")]
    Id {
        /// The file.
        file: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// A policy does not hold to the schema, or could never apply.
    #[error("`{file}` does not hold to the schema: {detail}")]
    Invalid {
        /// The file.
        file: &'static str,
        /// What the validator said, all of it.
        detail: String,
    },
}

const SCHEMA: &str = include_str!("gregal.cedarschema");
const ROLES: Source = Source { file: "roles.cedar", text: include_str!("roles.cedar") };
const GUARDRAILS: Source = Source { file: "guardrails.cedar", text: include_str!("guardrails.cedar") };
const REACH: Source = Source { file: "reach.cedar", text: include_str!("reach.cedar") };
const RESCUE: Source = Source { file: "rescue.cedar", text: include_str!("rescue.cedar") };
const RESIDENCY: Source = Source { file: "residency.cedar", text: include_str!("residency.cedar") };
const CEILING: Source = Source { file: "ceiling.cedar", text: include_str!("ceiling.cedar") };

/// A policy file.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    pub(crate) file: &'static str,
    pub(crate) text: &'static str,
}

/// Everything needed to answer, immutable from here on.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) schema: Schema,
    pub(crate) names: Names,
    /// Which actions apply to what.
    pub(crate) applies: Applies,
    pub(crate) authorizer: Authorizer,
    /// Roles and guardrails.
    pub(crate) access: Slices,
    /// What an organisation's own permits can give at most.
    pub(crate) reach: Slices,
    /// What its own guardrails cannot take.
    pub(crate) rescue: Slices,
    /// The residency forbids and the permit they stand against.
    pub(crate) residency: PolicySet,
    /// The one permit that must agree.
    pub(crate) ceiling: PolicySet,
}

impl Loaded {
    pub(crate) fn embedded() -> Result<Self, Error> {
        Self::from_sources(&[GUARDRAILS, ROLES], &[RESIDENCY], &[CEILING])
    }

    pub(crate) fn from_sources(access: &[Source], residency: &[Source], ceiling: &[Source]) -> Result<Self, Error> {
        let (schema, warnings) =
            Schema::from_cedarschema_str(SCHEMA).map_err(|error| Error::Schema(error.to_string()))?;
        if let Some(warning) = warnings.into_iter().next() {
            return Err(Error::Schema(warning.to_string()));
        }
        let names = Names::new().map_err(|error| Error::Schema(error.to_string()))?;
        let validator = Validator::new(schema.clone());
        let access = Slices::new(policies(&validator, access)?);
        let residency = policies(&validator, residency)?;
        let ceiling = policies(&validator, ceiling)?;
        let reach = Slices::new(policies(&validator, &[REACH])?);
        let rescue = Slices::new(policies(&validator, &[RESCUE])?);
        let applies = Applies::new(&schema);
        Ok(Self { schema, names, applies, authorizer: Authorizer::new(), access, reach, rescue, residency, ceiling })
    }

    /// The entity set of one question, held against the schema: facts that do not hold to it are an error, hence a denial.
    pub(crate) fn entities(&self, facts: Vec<Entity>) -> Result<Entities, Box<EntitiesError>> {
        Ok(Entities::from_entities(facts, Some(&self.schema))?)
    }
}

/// The entity set of one question, not held against the schema again: `facts.rs` makes nothing else, as debug builds check
/// at every decision.
pub(crate) fn known_entities(facts: Vec<Entity>) -> Result<Entities, Box<EntitiesError>> {
    Ok(Entities::from_entities(facts, None)?)
}

/// Parses policy files into one set in which every policy goes by its `@id`, and validates the set strictly.
/// A warning is a failure too: it means a policy that can never apply, so a rule that is not there.
fn policies(validator: &Validator, sources: &[Source]) -> Result<PolicySet, Error> {
    let mut named = PolicySet::new();
    for &Source { file, text } in sources {
        let parsed: PolicySet = text.parse().map_err(|error| Error::Parse { file, detail: full(&error) })?;
        for policy in parsed.policies() {
            named.add(by_its_id(file, policy)?).map_err(|error| Error::Id { file, detail: error.to_string() })?;
        }
        let result = validator.validate(&named, ValidationMode::Strict);
        if !result.validation_passed_without_warnings() {
            let errors = result.validation_errors().map(ToString::to_string);
            let warnings = result.validation_warnings().map(ToString::to_string);
            let detail = errors.chain(warnings).collect::<Vec<_>>().join("; ");
            return Err(Error::Invalid { file, detail });
        }
    }
    Ok(named)
}

fn by_its_id(file: &'static str, policy: &Policy) -> Result<Policy, Error> {
    match policy.annotation("id") {
        Some(id) if !id.is_empty() => Ok(policy.new_id(PolicyId::new(id))),
        _ => Err(Error::Id { file, detail: format!("has no `@id`: {policy}") }),
    }
}

/// An error with its causes.
pub(crate) fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use gregal_core::{access::Action, residency::RULES};

    use super::*;
    use crate::place::Placement;

    fn loaded_with(text: &'static str) -> Result<Loaded, Error> {
        Loaded::from_sources(&[GUARDRAILS, Source { file: "more.cedar", text }], &[RESIDENCY], &[CEILING])
    }

    #[test]
    fn the_schema_declares_every_action_and_nothing_else() {
        let loaded = Loaded::embedded().unwrap();
        let declared: BTreeSet<String> =
            loaded.schema.actions().map(|action| action.id().unescaped().to_owned()).collect();
        let placements = Placement::ALL.iter().map(|what| format!("place:{}", what.as_str()));
        let known: BTreeSet<String> =
            Action::ALL.iter().map(|action| action.as_str().to_owned()).chain(placements).collect();
        assert_eq!(declared, known);
    }

    #[test]
    fn the_residency_forbids_are_the_rules_core_names() {
        let loaded = Loaded::embedded().unwrap();
        let forbids: BTreeSet<String> = loaded
            .residency
            .policies()
            .filter(|policy| policy.effect() == cedar_policy::Effect::Forbid)
            .map(|policy| policy.id().to_string())
            .collect();
        assert_eq!(forbids, RULES.iter().map(ToString::to_string).collect());
    }

    #[test]
    fn a_policy_without_an_id_or_with_one_that_is_taken_is_refused() {
        for text in [
            "permit (principal is Site, action == Action::\"site:sync\", resource);",
            "@id(\"tenant.isolation\") permit (principal is Site, action == Action::\"site:sync\", resource);",
        ] {
            let error = loaded_with(text).unwrap_err();
            assert!(matches!(error, Error::Id { file: "more.cedar", .. }), "{error}");
        }
    }

    #[test]
    fn a_policy_that_does_not_hold_to_the_schema_is_refused() {
        for text in [
            "@id(\"typo\") permit (principal is Holder, action == Action::\"job:reed\", resource);",
            "@id(\"fact\") permit (principal is Holder, action, resource) when { principal.admin };",
            // Optional facts may not be read without asking whether they are there.
            "@id(\"unsure\") permit (principal is Holder, action, resource) when { resource in principal.project };",
            // Can never apply: a rule that is not there.
            "@id(\"never\") permit (principal is Site in Role::\"owner\", action, resource);",
        ] {
            let error = loaded_with(text).unwrap_err();
            assert!(matches!(error, Error::Invalid { file: "more.cedar", .. }), "{text}: {error}");
        }
        let error = loaded_with("@id(\"half\") permit (principal").unwrap_err();
        assert!(matches!(error, Error::Parse { file: "more.cedar", .. }), "{error}");
    }
}
