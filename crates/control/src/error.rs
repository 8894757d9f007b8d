//! What can go wrong in this room, and the one place that says how the outside hears of it.

use gregal_api::problem::{Code, Problem};
use gregal_core::{hold::HoldError, id::RequestId, ledger::LedgerError, money::Overflow};
use gregal_policy::Placement;
use gregal_store::IdempotencyRecord;

/// Why a use case gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was refused, in words for whoever asked.
    #[error(transparent)]
    Problem(Box<Problem>),
    /// The same request was answered before: this is that answer, not a failure.
    #[error("this request was answered before")]
    Replayed(Box<IdempotencyRecord>),
    /// The store could not read or write.
    #[error("the store failed")]
    Store(#[source] gregal_store::Error),
    /// The embedded policies cannot be used.
    #[error("the policies cannot be used")]
    Policy(#[from] gregal_policy::Error),
    /// Something that must hold does not. For operators only.
    #[error("broken: {0}")]
    Broken(String),
}

impl Error {
    /// A refusal with a code and words for whoever asked.
    pub(crate) fn refused(code: Code, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    /// The body, a parameter or a header is not what the contract says.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::refused(Code::InvalidRequest, detail)
    }

    /// It does not exist, or is somebody else's: one answer for both, so that nobody learns which.
    pub(crate) fn missing(noun: &str, id: impl std::fmt::Display) -> Self {
        Problem::new(Code::NotFound, format!("there is no {noun} `{id}`")).into()
    }

    /// The residency policy's verdict on a site, as an answer.
    pub(crate) fn residency(verdict: &gregal_policy::PlacementVerdict, what: Placement) -> Self {
        let mut problem = Problem::new(Code::ResidencyRefused, verdict.because.clone());
        problem.rule.clone_from(&verdict.rule);
        problem.hint = verdict.would_need.as_ref().map(|need| format!("a {} needs {need}", what.as_str()));
        problem.into()
    }

    /// How the outside hears of it.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Problem(problem) => (**problem).clone(),
            // A replay is an answer; whoever asks for its problem took a wrong turn.
            Self::Replayed(_) | Self::Policy(_) | Self::Broken(_) => internal(),
            Self::Store(error) => of_store(error),
        }
    }

    /// Logs it once, with its whole chain, where it is handled.
    pub(crate) fn log(&self, request: Option<RequestId>, during: &str) {
        let mut chain = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(inner) = cause {
            chain = format!("{chain}: {inner}");
            cause = inner.source();
        }
        let request = request.map(|id| id.to_string()).unwrap_or_default();
        match self {
            Self::Problem(_) | Self::Replayed(_) => tracing::debug!(request.id = request, "{during}: {chain}"),
            Self::Store(error) if error.is_transient() => tracing::warn!(request.id = request, "{during}: {chain}"),
            _ => tracing::error!(request.id = request, "{during}: {chain}"),
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl From<gregal_store::Error> for Error {
    fn from(error: gregal_store::Error) -> Self {
        Self::Store(error)
    }
}

impl From<Overflow> for Error {
    fn from(overflow: Overflow) -> Self {
        Self::invalid(overflow.to_string())
    }
}

impl From<HoldError> for Error {
    fn from(error: HoldError) -> Self {
        match error {
            HoldError::Refused(refusal) => short_of_credit(&refusal, "what is asked"),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<LedgerError> for Error {
    fn from(error: LedgerError) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<gregal_core::job::IllegalMove> for Error {
    fn from(error: gregal_core::job::IllegalMove) -> Self {
        Self::refused(Code::Conflict, error.to_string())
    }
}

impl From<gregal_core::endpoint::IllegalMove> for Error {
    fn from(error: gregal_core::endpoint::IllegalMove) -> Self {
        Self::refused(Code::Conflict, error.to_string())
    }
}

impl From<gregal_core::reservation::IllegalMove> for Error {
    fn from(error: gregal_core::reservation::IllegalMove) -> Self {
        Self::refused(Code::Conflict, error.to_string())
    }
}

/// Credit is short: by how much, and what would help.
pub(crate) fn short_of_credit(refusal: &gregal_core::hold::HoldRefusal, what: &str) -> Error {
    let detail = format!(
        "{what} may cost {} EUR more than is available: {} EUR are available",
        refusal.short_by, refusal.available
    );
    Problem::new(Code::BudgetExceeded, detail)
        .hint("ask for a shorter time or a smaller sku, wait for running work to give back what it does not use, or add credit")
        .into()
}

fn internal() -> Problem {
    Problem::new(Code::Internal, "something broke on our side; nothing was changed")
        .hint("try again; if it happens again, quote the request's id to the operator")
}

fn of_store(error: &gregal_store::Error) -> Problem {
    use gregal_store::Error as E;
    let (code, detail) = match error {
        E::Conflict { .. } => (Code::Conflict, error.to_string()),
        E::Taken { what } => (Code::Taken, format!("this {what} is taken")),
        E::TooLarge { .. } | E::TooMany { .. } | E::Unstorable { .. } => (Code::InvalidRequest, error.to_string()),
        E::Full => (Code::StorageFull, "the control plane has no room left to store; nothing was changed".into()),
        E::Busy | E::Unreachable { .. } | E::Refused { .. } => {
            (Code::Unavailable, "the store does not answer; nothing was changed".into())
        }
        E::CommitUncertain(_) => (Code::Unavailable, error.to_string()),
        _ => return internal(),
    };
    let mut problem = Problem::new(code, detail);
    // What operators can do about their disk is not for tenants.
    if matches!(error, E::Conflict { .. } | E::TooMany { .. } | E::CommitUncertain(_)) {
        problem.hint = error.hint().map(Into::into);
    }
    if code == Code::Unavailable && problem.hint.is_none() {
        problem.hint = Some("try again in a few seconds".into());
    }
    problem
}
