//! The packets of MQTT v5 that the link uses, without the library that encodes them.

use std::time::Duration;

/// The largest packet that is received; said in CONNECT, so that the broker drops larger messages itself.
pub const MAX_PACKET_BYTES: u32 = 64 << 10;
/// Messages that the broker may send before the first of them is acknowledged.
pub const RECEIVE_MAXIMUM: u16 = 8;
/// How long the broker keeps the session (and commands in it) after the connection is gone.
pub const SESSION_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);
/// The will is published this long after the connection is lost, unless the session is back by then.
pub const WILL_DELAY: Duration = Duration::from_secs(15);

/// What the broker sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// CONNACK.
    Connected {
        /// 0 is success.
        reason: u8,
        /// It knew us.
        session_present: bool,
        /// It wants this in place of ours.
        keep_alive: Option<Duration>,
        /// The largest packet that it takes.
        max_packet: Option<u32>,
    },
    /// SUBACK, a code for each filter.
    Subscribed { id: u16, codes: Vec<u8> },
    /// PUBACK.
    Acked { id: u16, reason: u8 },
    /// PUBLISH; `id` is there with QoS 1.
    Published {
        topic: Vec<u8>,
        payload: Vec<u8>,
        id: Option<u16>,
    },
    /// PINGRESP.
    Pong,
    /// DISCONNECT.
    Disconnected { reason: u8 },
    /// A packet that no broker may send to this client.
    Unexpected(&'static str),
}

/// What the link sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// CONNECT, with clean start off, [`SESSION_EXPIRY`] and the will. Who we are is the adapter's matter.
    Connect {
        keep_alive: Duration,
        will_topic: String,
        will: Vec<u8>,
    },
    /// SUBSCRIBE to these, each with its QoS.
    Subscribe { id: u16, filters: Vec<(String, u8)> },
    /// PUBLISH; QoS 1 where there is an `id`.
    Publish {
        id: Option<u16>,
        topic: String,
        payload: Vec<u8>,
        retain: bool,
    },
    /// PUBACK.
    Ack { id: u16 },
    /// PINGREQ.
    Ping,
    /// DISCONNECT in order: the broker forgets the will.
    Disconnect,
}

/// What a PUBLISH adds to topic and payload, at most.
pub const PUBLISH_OVERHEAD: usize = 16;
