//! The cloud's end of the broker: one connection that tells devices (`down/*`) and hears them (`up/*`).
//!
//! ```text
//!               ┌──────── connection (reconnects; nothing lives in it) ────────┐
//! rows ─ publisher ─▶ down/cmd  down/twin  down/poke      up/state  up/cmd  up/twin ─▶ inbound ─ rows
//! ```
//! MQTT buys latency only. What is to be published is found in the tables, so a lost connection, broker or
//! server loses nothing: the publisher looks again, and devices poll. What is heard is a hint; records come
//! by HTTPS. Without a broker everything else works the same.

mod connection;
mod inbound;
mod publish;
mod wake;

use std::path::PathBuf;
use std::sync::Arc;

use rumqttc::v5::AsyncClient;
use rumqttc::v5::mqttbytes::QoS;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use crate::broker::{Broker, Login};
use crate::http::App;

pub use inbound::{Presence, Topic};

/// Messages that wait to be projected; above that they are dropped and counted: their records come by HTTPS,
/// and what is retained comes again with the next connection.
const MAX_INBOUND: usize = 4096;

/// How the broker is reached.
#[derive(Debug, Clone)]
pub struct Access {
    /// Its Unix socket.
    pub socket: PathBuf,
    /// Who may publish `edge/v1/+/down/#` and read `edge/v1/+/up/#`.
    pub login: Login,
}

impl Access {
    /// The cloud's own way into a broker.
    pub fn of(broker: &Broker) -> Self {
        Self {
            socket: broker.socket(),
            login: broker.cloud().clone(),
        }
    }
}

/// Wakes the publisher. Clones wake the same one; without a broker nobody listens.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// There is something to publish.
    pub fn now(&self) {
        self.0.notify_one();
    }

    async fn woken(&self) {
        self.0.notified().await;
    }
}

/// The running tasks.
#[derive(Debug)]
pub struct Mqtt {
    live: watch::Receiver<Option<AsyncClient>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Mqtt {
    /// Starts connecting; the broker need not be there.
    pub fn start(app: Arc<App>, database: String, access: Access) -> Self {
        let (live_in, live) = watch::channel(None);
        let (heard, hear) = mpsc::channel(MAX_INBOUND);
        let wake = Wake::default();
        let again = publish::Again::default();
        let tasks = vec![
            tokio::spawn(connection::run(access, live_in, heard)),
            tokio::spawn(inbound::run(app.clone(), hear, again.clone(), wake.clone())),
            tokio::spawn(publish::run(app, live.clone(), again, wake.clone())),
            tokio::spawn(wake::run(database, wake)),
        ];
        Self { live, tasks }
    }

    /// Whether the broker has accepted the connection.
    pub fn is_connected(&self) -> bool {
        self.live.borrow().is_some()
    }

    /// Publishes anything anywhere, as a broker that was taken over could: for tests.
    ///
    /// # Errors
    /// When there is no connection or its queue is full.
    pub fn publish_raw(&self, topic: &str, retain: bool, payload: Vec<u8>) -> Result<(), NotSent> {
        let live = self.live.borrow().clone();
        let client = live.ok_or(NotSent)?;
        let sent = client.try_publish(topic, QoS::AtLeastOnce, retain, payload);
        sent.map_err(|_| NotSent)
    }

    /// Tells a device to poll now.
    ///
    /// # Errors
    /// When there is no connection or its queue is full.
    pub fn poke(&self, edge_id: &str) -> Result<(), NotSent> {
        let live = self.live.borrow().clone();
        let client = live.ok_or(NotSent)?;
        publish::poke(&client, edge_id)
    }
}

/// The broker is not connected, or its queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not sent: the broker is not connected or is behind")]
pub struct NotSent;

impl Drop for Mqtt {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
