//! Calls to providers: whatever address one names, nothing inside our own network is reached by it. Only https, only
//! addresses that the whole world can reach (looked up here and connected to as looked up, so that a name cannot change its
//! mind in between), no redirects, and bounds on time and size.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use openidconnect::{HttpRequest, HttpResponse};
use reqwest::{Client, Url, redirect::Policy};

/// The longest a provider may take for one answer.
const TIME_MAX: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes: a key set of a large provider is some tens of kilobytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Why a call could not be made. Never what was sent or answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The address is not one to call.
    #[error("the address {0}")]
    Address(&'static str),
    /// The call failed.
    #[error("the provider could not be reached")]
    Unreachable,
    /// The answer is too large or broke off.
    #[error("the provider's answer is too large or broke off")]
    Answer,
}

/// An address that may be called, by its form.
pub(super) fn address(text: &str, private: bool) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is no web address")?;
    let is_encrypted = url.scheme() == "https";
    if !(is_encrypted || (private && url.scheme() == "http")) {
        return Err("is not https");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a name or a password");
    }
    let host = url.host_str().ok_or("names no host")?;
    if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>()
        && !private
        && !is_public(ip)
    {
        return Err("leads into a private network");
    }
    Ok(url)
}

/// Whether the whole world can reach an address: what is reserved, private, local to a link or a machine, shared behind
/// carriers' translation, or a group is not. (IANA special-purpose registries; RFC 6890.)
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let is_special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18..=19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !is_special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    // Global unicast is 2000::/3. Within it: transition mechanisms (Teredo, 6to4), documentation, benchmarks.
    let is_special = (first == 0x2001 && (second < 0x0200 || second == 0x0db8))
        || first == 0x2002
        || (first == 0x3fff && second < 0x1000);
    (0x2000..=0x3fff).contains(&first) && !is_special
}

/// Where a host is, if all of what its name stands for may be reached.
async fn looked_up(url: &Url, private: bool) -> Result<(String, Vec<SocketAddr>), FetchError> {
    let host = url.host_str().ok_or(FetchError::Address("names no host"))?.to_owned();
    let port = url.port_or_known_default().ok_or(FetchError::Address("names no port"))?;
    let bare = host.trim_matches(['[', ']']).to_owned();
    let found = tokio::net::lookup_host((bare.as_str(), port)).await.map_err(|_| FetchError::Unreachable)?;
    let addresses: Vec<SocketAddr> = found.collect();
    if addresses.is_empty() {
        return Err(FetchError::Unreachable);
    }
    if !private && !addresses.iter().all(|address| is_public(address.ip())) {
        return Err(FetchError::Address("leads into a private network"));
    }
    Ok((host, addresses))
}

/// Makes one call.
pub(super) async fn call(request: HttpRequest, private: bool) -> Result<HttpResponse, FetchError> {
    tokio::time::timeout(TIME_MAX, called(request, private)).await.map_err(|_| FetchError::Unreachable)?
}

async fn called(request: HttpRequest, private: bool) -> Result<HttpResponse, FetchError> {
    let url = address(&request.uri().to_string(), private).map_err(FetchError::Address)?;
    let (host, addresses) = looked_up(&url, private).await?;
    let client = Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .timeout(TIME_MAX)
        .resolve_to_addrs(&host, &addresses)
        .build()
        .map_err(|_| FetchError::Unreachable)?;
    let (parts, body) = request.into_parts();
    let sent = client.request(parts.method, url).headers(parts.headers).body(body).send().await;
    let mut answer = sent.map_err(|_| FetchError::Unreachable)?;
    let mut response = http::Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        response = response.header(name, value);
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|_| FetchError::Answer)? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(FetchError::Answer);
        }
        bytes.extend_from_slice(&chunk);
    }
    response.body(bytes).map_err(|_| FetchError::Answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_to_hosts_that_the_whole_world_can_reach() {
        for good in [
            "https://id.example.eu",
            "https://id.example.eu:8443/realms/a",
            "https://[2a01:4f8::1]/",
            "https://9.9.9.9/",
        ] {
            assert!(address(good, false).is_ok(), "{good}");
        }
        for bad in [
            "http://id.example.eu",
            "file:///etc/passwd",
            "gopher://id.example.eu",
            "https://u:p@id.example.eu",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://10.1.2.3/",
            "https://172.16.0.1/",
            "https://192.168.0.1/",
            "https://100.64.0.1/",
            "https://0.0.0.0/",
            "https://[::1]/",
            "https://[::]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[fe80::1]/",
            "https://[fd00::1]/",
            "https://[64:ff9b::a00:1]/",
            "https://[2002:a00:1::]/",
            "not an address",
        ] {
            assert!(address(bad, false).is_err(), "{bad}");
        }
        assert!(address("http://127.0.0.1:1/", true).is_ok(), "where the operator says so");
        assert!(address("file:///etc/passwd", true).is_err());
    }

    #[tokio::test]
    async fn a_name_that_leads_home_is_not_called() {
        let request = http::Request::builder().uri("https://localhost/").body(Vec::new()).unwrap();
        assert!(matches!(call(request, false).await, Err(FetchError::Address(_))));
    }
}
