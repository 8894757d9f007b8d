use gregal_core::{
    hold::{self, Hold, HoldState},
    id::{HoldId, OrganisationId, ProjectId},
    ledger::{Balances, Leg},
    meter::Meter,
    money::Nano,
    price::{default_book, with_replicas},
    replica::{self, AHEAD_WINDOWS_MAX, DRAIN_LEFT_MS, Renewal, Standing, WINDOW_MS},
    sku::{Sku, default_skus},
    time::Time,
};
use proptest::prelude::*;

use crate::given::cases;

fn sku(name: &str) -> Sku {
    default_skus().into_iter().find(|sku| sku.name == name).unwrap()
}

fn open(amount: Nano) -> Hold {
    Hold {
        id: HoldId::from_u128(1),
        organisation: OrganisationId::from_u128(1),
        project: Some(ProjectId::from_u128(1)),
        subject: "ep".into(),
        amount,
        charged: Nano::ZERO,
        state: HoldState::Open,
        created_at: Time::default(),
        expires_at: None,
        version: 1,
    }
}

fn post(balances: &mut Balances, legs: &[Leg]) {
    use gregal_core::ledger::Account::{Accrued, Available, Funding, Held};
    for leg in legs {
        let account = match leg.account {
            Available => &mut balances.available,
            Held => &mut balances.held,
            Accrued => &mut balances.accrued,
            Funding => &mut balances.funding,
        };
        *account = account.add(leg.amount).unwrap();
    }
}

#[test]
fn the_smallest_sku_whose_memory_carries_the_weights_serves_them() {
    let skus = default_skus();
    let name = |bytes: u64| replica::smallest(&skus, bytes).map(|sku| sku.name.as_str());
    assert_eq!(name(40 << 20), Some("cpu.1"));
    assert_eq!(name(4 << 30), Some("cpu.2"), "four gibibytes of weights do not fit into four of memory");
    assert_eq!(name(12 << 30), Some("cpu.4"));
    assert_eq!(name(24 << 30), None, "an accelerator does not serve, whatever its memory");
}

#[test]
fn an_hour_of_a_core_costs_two_cents_and_an_older_book_charges_nothing() {
    let book = default_book(Time::default());
    assert_eq!(replica::cost(&book, &sku("cpu.1"), WINDOW_MS), Ok(Nano::new(20_000_000)));
    assert_eq!(replica::cost(&book, &sku("cpu.4"), 1), Ok(Nano::new(23)), "rounded up");
    assert_eq!(with_replicas(&book), None);

    let mut old = book;
    old.rows.retain(|row| row.meter != Meter::ReplicaCore);
    assert!(replica::cost(&old, &sku("cpu.1"), 1).is_err());
    let new = with_replicas(&old).unwrap();
    assert_eq!((new.version, new.from, new.check()), (old.version + 1, old.from, Ok(())));
    assert_eq!(new.rows[..old.rows.len()], old.rows[..], "nothing else costs anything else");
    assert_eq!(replica::cost(&new, &sku("cpu.4"), WINDOW_MS), Ok(Nano::ZERO));
}

#[test]
fn more_time_is_held_as_half_of_it_is_used_and_never_from_more_than_a_quarter_of_the_credit() {
    let (book, sku) = (default_book(Time::default()), sku("cpu.1"));
    let hold = open(Nano::new(20_000_000));
    let renewed = |available: i64, billed_ms| {
        let balances = Balances { available: Nano::new(available), ..Balances::default() };
        replica::renew(Standing { held_ms: WINDOW_MS, billed_ms, hold: &hold }, &balances, &book, &sku).unwrap()
    };
    // Plenty: a day ahead. Little: an hour, once half of this one is used.
    let Renewal::Extended { held_ms, .. } = renewed(100_000_000_000, 1_000) else { panic!("a day was not held") };
    assert_eq!(held_ms, 1_000 + AHEAD_WINDOWS_MAX * WINDOW_MS);
    assert_eq!(renewed(20_000_000, 1_000), Renewal::Enough);
    let Renewal::Extended { held_ms, hold: after, .. } = renewed(240_000_000, 1_000) else { panic!("no three hours") };
    assert_eq!((held_ms, after.amount), (1_000 + 3 * WINDOW_MS, Nano::new(60_000_000)), "a quarter is three hours");
}

#[test]
fn short_credit_is_said_while_time_is_left_and_drains_before_it_is_used_up() {
    let (book, sku) = (default_book(Time::default()), sku("cpu.1"));
    let mut hold = open(Nano::new(20_000_000));
    let mut renewed = |billed_ms: u64| {
        hold.charged = replica::cost(&book, &sku, billed_ms).unwrap();
        let standing = Standing { held_ms: WINDOW_MS, billed_ms, hold: &hold };
        replica::renew(standing, &Balances::default(), &book, &sku).unwrap()
    };
    assert_eq!(renewed(WINDOW_MS / 2 - 1), Renewal::Enough);
    let Renewal::Short(refusal) = renewed(WINDOW_MS / 2) else { panic!("it is short") };
    assert_eq!(refusal.short_by, Nano::new(10_000_000));
    assert!(matches!(renewed(WINDOW_MS - DRAIN_LEFT_MS - 1), Renewal::Short(_)));
    assert!(matches!(renewed(WINDOW_MS - DRAIN_LEFT_MS), Renewal::Drain(_)));
}

proptest! {
    #![proptest_config(cases(256))]

    /// However long it runs, in whatever pieces, with whatever credit: what is charged was held before it ran.
    #[test]
    fn what_is_billed_was_held_before(
        credit in 20_000_000_i64..2_000_000_000,
        pieces in prop::collection::vec(1_u64..4_000_000, 1..60),
    ) {
        let (book, sku) = (default_book(Time::default()), sku("cpu.1"));
        let mut balances = Balances { available: Nano::new(credit), funding: Nano::new(-credit), ..Balances::default() };
        let first = replica::cost(&book, &sku, WINDOW_MS).unwrap();
        let legs = hold::place(&balances, first).unwrap();
        post(&mut balances, &legs);
        let (mut hold, mut held_ms, mut billed_ms) = (open(first), WINDOW_MS, 0);
        for piece in pieces {
            // The site bills no further than what was held.
            let piece = piece.min(held_ms - billed_ms);
            billed_ms += piece;
            let used = book.row(Meter::ReplicaCore, "cpu.1").unwrap().amount_floor(replica::core_ms(&sku, piece)).unwrap();
            let (charged, legs) = hold::charge(&hold, used).unwrap();
            post(&mut balances, &legs);
            prop_assert_eq!(charged.overrun(), Nano::ZERO);
            hold = charged;
            match replica::renew(Standing { held_ms, billed_ms, hold: &hold }, &balances, &book, &sku).unwrap() {
                Renewal::Extended { hold: after, legs, held_ms: more } => {
                    prop_assert!(more > held_ms);
                    post(&mut balances, &legs);
                    (hold, held_ms) = (after, more);
                }
                Renewal::Drain(_) => prop_assert!(held_ms - billed_ms <= DRAIN_LEFT_MS),
                Renewal::Enough | Renewal::Short(_) => {}
            }
            prop_assert!(hold.remaining() >= replica::cost(&book, &sku, held_ms - billed_ms).unwrap());
            prop_assert_eq!(balances.sum(), 0);
            prop_assert!(!balances.available.is_negative());
        }
    }
}
