//! What the MQTT link decides: what each packet, reason code and moment of silence means, what is sent next, and when
//! to connect again. Pure: time and chance are arguments, packets are values; `agent::link` moves them.
//!
//! MQTT only buys latency. A status that is published here leaves the outbox by HTTPS alone, and a command that does
//! not come this way is polled.
//!
//! ```text
//! [Retry]   wait ──▶ connect ──▶ CONNECT ──CONNACK──▶ SUBSCRIBE ──SUBACK──▶ online ──PUBACK──▶ up ──▶ any end ──▶ wait
//! [Session]                        10 s                  15 s               15 s
//! ```

pub mod packet;
pub mod reason;
pub mod retry;
pub mod session;
pub mod topics;

pub use packet::{Incoming, Outgoing};
pub use reason::{Ended, Verdict};
pub use retry::{Next, Retry};
pub use session::{Action, Answer, Publication, Session};
pub use topics::{Down, Topics};
