//! A world whose clock is moved by hand.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Instant,
};

use gregal_core::{time::Time, world::World};

use crate::Chance;

/// A world in which every look at the clock is a millisecond later than the one before, and chance comes from a counter.
#[derive(Debug)]
pub struct SteppedWorld {
    millis: AtomicI64,
    chance: AtomicU64,
    began: Instant,
}

impl SteppedWorld {
    /// A world that begins at this time.
    pub fn at(began: Time) -> Self {
        Self { millis: AtomicI64::new(began.as_millis()), chance: AtomicU64::new(1), began: Instant::now() }
    }

    /// Lets time pass.
    pub fn pass_seconds(&self, seconds: i64) {
        self.millis.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

impl World for SteppedWorld {
    fn now(&self) -> Time {
        Time::from_millis(self.millis.fetch_add(1, Ordering::SeqCst))
    }

    fn steady(&self) -> Instant {
        self.began
    }

    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let bytes = Chance::new(self.chance.fetch_add(1, Ordering::SeqCst)).draw().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}
