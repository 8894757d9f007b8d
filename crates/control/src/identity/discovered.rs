//! What providers say of themselves, kept for a while: where to send people is the same from one sign-in to the next, and a
//! provider that does not answer is not asked by everybody who comes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use openidconnect::{HttpRequest, IssuerUrl, core::CoreProviderMetadata};

use super::{Refusal, fetch};

/// How long a provider's addresses are believed. Its keys are not: they are read anew for each token.
const BELIEVED: Duration = Duration::from_mins(5);
/// How long a provider that did not answer is left alone.
const REST: Duration = Duration::from_secs(10);
/// The most providers that are remembered.
const PROVIDERS_MAX: usize = 256;

#[derive(Debug, Default)]
struct Held {
    failed_at: Option<Instant>,
    said: Option<(Arc<CoreProviderMetadata>, Instant)>,
}

/// What is known, by issuer. One question at a time a provider; the others' do not wait for it.
#[derive(Debug, Default)]
pub(super) struct Discovered(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<Held>>>>);

impl Discovered {
    fn of(&self, issuer: &str) -> Arc<tokio::sync::Mutex<Held>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(issuer) && all.len() >= PROVIDERS_MAX {
            all.retain(|_, held| Arc::strong_count(held) > 1);
        }
        Arc::clone(all.entry(issuer.to_owned()).or_default())
    }

    /// What a provider says, asked for now or a few minutes ago.
    pub(super) async fn known(
        &self,
        issuer: &str,
        private: bool,
        now: Instant,
    ) -> Result<Arc<CoreProviderMetadata>, Refusal> {
        let held = self.of(issuer);
        let mut held = held.lock().await;
        let within = |at: Instant, span: Duration| now.saturating_duration_since(at) < span;
        if let Some((said, at)) = &held.said
            && within(*at, BELIEVED)
        {
            return Ok(Arc::clone(said));
        }
        if held.failed_at.is_some_and(|at| within(at, REST)) {
            return Err("it could not be discovered a moment ago");
        }
        held.asked(issuer, private, now).await
    }

    /// What a provider says now.
    pub(super) async fn now(
        &self,
        issuer: &str,
        private: bool,
        now: Instant,
    ) -> Result<Arc<CoreProviderMetadata>, Refusal> {
        let held = self.of(issuer);
        held.lock().await.asked(issuer, private, now).await
    }
}

impl Held {
    async fn asked(&mut self, issuer: &str, private: bool, now: Instant) -> Result<Arc<CoreProviderMetadata>, Refusal> {
        let answered = discovered(issuer, private).await;
        self.failed_at = answered.is_err().then_some(now);
        let said = Arc::new(answered?);
        self.said = Some((Arc::clone(&said), now));
        Ok(said)
    }
}

async fn discovered(issuer: &str, private: bool) -> Result<CoreProviderMetadata, Refusal> {
    let http = move |request: HttpRequest| fetch::call(request, private);
    let issuer = IssuerUrl::new(issuer.to_owned()).map_err(|_| "the issuer is no address")?;
    let said = CoreProviderMetadata::discover_async(issuer, &http).await.map_err(|_| "it cannot be discovered")?;
    // What discovery names is as much a stranger's word as the issuer's own address.
    let urls = [Some(said.authorization_endpoint().as_str()), said.token_endpoint().map(|url| url.as_str())];
    for url in urls.into_iter().flatten() {
        fetch::address(url, private).map_err(|_| "it names an address that may not be called")?;
    }
    Ok(said)
}
