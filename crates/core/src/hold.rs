//! Holds: money set aside before anything runs, then settled, released or expired.

#![deny(clippy::float_arithmetic)]

use serde::{Deserialize, Serialize};

use crate::{
    id::{HoldId, OrganisationId, ProjectId},
    ledger::{Account, Balances, Leg, moved},
    money::{Nano, Overflow},
    time::Time,
};

/// Where a hold stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldState {
    /// Set aside.
    Open,
    /// The real use was charged and the rest given back.
    Settled,
    /// Given back whole: nothing ran.
    Released,
    /// Its time ran out; given back.
    Expired,
}

/// Money set aside for a job, or leased to a site as an allowance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its id.
    pub id: HoldId,
    /// Who pays.
    pub organisation: OrganisationId,
    /// In which project; none for an allowance, which a whole organisation shares.
    pub project: Option<ProjectId>,
    /// The job id or allowance id it stands for.
    pub subject: String,
    /// The most it may come to.
    pub amount: Nano,
    /// What has been charged against it so far.
    pub charged: Nano,
    /// Where it stands.
    pub state: HoldState,
    /// When it was made.
    pub created_at: Time,
    /// When it runs out, if it can.
    pub expires_at: Option<Time>,
    /// Grows by one with every change.
    pub version: u64,
}

/// Why nothing could be set aside. An answer, not a fault: it says how much is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("the credit is {short_by} EUR short: {available} EUR are available")]
pub struct HoldRefusal {
    /// How much more credit would be needed.
    pub short_by: Nano,
    /// What may still be spent.
    pub available: Nano,
}

/// Why a hold may not make a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// It was settled, released or expired before.
    #[error("the hold is closed ({state:?})")]
    Closed {
        /// Where it stands.
        state: HoldState,
    },
    /// `Open` is not an end.
    #[error("a hold is closed as settled, released or expired, not as open")]
    NotAnEnd,
    /// Released means nothing ran, but something was charged: settle it instead.
    #[error("{charged} EUR were charged to the hold: it can be settled, not released")]
    Used {
        /// What was charged.
        charged: Nano,
    },
    /// Less than nothing cannot be charged or added: corrections are postings of their own.
    #[error("{amount} EUR cannot be charged or added to a hold")]
    Negative {
        /// The amount that was given.
        amount: Nano,
    },
    /// Too little is available to extend it.
    #[error(transparent)]
    Refused(#[from] HoldRefusal),
    /// The amount cannot be counted.
    #[error(transparent)]
    Overflow(#[from] Overflow),
}

impl Hold {
    /// What still stands in `held` for it: nothing once it is closed or used up.
    pub fn remaining(&self) -> Nano {
        if self.state != HoldState::Open {
            return Nano::ZERO;
        }
        Nano::new(self.amount.get().saturating_sub(self.charged.get()).max(0))
    }

    /// How far the use went past it. That much was taken from what was available.
    pub fn overrun(&self) -> Nano {
        Nano::new(self.charged.get().saturating_sub(self.amount.get()).max(0))
    }

    /// Whether its time has run out while it was open.
    pub fn is_due(&self, now: Time) -> bool {
        self.state == HoldState::Open && self.expires_at.is_some_and(|end| end <= now)
    }

    fn must_be_open(&self) -> Result<(), HoldError> {
        match self.state {
            HoldState::Open => Ok(()),
            state => Err(HoldError::Closed { state }),
        }
    }
}

/// The legs that set an amount aside, or how much is missing. Empty legs for nothing: then there is nothing to post.
pub fn place(balances: &Balances, amount: Nano) -> Result<Vec<Leg>, HoldRefusal> {
    // Amounts to hold come from prices and quantities, both unsigned: a minus here is a broken caller, and would mint
    // spendable credit.
    assert!(!amount.is_negative(), "a hold of {amount} EUR");
    let available = balances.available;
    if amount > available {
        let short_by = amount.sub(available).unwrap_or(Nano::new(i64::MAX));
        return Err(HoldRefusal { short_by, available });
    }
    Ok(moved(Account::Available, Account::Held, amount).unwrap_or_default())
}

/// Charges real use: the hold after it, and the legs. What goes past the hold is taken from what is available (use that
/// happened is billed) and shows in [`Hold::overrun`] and as an `available` leg. Charging nothing changes nothing: the
/// hold comes back as it was, with no legs to post.
pub fn charge(hold: &Hold, used: Nano) -> Result<(Hold, Vec<Leg>), HoldError> {
    hold.must_be_open()?;
    if used.is_negative() {
        return Err(HoldError::Negative { amount: used });
    }
    if used.is_zero() {
        return Ok((hold.clone(), Vec::new()));
    }
    let after = Hold { charged: hold.charged.add(used)?, version: hold.version + 1, ..hold.clone() };
    let from_held = hold.remaining().sub(after.remaining())?;
    let from_available = used.sub(from_held)?;
    let mut legs = Vec::with_capacity(3);
    for (account, amount) in [(Account::Held, from_held), (Account::Available, from_available)] {
        if !amount.is_zero() {
            legs.push(Leg { account, amount: amount.negated()? });
        }
    }
    legs.push(Leg { account: Account::Accrued, amount: used });
    Ok((after, legs))
}

/// The legs that charge use whose hold is closed already (a site that was dark for longer than its allowance lived):
/// straight from what is available. Empty for nothing.
pub fn charge_late(used: Nano) -> Result<Vec<Leg>, HoldError> {
    if used.is_negative() {
        return Err(HoldError::Negative { amount: used });
    }
    Ok(moved(Account::Available, Account::Accrued, used)?)
}

/// Closes a hold and gives the rest back: the hold after it, and the legs (empty where nothing is left).
pub fn close(hold: &Hold, state: HoldState) -> Result<(Hold, Vec<Leg>), HoldError> {
    hold.must_be_open()?;
    match state {
        HoldState::Open => return Err(HoldError::NotAnEnd),
        HoldState::Released if !hold.charged.is_zero() => return Err(HoldError::Used { charged: hold.charged }),
        HoldState::Released | HoldState::Settled | HoldState::Expired => {}
    }
    let legs = moved(Account::Held, Account::Available, hold.remaining())?;
    Ok((Hold { state, version: hold.version + 1, ..hold.clone() }, legs))
}

/// Adds to an open hold (an allowance that is topped up), or says how much is missing. The caller sets a new expiry.
pub fn extend(hold: &Hold, balances: &Balances, by: Nano) -> Result<(Hold, Vec<Leg>), HoldError> {
    hold.must_be_open()?;
    if by.is_negative() {
        return Err(HoldError::Negative { amount: by });
    }
    let after = Hold { amount: hold.amount.add(by)?, version: hold.version + 1, ..hold.clone() };
    // An overrun was already taken from what is available: only what the hold really gains is set aside now.
    let gained = after.remaining().sub(hold.remaining())?;
    let legs = place(balances, gained)?;
    Ok((after, legs))
}
