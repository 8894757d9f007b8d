//! Keys of issuers that service accounts trust: fetched as providers' are, and kept for a while, because a CI asks often.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use openidconnect::{HttpRequest, core::CoreJsonWebKeySet};
use serde::Deserialize;

use super::{
    fetch,
    workload::{Refusal, Sent},
};

/// How long keys are believed: what an issuer took back is refused from then on.
const BELIEVED: Duration = Duration::from_mins(5);
/// The least time between two questions to one issuer, whatever tokens name.
const REST: Duration = Duration::from_secs(10);
/// The most issuers that are remembered.
const ISSUERS_MAX: usize = 256;

/// What an issuer says of itself, as far as it is of use here. (A CI's issuer signs nobody in, so most of what `OpenID` Connect
/// demands is missing.)
#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

#[derive(Debug, Default)]
struct Held {
    asked_at: Option<Instant>,
    keys: Option<Arc<CoreJsonWebKeySet>>,
}

/// Keys by issuer. One question at a time an issuer; others do not wait for it.
#[derive(Debug, Default)]
pub(crate) struct Issuers(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<Held>>>>);

impl Issuers {
    fn of(&self, issuer: &str) -> Arc<tokio::sync::Mutex<Held>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(issuer) && all.len() >= ISSUERS_MAX {
            // Whoever is asked about now keeps what he holds; the others are asked anew.
            all.retain(|_, held| Arc::strong_count(held) > 1);
        }
        Arc::clone(all.entry(issuer.to_owned()).or_default())
    }

    /// The keys of an issuer, among them the one that the token names if there is one.
    pub(crate) async fn keys(
        &self,
        issuer: &str,
        token: &Sent,
        private: bool,
        now: Instant,
    ) -> Result<Arc<CoreJsonWebKeySet>, Refusal> {
        let held = self.of(issuer);
        let mut held = held.lock().await;
        let age = held.asked_at.map(|at| now.saturating_duration_since(at));
        if let Some(keys) = &held.keys
            && age.is_some_and(|age| age < BELIEVED)
            && (token.is_named_in(keys) || age.is_some_and(|age| age < REST))
        {
            return Ok(Arc::clone(keys));
        }
        if held.keys.is_none() && age.is_some_and(|age| age < REST) {
            return Err("its issuer could not be asked a moment ago");
        }
        held.asked_at = Some(now);
        held.keys = None;
        let keys = Arc::new(asked(issuer, private).await?);
        held.keys = Some(Arc::clone(&keys));
        Ok(keys)
    }
}

async fn asked(issuer: &str, private: bool) -> Result<CoreJsonWebKeySet, Refusal> {
    let place = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let discovered: Discovered = read(&place, private).await.ok_or("its issuer cannot be discovered")?;
    if discovered.issuer != issuer {
        return Err("its issuer calls itself otherwise");
    }
    read(&discovered.jwks_uri, private).await.ok_or("its issuer's keys cannot be read")
}

async fn read<T: serde::de::DeserializeOwned>(url: &str, private: bool) -> Option<T> {
    let request: HttpRequest =
        http::Request::builder().uri(url).header("accept", "application/json").body(Vec::new()).ok()?;
    let answer = fetch::call(request, private).await.ok()?;
    if answer.status() != http::StatusCode::OK {
        return None;
    }
    serde_json::from_slice(answer.body()).ok()
}
