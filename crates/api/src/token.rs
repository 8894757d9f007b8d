//! Tokens for command lines on the wire, in OAuth's own shapes: sent as forms (`application/x-www-form-urlencoded`).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What command lines are called.
pub const CLI_CLIENT_ID: &str = "gregal-cli";

/// Asks for a device code (RFC 8628, 3.1).
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct DeviceAsk {
    /// Who asks: `gregal-cli`.
    #[serde(default)]
    pub client_id: String,
    /// What the machine is called, shown to whoever is asked to allow it.
    #[serde(default)]
    pub client_name: String,
}

/// A device code (RFC 8628, 3.2).
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct DeviceAnswer {
    /// What the device asks with.
    pub device_code: String,
    /// What a person types.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// The same, with the code in it.
    pub verification_uri_complete: String,
    /// Seconds it waits.
    pub expires_in: u64,
    /// Seconds between two questions.
    pub interval: u64,
}

/// Asks for a key: with an authorisation code, a device code or a refresh credential.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct TokenAsk {
    /// `authorization_code`, `urn:ietf:params:oauth:grant-type:device_code`, `refresh_token` or
    /// `urn:ietf:params:oauth:grant-type:token-exchange`.
    pub grant_type: String,
    /// Who asks: `gregal-cli`; a token exchange need not say.
    pub client_id: String,
    /// The authorisation code.
    pub code: String,
    /// What its challenge was made from (RFC 7636).
    pub code_verifier: String,
    /// Where it was sent.
    pub redirect_uri: String,
    /// The device code.
    pub device_code: String,
    /// The refresh credential. It works once: the answer holds the next.
    pub refresh_token: String,
    /// Another system's token, to be exchanged for a key of a service account (RFC 8693).
    pub subject_token: String,
    /// What it is: `urn:ietf:params:oauth:token-type:jwt` or `urn:ietf:params:oauth:token-type:id_token`.
    pub subject_token_type: String,
    /// The id of the service account that trusts its issuer.
    pub service_account: String,
    /// The only actions the key is for, with blanks between; empty: all that the account may.
    pub scope: String,
}

/// A key and what renews it.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct TokenAnswer {
    /// The key's secret.
    pub access_token: String,
    /// `Bearer`.
    pub token_type: String,
    /// Seconds the key works.
    pub expires_in: u32,
    /// The refresh credential; none for a token exchange.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub refresh_token: String,
    /// `urn:ietf:params:oauth:token-type:access_token`, for a token exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_token_type: Option<String>,
}

/// Ends a session (RFC 7009).
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct TokenRevoke {
    /// Its refresh credential.
    #[serde(default)]
    pub token: String,
}

macro_rules! hidden {
    ($($name:ident)*) => {$(
        // Secrets must not reach a log by way of `{:?}`.
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}
hidden!(DeviceAnswer TokenAsk TokenAnswer TokenRevoke);
