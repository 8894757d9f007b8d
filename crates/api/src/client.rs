//! The typed client: what the CLI, the tour, the site's agent and the tests speak to the control plane with.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    problem::Problem,
    routes::{Route, route},
};

/// The largest answer the client reads into memory, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other side answered with a problem.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// The other side could not be reached, or the connection broke.
    #[error("could not reach `{url}`")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// The other side answered something this contract does not know.
    #[error("`{url}` answered {status} with something that is not part of the contract")]
    Unexpected {
        /// Who answered.
        url: String,
        /// With which status.
        status: u16,
    },
}

impl Error {
    /// The problem, if the other side named one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            Self::Unreachable { .. } | Self::Unexpected { .. } => None,
        }
    }
}

/// A client bound to one control plane and one credential.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    secret: Option<String>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

/// One call, ready to be sent.
#[derive(Debug)]
pub struct Call<'a> {
    client: &'a Client,
    route: &'static Route,
    path: String,
    query: Vec<(String, String)>,
    idempotency_key: Option<String>,
    body: Option<serde_json::Value>,
}

impl Client {
    /// A client for the control plane at `base` (`http://127.0.0.1:7480`), acting with `secret`.
    pub fn new(base: &str, secret: Option<String>) -> Result<Self, Error> {
        // Whoever comes first in the process chooses the provider; being second is no error.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_mins(1))
            .no_proxy()
            .build()
            .map_err(|source| Error::Unreachable { url: base.into(), source })?;
        Ok(Self { http, base: base.trim_end_matches('/').into(), secret })
    }

    /// The same client with another credential.
    #[must_use]
    pub fn with_secret(&self, secret: String) -> Self {
        Self { secret: Some(secret), ..self.clone() }
    }

    /// Where it talks to.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Begins a call of a route; `parameters` fill the braces of its path in order.
    ///
    /// # Panics
    /// If the route table has no such route, or it takes another number of parameters: a mistake in our own code.
    pub fn call(&self, id: &str, parameters: &[&str]) -> Call<'_> {
        let route = route(id).unwrap_or_else(|| panic!("no route is called `{id}`"));
        let mut left = parameters.iter();
        let parts: Vec<String> = route
            .path
            .split('/')
            .map(|part| {
                if part.starts_with('{') {
                    let value = left.next().unwrap_or_else(|| panic!("`{id}` takes more parameters"));
                    escape(value)
                } else {
                    part.to_owned()
                }
            })
            .collect();
        assert!(left.next().is_none(), "`{id}` takes fewer parameters");
        Call { client: self, route, path: parts.join("/"), query: Vec::new(), idempotency_key: None, body: None }
    }
}

impl Call<'_> {
    /// With a body.
    #[must_use]
    pub fn body<T: Serialize>(mut self, body: &T) -> Self {
        self.body = Some(serde_json::to_value(body).expect("wire types always serialise"));
        self
    }

    /// With query parameters, from a type like [`crate::page::PageQuery`]; absent fields are left out.
    #[must_use]
    pub fn query<T: Serialize>(mut self, query: &T) -> Self {
        if let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(query) {
            for (name, value) in fields {
                match value {
                    serde_json::Value::Null => {}
                    serde_json::Value::String(text) => self.query.push((name, text)),
                    other => self.query.push((name, other.to_string())),
                }
            }
        }
        self
    }

    /// With an idempotency key: sending the call again is the same act.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Sends the call and reads the typed answer.
    pub async fn send<T: DeserializeOwned>(self) -> Result<T, Error> {
        let (url, status, bytes) = self.exchange().await?;
        serde_json::from_slice(&bytes).map_err(|_| Error::Unexpected { url, status: status.as_u16() })
    }

    /// Sends the call and reads the answer as text.
    pub async fn send_text(self) -> Result<String, Error> {
        let (url, status, bytes) = self.exchange().await?;
        String::from_utf8(bytes).map_err(|_| Error::Unexpected { url, status: status.as_u16() })
    }

    async fn exchange(self) -> Result<(String, StatusCode, Vec<u8>), Error> {
        let url = format!("{}{}", self.client.base, self.path);
        let method = Method::from_bytes(self.route.method.as_bytes()).expect("the table holds HTTP methods");
        let mut request = self.client.http.request(method, &url).query(&self.query);
        if let Some(secret) = &self.client.secret {
            request = request.bearer_auth(secret);
        }
        if let Some(key) = &self.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        match &self.body {
            Some(body) => request = request.json(body),
            None if self.route.request == Some("Empty") => request = request.json(&serde_json::json!({})),
            None => {}
        }
        let unreachable =
            |source: reqwest::Error| Error::Unreachable { url: url.clone(), source: source.without_url() };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Error::Unexpected { url, status: status.as_u16() });
            }
            bytes.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok((url, status, bytes));
        }
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => Err(Error::Problem(Box::new(problem))),
            Err(_) => Err(Error::Unexpected { url, status: status.as_u16() }),
        }
    }
}

/// Percent-encodes everything but the unreserved characters of RFC 3986, so that no value can add a path segment.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            use std::fmt::Write as _;
            write!(escaped, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    // `.` and `..` would be folded away as path segments.
    if escaped == "." || escaped == ".." { escaped.replace('.', "%2E") } else { escaped }
}
