//! The double-entry ledger: postings that balance, are added and never edited.

#![deny(clippy::float_arithmetic)]

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    id::{OrganisationId, PostingId},
    money::{Nano, Overflow},
    time::Time,
};

/// Where money is counted. What an organisation has is positive, what the operator granted is negative; all accounts of
/// an organisation together are always zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// What an organisation may still spend. Negative only after use went past what was held.
    Available,
    /// What is set aside for running work of an organisation.
    Held,
    /// What an organisation has used and will be invoiced for.
    Accrued,
    /// The operator's side: credit granted or paid in, with a minus.
    Funding,
}

impl Account {
    /// Its name in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Held => "held",
            Self::Accrued => "accrued",
            Self::Funding => "funding",
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One leg of a posting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// Which account.
    pub account: Account,
    /// By how much it changes.
    pub amount: Nano,
}

/// Why money moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PostingKind {
    /// Credit granted or paid in.
    Credit,
    /// Set aside.
    Hold,
    /// Used, taken from a hold.
    Charge,
    /// Given back.
    Release,
    /// Puts an earlier posting right.
    Correction,
    /// What was used stands on an issued invoice now.
    Invoice,
}

/// One movement of money of one organisation: legs that add up to zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    /// Its id.
    pub id: PostingId,
    /// Whose money.
    pub organisation: OrganisationId,
    /// Why.
    pub kind: PostingKind,
    /// The hold, usage event or order behind it.
    pub reference: String,
    /// The legs; their sum is zero.
    pub legs: Vec<Leg>,
    /// When it was entered.
    pub at: Time,
}

/// Why a posting may not enter the ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// It moves nothing.
    #[error("the posting for `{reference}` moves nothing")]
    Empty {
        /// What stood behind it.
        reference: String,
    },
    /// Its legs do not add up to zero.
    #[error("the posting for `{reference}` does not balance: its legs add up to {by} nano-euro")]
    Unbalanced {
        /// What stood behind it.
        reference: String,
        /// The sum of its legs, in nano-euro.
        by: i128,
    },
    /// It touches an account, or moves one in a direction, that its kind never does.
    #[error("a {kind:?} posting may not move `{account}` this way (`{reference}`)")]
    Misshapen {
        /// What stood behind it.
        reference: String,
        /// Its kind.
        kind: PostingKind,
        /// The account.
        account: Account,
    },
    /// An account would hold more than can be counted.
    #[error(transparent)]
    Overflow(#[from] Overflow),
}

impl PostingKind {
    /// The accounts this kind may touch, and the one among them that it always makes grow. A correction may do anything
    /// that balances.
    const fn shape(self) -> (&'static [Account], Option<Account>) {
        match self {
            Self::Credit => (&[Account::Funding, Account::Available], Some(Account::Available)),
            Self::Hold => (&[Account::Available, Account::Held], Some(Account::Held)),
            Self::Charge => (&[Account::Held, Account::Available, Account::Accrued], Some(Account::Accrued)),
            Self::Release => (&[Account::Held, Account::Available], Some(Account::Available)),
            Self::Invoice => (&[Account::Accrued, Account::Funding], Some(Account::Funding)),
            Self::Correction => (&[Account::Available, Account::Held, Account::Accrued, Account::Funding], None),
        }
    }
}

impl Posting {
    /// Whether it may enter the ledger: it moves something, its legs add up to zero, and they are legs its kind has.
    pub fn check(&self) -> Result<(), LedgerError> {
        let reference = || self.reference.clone();
        if self.legs.is_empty() || self.legs.iter().any(|leg| leg.amount.is_zero()) {
            return Err(LedgerError::Empty { reference: reference() });
        }
        let by = sum_of(&self.legs);
        if by != 0 {
            return Err(LedgerError::Unbalanced { reference: reference(), by });
        }
        let (allowed, grows) = self.kind.shape();
        for leg in &self.legs {
            let backwards = grows == Some(leg.account) && leg.amount.is_negative();
            if !allowed.contains(&leg.account) || backwards {
                return Err(LedgerError::Misshapen { reference: reference(), kind: self.kind, account: leg.account });
            }
        }
        match grows {
            Some(account) if !self.legs.iter().any(|leg| leg.account == account) => {
                Err(LedgerError::Misshapen { reference: reference(), kind: self.kind, account })
            }
            _ => Ok(()),
        }
    }
}

/// Sum of legs in nano-euro; 128 bits hold any number of 64 bit legs that fits in memory.
fn sum_of(legs: &[Leg]) -> i128 {
    legs.iter().map(|leg| i128::from(leg.amount.get())).sum()
}

/// Legs of credit granted or paid in. Empty for nothing: then there is nothing to post.
pub fn credit(amount: Nano) -> Result<Vec<Leg>, Overflow> {
    moved(Account::Funding, Account::Available, amount)
}

/// Legs that move an amount from one account to another. Empty for nothing.
pub(crate) fn moved(from: Account, to: Account, amount: Nano) -> Result<Vec<Leg>, Overflow> {
    if amount.is_zero() {
        return Ok(Vec::new());
    }
    Ok(vec![Leg { account: from, amount: amount.negated()? }, Leg { account: to, amount }])
}

/// Where the accounts of one organisation stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Balances {
    /// What may still be spent.
    pub available: Nano,
    /// What is set aside.
    pub held: Nano,
    /// What was used.
    pub accrued: Nano,
    /// What was granted, with a minus.
    pub funding: Nano,
}

impl Balances {
    /// The balance of one account.
    pub const fn of(&self, account: Account) -> Nano {
        match account {
            Account::Available => self.available,
            Account::Held => self.held,
            Account::Accrued => self.accrued,
            Account::Funding => self.funding,
        }
    }

    /// All accounts together, in nano-euro: zero, always.
    pub fn sum(&self) -> i128 {
        [self.available, self.held, self.accrued, self.funding].iter().map(|nano| i128::from(nano.get())).sum()
    }

    /// The balances after a posting. A posting that may not enter is refused and changes nothing; balances that do not
    /// add up to zero before or after are a broken ledger and stop the caller.
    pub fn apply(&self, posting: &Posting) -> Result<Self, LedgerError> {
        assert_eq!(self.sum(), 0, "the ledger of {} does not balance before {}", posting.organisation, posting.id);
        posting.check()?;
        let mut after = *self;
        for leg in &posting.legs {
            let account = match leg.account {
                Account::Available => &mut after.available,
                Account::Held => &mut after.held,
                Account::Accrued => &mut after.accrued,
                Account::Funding => &mut after.funding,
            };
            *account = account.add(leg.amount)?;
        }
        assert_eq!(after.sum(), 0, "the ledger of {} does not balance after {}", posting.organisation, posting.id);
        Ok(after)
    }

    /// The balances that a list of postings comes to, from nothing.
    pub fn replay<'a>(postings: impl IntoIterator<Item = &'a Posting>) -> Result<Self, LedgerError> {
        postings.into_iter().try_fold(Self::default(), |balances, posting| balances.apply(posting))
    }
}
