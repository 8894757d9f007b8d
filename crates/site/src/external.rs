//! Engines that Gregal did not start: servers of the `OpenAI` API at addresses that the operator's settings name.

use std::net::SocketAddr;

use gregal_core::shared::SharedModel;

/// A server the operator trusts with what tenants ask, under the law of this site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// What tenants ask for when they take it.
    pub name: String,
    /// Where it answers, in plain HTTP: content crosses this way unencrypted, so the settings allow loopback only.
    pub address: SocketAddr,
    /// What the server itself calls the model.
    pub model: String,
    /// The longest sequence the model takes, in tokens: the bound of what a request is held for.
    pub context: u64,
    /// What its tokens are priced as.
    pub price_item: String,
    /// The path that answers 200 while the server is well.
    pub health: String,
    /// Requests of one endpoint at once.
    pub requests_max: usize,
}

impl External {
    /// What control and tenants are told of it.
    pub fn offer(&self) -> SharedModel {
        SharedModel { name: self.name.clone(), price_item: self.price_item.clone() }
    }
}
