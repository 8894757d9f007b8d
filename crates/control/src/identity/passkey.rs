//! Passkeys as browsers speak of them (`WebAuthn`, Level 3). Challenges, origins, signatures, flags and counters are checked by
//! `webauthn-rs`; whose a passkey is, and what it is worth, is decided in `app/passkey.rs`.

use reqwest::Url;
use serde_json::{Value, json};
use webauthn_rs::prelude::{
    CredentialID, DiscoverableAuthentication, Passkey, PasskeyRegistration, PublicKeyCredential,
    RegisterPublicKeyCredential, Uuid, Webauthn, WebauthnBuilder,
};

use super::Refusal;
use crate::{Error, Result};

/// The longest answer of an authenticator that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 12 << 10;

/// For which name and from which origin passkeys are taken here.
#[derive(Debug)]
pub(crate) struct Relying {
    webauthn: Webauthn,
    /// The only origin, without a slash at its end.
    pub(crate) origin: String,
}

/// A passkey that is being made, or a sign-in with one that was made, waiting for the authenticator.
#[derive(Debug)]
pub(crate) struct Asked<T> {
    /// What the browser's script is told, as JSON.
    pub(crate) options: String,
    /// What the answer is checked against, once.
    pub(crate) state: T,
}

/// What an answer says it is.
pub(crate) struct Claimed {
    /// The person's handle.
    pub(crate) handle: [u8; 16],
    /// What the authenticator calls the passkey.
    pub(crate) credential: Vec<u8>,
    answer: PublicKeyCredential,
}

/// The name and origin that browsers take passkeys for at a public address; none if they take none there. That needs https and a
/// name; the one exception is this machine by the name `localhost`, which also stands for its addresses.
fn names_of(url: &str) -> Option<(String, Url)> {
    let mut url = Url::parse(url).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
    let ip = host.parse::<std::net::IpAddr>().ok();
    if ip.is_some_and(|ip| ip.is_loopback()) && url.scheme() == "http" {
        url.set_host(Some("localhost")).ok()?;
    } else if ip.is_some() || (url.scheme() != "https" && host != "localhost") {
        return None;
    }
    let name = url.host_str()?.to_owned();
    let origin = Url::parse(&url.origin().ascii_serialization()).ok()?;
    Some((name, origin))
}

impl Relying {
    /// Takes passkeys at a public address; none where browsers take none.
    pub(crate) fn at(url: &str) -> Result<Option<Self>> {
        let Some((name, origin)) = names_of(url) else { return Ok(None) };
        let broken = |why: webauthn_rs::prelude::WebauthnError| Error::Broken(format!("passkeys at `{name}`: {why}"));
        let webauthn = WebauthnBuilder::new(&name, &origin).map_err(broken)?.rp_name("Gregal").build();
        let webauthn = webauthn.map_err(broken)?;
        Ok(Some(Self { webauthn, origin: origin.origin().ascii_serialization() }))
    }

    /// Asks for a new passkey, which the authenticator keeps so that it is found by this cloud's name alone.
    pub(crate) fn register(
        &self,
        handle: [u8; 16],
        email: &str,
        known: Vec<CredentialID>,
    ) -> Result<Asked<PasskeyRegistration>> {
        let handle = Uuid::from_bytes(handle);
        let begun = self.webauthn.start_passkey_registration(handle, email, email, Some(known));
        let (challenge, state) = begun.map_err(|why| Error::Broken(format!("a passkey cannot be asked for: {why}")))?;
        let mut options = public_key(&challenge)?;
        options["authenticatorSelection"]["residentKey"] = json!("required");
        options["authenticatorSelection"]["requireResidentKey"] = json!(true);
        Ok(Asked { options: options.to_string(), state })
    }

    /// The new passkey, if that is what was asked for.
    pub(crate) fn registered(
        &self,
        state: &PasskeyRegistration,
        answer: &str,
    ) -> std::result::Result<Passkey, Refusal> {
        let answer: RegisterPublicKeyCredential = read(answer)?;
        let made = self.webauthn.finish_passkey_registration(&answer, state);
        made.map_err(|why| refusal(&why))
    }

    /// Asks for any passkey that is here for this cloud's name.
    pub(crate) fn ask(&self) -> Result<Asked<DiscoverableAuthentication>> {
        let begun = self.webauthn.start_discoverable_authentication();
        let (challenge, state) = begun.map_err(|why| Error::Broken(format!("a passkey cannot be asked for: {why}")))?;
        Ok(Asked { options: public_key(&challenge)?.to_string(), state })
    }

    /// What an answer says it is. Nothing of it is believed yet.
    pub(crate) fn claimed(&self, answer: &str) -> std::result::Result<Claimed, Refusal> {
        let answer: PublicKeyCredential = read(answer)?;
        let (handle, credential) =
            self.webauthn.identify_discoverable_authentication(&answer).map_err(|why| refusal(&why))?;
        let (handle, credential) = (handle.into_bytes(), credential.to_vec());
        Ok(Claimed { handle, credential, answer })
    }

    /// The passkey as it is to be kept now, if it made this answer for this question.
    pub(crate) fn answered(
        &self,
        state: DiscoverableAuthentication,
        claimed: &Claimed,
        mut passkey: Passkey,
    ) -> std::result::Result<Passkey, Refusal> {
        let result = self.webauthn.finish_discoverable_authentication_v2(&claimed.answer, state, &passkey);
        let result = result.map_err(|why| refusal(&why))?;
        if !result.user_verified() {
            return Err("nobody was verified");
        }
        passkey.update_credential(&result).ok_or("it is another passkey")?;
        Ok(passkey)
    }
}

fn read<T: serde::de::DeserializeOwned>(answer: &str) -> std::result::Result<T, Refusal> {
    if answer.len() > ANSWER_BYTES_MAX {
        return Err("the answer is too long");
    }
    serde_json::from_str(answer).map_err(|_| "the answer is no authenticator's")
}

/// The part that is for `navigator.credentials`.
fn public_key(challenge: &impl serde::Serialize) -> Result<Value> {
    let mut challenge = serde_json::to_value(challenge).unwrap_or_default();
    match challenge.get_mut("publicKey").map(Value::take) {
        Some(options) => Ok(options),
        None => Err(Error::Broken("a question for a passkey has not its form".into())),
    }
}

/// Which check an answer did not pass.
fn refusal(error: &webauthn_rs::prelude::WebauthnError) -> Refusal {
    use webauthn_rs::prelude::WebauthnError as E;
    match error {
        E::MismatchedChallenge => "the challenge is another",
        E::InvalidRPOrigin => "it was made at another origin",
        E::InvalidRPIDHash => "it was made for another name",
        E::UserNotVerified => "nobody was verified",
        E::UserNotPresent => "nobody was there",
        E::CredentialPossibleCompromise => "its counter went back: there may be a copy",
        E::AuthenticationFailure => "the signature does not hold",
        _ => "the answer does not hold",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passkeys_are_for_names_over_https_and_for_this_machine() {
        let of = |url: &str| names_of(url).map(|(name, origin)| (name, origin.origin().ascii_serialization()));
        let some = |name: &str, origin: &str| Some((name.to_owned(), origin.to_owned()));
        assert_eq!(of("https://cloud.example.eu/"), some("cloud.example.eu", "https://cloud.example.eu"));
        assert_eq!(of("https://cloud.example.eu:8443"), some("cloud.example.eu", "https://cloud.example.eu:8443"));
        assert_eq!(of("http://127.0.0.1:7480"), some("localhost", "http://localhost:7480"));
        assert_eq!(of("http://[::1]:7480/"), some("localhost", "http://localhost:7480"));
        assert_eq!(of("http://localhost:7480"), some("localhost", "http://localhost:7480"));
        for none in ["http://cloud.example.eu", "https://192.0.2.7", "http://10.0.0.1:7480", "nonsense", ""] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
