//! Reservations: the calendar, what fits into it, and what is billed.

use gregal_core::{
    id::{HoldId, OrganisationId, ProjectId, ReservationId, SiteId},
    meter::{self, Meter, UsageEvent},
    price::{PriceBook, PriceRow, default_book, with_reservations},
    reservation::{
        Reservation, ReservationMove, ReservationState,
        calendar::{Facts, Free, Need, Refused, Taken, Wanted, book, calendar},
        cost,
    },
    sku::{Sku, default_skus},
    time::Time,
};
use proptest::prelude::*;

const HOUR: i64 = 3_600_000;
const CLEAN: u32 = 300_000;

fn at(hours: i64) -> Time {
    Time::from_millis(hours * HOUR)
}

fn sku(name: &str) -> Sku {
    default_skus().into_iter().find(|sku| sku.name == name).unwrap()
}

/// Four cores with memory enough, and accelerators.
fn site(gpus: u32) -> Free {
    Free {
        cpus_milli: 4_000,
        memory_bytes: 64 << 30,
        gpus: (gpus > 0).then(|| ("h100".to_owned(), gpus)).into_iter().collect(),
        gpus_any_taken: 0,
    }
}

fn cores(count: u32, from: i64, until: Option<i64>) -> Taken {
    Taken {
        need: Need::of(&sku("cpu.1"), count),
        from: at(from),
        until: until.map(at),
        reservation: None,
        stands: true,
    }
}

fn wanted(sku: &Sku, count: u32, from: i64, until: i64) -> Wanted<'_> {
    Wanted { sku, count, from: at(from), until: at(until), clean_ms: CLEAN }
}

fn reservation() -> Reservation {
    Reservation {
        id: ReservationId::from_u128(1),
        organisation: OrganisationId::from_u128(1),
        project: ProjectId::from_u128(1),
        shared: false,
        name: "nightly".into(),
        site: SiteId::from_u128(1),
        sku: "cpu.1".into(),
        count: 3,
        from: at(10),
        until: at(12).plus_millis(1_800_000),
        clean_ms: CLEAN,
        hold: HoldId::from_u128(1),
        state: ReservationState::Booked,
        active_since: None,
        billed_until: None,
        message: None,
        created_at: at(0),
        cancelled_at: None,
        ended_at: None,
        version: 1,
    }
}

#[test]
fn a_calendar_has_a_step_wherever_something_comes_or_goes() {
    let taken = vec![cores(1, 0, Some(2)), cores(2, 1, Some(3)), cores(1, 4, None), cores(4, -5, Some(-1))];
    let steps = calendar(&Facts { all: site(0), taken }, at(0), at(6));
    let seen: Vec<_> = steps.iter().map(|step| (step.from, step.until, step.free.cpus_milli)).collect();
    let hours = [(0, 1, 3_000), (1, 2, 1_000), (2, 3, 2_000), (3, 4, 4_000), (4, 6, 3_000)];
    assert_eq!(seen, hours.map(|(from, until, free)| (at(from), at(until), free)));
    assert_eq!(steps[1].free.fits(&sku("cpu.2")), 0);
    assert_eq!(steps[3].free.fits(&sku("cpu.2")), 2);
}

#[test]
fn a_block_fits_whole_for_all_its_time_or_is_told_what_is_short_when_and_until_when() {
    // Two cores are taken from 3 to 5 o'clock, one for good from 20 on.
    let facts = Facts { all: site(0), taken: vec![cores(2, 3, Some(5)), cores(1, 20, None)] };
    let one = sku("cpu.1");
    assert_eq!(book(&facts, wanted(&one, 2, 1, 10), at(0)), Ok(()));
    // Its own cleaning has to fit as well.
    let Err(Refused::Short { short, at: when, next }) = book(&facts, wanted(&one, 3, 1, 3), at(0)) else {
        panic!("the cleaning after it runs into what is taken")
    };
    assert_eq!((short.as_str(), when, next), ("1 of 3 cores short (2 of 4 free)", at(3), Some(at(5))));
    let earlier = Wanted { until: at(3).plus_millis(-i64::from(CLEAN)), ..wanted(&one, 3, 1, 3) };
    assert_eq!(book(&facts, earlier, at(0)), Ok(()));
    // All of it is free for fifteen hours only, from five on.
    let Err(Refused::Short { next, .. }) = book(&facts, wanted(&one, 4, 1, 15), at(0)) else { panic!("it is short") };
    assert_eq!(next, Some(at(5)));
    let Err(Refused::Short { next, .. }) = book(&facts, wanted(&one, 4, 1, 16), at(0)) else { panic!("it is short") };
    assert_eq!(next, None, "never for as long, as far as anybody knows");
    let never = book(&facts, wanted(&one, 5, 1, 2), at(0)).unwrap_err().to_string();
    assert_eq!(never, "1 of 5 cores short (4 of 4 free), with nothing else there");
}

#[test]
fn accelerators_of_any_model_are_gone_for_every_model() {
    let gpu = sku("gpu.1");
    let h100 =
        Sku { name: "h100.1".into(), gpu_model: Some("h100".into()), cpus_milli: 100, memory_bytes: 1, ..gpu.clone() };
    let any = Sku { gpu_model: None, ..h100.clone() };
    let facts = |taken: &Sku, count| Facts {
        all: site(4),
        taken: vec![Taken {
            need: Need::of(taken, count),
            from: at(0),
            until: Some(at(9)),
            reservation: None,
            stands: true,
        }],
    };
    for taken in [&h100, &any] {
        for asked in [&h100, &any] {
            assert_eq!(book(&facts(taken, 2), wanted(asked, 2, 1, 2), at(0)), Ok(()));
            let Err(Refused::Short { short, .. }) = book(&facts(taken, 3), wanted(asked, 2, 1, 2), at(0)) else {
                panic!("one is short")
            };
            assert!(short.contains("1 of 2") && short.contains("(1 of 4 free)"), "{short}");
        }
    }
}

#[test]
fn what_no_reservation_can_be_is_refused_with_its_limit() {
    let (facts, one) = (Facts { all: site(0), taken: Vec::new() }, sku("cpu.1"));
    let why = |count, from, until| book(&facts, wanted(&one, count, from, until), at(1)).unwrap_err().to_string();
    assert!(why(0, 2, 3).contains("`count` is not from 1 to 256"));
    assert!(why(1, 0, 3).contains("in the past"));
    assert!(why(1, 90 * 24 + 2, 90 * 24 + 3).contains("more than 90 days ahead"));
    assert!(why(1, 2, 2).contains("less than 5 minutes"));
    assert!(why(1, 5, 2).contains("less than 5 minutes"));
    assert!(why(1, 2, 2 + 31 * 24 + 1).contains("more than 31 days"));
}

#[test]
fn it_is_billed_hour_by_hour_without_a_gap_however_late_and_never_twice() {
    let (sku, books) = (sku("cpu.1"), [default_book(at(0))]);
    let booked = reservation();
    assert!(booked.due(at(100)).is_empty(), "what has not begun is not billed");
    let active = booked.apply(ReservationMove::Begin { since: booked.from }).unwrap();
    assert!(active.due(at(11).plus_millis(-1)).is_empty(), "an hour counts when it is over");
    let first = active.due(at(11));
    assert_eq!(first, [(at(10), at(11))]);
    let after = active.apply(ReservationMove::Bill { until: at(11) }).unwrap();
    let rest = after.due(at(500));
    assert_eq!(rest, [(at(11), at(12)), (at(12), booked.until)]);
    // Looked at once or often, late or in time: the same records.
    let records = |stretches: &[(Time, Time)]| -> Vec<_> {
        stretches.iter().flat_map(|stretch| active.records(&sku, *stretch)).collect()
    };
    let often = [records(&first), records(&rest)].concat();
    assert_eq!(often, records(&active.due(at(500))));
    let ids: std::collections::BTreeSet<_> = often.iter().map(|record| &record.id).collect();
    assert_eq!(ids.len(), often.len(), "each hour is told apart");
    for record in &often {
        assert!(record.check(at(13)).is_err(), "no site may say this, nor take its id before");
        let id = record.id.strip_prefix("control-").unwrap().to_owned();
        let as_a_site_says = UsageEvent { id, ..record.clone() };
        assert!(as_a_site_says.check(at(13)).is_ok() && record.meter == Meter::ReservedCore);
    }
    assert_eq!(often.iter().map(|record| record.quantity).sum::<u64>(), 3_000 * 9_000);
    // Three cores for two hours and a half, at four cents.
    let paid: i64 = often.iter().map(|record| meter::rate(record, &books).unwrap().get()).sum();
    assert_eq!((paid, cost(&booked, &sku, &books).unwrap().get()), (300_000_000, 300_000_000));
    assert!(after.apply(ReservationMove::Bill { until: at(11) }).is_err(), "no hour is billed twice");
    assert!(after.apply(ReservationMove::End { at: at(13) }).is_err(), "it does not end before all of it is billed");
    let ended = after.apply(ReservationMove::Bill { until: booked.until }).unwrap();
    assert!(ended.due(at(500)).is_empty());
    assert_eq!(ended.apply(ReservationMove::End { at: at(13) }).unwrap().state, ReservationState::Ended);
}

#[test]
fn a_late_beginning_is_not_paid_for_and_a_cancelled_one_pays_the_hour_that_has_begun() {
    let booked = reservation();
    let late = booked.apply(ReservationMove::Wait { why: "a job is still there".into() }).unwrap();
    let since = at(10).plus_millis(600_000);
    let active = late.apply(ReservationMove::Begin { since }).unwrap();
    assert_eq!((active.message.as_ref(), active.due(at(11))), (None, vec![(since, at(11))]));
    let cut = active.apply(ReservationMove::Cancel { at: at(11).plus_millis(1) }).unwrap();
    assert_eq!((cut.state, cut.until), (ReservationState::Active, at(12)));
    assert_eq!(cut.due(at(500)), [(since, at(11)), (at(11), at(12))]);
    assert!(cut.apply(ReservationMove::Cancel { at: at(11) }).is_err());
    let cancelled = booked.apply(ReservationMove::Cancel { at: at(9) }).unwrap();
    assert!(cancelled.state.is_final() && cancelled.due(at(500)).is_empty());
    assert!(booked.apply(ReservationMove::Begin { since: at(9) }).is_err());
    assert!(booked.apply(ReservationMove::End { at: at(12) }).is_err());
    assert!(booked.apply(ReservationMove::End { at: at(13) }).is_ok(), "nothing ever left its room: nothing is paid");
}

#[test]
fn what_is_used_inside_has_no_price_and_an_older_book_prices_room_as_a_jobs() {
    let mut old = default_book(at(0));
    assert_eq!(with_reservations(&old), None);
    old.rows.retain(|row| !row.meter.as_str().starts_with("reserved"));
    old.rows.push(PriceRow { item: "cpu.2".into(), nano: 7, ..old.rows[0].clone() });
    let new = with_reservations(&old).unwrap();
    new.check().unwrap();
    assert_eq!((new.version, new.from, &new.rows[..old.rows.len()]), (2, old.from, &old.rows[..]));
    for item in ["cpu.1", "cpu.2"] {
        let price = |meter| new.row(meter, item).map(|row| (row.nano, row.per));
        assert_eq!(price(Meter::ReservedCore), price(Meter::ComputeCore));
        assert_eq!(price(Meter::ReservedAccelerator), price(Meter::Accelerator));
    }
    assert_eq!(with_reservations(&PriceBook { rows: Vec::new(), ..old.clone() }), None);
    let priced = PriceRow { meter: Meter::CoveredCore, ..old.rows[0].clone() };
    let refused = PriceBook { rows: vec![priced], ..old }.check().unwrap_err().to_string();
    assert!(refused.contains("never priced"), "{refused}");
}

proptest! {
    /// Whatever is booked one after another, at no time is more taken than there is; and what is refused is told a time at
    /// which it fits.
    #[test]
    fn nothing_is_booked_over_what_is_there(asked in prop::collection::vec((1_u32..5, 0_i64..40, 1_i64..12), 1..24)) {
        let one = sku("cpu.1");
        let mut facts = Facts { all: site(0), taken: vec![cores(1, 5, Some(9)), cores(1, 30, None)] };
        for (count, from, length) in asked {
            let ask = wanted(&one, count, from, from + length);
            match book(&facts, ask, at(0)) {
                Ok(()) => {
                    let until = Some(ask.until.plus_millis(i64::from(CLEAN)));
                    facts.taken.push(Taken { need: Need::of(&one, count), from: ask.from, until, reservation: None, stands: false });
                }
                Err(Refused::Short { next: Some(next), at: when, .. }) => {
                    prop_assert!(next > when && when >= ask.from);
                    let moved = Wanted { from: next, until: next.plus_millis(length * HOUR), ..ask };
                    prop_assert_eq!(book(&facts, moved, at(0)), Ok(()));
                }
                Err(_) => {}
            }
        }
        for hour in 0..60 {
            for half in [0, HOUR / 2] {
                let now = at(hour).plus_millis(half);
                let there = facts.taken.iter().filter(|one| one.from <= now && one.until.is_none_or(|end| now < end));
                prop_assert!(there.map(|one| one.need.cpus_milli).sum::<u64>() <= 4_000);
            }
        }
    }
}
