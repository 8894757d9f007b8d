//! What a request used, as usage events: counted by the engine where it said so, by ourselves where it could not.

use gregal_api::protocol::WantedEndpoint;
use gregal_core::{
    id::{AllowanceId, RequestId, SiteId},
    meter::{self, Meter, RateError, UsageEvent},
    money::Nano,
    price::{self, PriceBook},
    time::Time,
};

use crate::spool::Record;

/// Tokens of a request, and how they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) tokens_in: u64,
    pub(crate) tokens_out: u64,
    /// None: counted by the engine.
    pub(crate) in_estimated: Option<&'static str>,
    /// None: counted by the engine.
    pub(crate) out_estimated: Option<&'static str>,
}

/// The most a request may cost: what is held for it.
pub(crate) fn worst_case(
    books: &[PriceBook],
    now: Time,
    item: &str,
    tokens_in: u64,
    tokens_out: u64,
) -> Result<Nano, RateError> {
    let of = |book: &PriceBook, meter: Meter, tokens| {
        let no_price = || RateError::NoPrice { book: book.version, meter: meter.as_str(), item: item.to_owned() };
        Ok::<Nano, RateError>(book.row(meter, item).ok_or_else(no_price)?.amount_ceil(tokens)?)
    };
    let all = |book: &PriceBook| {
        Ok::<Nano, RateError>(of(book, Meter::TokensIn, tokens_in)?.add(of(book, Meter::TokensOut, tokens_out)?)?)
    };
    price::dearest(books, now, all)?.map(|(_, amount)| amount).ok_or(RateError::NoBook { at: now })
}

/// Whose request it was, and when.
pub(crate) struct Occasion<'a> {
    pub(crate) site: SiteId,
    pub(crate) endpoint: &'a WantedEndpoint,
    pub(crate) request: RequestId,
    pub(crate) allowance: AllowanceId,
    pub(crate) started_at: Time,
    pub(crate) ended_at: Time,
}

/// The records of a request: one a meter. A zero is a value and is recorded.
pub(crate) fn records(occasion: &Occasion<'_>, used: &Used, books: &[PriceBook]) -> Vec<Record> {
    let of = |meter, quantity, estimated: Option<&str>| {
        let subject = occasion.endpoint.endpoint.to_string();
        let event = UsageEvent {
            id: UsageEvent::id_of(occasion.site, &subject, meter, &occasion.request.to_string()),
            organisation: occasion.endpoint.organisation,
            project: occasion.endpoint.project,
            site: occasion.site,
            meter,
            item: occasion.endpoint.price_item.clone(),
            quantity,
            subject,
            started_at: occasion.started_at,
            ended_at: occasion.ended_at.max(occasion.started_at),
            allowance: Some(occasion.allowance),
            estimated: estimated.map(str::to_owned),
        };
        let cost = meter::rate(&event, books).unwrap_or_else(|error| {
            // It had a price when it was held; control rates it anyway, by its own books.
            tracing::warn!(%error, "usage has no price at this site");
            Nano::ZERO
        });
        Record { event, cost }
    };
    vec![
        of(Meter::TokensIn, used.tokens_in, used.in_estimated),
        of(Meter::TokensOut, used.tokens_out, used.out_estimated),
    ]
}
