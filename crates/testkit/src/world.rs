//! A world whose clock is moved by hand.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use gregal_core::{time::Time, world::World};

use crate::Chance;

/// A world in which every look at the clock is a millisecond later than the one before, and chance comes from a counter.
#[derive(Debug)]
pub struct SteppedWorld {
    millis: AtomicI64,
    chance: AtomicU64,
    passed: AtomicU64,
    began: Instant,
}

impl SteppedWorld {
    /// A world that begins at this time.
    pub fn at(began: Time) -> Self {
        let (chance, passed) = (AtomicU64::new(1), AtomicU64::new(0));
        Self { millis: AtomicI64::new(began.as_millis()), chance, passed, began: Instant::now() }
    }

    /// Lets time pass.
    pub fn pass_seconds(&self, seconds: i64) {
        self.millis.fetch_add(seconds * 1000, Ordering::SeqCst);
        // Steady time never goes back, whatever wall time does.
        self.passed.fetch_add(u64::try_from(seconds).unwrap_or(0), Ordering::SeqCst);
    }
}

impl World for SteppedWorld {
    fn now(&self) -> Time {
        Time::from_millis(self.millis.fetch_add(1, Ordering::SeqCst))
    }

    fn steady(&self) -> Instant {
        self.began + Duration::from_secs(self.passed.load(Ordering::SeqCst))
    }

    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let bytes = Chance::new(self.chance.fetch_add(1, Ordering::SeqCst)).draw().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}
