//! Organisations' own policies, compiled and kept: read again when their number of writes has grown, and only then.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use gregal_core::{id::OrganisationId, organisation::Organisation, policy::OwnPolicy};
use gregal_policy::{OwnPolicies, Written};
use gregal_store::View;

use crate::{Control, Result, context::Actor};

/// The most organisations whose policies are kept compiled.
const KEPT_MAX: usize = 1_024;

/// What was compiled, by organisation, with how many writes it stands for.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<HashMap<OrganisationId, (u64, OwnPolicies)>>);

impl Kept {
    fn get(&self, organisation: &Organisation) -> Option<OwnPolicies> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&organisation.id).filter(|(writes, _)| *writes == organisation.policies).map(|(_, own)| own.clone())
    }

    fn put(&self, organisation: &Organisation, own: OwnPolicies) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Which one goes does not matter: whoever asks again is read again.
        if kept.len() >= KEPT_MAX
            && !kept.contains_key(&organisation.id)
            && let Some(gone) = kept.keys().next().copied()
        {
            kept.remove(&gone);
        }
        kept.insert(organisation.id, (organisation.policies, own));
    }
}

/// Compiles rows.
pub(crate) fn compiled(organisation: OrganisationId, rows: &[OwnPolicy]) -> OwnPolicies {
    let written = rows.iter().map(|row| Written { project: row.project, name: &row.name, text: &row.text });
    OwnPolicies::compile(organisation, written)
}

impl Control {
    /// The own policies of an organisation whose row was just read; none if it wrote none.
    pub(crate) async fn own_of(&self, view: &View, organisation: &Organisation) -> Result<Option<OwnPolicies>> {
        if organisation.policies == 0 {
            return Ok(None);
        }
        if let Some(own) = self.kept().get(organisation) {
            return Ok(Some(own));
        }
        let rows = view.policies_of_organisation(organisation.id).await?;
        let own = compiled(organisation.id, &rows);
        self.kept().put(organisation, own.clone());
        Ok(Some(own))
    }

    /// The own policies of whoever acts.
    pub(crate) async fn own_of_actor(&self, actor: &Actor) -> Result<Option<OwnPolicies>> {
        let Actor::Key(key) = actor else { return Ok(None) };
        let Some(organisation) = key.organisation else { return Ok(None) };
        let organisation = self.organisation_of(self.store(), organisation).await?;
        self.own_of(self.store(), &organisation).await
    }
}
