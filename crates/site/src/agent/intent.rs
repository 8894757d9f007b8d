//! What control wants of this site: the newest intent that verified, kept on disk so that the site goes on by it when
//! control is away.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use ed25519_dalek::VerifyingKey;
use gregal_api::{
    protocol::{
        Allowance, INTENT_PURPOSE, Intent, SiteKey, SiteOrganisation, SyncAnswer, WantedDataset, WantedEndpoint,
    },
    signed::{Signed, SignedError, verifying_key},
};
use gregal_core::{
    id::{DatasetId, EndpointId, KeyId, OrganisationId, SiteId},
    residency::ResidencyPolicy,
    time::Time,
};
use gregal_policy::{OwnPolicies, Written};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{durable, error::Error};

/// Whom the site belongs to. Written at the first sync and never changed by a later one.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Trust {
    site: SiteId,
    control_key: String,
}

/// The file that says when control was heard last.
const HEARD: &str = "heard.json";
/// How often that is written down at most, in milliseconds.
const HEARD_KEPT_MS: u64 = 60_000;

/// Why an answer of control was not believed. The site goes on by what it had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Disbelief {
    #[error("control's signing key changed; to accept the new one, remove `trust.json` from the site's data folder")]
    OtherKey,
    #[error("control calls this site by another id")]
    OtherSite,
    #[error("control's signing key is no key")]
    NoKey,
    #[error("the intent is not believed: {0}")]
    Intent(#[from] SignedError),
    #[error("the intent is for another site")]
    Misdirected,
    #[error("the intent is older than the one held (revision {offered} after {held})")]
    Older { offered: u64, held: u64 },
}

/// What the site may believe right now. Never changes; a new intent makes a new one.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    pub(crate) site: Option<SiteId>,
    pub(crate) control_key: Option<VerifyingKey>,
    pub(crate) intent: Option<Intent>,
    /// Whether the site's own count of what was used is lost since this intent was signed. Nothing is served on credit
    /// then, until control has said how much of it is left.
    pub(crate) is_uncounted: bool,
    /// Where each key stands in the intent, by the digest of its secret. Digests of 256-bit secrets are looked up as they
    /// are: how long that takes tells nothing from which a secret could be found.
    keys: HashMap<String, usize>,
    /// What organisations wrote for themselves, of those that did.
    own: HashMap<OrganisationId, OwnPolicies>,
    /// What was decided by this standing already.
    pub(crate) allowed: Allowed,
}

/// The most answers that are remembered; beyond, all are worked out anew.
const ALLOWED_MAX: usize = 100_000;

/// Keys that policy and residency let ask an endpoint. Both are decided from the standing and nothing else, so an answer holds
/// as long as the standing it belongs to, and goes with it: a new word of control brings none of the old answers back.
#[derive(Debug, Default)]
pub(crate) struct Allowed(Mutex<HashSet<(KeyId, EndpointId)>>);

impl Allowed {
    pub(crate) fn knows(&self, key: KeyId, endpoint: EndpointId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&(key, endpoint))
    }

    pub(crate) fn note(&self, key: KeyId, endpoint: EndpointId) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ALLOWED_MAX {
            known.clear();
        }
        known.insert((key, endpoint));
    }
}

impl Standing {
    /// `before`: what was believed until now; what is the same in it is not compiled again.
    fn new(trust: Option<&Trust>, intent: Option<Intent>, before: &Self) -> Self {
        let own = intent.as_ref().map(|intent| compiled(intent, before)).unwrap_or_default();
        let keys = intent.iter().flat_map(|intent| intent.keys.iter().enumerate());
        let keys = keys.map(|(at, key)| (key.digest.clone(), at)).collect();
        Self {
            site: trust.map(|trust| trust.site),
            control_key: trust.and_then(|trust| verifying_key(&trust.control_key)),
            intent,
            is_uncounted: false,
            keys,
            own,
            allowed: Allowed::default(),
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.intent.as_ref().map_or(0, |intent| intent.revision)
    }

    pub(crate) fn key(&self, digest: &str) -> Option<&SiteKey> {
        self.intent.as_ref()?.keys.get(*self.keys.get(digest)?)
    }

    pub(crate) fn endpoints(&self) -> &[WantedEndpoint] {
        self.intent.as_ref().map_or(&[], |intent| &intent.endpoints)
    }

    pub(crate) fn endpoint(&self, id: EndpointId) -> Option<&WantedEndpoint> {
        self.endpoints().iter().find(|endpoint| endpoint.endpoint == id)
    }

    pub(crate) fn dataset(&self, id: DatasetId) -> Option<&WantedDataset> {
        self.intent.as_ref()?.datasets.iter().find(|dataset| dataset.dataset == id)
    }

    pub(crate) fn residency(&self, organisation: OrganisationId) -> Option<&ResidencyPolicy> {
        self.organisation(organisation).map(|one| &one.residency)
    }

    /// What an organisation wrote for itself; none if it wrote nothing, or is not known here.
    pub(crate) fn own(&self, organisation: OrganisationId) -> Option<&OwnPolicies> {
        self.own.get(&organisation)
    }

    fn organisation(&self, id: OrganisationId) -> Option<&SiteOrganisation> {
        self.intent.as_ref()?.organisations.iter().find(|one| one.organisation == id)
    }

    pub(crate) fn allowances(&self, organisation: OrganisationId) -> impl Iterator<Item = &Allowance> {
        let all = self.intent.iter().flat_map(|intent| &intent.allowances);
        all.filter(move |allowance| allowance.organisation == organisation)
    }
}

/// The policies of every organisation that wrote some, those that did not change as they were.
fn compiled(intent: &Intent, before: &Standing) -> HashMap<OrganisationId, OwnPolicies> {
    let wrote = intent.organisations.iter().filter(|one| !one.policies.is_empty());
    let compile = |one: &SiteOrganisation| {
        let id = one.organisation;
        if let (Some(held), Some(own)) = (before.organisation(id), before.own(id))
            && held.policies == one.policies
        {
            return (id, own.clone());
        }
        let written = one.policies.iter().map(|one| Written { project: one.project, name: &one.name, text: &one.text });
        (id, OwnPolicies::compile(id, written))
    };
    wrote.map(compile).collect()
}

/// Holds the newest standing.
#[derive(Debug)]
pub(crate) struct Desk {
    folder: PathBuf,
    standing: watch::Sender<Arc<Standing>>,
    /// When control was heard last, in milliseconds, and when that was written down last.
    heard_at: AtomicI64,
    heard_kept_at: AtomicI64,
}

impl Desk {
    /// Starts from what was kept. An intent on disk that does not verify is not used: better to wait for control.
    /// `count_is_whole`: the usage spool is the one it always was.
    pub(crate) fn open(folder: &Path, count_is_whole: bool) -> Result<Self, Error> {
        let trust_path = folder.join("trust.json");
        let read = |path: &Path| durable::read(path).map_err(Error::io("could not read", path));
        let trust: Option<Trust> = match read(&trust_path)? {
            Some(text) => {
                let damaged = |_| Error::Damaged { path: trust_path.display().to_string() };
                Some(serde_json::from_slice(&text).map_err(damaged)?)
            }
            None => None,
        };
        let kept = match (&trust, read(&folder.join("intent.json"))?) {
            (Some(trust), Some(text)) => match verify(trust, &text) {
                Ok(intent) => Some(intent),
                Err(why) => {
                    tracing::error!(%why, "the intent on disk is not used; the site waits for control");
                    None
                }
            },
            _ => None,
        };
        let is_uncounted = kept.is_some() && !count_is_whole;
        if is_uncounted {
            tracing::error!(
                "the usage spool is new and the intent is not: nothing is served until control says what is left"
            );
        }
        let kept = Standing { is_uncounted, ..Standing::new(trust.as_ref(), kept, &Standing::default()) };
        let (standing, _) = watch::channel(Arc::new(kept));
        // Without a note of it, the intent itself is the last word there is proof of.
        let noted = read(&folder.join(HEARD))?.and_then(|text| serde_json::from_slice::<Time>(&text).ok());
        let made = standing.borrow().intent.as_ref().map(|intent| intent.made_at);
        let heard_at = noted.max(made).map_or(0, Time::as_millis);
        Ok(Self {
            folder: folder.to_owned(),
            standing,
            heard_at: AtomicI64::new(heard_at),
            heard_kept_at: AtomicI64::new(heard_at),
        })
    }

    pub(crate) fn current(&self) -> Arc<Standing> {
        Arc::clone(&self.standing.borrow())
    }

    /// When control was heard last, in milliseconds since the epoch; 0: never.
    pub(crate) fn heard_at(&self) -> i64 {
        self.heard_at.load(Ordering::Relaxed)
    }

    /// Notes that control was heard; on disk once a minute, so that a restart does not forget it.
    pub(crate) fn heard(&self, now: Time) {
        let now_ms = now.as_millis();
        self.heard_at.store(now_ms, Ordering::Relaxed);
        if now_ms.abs_diff(self.heard_kept_at.load(Ordering::Relaxed)) >= HEARD_KEPT_MS {
            self.heard_kept_at.store(now_ms, Ordering::Relaxed);
            self.keep(HEARD, &serde_json::to_vec(&now).unwrap_or_default());
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Standing>> {
        self.standing.subscribe()
    }

    /// Takes control's answer. True if it brought a new intent.
    pub(crate) fn take(&self, answer: &SyncAnswer) -> Result<bool, Disbelief> {
        let now = self.current();
        let key = verifying_key(&answer.control_key).ok_or(Disbelief::NoKey)?;
        if now.control_key.is_some_and(|pinned| pinned != key) {
            return Err(Disbelief::OtherKey);
        }
        if now.site.is_some_and(|known| known != answer.site) {
            return Err(Disbelief::OtherSite);
        }
        let trust = Trust { site: answer.site, control_key: answer.control_key.clone() };
        let intent = answer.intent.as_ref().map(|signed| believe(&trust, signed)).transpose()?;
        if now.site.is_none() {
            self.keep("trust.json", &serde_json::to_vec(&trust).unwrap_or_default());
        }
        let Some(intent) = intent else {
            if now.site.is_none() {
                self.standing.send_replace(Arc::new(Standing::new(Some(&trust), None, &now)));
            }
            return Ok(false);
        };
        let is_asked_for = now.is_uncounted && intent.revision == now.revision();
        if intent.revision <= now.revision() && !is_asked_for {
            let offered = intent.revision;
            return if offered == now.revision() {
                Ok(false)
            } else {
                Err(Disbelief::Older { offered, held: now.revision() })
            };
        }
        self.keep("intent.json", &serde_json::to_vec(&answer.intent).unwrap_or_default());
        self.standing.send_replace(Arc::new(Standing::new(Some(&trust), Some(intent), &now)));
        Ok(true)
    }

    fn keep(&self, name: &str, bytes: &[u8]) {
        // A full disk must not keep a revoked key alive: the intent holds now even if it cannot be kept for a restart.
        if let Err(error) = durable::write(&self.folder.join(name), bytes) {
            tracing::error!(%error, file = name, "could not keep what control said; a restart would begin with older news");
        }
    }
}

fn verify(trust: &Trust, text: &[u8]) -> Result<Intent, Disbelief> {
    let signed: Signed = serde_json::from_slice(text).map_err(|_| SignedError::Malformed)?;
    believe(trust, &signed)
}

fn believe(trust: &Trust, signed: &Signed) -> Result<Intent, Disbelief> {
    let key = verifying_key(&trust.control_key).ok_or(Disbelief::NoKey)?;
    let intent: Intent = signed.open(&key, INTENT_PURPOSE)?;
    if intent.site.id == trust.site { Ok(intent) } else { Err(Disbelief::Misdirected) }
}
