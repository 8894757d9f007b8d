//! Why a verb failed: whose fault it is, what happened, and what would help.

use std::{error::Error as _, io};

use gregal_api::{client, problem::Problem};

use crate::printer::Printer;

/// A failed verb.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Whether the cloud is to blame (exit 2) or the caller was mistaken or refused (exit 1).
    ours: bool,
    /// Whether trying again in a moment may help.
    pub(crate) passing: bool,
    /// Whether whoever read our output has gone, as `head` does: nothing to complain about.
    reader_gone: bool,
    /// The stable code, where there is one.
    pub(crate) code: Option<String>,
    detail: String,
    rule: Option<Box<str>>,
    request: Option<Box<str>>,
    hint: Option<String>,
}

impl Failure {
    /// The caller's mistake, or a refusal.
    pub(crate) fn yours(detail: impl Into<String>) -> Self {
        Self {
            ours: false,
            passing: false,
            reader_gone: false,
            code: None,
            detail: detail.into(),
            rule: None,
            request: None,
            hint: None,
        }
    }

    /// The cloud's fault.
    pub(crate) fn ours(detail: impl Into<String>) -> Self {
        Self { ours: true, ..Self::yours(detail) }
    }

    /// Nothing answered at `url`.
    pub(crate) fn unreachable(url: &str, source: &reqwest::Error) -> Self {
        let shown = reqwest::Url::parse(url).map_or_else(|_| url.to_owned(), |url| url.origin().ascii_serialization());
        let why = if source.is_timeout() { "no answer in time".to_owned() } else { root_cause(source) };
        let failure = Self { passing: true, ..Self::ours(format!("could not reach `{shown}`: {why}")) };
        failure.hint("is `gregal up` running? `--url` or `GREGAL_URL` says where the cloud is")
    }

    /// Our own output could not be written.
    pub(crate) fn output(error: &io::Error) -> Self {
        let reader_gone = error.kind() == io::ErrorKind::BrokenPipe;
        Self { reader_gone, ..Self::yours(format!("could not write the output: {error}")) }
    }

    /// A file could not be used.
    pub(crate) fn file(doing: &str, path: &std::path::Path, error: &io::Error) -> Self {
        Self::yours(format!("could not {doing} `{}`: {error}", path.display()))
    }

    /// The same failure with what would help.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure with what would help, unless something better is said already.
    #[must_use]
    pub(crate) fn or_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// The same failure with its stable code.
    #[must_use]
    pub(crate) fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Whether it carries this code.
    pub(crate) fn is(&self, code: gregal_api::problem::Code) -> bool {
        self.code.as_deref() == Some(code.as_str())
    }

    /// What a request id is, for quoting.
    #[must_use]
    pub(crate) fn request(mut self, request: Option<String>) -> Self {
        self.request = request.map(Into::into);
        self
    }

    /// Says it on stderr; returns the exit status.
    pub(crate) fn print(&self, printer: &mut Printer) -> u8 {
        if self.reader_gone {
            return 0;
        }
        let mut lines = vec![format!("error: {}", self.detail)];
        if let Some(rule) = self.rule.as_ref().filter(|rule| !self.detail.contains(rule.as_ref())) {
            lines[0] += " (rule `";
            lines[0].extend([rule.as_ref(), "`)"]);
        }
        if let Some(request) = &self.request {
            lines.push(format!("request: `{request}`"));
        }
        if let Some(hint) = &self.hint {
            lines.push(format!("\nhint: {hint}"));
        }
        printer.note(&lines.join("\n"));
        if self.ours { 2 } else { 1 }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self {
            ours: problem.status >= 500,
            passing: problem.status == 503,
            reader_gone: false,
            code: Some(problem.code.as_str().into()),
            detail: problem.detail,
            rule: problem.rule.map(Into::into),
            request: problem.request.map(Into::into),
            hint: problem.hint,
        }
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        match error {
            client::Error::Problem(problem) => (*problem).into(),
            client::Error::Unreachable { url, source } => Self::unreachable(&url, &source),
            client::Error::Unexpected { url, status } => {
                let detail = format!("`{url}` answered {status} with something this version does not understand");
                let ours = !(400..500).contains(&status);
                Self { ours, ..Self::yours(detail) }
                    .hint("is this the address of a control plane, and of the same version? see `--url`")
            }
        }
    }
}

/// The innermost cause, which names what the outer ones only wrap.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    let mut text = None;
    // A chain of causes is short; the bound is against a loop.
    for _ in 0..32 {
        let Some(inner) = cause else { break };
        text = Some(inner.to_string());
        cause = inner.source();
    }
    text.unwrap_or_else(|| "the connection broke".into())
}
