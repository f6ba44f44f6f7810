//! The inbox: where signed documents come in, whichever way, and become rows.
//!
//! [`Inbox::offer`] answers when the row is on disk: only then may a broker be told that it was delivered. A document that
//! is not the cloud's, or came before, changes nothing. What cannot be decided or taken now stays at the broker and the
//! cloud: nothing is written, and it comes again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::records;
use super::time::TimeKeeper;
use crate::cloud::SharedKeys;
use crate::command::document::{self, Opened};
use crate::command::limits::Rate;
use crate::command::{Decision, Facts, Kind, Moment, State, Way, decide};
use crate::db::commands::{self, Arrival, Said};
use crate::db::{Connection, Db, DbError, IdSource, Run, Urgency, outbox};
use crate::model::{CommandId, RecordId};
use crate::supervise::failpoint;
use crate::time::TimeQuality;
use crate::wire::jws::{self, Typ};
use crate::wire::keys::KeySlot;

/// What became of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its row is on disk; it will run.
    Accepted(CommandId),
    /// Its row is on disk and says why it will not run; the cloud is told.
    Rejected(CommandId, &'static str),
    /// It came before.
    Duplicate(CommandId),
    /// It is not the cloud's word to this device, or expired: nothing happened.
    Refused(&'static str),
    /// Not now: nothing is written. It stays where it is, unacknowledged, and comes again.
    Later(&'static str),
    /// The store cannot take it: it must not be acknowledged.
    Unavailable,
}

impl Verdict {
    /// Whether a broker may be told that the document was delivered.
    pub fn may_acknowledge(self) -> bool {
        !matches!(self, Verdict::Later(_) | Verdict::Unavailable)
    }
}

/// Where documents come in; cheap to clone.
#[derive(Clone)]
pub struct Inbox(Arc<Inner>);

struct Inner {
    db: Db,
    edge_id: String,
    keys: SharedKeys,
    time: TimeKeeper,
    ids: IdSource,
    able: Vec<Kind>,
    rate: Mutex<Rate>,
    refused: AtomicU64,
    /// What was told last to have to wait, and why.
    put_off: Mutex<Option<(CommandId, &'static str)>>,
    /// Something was left at the cloud because too much was open.
    held_back: AtomicBool,
    arrived: Arc<Notify>,
    poke: Arc<Notify>,
    sync: Arc<Notify>,
}

/// Who is woken.
#[derive(Debug, Clone, Default)]
pub struct Bells {
    /// The executor: a command waits.
    pub arrived: Arc<Notify>,
    /// The poll: ask the cloud now.
    pub poke: Arc<Notify>,
    /// The uploader: there is something to tell.
    pub sync: Arc<Notify>,
}

impl Inbox {
    /// Takes commands for the device of `keys`, of the kinds that it is `able` to carry out.
    pub fn new(
        db: Db,
        keys: SharedKeys,
        time: TimeKeeper,
        ids: IdSource,
        able: Vec<Kind>,
        bells: &Bells,
    ) -> Inbox {
        Inbox(Arc::new(Inner {
            db,
            edge_id: keys.of(KeySlot::Current).edge_id,
            keys,
            time,
            ids,
            able,
            rate: Mutex::default(),
            refused: AtomicU64::new(0),
            put_off: Mutex::default(),
            held_back: AtomicBool::new(false),
            arrived: Arc::clone(&bells.arrived),
            poke: Arc::clone(&bells.poke),
            sync: Arc::clone(&bells.sync),
        }))
    }

    /// Takes one document.
    pub async fn offer(&self, jws: &[u8], way: Way) -> Verdict {
        let inner = &self.0;
        let payload = match jws::verify(jws, Typ::Command, &inner.keys.signing()) {
            Ok(payload) => payload,
            Err(e) => return inner.refuse(e.code()),
        };
        let opened = match document::open(&payload, &inner.edge_id) {
            Ok(opened) => opened,
            Err(code) => return inner.refuse(code),
        };
        let (id, n) = (opened.id, opened.n);
        failpoint::hit("command.before-row");
        let job = Arc::clone(inner);
        let decided = inner
            .db
            .call(Urgency::Now, move |c, run| job.admit(c, run, &opened, way));
        let verdict = match decided.await {
            Ok(Decision::Accept(command)) => {
                let kind = command.kind().as_str();
                tracing::info!(command = %id, n, kind, way = way.as_str(), "command accepted");
                Verdict::Accepted(id)
            }
            Ok(Decision::Reject { code, detail }) => {
                tracing::warn!(command = %id, n, code, detail, "command rejected");
                Verdict::Rejected(id, code)
            }
            Ok(Decision::Duplicate) => Verdict::Duplicate(id),
            Ok(Decision::Refuse { code }) => return inner.refuse(code),
            Ok(Decision::Later { code }) => {
                // It is offered again every two seconds: told once.
                let mut put_off = inner.put_off.lock().unwrap_or_else(PoisonError::into_inner);
                if put_off.replace((id, code)) != Some((id, code)) {
                    tracing::info!(command = %id, n, code, "command has to wait at the cloud");
                }
                if code == "busy" {
                    inner.held_back.store(true, Relaxed);
                }
                return Verdict::Later(code);
            }
            Err(e) => {
                tracing::error!(error = %e, "a command cannot be stored");
                return Verdict::Unavailable;
            }
        };
        failpoint::hit("command.after-row");
        verdict
    }

    /// The cloud says that commands wait: ask for them now.
    pub fn poke(&self) {
        self.0.poke.notify_one();
    }

    /// Nothing is open any more: what was left at the cloud can come.
    pub fn drained(&self) {
        if self.0.held_back.swap(false, Relaxed) {
            self.poke();
        }
    }
}

impl Inner {
    fn refuse(&self, code: &'static str) -> Verdict {
        let count = self.refused.fetch_add(1, Relaxed) + 1;
        // Whoever floods us does not flood the log.
        if count.is_power_of_two() {
            tracing::warn!(code, count, "a command document was refused");
        }
        Verdict::Refused(code)
    }

    /// Decides and writes, in one transaction of the one writer.
    fn admit(
        &self,
        c: &Connection,
        run: &Run,
        opened: &Opened,
        way: Way,
    ) -> Result<Decision, DbError> {
        let (at, wall) = (self.time.mono(), self.time.wall());
        let now = moment(&self.time);
        let trusted = matches!(now, Moment::Trusted(_)).then_some(wall);
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut failed, mut once_key) = (None, None);
        let facts = |key: Option<&str>| {
            once_key = key.map(str::to_owned);
            match commands::facts(c, opened.id, key, trusted, wall) {
                Ok(facts) => facts,
                Err(e) => {
                    failed = Some(e);
                    Facts::default()
                }
            }
        };
        let decision = decide(opened, now, &self.able, rate.has_room(at), facts);
        if let Some(e) = failed {
            return Err(e);
        }
        let (state, rejected) = match &decision {
            Decision::Accept(_) => (State::Acknowledged, None),
            Decision::Reject { code, detail } => {
                once_key = None;
                (State::Rejected, Some((*code, detail.clone())))
            }
            Decision::Duplicate | Decision::Refuse { .. } | Decision::Later { .. } => {
                return Ok(decision);
            }
        };
        let said = Said {
            code: rejected.as_ref().map(|r| r.0),
            detail: rejected.as_ref().map(|r| r.1.clone()),
            result: None,
        };
        let arrival = Arrival {
            way,
            wall,
            at,
            once_key,
            rejected,
        };
        commands::insert(c, run, opened, &arrival)?;
        let id = RecordId((self.ids)());
        let record = records::command_status(id, opened.id, 1, state, &said, at);
        outbox::put(c, run, &record)?;
        if state == State::Acknowledged {
            rate.count(at);
            self.arrived.notify_one();
        }
        // Whoever is woken asks the store, and so comes behind this commit; whoever offers may be gone by then.
        self.sync.notify_one();
        Ok(decision)
    }
}

/// What is known of the time now.
pub fn moment(time: &TimeKeeper) -> Moment {
    match time.boot_clock().quality {
        TimeQuality::Synced => Moment::Trusted(time.wall()),
        TimeQuality::Floor | TimeQuality::None => Moment::Guess(time.wall()),
    }
}
