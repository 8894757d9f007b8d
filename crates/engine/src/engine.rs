//! The contract every adapter keeps.

use async_trait::async_trait;

use crate::{Capabilities, Observation, Workload, WorkloadId};

/// Runs workloads. See the crate's head for the idea; the words MUST below are proven by [`crate::contract::check`].
#[async_trait]
pub trait Engine: Send + Sync {
    /// Accepts a workload and begins it.
    ///
    /// - The same workload under a known id MUST be the same act: nothing is begun twice, not even after it ended, nor
    ///   after the engine's process was restarted.
    /// - Another workload under a known id MUST be refused with [`EngineError::Conflict`].
    /// - A refusal MUST leave nothing behind: neither a process nor an entry in [`Engine::list`].
    /// - A program that cannot begin is not a refusal: it is observed as [`crate::Reason::Failed`] with a message.
    async fn start(&self, workload: Workload) -> Result<(), EngineError>;

    /// Says where a workload stands.
    ///
    /// - An id that was never accepted, or was removed, MUST be [`EngineError::NotFound`].
    /// - `Exited` MUST mean that none of its processes is left, and MUST never change afterwards.
    async fn observe(&self, id: &WorkloadId) -> Result<Observation, EngineError>;

    /// Everything this engine knows, in the order of ids. What was accepted MUST be there until it is removed, after a
    /// restart as well.
    async fn list(&self) -> Result<Vec<Observation>, EngineError>;

    /// Asks all of its processes to end, and ends them after `grace_ms` milliseconds. Answers when the wish is taken,
    /// not when it is fulfilled: observe for that.
    ///
    /// - A workload stopped while it lived MUST be observed as [`crate::Reason::Stopped`].
    /// - Stopping again, or what ended already, MUST be fine and change nothing. A second wish may shorten the grace.
    async fn stop(&self, id: &WorkloadId, grace_ms: u64) -> Result<(), EngineError>;

    /// Ends it at once if it lives, then cleans up all that the engine kept for it and forgets it. The workload's own
    /// mounts and logs are its caller's and stay.
    ///
    /// - When it answers, none of its processes MUST be left.
    /// - An unknown id MUST be fine, so that a removal can be repeated.
    async fn remove(&self, id: &WorkloadId) -> Result<(), EngineError>;

    /// What it can give and what it cannot. MUST name every [`crate::Protection`].
    async fn capabilities(&self) -> Result<Capabilities, EngineError>;
}

/// Why an engine did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No workload of this id.
    #[error("no workload `{0}`")]
    NotFound(WorkloadId),
    /// The id is known with another workload.
    #[error("`{0}` is already known as another workload; an attempt's id is never used twice")]
    Conflict(WorkloadId),
    /// The workload makes no sense anywhere.
    #[error("{field}: expected {expected}")]
    Invalid {
        /// Which part of the workload.
        field: &'static str,
        /// What it should have been.
        expected: String,
    },
    /// This engine will not run it, now or ever.
    #[error("refused: {why}")]
    Refused {
        /// Which rule, or what is missing.
        why: String,
        /// What the operator or the caller can do.
        hint: String,
    },
    /// What runs things cannot be asked just now. Says nothing about the workload: ask again.
    #[error("the engine cannot be asked: {0}")]
    Unavailable(String),
    /// The engine could not do its own part.
    #[error("{doing}: {error}")]
    Io {
        /// What it was doing.
        doing: String,
        /// What came of it.
        error: std::io::Error,
    },
}

impl EngineError {
    pub(crate) fn invalid(field: &'static str, expected: impl Into<String>) -> Self {
        Self::Invalid { field, expected: expected.into() }
    }

    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::Io { doing: doing.into(), error }
    }
}
