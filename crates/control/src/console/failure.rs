//! Why a page could not be shown. The envelope words it: as a page for people, as problem details for the page's script.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use gregal_api::problem::{Code, Problem};

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// Nobody is signed in, or the key works no more.
    SignedOut,
    /// Somebody is signed in, and has not chosen for which organisation.
    Unplaced,
    /// The API, or the console itself, refused.
    Problem(Box<Problem>),
}

impl Failure {
    /// The form was not filled in as expected.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Problem::new(Code::InvalidRequest, detail).into()
    }

    /// The request does not come from one of our own pages.
    pub(crate) fn not_ours() -> Self {
        Problem::new(Code::Forbidden, "the request does not come from a page of this console; nothing was changed")
            .hint("go back, reload the page and try again")
            .into()
    }

    /// The problem, as scripts get it.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::Problem(problem) => (**problem).clone(),
            Self::Unplaced => Problem::new(Code::Unauthenticated, "no organisation was chosen").hint("choose one"),
            Self::SignedOut => Problem::new(Code::Unauthenticated, "the session has ended").hint("sign in again"),
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
