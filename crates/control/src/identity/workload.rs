//! Tokens of other systems, as a CI run carries one: whether an issuer signed what it says, for us, now. What such a token is
//! worth is decided in `app/exchange.rs`. It is looked at once, in memory, and never logged or stored.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use gregal_core::{person::Subject, service_account::WORKLOAD_TOKEN_AGE_S_MAX, time::Time};
use openidconnect::{
    JsonWebKey as _, JwsSigningAlgorithm as _,
    core::{CoreJsonWebKey, CoreJsonWebKeySet, CoreJwsSigningAlgorithm},
};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// The longest token that is read, in bytes.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// How far an issuer's clock may be ahead, in seconds.
const AHEAD_S_MAX: i64 = 30;

/// Why a token was not taken: a word for the log, never what was sent.
pub(crate) type Refusal = &'static str;

/// A token as it was sent: nothing of it is believed yet.
pub(crate) struct Sent {
    algorithm: CoreJwsSigningAlgorithm,
    kid: Option<String>,
    said: String,
    signature: Vec<u8>,
    /// What it says.
    pub(crate) claims: Map<String, Value>,
}

// What somebody else signed must not reach a log by way of `{:?}`.
impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sent").finish_non_exhaustive()
    }
}

fn part(text: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&BASE64.decode(text).ok()?).ok()
}

impl Sent {
    /// Reads a token (RFC 7515, compact). Only signatures with a public key are looked at.
    pub(crate) fn read(token: &str) -> Result<Self, Refusal> {
        const NONE: Refusal = "it is no signed token";
        if token.len() > TOKEN_BYTES_MAX {
            return Err("it is too long");
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NONE);
        };
        let said = format!("{header}.{payload}");
        let header = part(header).ok_or(NONE)?;
        let claims = part(payload).ok_or(NONE)?;
        let signature = BASE64.decode(signature).map_err(|_| NONE)?;
        if header.contains_key("crit") {
            return Err("it asks for what is not understood");
        }
        let algorithm = header.get("alg").cloned().unwrap_or(Value::Null);
        let algorithm: CoreJwsSigningAlgorithm =
            serde_json::from_value(algorithm).map_err(|_| "its algorithm is unknown")?;
        // Whoever knows a public key knows it as a secret too, and `none` proves nothing.
        if algorithm.uses_shared_secret() || algorithm.key_type().is_none() {
            return Err("it is not signed with a public key");
        }
        let kid = header.get("kid").and_then(Value::as_str).map(str::to_owned);
        Ok(Self { algorithm, kid, said, signature, claims })
    }

    /// Whether one of these keys may have signed it, by its name.
    pub(crate) fn is_named_in(&self, keys: &CoreJsonWebKeySet) -> bool {
        keys.keys().iter().any(|key| self.may_be_by(key))
    }

    fn may_be_by(&self, key: &CoreJsonWebKey) -> bool {
        let fits_name = self.kid.as_ref().is_none_or(|kid| key.key_id().is_some_and(|id| id.as_str() == kid));
        fits_name && key.key_use().is_none_or(openidconnect::JsonWebKeyUse::allows_signature)
    }

    /// Whether one of these keys signed it.
    pub(crate) fn signed_by(&self, keys: &CoreJsonWebKeySet) -> Result<(), Refusal> {
        let fit = keys.keys().iter().filter(|key| self.may_be_by(key));
        let holds =
            |key: &CoreJsonWebKey| key.verify_signature(&self.algorithm, self.said.as_bytes(), &self.signature).is_ok();
        if fit.into_iter().any(holds) { Ok(()) } else { Err("the signature does not hold") }
    }

    /// Who says so, as it claims.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// Whom it is for, if for one only.
    pub(crate) fn audience(&self) -> Option<&str> {
        match self.claims.get("aud")? {
            Value::String(one) => Some(one),
            Value::Array(all) => match all.as_slice() {
                [one] => one.as_str(),
                _ => None,
            },
            _ => None,
        }
    }

    /// What is claimed so that it is used once, and until when that has to be remembered: what was signed (a signature can be
    /// written in more than one way), and the id its issuer gave it, if there is one.
    pub(crate) fn claims_of_use(&self) -> (Vec<String>, Time) {
        let mut claims = vec![hex::encode(Sha256::digest(&self.said))];
        if let Some(jti) = self.claims.get("jti").and_then(Value::as_str) {
            let issuer = self.issuer().unwrap_or_default();
            claims.push(Subject { issuer: issuer.to_owned(), subject: jti.to_owned() }.digest());
        }
        // Without an end it was refused before.
        (claims, self.time("exp").unwrap_or(Time::from_millis(i64::MAX)))
    }

    /// A time, in seconds since 1970; parts of a second are cut off.
    fn time(&self, name: &str) -> Option<Time> {
        let seconds = self.claims.get(name)?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "cut off on purpose; a float beyond the range stays at its end"
        )]
        let seconds = seconds.as_i64().or_else(|| seconds.as_f64().map(|seconds| seconds as i64))?;
        // Beyond this a time could not be reckoned with; no token is meant to.
        (0..=253_402_300_799).contains(&seconds).then(|| Time::from_millis(seconds * 1000))
    }

    /// Whether it holds now: not over, begun, and made within the hour.
    pub(crate) fn holds_at(&self, now: Time) -> Result<(), Refusal> {
        let ahead = now.plus_seconds(AHEAD_S_MAX);
        let end = self.time("exp").ok_or("it names no end")?;
        if end <= now {
            return Err("it has expired");
        }
        if self.claims.contains_key("nbf") && self.time("nbf").is_none_or(|begin| begin > ahead) {
            return Err("it does not hold yet");
        }
        let made = self.time("iat").ok_or("it does not say when it was made")?;
        if made > ahead {
            return Err("it was made in the future");
        }
        if made < now.plus_seconds(-WORKLOAD_TOKEN_AGE_S_MAX) {
            return Err("it is older than an hour");
        }
        if self.claims.get("jti").is_some_and(|jti| !jti.is_string()) {
            return Err("its `jti` is no text");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(header: &Value, claims: &Value) -> String {
        format!("{}.{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()), BASE64.encode("x"))
    }

    #[test]
    fn only_signatures_with_public_keys_are_read() {
        let read = |header: &Value| Sent::read(&token(header, &json!({}))).map(|_| ());
        for good in ["RS256", "PS512", "ES256", "EdDSA"] {
            assert_eq!(read(&json!({ "alg": good })), Ok(()), "{good}");
        }
        for bad in ["none", "None", "HS256", "HS512", "RSA-OAEP", ""] {
            assert!(read(&json!({ "alg": bad })).is_err(), "{bad}");
        }
        assert!(read(&json!({})).is_err());
        assert!(read(&json!({ "alg": "RS256", "crit": ["b64"], "b64": false })).is_err());
        assert!(Sent::read("a.b").is_err());
        assert!(Sent::read(&"x".repeat(TOKEN_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn a_token_is_for_one_and_holds_for_its_time() {
        let of = |claims: Value| Sent::read(&token(&json!({ "alg": "RS256" }), &claims)).unwrap();
        assert_eq!(of(json!({ "aud": "a" })).audience(), Some("a"));
        assert_eq!(of(json!({ "aud": ["a"] })).audience(), Some("a"));
        assert_eq!(of(json!({ "aud": ["a", "b"] })).audience(), None);
        assert_eq!(of(json!({})).audience(), None);
        let now = Time::from_millis(10_000_000_000);
        let holds = |claims: Value| of(claims).holds_at(now);
        assert_eq!(holds(json!({ "exp": 10_000_001, "iat": 10_000_000 })), Ok(()));
        assert_eq!(holds(json!({ "exp": 10_000_001.5, "iat": 9_999_999.5, "nbf": 10_000_030 })), Ok(()));
        for bad in [
            json!({ "exp": 10_000_000, "iat": 9_999_999 }),
            json!({ "iat": 10_000_000 }),
            json!({ "exp": 10_000_300 }),
            json!({ "exp": 10_000_300, "iat": 9_996_399 }),
            json!({ "exp": 10_000_300, "iat": 10_000_031 }),
            json!({ "exp": 10_000_300, "iat": 10_000_000, "nbf": 10_000_031 }),
            json!({ "exp": 10_000_300, "iat": 10_000_000, "nbf": "soon" }),
            json!({ "exp": "10000300", "iat": 10_000_000 }),
            json!({ "exp": 1e300, "iat": 10_000_000 }),
            json!({ "exp": 10_000_300, "iat": 10_000_000, "jti": 7 }),
        ] {
            assert!(holds(bad.clone()).is_err(), "{bad}");
        }
    }
}
