//! From which address a request came: who opened the connection, or whom a trusted proxy names. Found once, around both the
//! API and the console, which passes it on with what it asks of the API.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::Extensions,
    middleware::Next,
    response::Response,
};
use gregal_core::network::peer_of;

use crate::Control;

/// Where a request came from; none where it cannot be known.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Peer(pub(crate) Option<IpAddr>);

impl Peer {
    /// What was found of a request.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or_default()
    }
}

/// Finds out where a request came from.
pub(crate) async fn find(State(control): State<Control>, mut request: Request, next: Next) -> Response {
    let direct = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
    // A line that is no text is a line that cannot be read: it must not be skipped for the one left of it.
    let lines = request.headers().get_all("x-forwarded-for").iter();
    let lines = lines.map(|line| line.to_str().unwrap_or("unreadable"));
    let peer = Peer(peer_of(direct, lines, &control.options().access.trusted_proxies));
    request.extensions_mut().insert(peer);
    next.run(request).await
}
