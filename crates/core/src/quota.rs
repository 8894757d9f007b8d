//! Quotas as people set them: what an organisation, or one of its projects, has of a family of SKUs, and what that lets a
//! job ask for.
//!
//! A family is what SKUs are counted as together: `cpu` for `cpu.1` and `cpu.4`, say; a SKU of no other is its own. Counted
//! in units: as many as one instance of a SKU stands for ([`Sku::units`]). What is not set is not limited:
//! no guarantee, borrowing as much as others lend, lending everything. What the numbers mean for what runs is said in
//! [`crate::queue`]; an organisation's guarantee is for all its projects together, so what its projects were given of it
//! is theirs, and the rest ([`Quota::rest`]) is for whichever of them asks.

use serde::{Deserialize, Serialize};

use crate::{
    id::{OrganisationId, ProjectId},
    sku::Sku,
};

/// The most units a quota may speak of.
pub const UNITS_MAX: u32 = 10_000_000;

/// Names a quota by whose and of what it is. Sorts organisations' before projects': parents before children.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QuotaId(String);

impl QuotaId {
    /// The quota of an organisation, or of a project of it.
    pub fn of(organisation: OrganisationId, project: Option<ProjectId>, family: &str) -> Self {
        Self(match project {
            Some(project) => format!("{project}/{family}"),
            None => format!("{organisation}/{family}"),
        })
    }
}

impl std::fmt::Display for QuotaId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a holder has of a family of SKUs, in units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Its name.
    pub id: QuotaId,
    /// The organisation.
    pub organisation: OrganisationId,
    /// The project; none for the organisation as a whole.
    pub project: Option<ProjectId>,
    /// The family. Called `sku` since before there were families, when each SKU was one.
    pub sku: String,
    /// Its own: room that is made for it when it asks.
    pub guarantee: u32,
    /// The most it may use beyond its own. None: as much as others lend.
    pub borrow_max: Option<u32>,
    /// The most of its own that others may use while it does not. None: all of it.
    pub lend_max: Option<u32>,
    /// Grows by one with every change.
    pub version: u64,
}

impl Quota {
    /// The most it may ever use, its own and borrowed; none where it borrows freely.
    pub fn limit(&self) -> Option<u32> {
        self.borrow_max.map(|most| self.guarantee.saturating_add(most))
    }

    /// What of an organisation's guarantee no project was given.
    pub fn rest(&self, projects: &[Self]) -> u32 {
        u32::try_from(u64::from(self.guarantee).saturating_sub(given(projects))).unwrap_or(u32::MAX)
    }
}

/// What projects were given together.
pub fn given(projects: &[Quota]) -> u64 {
    projects.iter().map(|quota| u64::from(quota.guarantee)).sum()
}

/// Guarantees that do not fit into the one they are part of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the projects' guarantees of `{sku}` would be {given} together, and {guarantee} are guaranteed to the organisation"
)]
pub struct Overgiven {
    /// Of which family.
    pub sku: String,
    /// What the projects would have together.
    pub given: u64,
    /// What the organisation has.
    pub guarantee: u32,
}

/// Whether what projects are given of a family is the organisation's to give. `organisation` is none where nothing is
/// guaranteed to it.
pub fn shared(sku: &str, organisation: Option<&Quota>, projects: &[Quota]) -> Result<(), Overgiven> {
    let (given, guarantee) = (given(projects), organisation.map_or(0, |quota| quota.guarantee));
    if given <= u64::from(guarantee) { Ok(()) } else { Err(Overgiven { sku: sku.to_owned(), given, guarantee }) }
}

/// A job that asks for more than its quotas can ever allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it takes {asked} of `{sku}`, and its {holder} may use {limit} at most ({guarantee} guaranteed, {borrow_max} borrowed)"
)]
pub struct Beyond {
    /// What it asks for.
    pub asked: u32,
    /// Of which family.
    pub sku: String,
    /// Whose quota is too small: `project` or `organisation`.
    pub holder: &'static str,
    /// The most that holder may use.
    pub limit: u32,
    /// What of that is its own.
    pub guarantee: u32,
    /// What of that it may borrow.
    pub borrow_max: u32,
}

/// Whether quotas can ever allow a job on a SKU, with nothing else running; the smaller limit is the one that is told.
pub fn allows(sku: &Sku, project: Option<&Quota>, organisation: Option<&Quota>) -> Result<(), Beyond> {
    allows_units(sku, sku.units(), project, organisation)
}

/// As [`allows`], for so many units of a SKU at once.
pub fn allows_units(
    sku: &Sku,
    asked: u32,
    project: Option<&Quota>,
    organisation: Option<&Quota>,
) -> Result<(), Beyond> {
    let limits = [("project", project), ("organisation", organisation)].into_iter();
    let limits = limits.filter_map(|(holder, quota)| quota.and_then(|quota| Some((quota.limit()?, holder, quota))));
    match limits.min_by_key(|(limit, ..)| *limit) {
        Some((limit, holder, quota)) if limit < asked => Err(Beyond {
            asked,
            sku: sku.family().to_owned(),
            holder,
            limit,
            guarantee: quota.guarantee,
            borrow_max: quota.borrow_max.unwrap_or(u32::MAX),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORGANISATION: OrganisationId = OrganisationId::from_u128(1);

    fn quota(project: Option<u128>, guarantee: u32, borrow_max: Option<u32>) -> Quota {
        let project = project.map(ProjectId::from_u128);
        let id = QuotaId::of(ORGANISATION, project, "big");
        Quota {
            id,
            organisation: ORGANISATION,
            project,
            sku: "big".into(),
            guarantee,
            borrow_max,
            lend_max: None,
            version: 1,
        }
    }

    fn sku(gpus: u32) -> Sku {
        Sku { name: "big".into(), gpus, ..crate::sku::default_skus().remove(0) }
    }

    #[test]
    fn projects_get_no_more_than_their_organisation_has() {
        let (whole, parts) = (quota(None, 8, None), [quota(Some(1), 5, None), quota(Some(2), 3, None)]);
        assert_eq!(shared("big", Some(&whole), &parts), Ok(()));
        assert_eq!((whole.rest(&parts), whole.rest(&parts[..1])), (0, 3));
        let short = quota(None, 7, None);
        let wrong = shared("big", Some(&short), &parts).unwrap_err();
        assert_eq!((wrong.given, wrong.guarantee, short.rest(&parts)), (8, 7, 0));
        assert_eq!(shared("big", None, &parts).unwrap_err().guarantee, 0);
        assert_eq!(shared("big", None, &[quota(Some(1), 0, Some(4))]), Ok(()), "a limit needs no guarantee");
    }

    #[test]
    fn the_smaller_limit_refuses_and_is_named() {
        let (wide, narrow) = (quota(None, 8, Some(8)), quota(Some(1), 2, Some(5)));
        assert_eq!(allows(&sku(7), Some(&narrow), Some(&wide)), Ok(()));
        let beyond = allows(&sku(8), Some(&narrow), Some(&wide)).unwrap_err();
        assert_eq!((beyond.holder, beyond.limit, beyond.guarantee, beyond.borrow_max), ("project", 7, 2, 5));
        let freely = quota(Some(1), 0, None);
        assert_eq!(allows(&sku(17), Some(&freely), Some(&wide)).unwrap_err().holder, "organisation");
        assert_eq!(allows(&sku(16), Some(&freely), Some(&wide)), Ok(()));
        assert_eq!(allows(&sku(1_000), Some(&freely), None), Ok(()), "what is not set is not limited");
        assert_eq!(allows(&sku(0), Some(&quota(Some(1), 0, Some(0))), None).unwrap_err().limit, 0);
    }

    #[test]
    fn quotas_of_organisations_sort_before_those_of_projects() {
        let of = |organisation, project: Option<u128>| {
            QuotaId::of(OrganisationId::from_u128(organisation), project.map(ProjectId::from_u128), "cpu.1").to_string()
        };
        assert!(of(u128::MAX, None) < of(0, Some(0)));
    }
}
