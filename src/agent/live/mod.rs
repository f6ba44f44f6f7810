//! Live view: publishes cameras to media servers, each for a lease. One task owns the sessions; each is a task of its own.
//!
//! The device's keys are its leave to publish: where they go, every session ends. Nothing here is on disk: a session
//! does not outlive the agent, and the cloud knows its lease.

mod attempt;
mod session;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::session::{Running, Wanted};
use super::camera::Desk;
use super::claimed::Clients;
use super::journal::Journal;
use super::status::StatusHub;
use super::time::TimeKeeper;
use crate::board::entropy::Entropy;
use crate::cloud::client::Transport as _;
use crate::db::IdSource;
use crate::live::{Book, Full, NoPlace, Place, Reason, place};
use crate::model::{CameraId, LiveProtocol, Network, Secret, SessionId};
use crate::time::Mono;
use crate::twin::Effective;

/// Orders that may wait; whoever gives one waits for the answer anyway.
const QUEUE: usize = 8;
/// How long sessions may take to end when the agent does.
const FAREWELL: Duration = Duration::from_secs(4);

/// What is to be published.
#[derive(Debug, Clone)]
pub struct Start {
    /// The session.
    pub session: SessionId,
    /// Which camera.
    pub camera: CameraId,
    /// How.
    pub protocol: LiveProtocol,
    /// Where to.
    pub endpoint: Secret,
    /// What is shown there.
    pub key: Option<Secret>,
    /// End of the lease.
    pub until: Mono,
}

/// Why there is no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSession {
    /// This machine cannot speak it.
    #[error("this machine's GStreamer cannot publish by {0}")]
    Unsupported(LiveProtocol),
    /// The address is not allowed, or not one.
    #[error("{0}")]
    Place(#[from] NoPlace),
    /// There is no such camera.
    #[error("there is no camera of this name")]
    NoCamera,
    /// There are enough.
    #[error("{0}")]
    Full(#[from] Full),
    /// The agent ends, or has no owner.
    #[error("the device publishes nothing now")]
    Closed,
}

enum Order {
    Start(Start, oneshot::Sender<Result<(), NoSession>>),
    Renew(SessionId, Mono, oneshot::Sender<bool>),
    Stop(SessionId, oneshot::Sender<bool>),
}

/// Handle to the sessions; cheap to clone.
#[derive(Clone)]
pub struct LiveHandle(mpsc::Sender<Order>);

impl LiveHandle {
    /// Begins a session.
    ///
    /// # Errors
    /// [`NoSession`].
    pub async fn start(&self, start: Start) -> Result<(), NoSession> {
        let (reply, answer) = oneshot::channel();
        let sent = self.0.send(Order::Start(start, reply)).await;
        sent.map_err(|_| NoSession::Closed)?;
        answer.await.unwrap_or(Err(NoSession::Closed))
    }

    /// Moves the end of a lease; `false`: there is no such session.
    pub async fn renew(&self, session: SessionId, until: Mono) -> bool {
        let (reply, answer) = oneshot::channel();
        let sent = self.0.send(Order::Renew(session, until, reply)).await;
        sent.is_ok() && answer.await.unwrap_or(false)
    }

    /// Ends a session; answers when it has ended. `false`: there is no such session.
    pub async fn stop(&self, session: SessionId) -> bool {
        let (reply, answer) = oneshot::channel();
        let sent = self.0.send(Order::Stop(session, reply)).await;
        sent.is_ok() && answer.await.unwrap_or(false)
    }
}

/// What sessions need of the rest.
#[derive(Clone)]
pub struct Parts {
    /// Running cameras.
    pub desk: Desk,
    /// Where records go.
    pub journal: Journal,
    /// Time since boot.
    pub time: TimeKeeper,
    /// Makes record ids.
    pub ids: IdSource,
    /// Jitter.
    pub entropy: Entropy,
    /// Where sessions are shown.
    pub status: StatusHub,
    /// Whether the device has an owner.
    pub clients: Clients,
    /// How servers are trusted.
    pub tls: ClientConfig,
    /// Networks that are allowed though not public.
    pub allowed: Arc<[Network]>,
    /// The signed twin, with hosts and ports.
    pub in_force: watch::Receiver<Effective>,
    /// What this machine can publish by.
    pub able: fn() -> Vec<LiveProtocol>,
}

impl Parts {
    /// Where a session goes to, by the twin of now.
    fn place(&self, start: &Start) -> Result<Place, NoPlace> {
        let effective = self.in_force.borrow();
        let part = &effective.stream;
        let hosts = |host: &str| part.hosts.iter().any(|pattern| pattern.allows(host));
        place(
            start.protocol,
            &start.endpoint,
            start.key.as_ref(),
            &hosts,
            &part.ports,
        )
    }
}

struct Entry {
    wanted: watch::Sender<Wanted>,
    /// Who waits for its end.
    waiting: Vec<oneshot::Sender<bool>>,
}

/// The task.
pub struct Live {
    parts: Parts,
    orders: mpsc::Receiver<Order>,
    book: Book,
    running: BTreeMap<SessionId, Entry>,
    tasks: JoinSet<SessionId>,
    /// Whose device this is.
    edge_id: Option<String>,
}

/// Makes the handle and the task.
pub fn live(parts: Parts) -> (LiveHandle, Live) {
    let (tx, orders) = mpsc::channel(QUEUE);
    let live = Live {
        edge_id: edge_id(&parts.clients),
        parts,
        orders,
        book: Book::default(),
        running: BTreeMap::new(),
        tasks: JoinSet::new(),
    };
    (LiveHandle(tx), live)
}

fn edge_id(clients: &Clients) -> Option<String> {
    clients.borrow().as_ref().map(|c| c.edge_id().to_owned())
}

impl Live {
    /// Runs until `stop`; then every session has said its end, or had time enough to.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut clients = self.parts.clients.clone();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = self.tasks.join_next() => self.over(ended),
                Ok(()) = clients.changed() => {
                    let now = edge_id(&clients);
                    if now != self.edge_id {
                        self.stop_all(Reason::Unclaimed);
                        self.edge_id = now;
                    }
                }
                Some(order) = self.orders.recv() => self.obey(order),
            }
        }
        self.stop_all(Reason::Shutdown);
        let ends = async {
            while let Some(ended) = self.tasks.join_next().await {
                self.over(ended);
            }
        };
        if tokio::time::timeout(FAREWELL, ends).await.is_err() {
            tracing::warn!("a live session does not end, it is left behind");
        }
    }

    fn obey(&mut self, order: Order) {
        // Whoever asked may have gone.
        match order {
            Order::Start(start, reply) => {
                let _ = reply.send(self.start(start));
            }
            Order::Renew(id, until, reply) => {
                let known = self.running.get(&id);
                if let Some(entry) = known {
                    entry.wanted.send_modify(|w| w.until = until);
                }
                let _ = reply.send(known.is_some());
            }
            Order::Stop(id, reply) => match self.running.get_mut(&id) {
                Some(entry) => {
                    entry
                        .wanted
                        .send_modify(|w| w.end = w.end.or(Some(Reason::Stopped)));
                    entry.waiting.push(reply);
                }
                None => {
                    let _ = reply.send(false);
                }
            },
        }
    }

    fn start(&mut self, start: Start) -> Result<(), NoSession> {
        if self.edge_id.is_none() {
            return Err(NoSession::Closed);
        }
        if !(self.parts.able)().contains(&start.protocol) {
            return Err(NoSession::Unsupported(start.protocol));
        }
        let place = self.parts.place(&start)?;
        if self.parts.desk.camera(&start.camera).is_none() {
            return Err(NoSession::NoCamera);
        }
        self.book.enter(start.session, &start.camera)?;
        tracing::info!(
            session = %start.session, camera = %start.camera, protocol = %start.protocol, host = place.host,
            "live view begins"
        );
        let (wanted, orders) = watch::channel(Wanted {
            until: start.until,
            end: None,
        });
        let id = start.session;
        let session = Running::new(self.parts.clone(), start, orders);
        self.tasks.spawn(async move {
            session.run().await;
            id
        });
        let entry = Entry {
            wanted,
            waiting: Vec::new(),
        };
        self.running.insert(id, entry);
        Ok(())
    }

    fn stop_all(&self, reason: Reason) {
        for entry in self.running.values() {
            entry.wanted.send_modify(|w| w.end = w.end.or(Some(reason)));
        }
    }

    fn over(&mut self, ended: Result<SessionId, tokio::task::JoinError>) {
        match ended {
            Ok(id) => {
                self.book.leave(id);
                let waiting = self.running.remove(&id).map(|e| e.waiting);
                for reply in waiting.into_iter().flatten() {
                    let _ = reply.send(true);
                }
            }
            // A task that panicked ends the process, as everywhere.
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Err(_) => {}
        }
    }
}
