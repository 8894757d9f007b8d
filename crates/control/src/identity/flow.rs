//! One sign-in with a provider: out with a challenge, back with a code, and a signed word for who it is. Authorisation code
//! with PKCE (RFC 7636), `state` and `nonce`; issuer, audience, algorithm, expiry and nonce are checked by `openidconnect`,
//! which takes no unsigned tokens and, from public clients, none signed with a shared secret.

use std::time::{Duration, Instant};

use gregal_core::person::{Subject, email_of};
use openidconnect::{
    AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest,
    Nonce, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, TokenResponse as _,
    core::{CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod, CoreJwsSigningAlgorithm, CoreProviderMetadata},
};
use sha2::{Digest, Sha256};

use super::{Provider, Refusal, fetch};
use crate::{Control, Error, Result, app::sign_in::Vouched};

/// How long somebody may take at the provider.
pub(crate) const FLOW_MAX: Duration = Duration::from_mins(10);

/// A sign-in under way. Kept in memory, found by a cookie, used once.
pub(crate) struct Flow {
    provider: Provider,
    state: String,
    nonce: Nonce,
    verifier: String,
    begun_at: Instant,
}

// What is secret in it must not reach a log by way of `{:?}`.
impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow").field("provider", &self.provider).finish_non_exhaustive()
    }
}

impl Flow {
    /// Whether it may still be finished.
    pub(crate) fn lives_at(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.begun_at) < FLOW_MAX
    }
}

/// A sign-in that was begun: where the browser goes, and what waits for its return.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) url: String,
    pub(crate) provider: String,
    pub(crate) flow: Flow,
}

/// What came back with the browser.
#[derive(Debug, Default, serde::Deserialize)]
pub(crate) struct Returned {
    #[serde(default)]
    code: String,
    #[serde(default)]
    state: String,
    /// Who answers (RFC 9207), where the provider says so.
    #[serde(default)]
    iss: Option<String>,
}

/// The cloud as a client that knows where to send people; where codes are redeemed, a provider may leave out.
type Client =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

impl Control {
    /// Begins a sign-in with a provider.
    pub(crate) async fn sign_in_begin(&self, provider: Provider) -> Result<Begun> {
        let (issuer, private) = (&provider.options.issuer, self.identity().options.private_providers);
        let said = self.identity().discovered.known(issuer, private, self.world().steady()).await;
        let client = said.and_then(|said| self.client_of(&provider, &said));
        let client = client.map_err(|why| unreachable_provider(&provider, why))?;
        let verifier = PkceCodeVerifier::new(self.chance());
        let (state, nonce) = (self.chance(), self.chance());
        let (url, state, nonce) = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, || CsrfToken::new(state), || Nonce::new(nonce))
            .add_scope(Scope::new("email".into()))
            .add_scope(Scope::new("profile".into()))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
            .url();
        let name = provider.options.name.clone();
        let flow = Flow {
            provider,
            state: state.secret().clone(),
            nonce,
            verifier: verifier.secret().clone(),
            begun_at: self.world().steady(),
        };
        Ok(Begun { url: url.to_string(), provider: name, flow })
    }

    /// Takes what came back: who it is, or none if that word is worth nothing. Why is for the log.
    pub(crate) async fn sign_in_finish(&self, flow: Flow, returned: Returned) -> Result<Option<Vouched>> {
        let issuer = flow.provider.options.issuer.clone();
        let organisation = flow.provider.domain.as_ref().map(|domain| domain.organisation);
        match self.word_of(flow, returned).await? {
            Ok(vouched) => Ok(Some(vouched)),
            Err(why) => {
                tracing::info!(provider.issuer = issuer, "a sign-in was refused: {why}");
                let cx = self.system("sign-in");
                self.refusal_told(&cx, organisation, "session:begin", &issuer, why).await?;
                Ok(None)
            }
        }
    }

    async fn word_of(&self, flow: Flow, returned: Returned) -> Result<std::result::Result<Vouched, Refusal>> {
        if !flow.lives_at(self.world().steady()) {
            return Ok(Err("it took too long"));
        }
        if Sha256::digest(&flow.state) != Sha256::digest(&returned.state) {
            return Ok(Err("the state is another"));
        }
        if returned.iss.is_some_and(|iss| iss != flow.provider.options.issuer) {
            return Ok(Err("another provider answers"));
        }
        if returned.code.is_empty() || returned.code.len() > 4096 {
            return Ok(Err("the provider gave no code"));
        }
        let provider = flow.provider.clone();
        let vouched = match self.code_redeemed(flow, returned.code).await {
            Ok(vouched) => vouched,
            Err(why) => return Ok(Err(why)),
        };
        if !self.may_vouch(&provider, &vouched.email).await? {
            return Ok(Err("the provider may not vouch for this domain"));
        }
        Ok(Ok(vouched))
    }

    async fn code_redeemed(&self, flow: Flow, code: String) -> std::result::Result<Vouched, Refusal> {
        let private = self.identity().options.private_providers;
        let (issuer, discovered) = (&flow.provider.options.issuer, &self.identity().discovered);
        let metadata = discovered.known(issuer, private, self.world().steady()).await?;
        let by_body = metadata.token_endpoint_auth_methods_supported().is_some_and(|methods| {
            methods.contains(&CoreClientAuthMethod::ClientSecretPost)
                && !methods.contains(&CoreClientAuthMethod::ClientSecretBasic)
        });
        let client = self.client_of(&flow.provider, &metadata)?.set_auth_type(if by_body {
            openidconnect::AuthType::RequestBody
        } else {
            openidconnect::AuthType::BasicAuth
        });
        let http = move |request: HttpRequest| fetch::call(request, private);
        let answer = client
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|_| "the provider names no token address")?
            .set_pkce_verifier(PkceCodeVerifier::new(flow.verifier))
            .request_async(&http)
            .await
            .map_err(|_| "the code was not redeemed")?;
        let token = answer.id_token().ok_or("the provider gave no identity token")?;
        let now = self.now();
        let at = move || chrono::DateTime::from_timestamp_millis(now.as_millis()).unwrap_or_default();
        // Only now, for a code that was worth something, are its keys read anew: rotated ones are known at once.
        let metadata = discovered.now(issuer, private, self.world().steady()).await?;
        let client = self.client_of(&flow.provider, &metadata)?;
        let verifier = client
            .id_token_verifier()
            // Signed with the provider's own key or not at all: what both sides know proves nothing.
            .set_allowed_algs([
                CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
                CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
                CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
                CoreJwsSigningAlgorithm::RsaSsaPssSha256,
                CoreJwsSigningAlgorithm::RsaSsaPssSha384,
                CoreJwsSigningAlgorithm::RsaSsaPssSha512,
                CoreJwsSigningAlgorithm::EcdsaP256Sha256,
                CoreJwsSigningAlgorithm::EcdsaP384Sha384,
                CoreJwsSigningAlgorithm::EdDsa,
            ])
            .set_time_fn(at);
        let claims = token.claims(&verifier, &flow.nonce).map_err(|error| refusal(&error))?;
        if claims.email_verified() != Some(true) {
            return Err("the address is not verified");
        }
        let email = claims.email().and_then(|email| email_of(email)).ok_or("the token holds no usable address")?;
        let subject = claims.subject().as_str();
        if subject.is_empty() || subject.len() > 255 {
            return Err("the token holds no usable subject");
        }
        let name = claims.name().and_then(|name| name.get(None)).map(|name| name.as_str().trim().to_owned());
        let name = name.filter(|name| (1..=80).contains(&name.chars().count()) && !name.chars().any(char::is_control));
        let subject = Subject { issuer: flow.provider.options.issuer, subject: subject.to_owned() };
        Ok(Vouched { subject, email, name })
    }

    /// The cloud as a client of a provider that says this of itself.
    fn client_of(&self, provider: &Provider, said: &CoreProviderMetadata) -> std::result::Result<Client, Refusal> {
        let redirect = format!("{}/console/sign-in/callback", self.options().url.trim_end_matches('/'));
        let redirect = RedirectUrl::new(redirect).map_err(|_| "our own address is not usable")?;
        let secret = provider.options.client_secret.clone().map(ClientSecret::new);
        let client = ClientId::new(provider.options.client_id.clone());
        Ok(CoreClient::from_provider_metadata(said.clone(), client, secret).set_redirect_uri(redirect))
    }

    /// Text nobody can guess: 64 hex digits.
    fn chance(&self) -> String {
        let mut bytes = [0; 32];
        self.world().fill(&mut bytes);
        hex::encode(bytes)
    }
}

fn unreachable_provider(provider: &Provider, why: Refusal) -> Error {
    tracing::warn!(provider.issuer = provider.options.issuer, "a provider cannot be used: {why}");
    let detail = format!("`{}` cannot be used for signing in now", provider.options.name);
    Error::refused(gregal_api::problem::Code::Unavailable, detail)
}

/// Which check a token did not pass.
fn refusal(error: &openidconnect::ClaimsVerificationError) -> Refusal {
    use openidconnect::ClaimsVerificationError as E;
    match error {
        E::Expired(_) => "the token has expired",
        E::InvalidAudience(_) => "the token is for somebody else",
        E::InvalidIssuer(_) => "the token is of another issuer",
        E::InvalidNonce(_) => "the nonce is another",
        E::SignatureVerification(_) => "the signature does not hold",
        _ => "the token does not hold",
    }
}
