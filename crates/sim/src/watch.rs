//! Who watches a replay: a clock to say how long decisions took, and an eye on how far it is and what it takes.

/// A steady clock, who weighs, and who is told of progress. Nothing that is decided depends on any of it; a closure is a clock alone.
pub trait Watch {
    /// Nanoseconds of a clock that never goes back.
    fn nanos(&mut self) -> u64;

    /// Bytes of memory that the process holds; none where that is not known.
    fn memory_bytes(&mut self) -> Option<u64> {
        None
    }

    /// So much is done of all there is to do. May be said often.
    fn progress(&mut self, done: u64, all: u64) {
        let _ = (done, all);
    }
}

impl<F: FnMut() -> u64> Watch for F {
    fn nanos(&mut self) -> u64 {
        self()
    }
}

/// Does something and says how many nanoseconds it took.
pub(crate) fn timed<T>(watch: &mut dyn Watch, work: impl FnOnce() -> T) -> (T, u64) {
    let from = watch.nanos();
    let done = work();
    (done, watch.nanos().saturating_sub(from))
}
