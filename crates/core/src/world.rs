//! What comes in through the front door: wall time, steady time, chance. Decisions take values; only edges hold a world.

use std::time::Instant;

use crate::time::Time;

/// Time and chance, given by whoever starts the program (or the test).
pub trait World: Send + Sync + std::fmt::Debug {
    /// Wall time: what an invoice or an audit line says. May jump.
    fn now(&self) -> Time;
    /// Steady time: what a timeout or a latency measures. Never goes back.
    fn steady(&self) -> Instant;
    /// Fills the buffer with bytes nobody can guess (in tests: with bytes of a named seed).
    fn fill(&self, buffer: &mut [u8]);
}

/// The real world: the machine's clocks and its entropy.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealWorld;

impl World for RealWorld {
    fn now(&self) -> Time {
        Time::from_millis(jiff::Timestamp::now().as_millisecond())
    }

    fn steady(&self) -> Instant {
        Instant::now()
    }

    fn fill(&self, buffer: &mut [u8]) {
        // Without entropy no key can be made: going on would hand out guessable credentials.
        getrandom::fill(buffer).expect("the operating system gives entropy");
    }
}
