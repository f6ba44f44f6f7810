//! The address rule: where the device may be told to send video. Pure, one place for uploads and live view.
//!
//! Guarantees: an address passes [`judge`] only if every parser reads the same host and port out of it, the host is a
//! *name* that the signed list allows, and nothing hides in it (no login, fragment, IP address in any notation, Unicode).
//! What the name resolves to passes [`vet`] only if *every* address is public, or in a network that the configuration file
//! of the machine allows; the caller connects to one of the addresses that were vetted and never resolves again, so that a
//! name that is bound anew between check and connection gains nothing. Redirects are never followed.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use crate::model::Network;

/// A presigned address has about 600 characters.
const MAX_ADDRESS: usize = 4096;
/// Addresses of one name; whoever has more is not asked further.
pub const MAX_ADDRESSES: usize = 32;

/// Why an address is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Not an address, or one that parsers read differently.
    #[error("is not a plain address")]
    Form,
    /// Another scheme.
    #[error("has a scheme that is not allowed")]
    Scheme,
    /// A user or a password in it.
    #[error("holds a login")]
    Login,
    /// A fragment.
    #[error("has a fragment")]
    Fragment,
    /// An IP address, or what a resolver takes for one.
    #[error("names an IP address instead of a host")]
    Numeric,
    /// Not in the signed list.
    #[error("has a host that is not in the signed list")]
    Host,
    /// Not in the list of ports.
    #[error("has a port that is not allowed")]
    Port,
    /// The name has no address, or too many.
    #[error("has a host without a usable address")]
    Unresolved,
    /// One of the name's addresses is not public.
    #[error(
        "has a host with an address that is not public; networks of your own are named by allow_private"
    )]
    Private,
}

/// What is allowed.
pub struct Rule<'r> {
    /// Schemes in small letters, each with the port that it has where none is named.
    pub schemes: &'r [(&'r str, Option<u16>)],
    /// Whether the signed list allows a host (small letters, no trailing dot).
    pub host: &'r dyn Fn(&str) -> bool,
    /// Whether a port is allowed.
    pub port: &'r dyn Fn(u16) -> bool,
}

/// Ports of uploads: that of HTTPS, and those that need no privilege; mail, shells and the like are never talked to.
pub fn upload_port(port: u16) -> bool {
    port == 443 || port >= 1024
}

/// An address that may be resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The whole address, as it was written.
    pub url: Url,
    /// In small letters.
    pub host: String,
    /// Where to connect to.
    pub port: u16,
}

/// Checks an address before anything is asked about it.
///
/// # Errors
/// [`Denied`], never with the address, which may hold a key.
pub fn judge(text: &str, rule: &Rule<'_>) -> Result<Target, Denied> {
    // What a parser would strip, fold or decode makes two parsers read two hosts.
    let plain = |b: u8| {
        b.is_ascii_graphic()
            && !matches!(
                b,
                b'\\' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}'
            )
    };
    if text.len() > MAX_ADDRESS || !text.bytes().all(plain) {
        return Err(Denied::Form);
    }
    let url: Url = text.parse().map_err(|_| Denied::Form)?;
    let default = rule
        .schemes
        .iter()
        .find(|(scheme, _)| *scheme == url.scheme());
    let default = default.ok_or(Denied::Scheme)?.1;
    let (scheme, rest) = text.split_once("://").ok_or(Denied::Form)?;
    if scheme != url.scheme() {
        return Err(Denied::Form);
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') || !url.username().is_empty() || url.password().is_some() {
        return Err(Denied::Login);
    }
    if text.contains('#') {
        return Err(Denied::Fragment);
    }
    if authority.starts_with('[') || matches!(url.host(), Some(Host::Ipv4(_) | Host::Ipv6(_))) {
        return Err(Denied::Numeric);
    }
    let (name, port) = match authority.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (authority, None),
    };
    let host = name.to_ascii_lowercase();
    if !is_name(&host) || url.host_str().map(str::to_ascii_lowercase).as_deref() != Some(&*host) {
        return Err(Denied::Form);
    }
    if is_numeric(&host) {
        return Err(Denied::Numeric);
    }
    let port = match port {
        None => default.ok_or(Denied::Port)?,
        Some(p) if p.starts_with('0') || !p.bytes().all(|b| b.is_ascii_digit()) => {
            return Err(Denied::Port);
        }
        Some(p) => p.parse().map_err(|_| Denied::Port)?,
    };
    if url.port_or_known_default().is_some_and(|read| read != port) {
        return Err(Denied::Form);
    }
    if !(rule.host)(&host) {
        return Err(Denied::Host);
    }
    if !(rule.port)(port) {
        return Err(Denied::Port);
    }
    Ok(Target { url, host, port })
}

/// Labels of letters, digits and inner hyphens (RFC 1123): no percent, no dot at the end, no underscore.
fn is_name(host: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

/// 127.1, 0x7f000001, 017700000001 and 2130706433 are addresses to a resolver.
fn is_numeric(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x")
}

/// Checks what a name resolved to; the connection goes to one of these.
///
/// # Errors
/// [`Denied::Private`] where only one of them is not public: what answers so lies, or is a trap for the next question.
pub fn vet(found: &[IpAddr], allowed: &[Network]) -> Result<Vec<IpAddr>, Denied> {
    if found.is_empty() || found.len() > MAX_ADDRESSES {
        return Err(Denied::Unresolved);
    }
    let good = |a: &IpAddr| is_public(*a) || allowed.iter().any(|n| n.contains(*a));
    if !found.iter().all(good) {
        return Err(Denied::Private);
    }
    Ok(found.to_vec())
}

/// Whether anybody in the internet could have this address: none of the special ones of IANA's registries (RFC 6890).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => public_v4(a),
        IpAddr::V6(a) => public_v6(a),
    }
}

fn public_v4(a: Ipv4Addr) -> bool {
    let special = match a.octets() {
        // This network, private, shared (carrier NAT), loopback, link-local (and the clouds' metadata service).
        [0 | 10 | 127, ..]
        | [100, 64..=127, ..]
        | [169, 254, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..] => true,
        // IETF protocols, documentation, 6to4 relays, benchmarks.
        [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => true,
        // Multicast, reserved, broadcast.
        [224..=255, ..] => true,
        _ => false,
    };
    !special
}

fn public_v6(a: Ipv6Addr) -> bool {
    match a.segments() {
        // Mapped (RFC 4291), NAT64 (RFC 6052): as the IPv4 address in it.
        [0, 0, 0, 0, 0, 0xffff, hi, lo] | [0x64, 0xff9b, 0, 0, 0, 0, hi, lo] => {
            public_v4(Ipv4Addr::from_bits(u32::from(hi) << 16 | u32::from(lo)))
        }
        // Teredo and other protocols, documentation, 6to4: an IPv4 address may hide in them.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Global unicast is 2000::/3; loopback, unique local, link-local, multicast and all else are not in it.
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
