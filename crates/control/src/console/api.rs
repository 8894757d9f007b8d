//! The public API, called in this process as any client would call it: a request with the session's key through the router.

use std::fmt::{self, Display};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode, header},
};
use gregal_api::{
    problem::{Code, Problem},
    routes::{self, Route},
};
use serde::{Serialize, de::DeserializeOwned};
use tower::ServiceExt as _;

use super::failure::Failure;
use crate::{context::Source, http::peer::Peer};

/// The largest answer that is read, in bytes: a page of 500 audit entries with their proofs stays well below.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// The most pages that are read of one list.
const PAGES_MAX: usize = 20;

/// What fills a place in a route's path: an id.
type Parameter<'a> = &'a (dyn Display + Sync);

/// The API as the holder of one key sees it.
#[derive(Clone)]
pub(crate) struct Api {
    router: Router,
    key: String,
    peer: Peer,
}

// A key must not reach a log by way of `{:?}`.
impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

/// A page of some list, whatever is in it.
#[derive(serde::Deserialize)]
struct Listed<T> {
    items: Vec<T>,
    #[serde(default)]
    next: Option<String>,
}

impl Api {
    /// `peer`: where the browser is, so that a key narrowed to networks works in the console from there alone.
    pub(crate) fn new(router: Router, key: String, peer: Peer) -> Self {
        Self { router, key, peer }
    }

    /// Reads what a route answers; `parameters` fill its path in order.
    pub(crate) async fn read<T: DeserializeOwned>(&self, id: &str, parameters: &[Parameter<'_>]) -> Result<T, Failure> {
        self.call(id, parameters, "", Vec::new(), None).await
    }

    /// As [`Api::read`], with a query. Its values are ids, numbers and times, which need no escaping.
    pub(crate) async fn read_with<T: DeserializeOwned>(
        &self,
        id: &str,
        parameters: &[Parameter<'_>],
        query: &str,
    ) -> Result<T, Failure> {
        self.call(id, parameters, query, Vec::new(), None).await
    }

    /// Sends a body. `once` is the idempotency key of what must not be made twice.
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        id: &str,
        parameters: &[Parameter<'_>],
        body: &(impl Serialize + Sync),
        once: Option<&str>,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|_| broken("a request could not be written"))?;
        self.call(id, parameters, "", body, once).await
    }

    /// Reads a list to its end, or as far as twenty of its largest pages go; says whether that was all of it.
    pub(crate) async fn gather<T: DeserializeOwned>(
        &self,
        id: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<(Vec<T>, bool), Failure> {
        let mut items = Vec::new();
        let mut query = "limit=500".to_owned();
        for _ in 0..PAGES_MAX {
            let page: Listed<T> = self.call(id, parameters, &query, Vec::new(), None).await?;
            items.extend(page.items);
            match page.next {
                Some(next) => query = format!("limit=500&after={next}"),
                None => return Ok((items, true)),
            }
        }
        Ok((items, false))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        id: &str,
        parameters: &[Parameter<'_>],
        query: &str,
        body: Vec<u8>,
        once: Option<&str>,
    ) -> Result<T, Failure> {
        let route = routes::route(id).ok_or_else(|| broken("the console asked for a route that does not exist"))?;
        let mut request = Request::builder()
            .method(route.method)
            .uri(address(route, parameters, query))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(once) = once {
            request = request.header("idempotency-key", once);
        }
        let request = request.extension(self.peer).body(Body::from(body));
        let mut request = request.map_err(|_| broken("a request could not be made"))?;
        // Said in this process, where no client can say it: audit entries tell the console from the API.
        request.extensions_mut().insert(Source::Console);
        let Ok(answer) = self.router.clone().oneshot(request).await;
        let status = answer.status();
        let bytes =
            to_bytes(answer.into_body(), ANSWER_BYTES_MAX).await.map_err(|_| broken("an answer is too large"))?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|_| broken("an answer is not what the contract says"));
        }
        if status == StatusCode::UNAUTHORIZED {
            return Err(Failure::SignedOut);
        }
        let problem = serde_json::from_slice::<Problem>(&bytes);
        Err(problem.map_or_else(|_| broken("a refusal is not what the contract says"), Into::into))
    }
}

/// The address of a route with its parameters filled in.
fn address(route: &Route, parameters: &[Parameter<'_>], query: &str) -> String {
    let mut parameters = parameters.iter();
    let parts = route.path.split('/').map(|part| match part.strip_prefix('{') {
        Some(_) => parameters.next().map(ToString::to_string).unwrap_or_default(),
        None => part.to_owned(),
    });
    let path = parts.collect::<Vec<_>>().join("/");
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

fn broken(what: &str) -> Failure {
    tracing::error!("the console could not use the API: {what}");
    Problem::new(Code::Internal, "the page could not be made; nothing was changed").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_its_route_with_the_parameters_in_their_places() {
        let route = routes::route("job_progress").unwrap();
        assert_eq!(address(route, &[&"job_1"], "after=3"), "/api/v1/jobs/job_1/progress?after=3");
        assert_eq!(address(routes::route("whoami").unwrap(), &[], ""), "/api/v1/whoami");
    }
}
