//! The PUTs of one round. The body of a part follows as soon as that of the one before is out, while that one's answer is
//! awaited and written down, so that a storage that thinks about each part does not hold up the lane.
//!
//! Guarantees: parts begin in their order, one body at a time, two unanswered at most; after one that did not work none
//! begins, and the one under way is waited for, so that the cut of a connection costs no more than its part.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::Semaphore;

use super::MediaUpload;
use super::step::Step;
use crate::cloud::client::Transport;
use crate::cloud::storage::{Moved, Range, Reading, Throttle};
use crate::db::uploads::{self, Waiting};
use crate::db::{DbError, Urgency};
use crate::supervise::failpoint;
use crate::upload::answer::{self, Begun, Part, Put, after_put};
use crate::wire::address::{Rule, Target, judge, upload_port};

/// PUTs that wait for their answers: one is thought about by the storage, one is on its way.
const UNANSWERED: usize = 2;

/// A file that was opened and has the right length.
pub(super) struct Source {
    pub(super) file: Arc<File>,
    pub(super) size: u64,
}

impl Source {
    /// Begins to read what a part takes.
    fn read(&self, part: &Part) -> Reading {
        debug_assert!(part.offset + part.size <= self.size);
        Reading::start(Range {
            file: Arc::clone(&self.file),
            offset: part.offset,
            size: part.size,
        })
    }
}

/// What a round of PUTs came to.
pub(super) enum Round {
    /// All of them are there.
    Sent,
    /// Ask for addresses again.
    Renew,
    /// `complete` says what is there.
    Complete,
    /// The turn ends so.
    End(Step),
}

/// What became of one part.
enum Sent {
    /// It is there.
    Stored {
        etag: Option<String>,
        took: Duration,
    },
    /// It is not; how long to wait, and why.
    Not(Put, Option<Duration>, String),
    /// It was not begun: this ends the turn.
    End(Step),
    /// It was not begun, because one before it did not work.
    Left,
}

/// What the parts of a round share.
struct Lane {
    /// One body at a time, in the order of the parts.
    turn: Semaphore,
    /// None begins any more.
    over: AtomicBool,
    /// The next part goes whatever matters more.
    has_turn: AtomicBool,
    /// Bytes that left and are not in the table yet.
    unnoted: AtomicU64,
}

impl<T: Transport> MediaUpload<T> {
    /// Sends the parts; what is there is added to `known`. `refused`: refusals of fresh addresses in a row; `has_turn`: the
    /// first part goes whatever matters more.
    pub(super) async fn round(
        &mut self,
        w: &Waiting,
        source: &Source,
        begun: Begun,
        known: &mut BTreeMap<u32, String>,
        refused: &mut u32,
        has_turn: &mut bool,
    ) -> Result<Round, DbError> {
        let lane = Lane {
            turn: Semaphore::new(1),
            over: AtomicBool::new(false),
            has_turn: AtomicBool::new(std::mem::take(has_turn)),
            unnoted: AtomicU64::new(0),
        };
        let this = &*self;
        let (lane, multipart) = (&lane, begun.multipart);
        let sent: Vec<(Part, Sent)> = stream::iter(begun.parts)
            .map(|part| async move {
                let sent = this.part(w, source, &part, multipart, lane).await?;
                Ok::<_, DbError>((part, sent))
            })
            .buffered(UNANSWERED)
            .try_collect()
            .await?;
        let mut round = Round::Sent;
        for (part, sent) in sent {
            match sent {
                Sent::Stored { etag, took } => {
                    known.extend(etag.map(|etag| (part.n, etag)));
                    self.shown.rate_bps = (part.size as f64 / took.as_secs_f64().max(0.001)) as u64;
                    self.shown.bytes += part.size;
                    self.backoff.works(self.parts.time.mono());
                    if matches!(round, Round::Sent) {
                        *refused = 0;
                    }
                }
                // The first that did not work says how it goes on.
                _ if !matches!(round, Round::Sent) => {}
                Sent::Not(put, wait, why) => {
                    *refused += u32::from(put == Put::Expired);
                    round = match put {
                        Put::Expired | Put::Forgotten => Round::Renew,
                        Put::Complete => Round::Complete,
                        Put::Next | Put::Again => Round::End(Step::Later(wait, why)),
                    };
                }
                Sent::End(step) => round = Round::End(step),
                Sent::Left => {}
            }
        }
        Ok(round)
    }

    /// One part, when its turn has come.
    async fn part(
        &self,
        w: &Waiting,
        source: &Source,
        part: &Part,
        multipart: bool,
        lane: &Lane,
    ) -> Result<Sent, DbError> {
        if lane.over.load(Relaxed) {
            return Ok(Sent::Left);
        }
        // Its first pieces are read while the one before is on its way.
        let reading = source.read(part);
        let turn = lane.turn.acquire().await;
        if lane.over.load(Relaxed) {
            return Ok(Sent::Left);
        }
        let end = |step| {
            lane.over.store(true, Relaxed);
            Ok(Sent::End(step))
        };
        // A file that goes in one piece was looked at when it was chosen.
        let has_turn = lane.has_turn.swap(false, Relaxed);
        let unnoted = lane.unnoted.load(Relaxed);
        if multipart && self.must_stop(w.place.class, unnoted, has_turn).await? {
            return end(Step::GivesWay);
        }
        let target = match self.allowed(part) {
            Ok(target) => target,
            Err(why) => return end(Step::Later(None, why)),
        };
        let (bucket, time) = (Arc::clone(&self.bucket), self.parts.time.clone());
        let throttle: Throttle = Arc::new(move |bytes| {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(bytes, time.mono())
        });
        let moved = Arc::<Moved>::default();
        let (began, now) = (self.parts.time.mono(), self.parts.time.wall());
        let storage = &self.parts.storage;
        let sending = storage.put(
            &target,
            &part.headers,
            reading,
            throttle,
            Arc::clone(&moved),
            now,
        );
        tokio::pin!(sending);
        let early = tokio::select! {
            biased;
            outcome = &mut sending => Some(outcome),
            () = moved.whole() => None,
        };
        let counted = moved.bytes();
        lane.unnoted.fetch_add(counted, Relaxed);
        let (outcome, turn) = match early {
            Some(outcome) => (outcome, Some(turn)),
            None => {
                drop(turn);
                (sending.await, None)
            }
        };
        let sent = match outcome {
            Ok(stored) => match after_put(stored.status) {
                Put::Next => Sent::Stored {
                    etag: answer::etag(&stored.etag),
                    took: self.parts.time.mono().since(began),
                },
                put => Sent::Not(
                    put,
                    stored.retry_after,
                    format!("the storage answered {}", stored.status),
                ),
            },
            Err(e) => Sent::Not(Put::Again, None, e.to_string()),
        };
        if matches!(sent, Sent::Not(..)) {
            lane.over.store(true, Relaxed);
        }
        drop(turn);
        failpoint::hit("upload.part");
        self.note(w, part, moved.bytes(), &sent).await?;
        lane.unnoted.fetch_sub(counted, Relaxed);
        Ok(sent)
    }

    /// Writes down what left, also where it failed. Lost with the process: the storage knows the part all the same.
    async fn note(&self, w: &Waiting, part: &Part, bytes: u64, sent: &Sent) -> Result<(), DbError> {
        let (file, day, n) = (w.file, self.today(), part.n);
        let etag = match sent {
            Sent::Stored { etag, .. } => etag.clone(),
            _ => None,
        };
        let work = move |c: &crate::db::Connection, _: &crate::db::Run| {
            let part = etag.as_ref().map(|tag| (n, tag.as_str()));
            uploads::sent(c, file, bytes, &day, part)
        };
        self.parts.db.call(Urgency::Now, work).await
    }

    /// The address rule, with the hosts of the signed twin.
    fn allowed(&self, part: &Part) -> Result<Target, String> {
        let hosts = &self.settings.borrow().hosts;
        let rule = Rule {
            schemes: &[("https", Some(443))],
            host: &|host| hosts.iter().any(|h| h.allows(host)),
            port: &upload_port,
        };
        judge(&part.url, &rule).map_err(|denied| format!("an address of the cloud {denied}"))
    }
}
