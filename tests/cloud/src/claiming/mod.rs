//! Claiming, the cloud's side (section 8): a box asks for an owner, an owner binds it, the box proves that it has
//! its credentials, and only then they count.
//!
//! ```text
//! open ──user code──────────────▶ bound ──poll──▶ approved ──signed confirm──▶ device, key, MQTT client; row gone
//!  │ ├──claim code───────────────▶   │               └─ confirm_by passes: row gone, with credentials nobody used
//!  │ └──list entry──▶ challenge ─▶   │
//!  └── time, second claimant, two wrong counts: the claim is dead for everybody
//! ```
//! A person binds (`bind`), which needs the database alone; the server makes credentials when the box next asks
//! (`approve`), because only it knows where devices find it.
//!
//! Guarantees: a claim id alone gives nothing (the token's hash is compared); what is sealed opens only with the key
//! in the memory of the process that asked; the approved answer is repeated byte for byte; codes are kept as keyed
//! hashes and credentials wrapped; before the confirm nothing of the device or its keys exists in any other table.

pub mod approve;
pub mod bind;
pub mod code;
pub mod codes;
pub mod confirm;
pub mod limits;
pub mod mqtt;
pub mod open;
pub mod poll;
pub mod queue;
pub mod rotate;
pub mod seal;

use std::net::{IpAddr, Ipv6Addr};

use crate::broker::Control;
pub use limits::Limits;

/// What can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A window is open so long.
    pub window_s: i64,
    /// A device asks so often; a faster one is told to slow down.
    pub interval_s: i32,
    /// Approved credentials wait so long for their confirm.
    pub confirm_s: i64,
    /// A person may take so long to press the button.
    pub challenge_s: i64,
    /// How often what may be tried.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window_s: 600,
            interval_s: 5,
            confirm_s: 600,
            challenge_s: 20,
            limits: Limits::default(),
        }
    }
}

/// The broker that devices are sent to, and how its clients are made.
#[derive(Debug, Clone)]
pub struct Mqtt {
    /// What devices call it; it is in its certificate.
    pub host: String,
    /// TLS port.
    pub port: u16,
    /// The admin's way in.
    pub control: Control,
}

/// Where a person and a box are the same place: the IPv4 address, or the /64 of an IPv6 one.
pub fn network(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// `seconds` after `at`.
pub(crate) fn after(at: jiff::Timestamp, seconds: i64) -> jiff::Timestamp {
    at.checked_add(jiff::SignedDuration::from_secs(seconds))
        .unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::network;

    #[test]
    fn neighbours_share_an_address_or_a_64() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_ne!(of("2001:db8:1:3::1"), of("2001:db8:1:2::1"));
    }
}
