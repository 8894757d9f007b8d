//! Keys of issuers that service accounts trust: fetched as providers' are, and kept for a while, because a CI asks often.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
struct Known {
    /// When the issuer was last asked, whether or not it answered.
    asked_at: Option<Instant>,
    /// The keys it answered last, and when.
    keys: Option<(Arc<CoreJsonWebKeySet>, Instant)>,
}

impl Known {
    /// The keys, while they are believed.
    fn believed(&self, now: Instant) -> Option<&Arc<CoreJsonWebKeySet>> {
        let (keys, fetched_at) = self.keys.as_ref()?;
        (now.saturating_duration_since(*fetched_at) < BELIEVED).then_some(keys)
    }

    /// Whether it was asked a moment ago.
    fn rests(&self, now: Instant) -> bool {
        self.asked_at.is_some_and(|at| now.saturating_duration_since(at) < REST)
    }
}

#[derive(Debug, Default)]
struct Issuer {
    known: Mutex<Known>,
    /// Held while it is asked: one question at a time. Whoever brings a token of a known key does not wait for it.
    asking: tokio::sync::Mutex<()>,
}

impl Issuer {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys as they are believed now, if the token's is among them.
    fn named(&self, token: &Sent, now: Instant) -> Option<Arc<CoreJsonWebKeySet>> {
        self.known().believed(now).filter(|keys| token.is_named_in(keys)).cloned()
    }
}

/// Keys by issuer.
#[derive(Debug, Default)]
pub(crate) struct Issuers(Mutex<BTreeMap<String, Arc<Issuer>>>);

impl Issuers {
    fn of(&self, issuer: &str) -> Arc<Issuer> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(issuer) && all.len() >= ISSUERS_MAX {
            // Whoever is asked about now keeps what he holds; the others are asked anew.
            all.retain(|_, held| Arc::strong_count(held) > 1);
        }
        Arc::clone(all.entry(issuer.to_owned()).or_default())
    }

    /// The keys of an issuer, among them the one that the token names if there is one. What is believed stays believed until
    /// newer keys came: a token of an unknown key makes nobody wait, and takes nothing from anybody, while the issuer is slow.
    pub(crate) async fn keys(
        &self,
        issuer: &str,
        token: &Sent,
        private: bool,
        now: Instant,
    ) -> Result<Arc<CoreJsonWebKeySet>, Refusal> {
        let held = self.of(issuer);
        if let Some(keys) = held.named(token, now) {
            return Ok(keys);
        }
        let _asking = held.asking.lock().await;
        // Whoever asked meanwhile asked for all.
        if let Some(keys) = held.named(token, now) {
            return Ok(keys);
        }
        {
            let mut known = held.known();
            if known.rests(now) {
                return known.believed(now).cloned().ok_or("its issuer could not be asked a moment ago");
            }
            known.asked_at = Some(now);
        }
        let answered = asked(issuer, private).await;
        let mut known = held.known();
        match answered {
            Ok(keys) => {
                let keys = Arc::new(keys);
                known.keys = Some((Arc::clone(&keys), now));
                Ok(keys)
            }
            Err(why) => known.believed(now).cloned().ok_or(why),
        }
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
