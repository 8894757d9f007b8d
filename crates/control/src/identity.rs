//! Who vouches for people: providers that speak `OpenID` Connect, those of the operator for everybody and those of
//! organisations for their domains. Here a sign-in goes out and a provider's word comes back; what it is worth is decided in
//! `app/sign_in.rs`. Tokens of providers are looked at once, in memory, and never logged or stored.

mod discovered;
mod fetch;
mod flow;
mod issuer;
mod passkey;
mod workload;

use gregal_core::{passkey::PASSKEY_ISSUER, person::domain_of, provider::Domain};

pub(crate) use flow::{FLOW_MAX, Flow, Returned};
pub(crate) use passkey::{Asked, Claimed, Relying};
pub(crate) use workload::{Refusal, Sent};

use gregal_store::View;

use crate::{Control, Error, Result};

/// What the control plane needs to let people sign in.
#[derive(Debug, Clone, Default)]
pub struct IdentityOptions {
    /// Providers for everybody whose domain has none of its own.
    pub providers: Vec<ProviderOptions>,
    /// Whether providers may be reached without TLS and at addresses that only this network knows.
    pub private_providers: bool,
}

/// A provider the operator names.
#[derive(Clone, Default)]
pub struct ProviderOptions {
    /// What the button says.
    pub name: String,
    /// Its issuer address.
    pub issuer: String,
    /// What the cloud is called there.
    pub client_id: String,
    /// The cloud's secret there; none for a public client, which PKCE protects alone.
    pub client_secret: Option<String>,
}

// A secret must not reach a log by way of `{:?}`.
impl std::fmt::Debug for ProviderOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProviderOptions")
            .field("name", &self.name)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// The provider of one sign-in.
#[derive(Debug, Clone)]
pub(crate) struct Provider {
    pub(crate) options: ProviderOptions,
    /// The domain it was chosen for; none for one of the operator's.
    pub(crate) domain: Option<Domain>,
}

/// What identity works with.
#[derive(Debug)]
pub(crate) struct Identity {
    options: IdentityOptions,
    issuers: issuer::Issuers,
    discovered: discovered::Discovered,
    relying: Option<Relying>,
}

impl Identity {
    /// Identity for a cloud that browsers reach at this address.
    pub(crate) fn new(options: IdentityOptions, url: &str) -> Result<Self> {
        // Whoever comes first in the process chooses the provider; being second is no error.
        drop(rustls::crypto::ring::default_provider().install_default());
        let identity = Self {
            options,
            issuers: issuer::Issuers::default(),
            discovered: discovered::Discovered::default(),
            relying: Relying::at(url)?,
        };
        for provider in &identity.options.providers {
            identity.check_issuer(&provider.issuer)?;
        }
        Ok(identity)
    }

    /// Where passkeys are taken; none where browsers take none.
    pub(crate) fn relying(&self) -> Option<&Relying> {
        self.relying.as_ref()
    }

    /// What the operator's providers are called, in their order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.options.providers.iter().map(|provider| provider.name.clone()).collect()
    }

    /// Whether one of the operator's providers, by its issuer, knows the cloud by this name.
    pub(crate) fn has_client(&self, is_issuer: &dyn Fn(&str) -> bool, client: &str) -> bool {
        self.options.providers.iter().any(|provider| is_issuer(&provider.issuer) && provider.client_id == client)
    }

    /// Checks an issuer's address by its form; where it leads is looked at with every call.
    pub(crate) fn check_issuer(&self, issuer: &str) -> Result<()> {
        fetch::address(issuer, self.options.private_providers)
            .map(|_| ())
            .map_err(|why| Error::invalid(format!("`issuer` is not usable: {why}")))
    }
}

impl Control {
    /// The keys of an issuer that a service account trusts.
    pub(crate) async fn issuer_keys(
        &self,
        issuer: &str,
        token: &Sent,
    ) -> std::result::Result<std::sync::Arc<openidconnect::core::CoreJsonWebKeySet>, Refusal> {
        let identity = self.identity();
        identity.issuers.keys(issuer, token, identity.options.private_providers, self.world().steady()).await
    }

    /// The provider for an address or for one of the buttons: a domain that has its own takes nobody else's word.
    pub(crate) async fn provider_for(&self, email: &str, button: &str) -> Result<Option<Provider>> {
        if let Some(name) = email.rsplit_once('@').and_then(|(_, host)| domain_of(host))
            && let Some(domain) = self.store().domain_get(&name).await?
        {
            return Ok(Some(of_domain(domain)));
        }
        let providers = &self.identity().options.providers;
        let chosen = match (button, providers.as_slice()) {
            // An address whose domain is nobody's goes to the operator's provider, if there is but one.
            ("", [only]) => Some(only),
            (button, all) => all.iter().find(|provider| provider.name == button),
        };
        Ok(chosen.map(|options| Provider { options: options.clone(), domain: None }))
    }

    /// Whether an issuer may vouch for an address as things are now: the word it gave before counts no longer than that. A
    /// domain that is somebody's has one issuer; for any other address it is one of the operator's.
    pub(crate) async fn still_vouches(&self, view: &View, issuer: &str, email: &str) -> Result<bool> {
        let Some(name) = email.rsplit_once('@').and_then(|(_, host)| domain_of(host)) else { return Ok(false) };
        let same = |other: &str| other.trim_end_matches('/') == issuer.trim_end_matches('/');
        Ok(match view.domain_get(&name).await? {
            Some(owner) => same(&owner.issuer),
            // People without a provider are vouched for by their passkeys, where no organisation says who vouches.
            None => {
                issuer == PASSKEY_ISSUER
                    || self.identity().options.providers.iter().any(|provider| same(&provider.issuer))
            }
        })
    }

    /// Whether a provider may vouch for an address: for a domain of an organisation only that organisation's provider may,
    /// and it may for nothing else.
    pub(crate) async fn may_vouch(&self, provider: &Provider, email: &str) -> Result<bool> {
        let Some(name) = email.rsplit_once('@').and_then(|(_, host)| domain_of(host)) else { return Ok(false) };
        let owner = self.store().domain_get(&name).await?;
        Ok(match (&provider.domain, owner) {
            (None, None) => true,
            (None, Some(_)) | (Some(_), None) => false,
            (Some(asked), Some(owner)) => asked.organisation == owner.organisation && asked.issuer == owner.issuer,
        })
    }
}

fn of_domain(domain: Domain) -> Provider {
    let options = ProviderOptions {
        name: domain.name.clone(),
        issuer: domain.issuer.clone(),
        client_id: domain.client_id.clone(),
        client_secret: None,
    };
    Provider { options, domain: Some(domain) }
}
