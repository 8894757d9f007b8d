use gregal_core::{
    meter::{self, Meter, QUANTITY_MAX, RateError, UsageError, UsageEvent},
    money::Nano,
    price,
};

use crate::given::{event, time};

const NOW: &str = "2026-11-22T12:00:00Z";

#[test]
fn a_plain_event_is_believed_and_zero_is_a_value() {
    let now = time(NOW);
    assert_eq!(event(1, Meter::TokensIn, "small", 0, now).check(now), Ok(()));
    assert_eq!(event(1, Meter::Energy, "-", QUANTITY_MAX, now.plus_seconds(300)).check(now), Ok(()));
}

#[test]
fn an_event_that_cannot_be_true_is_refused_with_its_reason() {
    let now = time(NOW);
    let good = event(1, Meter::TokensIn, "small", 10, now);
    let check = |change: &dyn Fn(&mut UsageEvent)| {
        let mut event = good.clone();
        change(&mut event);
        event.check(now).unwrap_err()
    };
    assert_eq!(check(&|e| e.id.truncate(63)), UsageError::Id);
    assert_eq!(check(&|e| e.id = "G".repeat(64)), UsageError::Id);
    assert_eq!(check(&|e| e.id = e.id.to_ascii_uppercase()), UsageError::Id);
    assert_eq!(check(&|e| e.subject.clear()), UsageError::Name { field: "subject" });
    assert_eq!(check(&|e| e.subject = "x".repeat(201)), UsageError::Name { field: "subject" });
    assert_eq!(check(&|e| e.item = "a\nb".into()), UsageError::Name { field: "item" });
    assert!(matches!(check(&|e| e.quantity = QUANTITY_MAX + 1), UsageError::Quantity { .. }));
    assert!(matches!(check(&|e| e.started_at = e.ended_at.plus_millis(1)), UsageError::Backwards { .. }));
    assert!(matches!(check(&|e| e.ended_at = now.plus_millis(300_001)), UsageError::Future { .. }));
}

#[test]
fn the_id_of_an_event_follows_from_its_facts() {
    let site = event(1, Meter::TokensIn, "small", 1, time(NOW)).site;
    let id = UsageEvent::id_of(site, "ep_1", Meter::TokensIn, "req_1");
    assert_eq!(id, UsageEvent::id_of(site, "ep_1", Meter::TokensIn, "req_1"));
    assert_ne!(id, UsageEvent::id_of(site, "ep_1", Meter::TokensOut, "req_1"));
    assert_ne!(id, UsageEvent::id_of(site, "ep_1", Meter::TokensIn, "req_2"));
}

#[test]
fn use_is_rated_by_the_book_of_its_end_down_to_the_nano_euro() {
    let books = [price::default_book(time("2026-01-01T00:00:00Z"))];
    let rate = |meter, quantity, at: &str| meter::rate(&event(1, meter, "cpu.1", quantity, time(at)), &books);
    // 40 000 000 nano-euro for 3 600 000 core-milliseconds is 11.1 for each.
    assert_eq!(rate(Meter::ComputeCore, 1, NOW), Ok(Nano::new(11)));
    assert_eq!(rate(Meter::ComputeCore, 3_600_000, NOW), Ok(Nano::new(40_000_000)));
    assert_eq!(rate(Meter::Energy, 1_000_000, NOW), Ok(Nano::ZERO));
    assert!(matches!(rate(Meter::TokensIn, 1, "2025-12-31T23:59:59Z"), Err(RateError::NoBook { .. })));
    let mut bare = books[0].clone();
    bare.rows.retain(|row| row.meter != Meter::TokensIn);
    let error = meter::rate(&event(1, Meter::TokensIn, "small", 1, time(NOW)), &[bare]).unwrap_err();
    assert_eq!(error.to_string(), "price book 1 has no price for `small` on `tokens_in`");
}
