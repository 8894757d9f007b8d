//! Moving money inside a use case's transaction: core says which legs, this writes them.

use gregal_core::{
    hold::{self, Hold, HoldState},
    id::{HoldId, OrganisationId, PostingId, ProjectId},
    ledger::{Leg, Posting, PostingKind},
    money::Nano,
    time::Time,
};
use gregal_store::Tx;

use crate::{Control, Result, error::short_of_credit};

/// What a hold is to be made for.
#[derive(Debug, Clone)]
pub(crate) struct HoldFor {
    pub(crate) organisation: OrganisationId,
    pub(crate) project: Option<ProjectId>,
    pub(crate) subject: String,
    pub(crate) amount: Nano,
    pub(crate) expires_at: Option<Time>,
}

impl Control {
    /// Enters a posting; legs that move nothing need none.
    pub(crate) async fn post(
        &self,
        tx: &Tx,
        organisation: OrganisationId,
        kind: PostingKind,
        reference: impl ToString,
        legs: Vec<Leg>,
    ) -> Result<()> {
        if legs.is_empty() {
            return Ok(());
        }
        let id = PostingId::new(self.world());
        let posting = Posting { id, organisation, kind, reference: reference.to_string(), legs, at: self.now() };
        tx.posting_insert(&posting).await?;
        Ok(())
    }

    /// Sets money aside, or says how much is missing.
    pub(crate) async fn hold_place(&self, tx: &Tx, wanted: HoldFor, what: &str) -> Result<Hold> {
        let balances = tx.balances_get(wanted.organisation).await?;
        let legs = hold::place(&balances, wanted.amount).map_err(|refusal| short_of_credit(&refusal, what))?;
        let hold = Hold {
            id: HoldId::new(self.world()),
            organisation: wanted.organisation,
            project: wanted.project,
            subject: wanted.subject,
            amount: wanted.amount,
            charged: Nano::ZERO,
            state: HoldState::Open,
            created_at: self.now(),
            expires_at: wanted.expires_at,
            version: 1,
        };
        tx.hold_insert(&hold).await?;
        self.post(tx, hold.organisation, PostingKind::Hold, hold.id, legs).await?;
        Ok(hold)
    }

    /// Charges use to whatever was set aside for it. A hold that is closed, or was never there, does not make use free:
    /// it is taken from what is available.
    pub(crate) async fn hold_charge(
        &self,
        tx: &Tx,
        organisation: OrganisationId,
        subject: &str,
        used: Nano,
    ) -> Result<()> {
        let (reference, legs) = match tx.hold_by_subject(subject).await? {
            Some(open) if open.state == HoldState::Open && open.organisation == organisation => {
                let (after, legs) = hold::charge(&open, used)?;
                if after.version != open.version {
                    tx.hold_update(&after).await?;
                }
                (after.id.to_string(), legs)
            }
            _ => (subject.to_owned(), hold::charge_late(used)?),
        };
        self.post(tx, organisation, PostingKind::Charge, reference, legs).await
    }

    /// Closes an open hold and gives back what was not used; one that is closed already is left alone. Answers the hold
    /// as it is now.
    pub(crate) async fn hold_close(&self, tx: &Tx, open: &Hold, expired: bool) -> Result<Hold> {
        if open.state != HoldState::Open {
            return Ok(open.clone());
        }
        let end = match (expired, open.charged.is_zero()) {
            (true, _) => HoldState::Expired,
            (false, true) => HoldState::Released,
            (false, false) => HoldState::Settled,
        };
        let (closed, legs) = hold::close(open, end)?;
        tx.hold_update(&closed).await?;
        self.post(tx, closed.organisation, PostingKind::Release, closed.id, legs).await?;
        Ok(closed)
    }
}
