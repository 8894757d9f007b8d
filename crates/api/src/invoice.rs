//! Invoices and the ledger on the wire.

use gregal_core::{
    invoice::InvoiceDraft,
    ledger::{Leg, Posting, PostingKind},
    time::Time,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A draft invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceDraftView {
    /// The draft, amounts in cents.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub draft: InvoiceDraft,
    /// Always `EUR`.
    pub currency: String,
}

/// What an organisation may still spend, what is set aside, and what it has used. Nano-euro.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BalanceView {
    /// May still be spent.
    pub available_nano: i64,
    /// Set aside for what runs.
    pub held_nano: i64,
    /// Used.
    pub accrued_nano: i64,
}

/// One movement of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PostingView {
    /// Its id.
    pub id: String,
    /// Why.
    #[schema(value_type = String)]
    pub kind: PostingKind,
    /// The hold, usage record or order behind it.
    pub reference: String,
    /// The legs, nano-euro; their sum is zero.
    #[schema(value_type = Vec<Object>)]
    pub legs: Vec<Leg>,
    /// When it was entered.
    #[schema(value_type = String)]
    pub at: Time,
}

impl From<&Posting> for PostingView {
    fn from(posting: &Posting) -> Self {
        Self {
            id: posting.id.to_string(),
            kind: posting.kind,
            reference: posting.reference.clone(),
            legs: posting.legs.clone(),
            at: posting.at,
        }
    }
}
