//! What lies between a site and its control plane: a wire that loses requests, loses answers, says things twice, and can be cut.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{Chance, plane};

/// The largest thing it carries, in bytes.
const BYTES_MAX: usize = 64 << 20;

/// How often, in a thousand, what goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// A request never arrives.
    pub lost: u64,
    /// A request arrives and is done; its answer is lost.
    pub answer_lost: u64,
    /// A request arrives twice; the second answer is given.
    pub doubled: u64,
}

/// A wire. It carries until it is dropped.
#[derive(Debug)]
pub struct Wire {
    /// Where the site dials.
    pub url: String,
    ends: Arc<Ends>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Ends {
    to: Mutex<String>,
    faults: Mutex<(Chance, Faults)>,
    is_cut: AtomicBool,
    happened: AtomicU64,
    http: reqwest::Client,
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Carried,
    Lost,
    AnswerLost,
    Doubled,
}

impl Wire {
    /// A wire to nowhere yet, with the faults of a seed.
    pub fn new(chance: Chance, faults: Faults) -> Self {
        let http = http(Duration::from_mins(5));
        let ends = Arc::new(Ends {
            to: Mutex::default(),
            faults: Mutex::new((chance, faults)),
            is_cut: AtomicBool::new(false),
            happened: AtomicU64::new(0),
            http,
        });
        let (listener, url) = plane::listener();
        let router = Router::new().fallback(carry).with_state(Arc::clone(&ends));
        let server = tokio::spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        Self { url, ends, server }
    }

    /// Leads to this control plane from now on.
    pub fn lead_to(&self, url: &str) {
        url.clone_into(&mut self.ends.to.lock().unwrap());
    }

    /// Carries nothing until it is mended.
    pub fn cut(&self) {
        self.ends.is_cut.store(true, Ordering::SeqCst);
    }

    /// Carries again; its faults stay.
    pub fn mend(&self) {
        self.ends.is_cut.store(false, Ordering::SeqCst);
    }

    /// From now on everything arrives, once.
    pub fn heal(&self) {
        self.ends.faults.lock().unwrap().1 = Faults::default();
        self.mend();
    }

    /// How many requests met a fault so far.
    pub fn happened(&self) -> u64 {
        self.ends.happened.load(Ordering::SeqCst)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Ends {
    fn fate(&self) -> Fate {
        if self.is_cut.load(Ordering::SeqCst) {
            return Fate::Lost;
        }
        let (chance, faults) = &mut *self.faults.lock().unwrap();
        let drawn = chance.below(1000);
        if drawn < faults.lost {
            Fate::Lost
        } else if drawn < faults.lost + faults.answer_lost {
            Fate::AnswerLost
        } else if drawn < faults.lost + faults.answer_lost + faults.doubled {
            Fate::Doubled
        } else {
            Fate::Carried
        }
    }

    /// Sends a request on. None: nobody answers there.
    async fn send(&self, parts: &axum::http::request::Parts, body: &bytes::Bytes) -> Option<Response> {
        let url = format!("{}{}", self.to.lock().unwrap(), parts.uri);
        let mut request = self.http.request(parts.method.clone(), url).body(body.clone());
        for (name, value) in &parts.headers {
            if name != header::HOST && name != header::CONTENT_LENGTH {
                request = request.header(name, value);
            }
        }
        let answer = request.send().await.ok()?;
        let (status, kind) = (answer.status(), answer.headers().get(header::CONTENT_TYPE).cloned());
        let body = answer.bytes().await.ok()?;
        // Cut while somebody waited for news: the news does not arrive either.
        if self.is_cut.load(Ordering::SeqCst) {
            return None;
        }
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        if let Some(kind) = kind {
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        Some(response)
    }
}

/// An HTTP client that gives up after so long and goes by no proxy.
pub fn http(patience: Duration) -> reqwest::Client {
    // Whoever comes first in the process chooses the provider; being second is no error.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().no_proxy().timeout(patience).build().unwrap()
}

async fn carry(State(ends): State<Arc<Ends>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BYTES_MAX).await else { return StatusCode::PAYLOAD_TOO_LARGE.into_response() };
    let fate = ends.fate();
    ends.happened.fetch_add(u64::from(fate != Fate::Carried), Ordering::SeqCst);
    let gone = || StatusCode::BAD_GATEWAY.into_response();
    match fate {
        Fate::Lost => gone(),
        Fate::Carried => ends.send(&parts, &body).await.unwrap_or_else(gone),
        Fate::AnswerLost => {
            drop(ends.send(&parts, &body).await);
            gone()
        }
        Fate::Doubled => {
            drop(ends.send(&parts, &body).await);
            ends.send(&parts, &body).await.unwrap_or_else(gone)
        }
    }
}
