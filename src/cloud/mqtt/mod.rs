//! The MQTT adapter: a TLS connection of our own to the broker, and `rumqttc`'s encoding of packets on it. The only
//! folder that names `rumqttc`.
//!
//! Only the library's packets and codec are used: its event loop hides the connection, needs a socket file to be given
//! TLS of ours, and keeps state over a reconnect that livelocks (see `docs/decisions/0004-mqtt-codec-without-event-loop.md`). Nothing
//! lives in a [`Wire`] but bytes; what it says is judged by `crate::link`.

mod codec;
mod dial;

pub use dial::Mqtts;

use crate::link::{Ended, Incoming, Outgoing};

/// Why a connection is none, or broke. The text names no secret.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Network, TLS, a time-out, the end of the stream.
    #[error("{0}")]
    Lost(String),
    /// The broker ended TLS in order, without DISCONNECT.
    #[error("the broker closed the connection")]
    Closed,
    /// The bytes are not MQTT; the text says where they stop being it.
    #[error("{0}")]
    Malformed(&'static str),
}

impl From<WireError> for Ended {
    fn from(e: WireError) -> Ended {
        match e {
            WireError::Lost(why) => Ended::Lost(why),
            WireError::Closed => Ended::Closed,
            WireError::Malformed(what) => Ended::Protocol(what),
        }
    }
}

/// A way to the broker: [`Mqtts`], or a script in a test.
pub trait Broker: Send + Sync {
    /// A connection that stands.
    type Wire: Wire;

    /// Connects, TLS included; bounded in time.
    ///
    /// # Errors
    /// [`WireError`]. Cancel safe.
    fn connect(&self) -> impl Future<Output = Result<Self::Wire, WireError>> + Send;
}

/// One connection, packet by packet.
pub trait Wire: Send {
    /// Sends a packet; bounded in time.
    ///
    /// # Errors
    /// [`WireError`]; the connection is of no use then. Not cancel safe.
    fn send(&mut self, packet: Outgoing) -> impl Future<Output = Result<(), WireError>> + Send;

    /// Waits for a packet.
    ///
    /// # Errors
    /// [`WireError`]; the connection is of no use then. Cancel safe.
    fn recv(&mut self) -> impl Future<Output = Result<Incoming, WireError>> + Send;
}
