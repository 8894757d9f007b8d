//! Policies that an organisation writes for itself: guardrails and permits, beside those that come with the cloud.

use serde::{Deserialize, Serialize};

use crate::{
    id::{OrganisationId, PolicyId, ProjectId},
    time::Time,
};

/// The most policies an organisation may have, its projects' among them. Every request reads the slice of one
/// organisation, and every site that serves it is sent all of them.
pub const POLICIES_MAX: usize = 64;
/// The longest text of one policy, in bytes.
pub const POLICY_BYTES_MAX: usize = 2_048;

/// A policy that an organisation wrote for itself. It can forbid what roles carry, and permit what they do not, within
/// the organisation; it never opens what the cloud's own guardrails and the residency policy close.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnPolicy {
    /// Its id.
    pub id: PolicyId,
    /// Whose it is.
    pub organisation: OrganisationId,
    /// The one project it speaks for; none speaks for the whole organisation.
    pub project: Option<ProjectId>,
    /// What people and decisions call it: unique in the organisation, or in the project.
    pub name: String,
    /// One policy in Cedar, as it was written.
    pub text: String,
    /// Whether it permits; else it forbids.
    pub permits: bool,
    /// When it was first written.
    pub created_at: Time,
    /// Grows by one with every change.
    pub version: u64,
}

impl OwnPolicy {
    /// How decisions and audit entries call it: `organisation:NAME`, or `project:NAME` for one of a project.
    pub fn rule(&self) -> String {
        rule_of(self.project.is_some(), &self.name)
    }
}

/// How decisions call a policy of an organisation, or of one of its projects.
pub fn rule_of(is_of_project: bool, name: &str) -> String {
    let whose = if is_of_project { "project" } else { "organisation" };
    format!("{whose}:{name}")
}
