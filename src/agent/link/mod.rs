//! The MQTT link: keeps a session with the broker, tells presence and hints, hands over what comes down.
//!
//! Each connection is new: nothing lives in it, and what is to be sent is read from the outbox again. Nobody waits for
//! this task; it waits for the store and the inbox beside the connection, never in place of it. It stops with its own
//! phase, after the last sync, saying `offline`.

mod connection;
mod inbox;
mod tail;

use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use inbox::{Inbox, Offering, Plugs};

use self::tail::Tail;
use super::records;
use super::status::StatusHub;
use super::time::TimeKeeper;
use crate::board::entropy::Entropy;
use crate::cloud::mqtt::Broker;
use crate::db::{Db, IdSource, Urgency, outbox};
use crate::link::session::Presence;
use crate::link::{Ended, Retry, Topics};
use crate::model::RecordId;
use crate::time::Mono;

/// Saying `offline` and having it acknowledged.
const FAREWELL: Duration = Duration::from_millis(800);

/// How the link is, for `status` and for whoever polls in its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkStatus {
    /// `connecting`, `up`, `waiting`, `refused`, `taken_over`, `stopped`.
    pub state: &'static str,
    /// Since this moment.
    pub since: Mono,
    /// Why it is not up, or was not last.
    pub last_reason: Option<String>,
    /// Sessions that were up, since the start.
    pub sessions: u64,
    /// States that the broker took.
    pub published: u64,
    /// Messages that came down and were answered for.
    pub received: u64,
    /// The broker does not let us publish something.
    pub denied: bool,
}

/// Who this device is to the broker.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// Names topics.
    pub edge_id: String,
    /// See [`crate::config::MqttConfig`].
    pub keep_alive: Duration,
}

/// What the task reads and writes.
pub struct Deps {
    /// Holds the outbox.
    pub db: Db,
    /// Monotonic time.
    pub time: TimeKeeper,
    /// Jitter and session ids.
    pub entropy: Entropy,
    /// Makes record ids.
    pub ids: IdSource,
    /// Where its state is shown.
    pub hub: StatusHub,
}

/// The link's task.
pub struct Link<B> {
    broker: B,
    config: LinkConfig,
    deps: Deps,
    plugs: Plugs,
    tail: Tail,
    connections: u64,
    status: watch::Sender<LinkStatus>,
}

impl<B: Broker> Link<B> {
    /// A link that is not yet connected.
    pub fn new(broker: B, config: LinkConfig, deps: Deps, plugs: Plugs) -> Self {
        let tail = Tail::new(&config.edge_id, deps.db.epoch());
        let (status, _) = watch::channel(LinkStatus {
            state: "connecting",
            since: deps.time.mono(),
            ..LinkStatus::default()
        });
        plugs.away.send_replace(Some(deps.time.mono()));
        Link {
            broker,
            config,
            deps,
            plugs,
            tail,
            connections: 0,
            status,
        }
    }

    /// How it is.
    pub fn status(&self) -> watch::Receiver<LinkStatus> {
        self.status.subscribe()
    }

    /// Keeps a session until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut retry = Retry::default();
        while !stop.is_cancelled() {
            self.show("connecting", None);
            let (ended, up_since) = self.connection(&stop).await;
            if ended == Ended::Stopped {
                break;
            }
            let now = self.deps.time.mono();
            let up = up_since.map(|since| now.since(since));
            let next = retry.ended(now, self.deps.entropy.unit(), &ended, up);
            let reason = ended.to_string();
            if up.is_some() || next.state != "waiting" {
                tracing::warn!(state = next.state, reason, "the link to the broker is down");
            } else {
                tracing::debug!(reason, "no link to the broker");
            }
            self.show(next.state, Some(reason));
            if next.clone_suspected {
                self.tell_of_clone(now).await;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(next.at.since(self.deps.time.mono())) => {}
            }
        }
        self.show("stopped", None);
    }

    /// One connection, from the first byte to its end; and since when it had been up.
    async fn connection(&mut self, stop: &CancellationToken) -> (Ended, Option<Mono>) {
        let wire = tokio::select! {
            biased;
            () = stop.cancelled() => return (Ended::Stopped, None),
            wire = self.broker.connect() => wire,
        };
        match wire {
            Ok(wire) => self.serve(wire, stop).await,
            Err(e) => (e.into(), None),
        }
    }

    /// The payloads that say whether this connection stands. The session's id tells a will that comes late from one
    /// that is true.
    fn presence(&mut self) -> Presence {
        self.connections += 1;
        let session: Uuid = self.deps.entropy.uuid_v7(self.deps.time.wall());
        let state = |online: bool| {
            json!({ "online": online, "session": session, "conn": self.connections,
                    "agent": env!("CARGO_PKG_VERSION") })
            .to_string()
            .into_bytes()
        };
        Presence {
            topics: Topics::of(&self.config.edge_id),
            online: state(true),
            offline: state(false),
        }
    }

    fn change(&self, f: impl FnOnce(&mut LinkStatus)) {
        self.status.send_modify(f);
        let s = self.status.borrow().clone();
        self.deps.hub.link(s.since, json!({
            "state": s.state, "last_reason": s.last_reason, "sessions": s.sessions, "published": s.published,
            "received": s.received, "denied": s.denied,
        }));
    }

    fn show(&self, state: &'static str, reason: Option<String>) {
        let now = self.deps.time.mono();
        self.plugs.away.send_if_modified(|away| {
            let changed = away.is_none() != (state == "up");
            if changed {
                *away = (state != "up").then_some(now);
            }
            changed
        });
        self.change(|s| {
            // A link that never comes up is down since the first failure, not since the last try.
            let trying = |state| matches!(state, "connecting" | "waiting");
            if s.state != state && !(trying(s.state) && trying(state)) {
                s.since = now;
            }
            s.state = state;
            if reason.is_some() {
                s.last_reason = reason;
            }
        });
    }

    /// Commits the record by which the owner learns that this identity is used elsewhere.
    async fn tell_of_clone(&self, now: Mono) {
        tracing::error!("another device uses this device's identity at the broker");
        let record =
            records::clone_suspected(RecordId((self.deps.ids)()), &self.config.edge_id, now);
        let put = self
            .deps
            .db
            .call(Urgency::Now, move |c, run| outbox::put(c, run, &record));
        if let Err(e) = put.await {
            tracing::error!(error = %e, "the suspicion of a clone was not written");
        }
    }
}
