//! What all pages share: their frame, the way round, and how they are answered.

use askama::Template;
use axum::response::{Html, IntoResponse as _, Response};
use gregal_api::problem::{Code, Problem};

use super::{envelope::Connects, failure::Failure};

/// Which page this is, for the way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Here {
    Overview,
    Jobs,
    Models,
    Endpoints,
    Reservations,
    Datasets,
    Keys,
    Placement,
    Policies,
    Quotas,
    Usage,
    Invoice,
    Audit,
    Sites,
    Skus,
    Organisations,
    Members,
}

impl Here {
    /// A link to a page, marked if it leads here.
    pub(crate) fn link(self, page: Self, href: &str, words: &str) -> Link {
        Link { href: href.to_owned(), words: words.to_owned(), is_here: self == page }
    }
}

/// A link of the way round.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) href: String,
    pub(crate) words: String,
    pub(crate) is_here: bool,
}

/// Links that belong together.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) title: Option<String>,
    pub(crate) links: Vec<Link>,
}

/// The frame around a page.
#[derive(Debug)]
pub(crate) struct Shell {
    pub(crate) title: String,
    /// What every form carries.
    pub(crate) csrf: String,
    /// What the key is called.
    pub(crate) who: String,
    pub(crate) role: &'static str,
    /// Whether they may act for another organisation they are in.
    pub(crate) may_switch: bool,
    pub(crate) groups: Vec<Group>,
    /// The other projects.
    pub(crate) others: Vec<Link>,
    /// Seconds after which a browser without JavaScript loads the page again.
    pub(crate) refresh_s: Option<u32>,
}

/// A page as an answer.
pub(crate) fn page(template: &impl Template) -> Result<Response, Failure> {
    page_to(template, [])
}

/// A page whose script may talk to these sites (base addresses).
pub(crate) fn page_to<'a>(
    template: &impl Template,
    sites: impl IntoIterator<Item = &'a str>,
) -> Result<Response, Failure> {
    let html = template.render().map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "a page could not be rendered");
        Problem::new(Code::Internal, "the page could not be made")
    })?;
    let mut response = Html(html).into_response();
    response.extensions_mut().insert(Connects(sites.into_iter().filter_map(origin_of).collect()));
    Ok(response)
}

/// Scheme, host and port of an address. None for what is no plain web address: it goes into a header as it is.
pub(crate) fn origin_of(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    let is_usable = matches!(scheme, "http" | "https") && !host.is_empty() && host.chars().all(is_plain);
    is_usable.then(|| format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_would_break_out_of_the_header_gives_no_origin() {
        assert_eq!(origin_of("http://127.0.0.1:7481/v1").as_deref(), Some("http://127.0.0.1:7481"));
        assert_eq!(origin_of("https://[::1]:7/x").as_deref(), Some("https://[::1]:7"));
        for wrong in ["", "*", "http://", "http://a b/", "http://a;script-src *", "javascript://a", "http://u@a/"] {
            assert_eq!(origin_of(wrong), None, "{wrong}");
        }
    }
}
