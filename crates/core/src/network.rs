//! Networks, as CIDR blocks, and which address a request came from.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// A block of addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// It is not `ADDRESS/BITS`.
    #[error("`{0}` is not a network: expected `10.0.0.0/8`, `2001:db8::/32` or one address")]
    Malformed(String),
    /// It names more of the address than the network has: probably a slip.
    #[error("`{given}` has bits beyond its {bits}: the network is `{meant}`")]
    Beyond {
        /// What was said.
        given: String,
        /// How many bits it names.
        bits: u8,
        /// What it would be.
        meant: Network,
    },
}

impl Network {
    /// What one asker is taken for: an IPv4 address, or the /64 that one subscriber has of IPv6.
    pub fn around(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let bits = if address.is_ipv4() { 32 } else { 64 };
        Self { base: masked(address, bits), bits }
    }

    /// Whether an address is inside. An IPv4 address that came mapped into IPv6 counts as the IPv4 address it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.base.is_ipv4() && masked(address, self.bits) == self.base
    }

    /// Whether every address of the other is inside this one.
    pub fn covers(&self, other: &Self) -> bool {
        self.bits <= other.bits && self.contains(other.base)
    }
}

/// The address with all but its first `bits` cleared.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(it) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            IpAddr::V4((it.to_bits() & mask).into())
        }
        IpAddr::V6(it) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            IpAddr::V6((it.to_bits() & mask).into())
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let malformed = || NetworkError::Malformed(text.to_owned());
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        // A mapped block would mean other things with and without its prefix.
        if address.to_canonical() != address {
            return Err(malformed());
        }
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            // No signs, no spaces: what is written is what is meant.
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().map_err(|_| malformed())?,
            Some(_) => return Err(malformed()),
        };
        if bits > most {
            return Err(malformed());
        }
        let network = Self { base: masked(address, bits), bits };
        if network.base != address {
            return Err(NetworkError::Beyond { given: text.to_owned(), bits, meant: network });
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

/// The address a request came from, as far as it can be known. `direct`: who opened the connection. Where that is a proxy
/// the operator trusts, the rightmost address of `X-Forwarded-For` that is not one counts: whatever stands left of it was
/// said by somebody nobody trusts. None: it cannot be known, and then a key narrowed to networks does not work.
pub fn peer_of<'a>(
    direct: Option<IpAddr>,
    forwarded: impl DoubleEndedIterator<Item = &'a str>,
    trusted: &[Network],
) -> Option<IpAddr> {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let direct = direct?.to_canonical();
    if !is_trusted(direct) {
        return Some(direct);
    }
    for part in forwarded.flat_map(|line| line.split(',')).rev() {
        let address = address_of(part.trim())?.to_canonical();
        if !is_trusted(address) {
            return Some(address);
        }
    }
    None
}

/// An address as proxies write it: alone, in brackets, or with a port.
fn address_of(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|it| it.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_its_own_addresses_and_no_others() {
        for (inside, of) in [
            ("10.255.0.1", "10.0.0.0/8"),
            ("::ffff:10.0.0.9", "10.0.0.0/8"),
            ("2001:db8::1", "2001:db8::/32"),
            ("192.0.2.7", "192.0.2.7"),
            ("8.8.8.8", "0.0.0.0/0"),
            ("2001:db9::", "::/0"),
        ] {
            assert!(network(of).contains(ip(inside)), "{inside} in {of}");
        }
        for (outside, of) in [
            ("11.0.0.0", "10.0.0.0/8"),
            ("2001:db9::1", "2001:db8::/32"),
            ("192.0.2.8", "192.0.2.7"),
            ("::1", "0.0.0.0/0"),
            ("10.0.0.1", "::/0"),
        ] {
            assert!(!network(of).contains(ip(outside)), "{outside} in {of}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_what_was_meant() {
        for text in
            ["", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/8/8", "::/129", "host/8", "10.0.0/8", "::ffff:10.0.0.0/104"]
        {
            assert!(matches!(text.parse::<Network>(), Err(NetworkError::Malformed(_))), "{text}");
        }
        let told = "10.1.2.3/8".parse::<Network>().unwrap_err().to_string();
        assert!(told.contains("`10.0.0.0/8`"), "{told}");
    }

    #[test]
    fn one_network_covers_another_only_if_all_of_it_is_inside() {
        assert!(network("10.0.0.0/8").covers(&network("10.1.0.0/16")));
        assert!(network("10.0.0.0/8").covers(&network("10.0.0.0/8")));
        assert!(!network("10.1.0.0/16").covers(&network("10.0.0.0/8")));
        assert!(!network("0.0.0.0/0").covers(&network("::/0")));
    }

    #[test]
    fn only_a_trusted_proxy_may_say_who_asked_and_only_the_last_stranger_counts() {
        let proxies = [network("10.0.0.0/8")];
        let peer = |direct: &str, lines: &[&str]| peer_of(Some(ip(direct)), lines.iter().copied(), &proxies);
        // Whoever is no proxy says nothing about himself.
        assert_eq!(peer("192.0.2.1", &["198.51.100.1"]), Some(ip("192.0.2.1")));
        // What a stranger wrote to the left is not believed.
        assert_eq!(peer("10.0.0.1", &["198.51.100.1, 192.0.2.1"]), Some(ip("192.0.2.1")));
        assert_eq!(peer("10.0.0.1", &["198.51.100.1", "192.0.2.1, 10.9.9.9"]), Some(ip("192.0.2.1")));
        assert_eq!(peer("::ffff:10.0.0.1", &["[2001:db8::1]:4711"]), Some(ip("2001:db8::1")));
        assert_eq!(peer("10.0.0.1", &["192.0.2.1:4711"]), Some(ip("192.0.2.1")));
        // Nothing said, or nothing that can be read: nobody knows.
        assert_eq!(peer("10.0.0.1", &[]), None);
        assert_eq!(peer("10.0.0.1", &["192.0.2.1, unknown"]), None);
        assert_eq!(peer("10.0.0.1", &["10.0.0.2"]), None);
        assert_eq!(peer_of(None, ["192.0.2.1"].into_iter(), &proxies), None);
    }
}
