use gregal_core::{
    hold::{self, Hold, HoldError, HoldRefusal, HoldState},
    id::{HoldId, OrganisationId},
    ledger::{self, Account, Balances, LedgerError, Leg, Posting, PostingKind},
    money::Nano,
    time::Time,
};
use proptest::{prelude::*, sample::Index};

use crate::given::{cases, posting};

fn hold_of(amount: i64) -> Hold {
    Hold {
        id: HoldId::from_u128(1),
        organisation: OrganisationId::from_u128(1),
        project: None,
        subject: "job_x".into(),
        amount: Nano::new(amount),
        charged: Nano::ZERO,
        state: HoldState::Open,
        created_at: Time::default(),
        expires_at: None,
        version: 1,
    }
}

fn legs(moves: &[(Account, i64)]) -> Vec<Leg> {
    moves.iter().map(|(account, amount)| Leg { account: *account, amount: Nano::new(*amount) }).collect()
}

fn balances(available: i64) -> Balances {
    Balances { available: Nano::new(available), funding: Nano::new(-available), ..Balances::default() }
}

#[test]
fn a_hold_too_many_says_how_much_is_missing() {
    let refusal = hold::place(&balances(70), Nano::new(100)).unwrap_err();
    assert_eq!(refusal, HoldRefusal { short_by: Nano::new(30), available: Nano::new(70) });
    assert_eq!(refusal.to_string(), "the credit is 0.000000030 EUR short: 0.000000070 EUR are available");
    assert_eq!(
        hold::place(&balances(100), Nano::new(100)),
        Ok(legs(&[(Account::Available, -100), (Account::Held, 100)]))
    );
    assert_eq!(hold::place(&balances(0), Nano::ZERO), Ok(vec![]));
}

#[test]
fn use_past_the_hold_is_taken_from_what_is_available_and_shows() {
    let (after, moved) = hold::charge(&hold_of(100), Nano::new(130)).unwrap();
    assert_eq!(moved, legs(&[(Account::Held, -100), (Account::Available, -30), (Account::Accrued, 130)]));
    assert_eq!((after.overrun(), after.remaining()), (Nano::new(30), Nano::ZERO));
    // All of the next use is past the hold; the held account is not touched again.
    let (after, moved) = hold::charge(&after, Nano::new(5)).unwrap();
    assert_eq!(moved, legs(&[(Account::Available, -5), (Account::Accrued, 5)]));
    // A top-up first covers what was overrun: only the rest is set aside.
    let (after, moved) = hold::extend(&after, &balances(100), Nano::new(50)).unwrap();
    assert_eq!(moved, legs(&[(Account::Available, -15), (Account::Held, 15)]));
    let (_, moved) = hold::close(&after, HoldState::Settled).unwrap();
    assert_eq!(moved, legs(&[(Account::Held, -15), (Account::Available, 15)]));
}

#[test]
fn every_illegal_move_of_a_hold_is_refused() {
    let open = hold_of(100);
    let (used, _) = hold::charge(&open, Nano::new(1)).unwrap();
    assert_eq!(hold::close(&open, HoldState::Open), Err(HoldError::NotAnEnd));
    assert_eq!(hold::close(&used, HoldState::Released), Err(HoldError::Used { charged: Nano::new(1) }));
    assert_eq!(hold::charge(&open, Nano::new(-1)), Err(HoldError::Negative { amount: Nano::new(-1) }));
    assert_eq!(hold::charge_late(Nano::new(-1)), Err(HoldError::Negative { amount: Nano::new(-1) }));
    assert_eq!(hold::extend(&open, &balances(9), Nano::new(-1)), Err(HoldError::Negative { amount: Nano::new(-1) }));
    assert!(matches!(hold::extend(&open, &balances(9), Nano::new(10)), Err(HoldError::Refused(_))));
    assert!(matches!(hold::extend(&open, &balances(9), Nano::new(i64::MAX)), Err(HoldError::Overflow(_))));
    for state in [HoldState::Settled, HoldState::Released, HoldState::Expired] {
        let (closed, _) = hold::close(&open, state).unwrap();
        assert_eq!(closed.version, 2);
        assert_eq!(hold::charge(&closed, Nano::new(1)), Err(HoldError::Closed { state }));
        assert_eq!(hold::extend(&closed, &balances(9), Nano::new(1)), Err(HoldError::Closed { state }));
        assert_eq!(hold::close(&closed, HoldState::Settled), Err(HoldError::Closed { state }));
    }
}

#[test]
fn a_hold_is_due_once_its_time_has_run_out() {
    let hold = Hold { expires_at: Some(Time::from_millis(10)), ..hold_of(1) };
    assert!(!hold.is_due(Time::from_millis(9)));
    assert!(hold.is_due(Time::from_millis(10)));
    assert!(!Hold { state: HoldState::Settled, ..hold }.is_due(Time::from_millis(11)));
    assert!(!hold_of(1).is_due(Time::from_millis(i64::MAX)));
}

#[test]
fn a_posting_that_may_not_enter_is_refused_and_named() {
    use Account::{Accrued, Available, Funding, Held};
    use PostingKind::{Charge, Correction, Credit, Hold, Release};
    let check = |kind, moves: &[(Account, i64)]| posting(kind, legs(moves)).check();
    assert!(matches!(check(Credit, &[]), Err(LedgerError::Empty { .. })));
    assert!(matches!(check(Correction, &[(Held, 0), (Available, 0)]), Err(LedgerError::Empty { .. })));
    assert!(matches!(check(Credit, &[(Funding, -5), (Available, 6)]), Err(LedgerError::Unbalanced { by: 1, .. })));
    for (kind, moves) in [
        (Credit, &[(Funding, 5), (Available, -5)]),
        (Credit, &[(Funding, -5), (Accrued, 5)]),
        (Hold, &[(Held, -5), (Available, 5)]),
        (Charge, &[(Accrued, -5), (Held, 5)]),
        (Charge, &[(Available, -5), (Held, 5)]),
        (Release, &[(Held, 5), (Available, -5)]),
        (Release, &[(Accrued, -5), (Available, 5)]),
    ] {
        assert!(matches!(check(kind, moves), Err(LedgerError::Misshapen { .. })), "{kind:?} {moves:?}");
    }
    assert_eq!(check(Correction, &[(Accrued, -5), (Available, 5)]), Ok(()));
    let full = Balances { available: Nano::new(i64::MAX), funding: Nano::new(-i64::MAX), ..Balances::default() };
    let more = posting(Credit, legs(&[(Funding, -1), (Available, 1)]));
    assert!(matches!(full.apply(&more), Err(LedgerError::Overflow(_))));
}

#[test]
#[should_panic(expected = "does not balance before")]
fn a_broken_ledger_stops_whoever_writes_to_it() {
    let broken = Balances { available: Nano::new(1), ..Balances::default() };
    drop(broken.apply(&posting(PostingKind::Credit, ledger::credit(Nano::new(5)).unwrap())));
}

#[derive(Debug, Clone)]
enum Act {
    Credit(i64),
    Place(i64),
    Charge(Index, i64),
    Late(i64),
    Extend(Index, i64),
    Close(Index, HoldState),
}

fn act() -> impl Strategy<Value = Act> {
    let amount = || 0..1_000i64;
    let end = prop_oneof![Just(HoldState::Settled), Just(HoldState::Released), Just(HoldState::Expired)];
    prop_oneof![
        2 => amount().prop_map(Act::Credit),
        3 => amount().prop_map(Act::Place),
        4 => (any::<Index>(), amount()).prop_map(|(which, amount)| Act::Charge(which, amount)),
        1 => amount().prop_map(Act::Late),
        1 => (any::<Index>(), amount()).prop_map(|(which, amount)| Act::Extend(which, amount)),
        2 => (any::<Index>(), end).prop_map(|(which, end)| Act::Close(which, end)),
    ]
}

/// One organisation's books, and beside them what they should come to, counted another way.
#[derive(Debug, Default)]
struct Books {
    balances: Balances,
    postings: Vec<Posting>,
    holds: Vec<Hold>,
    credited: i64,
    used: i64,
}

impl Books {
    fn post(&mut self, kind: PostingKind, legs: Vec<Leg>) {
        if !legs.is_empty() {
            let posting = posting(kind, legs);
            self.balances = self.balances.apply(&posting).unwrap();
            self.postings.push(posting);
        }
    }

    fn step(&mut self, act: &Act) {
        let pick = |holds: &[Hold], which: &Index| (!holds.is_empty()).then(|| which.index(holds.len()));
        match act {
            Act::Credit(amount) => {
                self.post(PostingKind::Credit, ledger::credit(Nano::new(*amount)).unwrap());
                self.credited += amount;
            }
            Act::Place(amount) => match hold::place(&self.balances, Nano::new(*amount)) {
                Ok(legs) => {
                    self.post(PostingKind::Hold, legs);
                    self.holds.push(hold_of(*amount));
                    assert!(!self.balances.available.is_negative() || *amount == 0);
                }
                Err(refusal) => assert_eq!(refusal.short_by.get(), amount - self.balances.available.get()),
            },
            Act::Charge(which, amount) => {
                let Some(at) = pick(&self.holds, which) else { return };
                if let Ok((after, legs)) = hold::charge(&self.holds[at], Nano::new(*amount)) {
                    self.post(PostingKind::Charge, legs);
                    self.holds[at] = after;
                    self.used += amount;
                }
            }
            Act::Late(amount) => {
                self.post(PostingKind::Charge, hold::charge_late(Nano::new(*amount)).unwrap());
                self.used += amount;
            }
            Act::Extend(which, amount) => {
                let Some(at) = pick(&self.holds, which) else { return };
                if let Ok((after, legs)) = hold::extend(&self.holds[at], &self.balances, Nano::new(*amount)) {
                    self.post(PostingKind::Hold, legs);
                    self.holds[at] = after;
                }
            }
            Act::Close(which, end) => {
                let Some(at) = pick(&self.holds, which) else { return };
                if let Ok((after, legs)) = hold::close(&self.holds[at], *end) {
                    self.post(PostingKind::Release, legs);
                    self.holds[at] = after;
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn whatever_happens_the_ledger_balances_and_every_account_says_what_it_means(acts in prop::collection::vec(act(), 1..60)) {
        let mut books = Books::default();
        for act in &acts {
            books.step(act);
            let held: i64 = books.holds.iter().map(|hold| hold.remaining().get()).sum();
            prop_assert_eq!(books.balances.sum(), 0);
            prop_assert_eq!(books.balances.held.get(), held);
            prop_assert_eq!(books.balances.accrued.get(), books.used);
            prop_assert_eq!(books.balances.funding.get(), -books.credited);
            prop_assert_eq!(books.balances.available.get(), books.credited - books.used - held);
        }
        prop_assert_eq!(Balances::replay(&books.postings).unwrap(), books.balances);
        for hold in books.holds.clone().into_iter().filter(|hold| hold.state == HoldState::Open) {
            books.post(PostingKind::Release, hold::close(&hold, HoldState::Settled).unwrap().1);
        }
        prop_assert_eq!(books.balances.held, Nano::ZERO);
    }
}
