//! What a request presents of whoever sent it: its credential, and the address it came from.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, header, request::Parts},
};
use gregal_core::network::peer_of;

use crate::site::Shared;

/// What a request presents. Nothing of it is checked yet.
#[derive(Clone)]
pub(crate) struct Presented {
    /// The key or grant, if the request carries one.
    pub(crate) credential: Option<String>,
    /// Where it came from; none where that cannot be known.
    pub(crate) peer: Option<IpAddr>,
}

impl FromRequestParts<Arc<Shared>> for Presented {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Infallible> {
        let direct = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
        // A line that is no text is a line that cannot be read: it must not be skipped for the one left of it.
        let lines = parts.headers.get_all("x-forwarded-for").iter();
        let lines = lines.map(|line| line.to_str().unwrap_or("unreadable"));
        let peer = peer_of(direct, lines, &shared.options.trusted_proxies);
        Ok(Self { credential: bearer(&parts.headers).map(str::to_owned), peer })
    }
}

/// The credential a request carries.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credential) = value.split_once(' ')?;
    let credential = credential.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !credential.is_empty()).then_some(credential)
}
