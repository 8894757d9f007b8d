//! Why a site could not open or run, and how content routes tell a tenant what went wrong.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use gregal_api::problem::{Code, Problem};

use crate::{objects, spool};

/// Why a site could not open.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process works in the data folder.
    #[error("another process uses the data folder `{folder}`")]
    InUse {
        /// The folder.
        folder: String,
    },
    /// A file of the data folder could not be used.
    #[error("{doing} `{path}`")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Which file or folder.
        path: String,
        /// What came of it.
        #[source]
        source: std::io::Error,
    },
    /// A file of the data folder does not read back.
    #[error("`{path}` is damaged; restore it or move it away")]
    Damaged {
        /// Which file.
        path: String,
    },
    /// An option cannot be used.
    #[error("{0}")]
    Option(String),
    /// The usage spool could not be opened.
    #[error("could not open the usage spool")]
    Spool(#[from] spool::Error),
    /// The objects could not be opened.
    #[error("could not open the objects")]
    Objects(#[from] objects::Error),
    /// The policies could not be read.
    #[error("could not read the policies")]
    Policies(#[from] gregal_policy::Error),
    /// The control plane's address cannot be used.
    #[error("could not make a client for the control plane")]
    Control(#[from] gregal_api::client::Error),
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io { doing, path, source }
    }
}

/// A problem as an answer.
#[derive(Debug)]
pub(crate) struct Answer(pub(crate) Box<Problem>);

impl Answer {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(code, detail)))
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self(Box::new(self.0.hint(hint)))
    }

    pub(crate) fn rule(self, rule: Option<String>) -> Self {
        match rule {
            Some(rule) => Self(Box::new(self.0.rule(rule))),
            None => self,
        }
    }
}

impl From<objects::Error> for Answer {
    fn from(error: objects::Error) -> Self {
        use objects::Error as E;
        match &error {
            E::NotFound { .. } => Self::new(Code::NotFound, "it is not stored at this site"),
            E::DigestMismatch { .. } => Self::new(Code::InvalidRequest, error.to_string()).hint("send it again"),
            E::TooLarge { .. } => Self::new(Code::TooLarge, error.to_string()),
            E::Full => Self::new(Code::StorageFull, error.to_string()).hint("ask the site's operator for room"),
            E::Damaged { .. } | E::WrongKey { .. } | E::Key { .. } | E::Model(_) | E::Io { .. } => {
                tracing::error!(error = &error as &dyn std::error::Error, "an object could not be used");
                Self::new(Code::Internal, "the site could not read what it stored").hint("tell the site's operator")
            }
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self.0).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}
