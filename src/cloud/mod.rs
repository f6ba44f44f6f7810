//! The HTTPS adapter: signed requests to the cloud, bounded answers back; and the way to its MQTT broker ([`mqtt`]). The
//! only folder that names `reqwest` and `rumqttc`.
//!
//! TLS by rustls with `ring`; http/1.1; no redirect is followed, no proxy variable honoured; an answer is read to
//! 1 MiB at most. Whether an answer is the cloud's own word (its signature) is told with it, never assumed.

pub mod claims;
pub mod client;
pub mod credentials;
pub mod keys;
pub mod mqtt;
pub mod private_file;
pub mod reach;
pub mod relay;
pub mod storage;
pub mod store;
pub mod tls;
pub mod vetted;

pub use claims::ClaimApi;
pub use client::{Client, ClientError, Reply, Transport};
pub use credentials::Credentials;
pub use keys::{Keys, SharedKeys};
pub use store::{Pending, Store};
