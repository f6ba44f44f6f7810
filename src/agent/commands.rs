//! Everything about commands for one set of keys: inbox, poll and executor. It runs while the device has these keys.

use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::executor::{Executor, Hands};
use super::inbox::{Bells, Inbox};
use super::poll::Poll;
use super::time::TimeKeeper;
use crate::board::entropy::Entropy;
use crate::cloud::Client;
use crate::db::{Db, IdSource};
use crate::time::Mono;

/// What commands need of the rest.
pub struct Parts {
    /// Where rows are.
    pub db: Db,
    /// Trusted time.
    pub time: TimeKeeper,
    /// Makes record ids.
    pub ids: IdSource,
    /// Nonces, jitter.
    pub entropy: Entropy,
    /// Asks the cloud.
    pub client: Client,
    /// What commands act with.
    pub hands: Hands,
    /// Wakes the uploader.
    pub sync: Arc<Notify>,
    /// Rung, the cloud is asked for commands at once.
    pub poke: Arc<Notify>,
    /// Since when the broker is away; nothing while it is there.
    pub broker_away: watch::Receiver<Option<Mono>>,
}

/// The tasks, not yet running.
pub struct Commands {
    inbox: Inbox,
    poll: Poll<Client>,
    executor: Executor,
}

impl Commands {
    /// Puts them together.
    pub fn new(parts: Parts) -> Commands {
        let Parts {
            db,
            time,
            ids,
            entropy,
            client,
            hands,
            sync,
            poke,
            broker_away,
        } = parts;
        let bells = Bells {
            sync,
            poke,
            ..Bells::default()
        };
        let inbox = Inbox::new(
            db.clone(),
            client.keys().clone(),
            time.clone(),
            ids.clone(),
            hands.able(),
            &bells,
        );
        let poll = Poll::new(
            client,
            inbox.clone(),
            time.clone(),
            entropy,
            Arc::clone(&bells.poke),
            broker_away,
        );
        let executor = Executor::new(db, time, ids, inbox.clone(), bells, hands);
        Commands {
            inbox,
            poll,
            executor,
        }
    }

    /// Where the broker's documents go.
    pub fn inbox(&self) -> Inbox {
        self.inbox.clone()
    }

    /// Runs until `stop`; a command that runs then gets a few seconds.
    pub async fn run(self, stop: CancellationToken) {
        tokio::join!(self.poll.run(stop.clone()), self.executor.run(stop));
    }
}
