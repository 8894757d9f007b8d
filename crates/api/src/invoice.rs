//! Invoices and the ledger on the wire.

use gregal_core::{
    invoice::{Invoice, InvoiceDraft, Standing, Taken},
    ledger::{Leg, Posting, PostingKind},
    price::PriceBook,
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

/// What invoices say of an organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BillingWrite {
    /// Legal name, 1 to 80 characters.
    pub legal_name: String,
    /// Street and number.
    pub street: String,
    /// Post code.
    pub post_code: String,
    /// Town.
    pub city: String,
    /// VAT identification number, with its country in front; its check digits are looked at. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vat_id: Option<String>,
    /// What the buyer's books know it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Purchase order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// Where invoices are taken electronically: `SCHEME:ADDRESS`, like `0225:303265045`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub electronic: Option<String>,
    /// Why no VAT is charged. Only operators set or change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exemption: Option<String>,
}

/// What invoices say of an organisation; empty before it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BillingView {
    /// What was given.
    pub billing: Option<BillingWrite>,
    /// Country it is billed in.
    pub country: String,
}

/// Issues the invoice of a month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InvoiceIssue {
    /// The month, UTC, like `2026-10`; it has to have ended.
    pub month: String,
}

/// Takes an invoice back, whole or in part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreditNoteCreate {
    /// Why, 1 to 200 characters; it stands on the credit note.
    pub reason: String,
    /// Which amounts of which lines, in cents; absent: all that is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub parts: Option<Vec<Taken>>,
}

/// Records that an invoice was paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PaymentCreate {
    /// How much, in cents; at most what is due. With a minus: given back, at most what was paid.
    pub amount_cents: i64,
    /// What the bank calls it; the same one again changes nothing.
    pub reference: String,
}

/// An issued invoice or credit note, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceView {
    /// The document, amounts in cents.
    #[schema(value_type = Object)]
    pub invoice: Invoice,
    /// SHA-256 of the frozen document, hex; the audit log holds it too.
    pub digest: String,
    /// Of an invoice: `issued`, `overdue`, `paid` or `credited`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub standing: Option<Standing>,
    /// Of an invoice: what is still to be paid, in cents; less than nothing where something is owed to the buyer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_cents: Option<i64>,
}

/// The price books an invoice was rated by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceBooks {
    /// The books, oldest version first.
    #[schema(value_type = Vec<Object>)]
    pub books: Vec<PriceBook>,
}

/// How an invoice is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvoiceFormat {
    /// The frozen document, byte by byte.
    #[default]
    Json,
    /// UBL 2.1, EN 16931.
    Ubl,
    /// UN/CEFACT Cross Industry Invoice, EN 16931.
    Cii,
}

/// In which form a document is wanted, as query parameters.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvoiceDocumentQuery {
    /// `json` (default), `ubl` or `cii`.
    #[serde(default)]
    pub format: InvoiceFormat,
}
