//! Tokens that were used: claimed once, and forgotten only when no clock can find them good any more.

use gregal_core::time::Time;

use super::*;

pub(crate) async fn a_claim_outlasts_a_clock_that_is_ahead(place: &Place) {
    let store = place.open().await;
    let at = Time::from_millis;
    let (until, ahead, later) = (at(100_000), at(159_000), at(161_000));
    let claim = async |digest: &str, now: Time| {
        let tx = store.begin().await.unwrap();
        let is_first = tx.exchange_claim(digest, until, now).await.unwrap();
        done(tx).await;
        is_first
    };
    assert!(claim("token", at(1_000)).await);
    // Another control plane, whose clock is a minute ahead, claims something else.
    assert!(claim("other", ahead).await);
    assert!(!claim("token", at(99_000)).await, "it was forgotten while it still holds elsewhere");
    assert!(claim("third", later).await);
    assert!(claim("token", later).await, "it is not kept for ever");
}
