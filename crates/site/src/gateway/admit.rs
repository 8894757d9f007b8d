//! The allowance ledger: a request is admitted when its worst case fits what control leased to this site, and settled
//! with what it really used. Exact under concurrency: what is held is gone for everyone else until it is settled.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gregal_api::protocol::{Allowance, ObservedAllowance};
use gregal_core::{id::AllowanceId, money::Nano, time::Time};

use crate::spool::{self, Record, Spool};

/// Requests whose usage could not be spooled at once, kept until the disk takes it. More refuse new work.
const UNSETTLED_MAX: usize = 10_000;

/// Why a request is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "the organisation has no credit leased to this site; ask its owner to top up, or try again in a few seconds"
    )]
    NoAllowance,
    #[error("the site has yet to take in what was used of the organisation's credit; try again in a moment")]
    Uncounted,
    #[error("the credit leased to this site ran out at {at} and the control plane has not renewed it; try again later")]
    Expired { at: Time },
    #[error(
        "the request may cost up to EUR {needed}, and EUR {left} of the credit leased to this site is left; lower `max_tokens` or top up"
    )]
    Short { needed: Nano, left: Nano },
}

#[derive(Debug, Default, Clone)]
struct Account {
    used: Nano,
    held: Nano,
    granted: Nano,
    refused: bool,
}

impl Account {
    /// Used and held together. Both fit what was granted, so the sum can be counted.
    fn taken(&self) -> Nano {
        self.used.add(self.held).unwrap_or(Nano::new(i64::MAX))
    }
}

/// What is used and held of every allowance. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Ledger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    accounts: Mutex<BTreeMap<AllowanceId, Account>>,
    unsettled: Mutex<Vec<(Hold, Vec<Record>)>>,
    spool: Spool,
}

impl Ledger {
    /// Starts from what the spool knows: everything handed over and everything that waits.
    pub(crate) fn new(spool: Spool) -> Self {
        let used = spool.used().into_iter();
        let accounts = used.map(|(allowance, used)| (allowance, Account { used, ..Account::default() })).collect();
        Self(Arc::new(Inner { accounts: Mutex::new(accounts), unsettled: Mutex::default(), spool }))
    }

    fn accounts(&self) -> MutexGuard<'_, BTreeMap<AllowanceId, Account>> {
        self.0.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets an amount aside on one of an organisation's allowances, or says why none takes it.
    pub(crate) fn hold<'a>(
        &self,
        allowances: impl Iterator<Item = &'a Allowance>,
        now: Time,
        amount: Nano,
    ) -> Result<Hold, Refusal> {
        let mut accounts = self.accounts();
        let mut refusal = Refusal::NoAllowance;
        for allowance in allowances {
            if allowance.expires_at <= now {
                if refusal == Refusal::NoAllowance {
                    refusal = Refusal::Expired { at: allowance.expires_at };
                }
                continue;
            }
            let account = accounts.entry(allowance.allowance).or_default();
            // Control charges what this site handed over. If it has more, a spool was lost, and its use comes in first.
            if allowance.charged > account.taken() {
                refusal = Refusal::Uncounted;
                continue;
            }
            let left = allowance.granted.sub(account.taken()).unwrap_or(Nano::ZERO);
            if amount <= left
                && let Ok(held) = account.held.add(amount)
            {
                account.held = held;
                return Ok(Hold { ledger: self.clone(), allowance: allowance.allowance, amount, open: true });
            }
            account.refused = true;
            refusal = Refusal::Short { needed: amount, left: left.max(Nano::ZERO) };
        }
        Err(refusal)
    }

    /// Takes note of what is granted now. The account of an allowance that is over is kept, and told, until nothing is
    /// held and nothing waits for control: forgotten earlier, its credit would be released before its usage is known.
    pub(crate) async fn granted(&self, allowances: &[Allowance]) {
        let keep: HashSet<AllowanceId> = allowances.iter().map(|allowance| allowance.allowance).collect();
        let charged = allowances.iter().map(|allowance| (allowance.allowance, allowance.charged)).collect();
        let raised = self.0.spool.adopt(charged).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "could not take in what control has charged; trying again");
            BTreeMap::new()
        });
        {
            let mut accounts = self.accounts();
            for (allowance, more) in raised {
                let account = accounts.entry(allowance).or_default();
                account.used = account.used.add(more).unwrap_or(Nano::new(i64::MAX));
            }
            for allowance in allowances {
                let account = accounts.entry(allowance.allowance).or_default();
                if allowance.granted > account.granted {
                    account.granted = allowance.granted;
                    account.refused = false;
                }
            }
            // A hold is closed after its records wait, so that no usage is ever seen neither as held nor as waiting.
            let waits = self.0.spool.waiting() > 0;
            accounts.retain(|id, account| keep.contains(id) || !account.held.is_zero() || waits);
            for (_, account) in accounts.iter_mut().filter(|(id, _)| !keep.contains(id)) {
                (account.granted, account.refused) = (Nano::ZERO, false);
            }
        }
        if let Err(error) = self.0.spool.forget_allowances(keep).await {
            tracing::warn!(%error, "could not forget allowances that are over");
        }
    }

    /// What control should know of each allowance.
    pub(crate) fn observed(&self) -> Vec<ObservedAllowance> {
        let half = |nano: Nano| Nano::new(nano.get() / 2);
        let known = self.accounts();
        let shown = known.iter().filter(|(_, account)| !account.granted.is_zero() || !account.taken().is_zero());
        let observe = |(id, account): (&AllowanceId, &Account)| ObservedAllowance {
            allowance: *id,
            used: account.taken(),
            // Of an allowance that is over nothing more is wanted.
            wants_more: !account.granted.is_zero() && (account.refused || account.taken() > half(account.granted)),
        };
        shown.map(observe).collect()
    }

    /// Whether new requests may be taken: their usage would find room.
    pub(crate) fn has_room(&self) -> bool {
        let unsettled = self.0.unsettled.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.0.spool.has_room() && unsettled < UNSETTLED_MAX
    }

    /// Tries again to make durable what a failing disk refused.
    pub(crate) async fn settle_again(&self) {
        let waiting = std::mem::take(&mut *self.0.unsettled.lock().unwrap_or_else(PoisonError::into_inner));
        for (hold, records) in waiting {
            // What fails again has put itself back.
            let _ = hold.settle(records).await;
        }
    }
}

/// An amount set aside. Dropped, it is released: nothing was used.
#[derive(Debug)]
pub(crate) struct Hold {
    ledger: Ledger,
    allowance: AllowanceId,
    amount: Nano,
    open: bool,
}

impl Hold {
    pub(crate) const fn allowance(&self) -> AllowanceId {
        self.allowance
    }

    /// Makes the usage durable, then replaces the amount held by the amount used. If the disk refuses, the amount stays
    /// held and the usage is tried again: what was used is never forgotten while the process lives.
    pub(crate) async fn settle(mut self, records: Vec<Record>) -> Result<(), spool::Error> {
        let spool = self.ledger.0.spool.clone();
        if let Err(error) = spool.append(records.clone()).await {
            let ledger = self.ledger.clone();
            ledger.0.unsettled.lock().unwrap_or_else(PoisonError::into_inner).push((self, records));
            return Err(error);
        }
        let used = records.iter().fold(Nano::ZERO, |sum, record| sum.add(record.cost).unwrap_or(sum));
        self.close(used);
        Ok(())
    }

    fn close(&mut self, used: Nano) {
        if !std::mem::replace(&mut self.open, false) {
            return;
        }
        if let Some(account) = self.ledger.accounts().get_mut(&self.allowance) {
            account.held = account.held.sub(self.amount).unwrap_or(Nano::ZERO);
            account.used = account.used.add(used).unwrap_or(account.used);
            assert!(!account.held.is_negative(), "a hold is closed once");
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.close(Nano::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use gregal_core::{
        id::{OrganisationId, ProjectId, SiteId},
        meter::{Meter, UsageEvent},
    };

    use super::*;
    use crate::spool::Limits;

    fn record(allowance: AllowanceId) -> Record {
        let site = SiteId::from_u128(1);
        let event = UsageEvent {
            id: UsageEvent::id_of(site, "ep", Meter::TokensOut, "1"),
            organisation: OrganisationId::from_u128(1),
            project: ProjectId::from_u128(1),
            site,
            meter: Meter::TokensOut,
            item: "embedded".into(),
            quantity: 7,
            subject: "ep".into(),
            started_at: Time::from_millis(1),
            ended_at: Time::from_millis(2),
            allowance: Some(allowance),
            estimated: None,
        };
        Record { event, cost: Nano::new(7) }
    }

    #[tokio::test]
    async fn the_account_of_an_allowance_that_is_over_is_told_until_control_has_its_usage() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), Limits::default()).unwrap();
        let ledger = Ledger::new(spool.clone());
        let allowance = Allowance {
            allowance: AllowanceId::from_u128(5),
            organisation: OrganisationId::from_u128(1),
            granted: Nano::new(10),
            charged: Nano::ZERO,
            expires_at: Time::from_millis(100),
        };
        ledger.granted(std::slice::from_ref(&allowance)).await;
        let hold = ledger.hold([&allowance].into_iter(), Time::from_millis(1), Nano::new(9)).unwrap();
        hold.settle(vec![record(allowance.allowance)]).await.unwrap();
        ledger.granted(&[]).await;
        let used =
            |ledger: &Ledger| ledger.observed().iter().map(|seen| (seen.used, seen.wants_more)).collect::<Vec<_>>();
        assert_eq!(used(&ledger), [(Nano::new(7), false)]);
        // After a restart too, when nobody remembers what was granted.
        let again = Ledger::new(spool.clone());
        again.granted(&[]).await;
        assert_eq!(used(&again), [(Nano::new(7), false)]);
        let batch = spool.batch(10).await.unwrap();
        spool.hand_over(batch).await.unwrap();
        ledger.granted(&[]).await;
        assert_eq!(used(&ledger), []);
    }
}
