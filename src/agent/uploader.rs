//! Brings the outbox to the cloud: one bounded, idempotent [`Uploader::pass`] at a time.
//!
//! A pass reads the table, sends one batch, writes the table; it takes no input and can be repeated at any point. A
//! row is deleted only on the cloud's own verdict about it. Everything else that can come back changes when the next
//! pass runs, never what it sends.

mod exchange;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::time::TimeKeeper;
use crate::board::entropy::Entropy;
use crate::cloud::client::{Client, Transport};
use crate::db::batch::{self, Batch, Settled};
use crate::db::{Db, DbError, Urgency, dead_letter};
use crate::outbox::batch::BatchSize;
use crate::restart::Backoff;
use crate::time::Mono;
use crate::wire::answer::{Outcome, Reaction, react};
use crate::wire::envelope::{batch_body, render};
use crate::wire::keys::KeyChoice;

/// Looks at the table at least this often.
const PERIOD: Duration = Duration::from_secs(15);
const SUSPENDED_PAUSE: Duration = Duration::from_secs(15 * 60);
const MISCONFIGURED_PAUSE: Duration = Duration::from_secs(3600);
const AUTH_FIRST_PAUSE: Duration = Duration::from_secs(300);
const AUTH_LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// So many single records refused in a row, with nothing accepted between, look like the cloud's fault, not theirs.
const REFUSALS_IN_A_ROW: u32 = 3;
const NO_GZIP_FOR: Duration = Duration::from_secs(24 * 3600);
const EVENTS_PATH: &str = "/edge/v1/events";
const TIME_PATH: &str = "/edge/v1/time";
const BATCH_TYPE: &str = "application/cloudevents-batch+json";

/// How the link to the cloud is, for `status` and the heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct SyncStatus {
    /// `starting`, `ok`, `retrying`, `auth_lost`, `suspended`, `misconfigured`, `unclaimed`, `too_old`.
    pub state: &'static str,
    /// What went wrong last, for people.
    pub last_error: Option<String>,
    /// Records committed by the cloud since start.
    pub delivered: u64,
    /// Records refused since start.
    pub rejected: u64,
    /// Requests answered 400: a fault of this program or on the way.
    pub malformed: u64,
    /// Seconds of CLOCK_BOOTTIME at the last success.
    pub last_success_s: Option<u64>,
}

/// What a pass found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Nothing waits.
    Idle,
    /// More may wait: call again.
    More,
    /// Not before this moment.
    Wait(Mono),
}

/// The uploader task's state; everything that matters is in the table.
pub struct Uploader<T = Client> {
    db: Db,
    client: T,
    time: TimeKeeper,
    entropy: Entropy,
    size: BatchSize,
    backoff: Backoff,
    auth_pause: Duration,
    keys: KeyChoice,
    resigned: bool,
    refused_in_a_row: u32,
    no_gzip_until: Mono,
    status: watch::Sender<SyncStatus>,
    poke: Option<Arc<Notify>>,
    twin: Option<Arc<Notify>>,
    /// The newest twin that the cloud told of.
    twin_version: Option<u64>,
    unclaimed: Option<mpsc::Sender<String>>,
    /// Since when the broker is away; `None`: it is there.
    broker_away: Option<watch::Receiver<Option<Mono>>>,
    /// The latest request had no answer: a sign that the way is open shortens the wait.
    unheard: bool,
}

/// Waits until the broker, which was away, is back.
async fn back(away: &mut Option<watch::Receiver<Option<Mono>>>) {
    if let Some(away) = away
        && away.wait_for(Option::is_some).await.is_ok()
        && away.wait_for(Option::is_none).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

impl<T: Transport> Uploader<T> {
    /// Sends as `client` what `db` holds.
    pub fn new(db: Db, client: T, time: TimeKeeper, entropy: Entropy) -> Self {
        let (status, _) = watch::channel(SyncStatus {
            state: "starting",
            ..SyncStatus::default()
        });
        Self {
            db,
            client,
            time,
            entropy,
            size: BatchSize::default(),
            backoff: Backoff::http(),
            auth_pause: AUTH_FIRST_PAUSE,
            keys: KeyChoice::default(),
            resigned: false,
            refused_in_a_row: 0,
            no_gzip_until: Mono(0),
            status,
            poke: None,
            twin: None,
            twin_version: None,
            unclaimed: None,
            broker_away: None,
            unheard: false,
        }
    }

    /// Tells `twin` whenever the cloud says that there is another twin.
    pub fn telling_of_twins(mut self, twin: Arc<Notify>) -> Self {
        self.twin = Some(twin);
        self
    }

    /// Tells `poke` whenever the cloud says that commands wait.
    pub fn poking(mut self, poke: Arc<Notify>) -> Self {
        self.poke = Some(poke);
        self
    }

    /// Tells how it is through this from now on.
    pub fn reporting_to(mut self, status: watch::Sender<SyncStatus>) -> Self {
        status.send_modify(|s| {
            s.state = "starting";
            s.last_error = None;
        });
        self.status = status;
        self
    }

    /// Where the cloud does not answer, tries again soon after the broker has come back.
    pub fn watching_broker(mut self, away: watch::Receiver<Option<Mono>>) -> Self {
        self.broker_away = Some(away);
        self
    }

    /// Tells here the name of the key with which the cloud said, signed, that the device is unclaimed.
    pub fn telling_unclaimed(mut self, to: mpsc::Sender<String>) -> Self {
        self.unclaimed = Some(to);
        self
    }

    /// How the link is.
    pub fn status(&self) -> watch::Receiver<SyncStatus> {
        self.status.subscribe()
    }

    /// Runs passes until `stop`: woken by `wake` and by the clock. Then one last pass within `last`.
    pub async fn run(mut self, wake: Arc<Notify>, stop: CancellationToken, last: Duration) {
        let mut not_before = self.time.mono();
        loop {
            let pause = not_before.since(self.time.mono());
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
                () = back(&mut self.broker_away), if self.unheard => {
                    let now = self.time.mono();
                    not_before = not_before.min(self.backoff.woken(now, self.entropy.unit()));
                    self.unheard = false;
                    continue;
                }
            }
            match self.pass().await {
                Ok(Pass::More) => continue,
                Ok(Pass::Wait(until)) => not_before = until,
                Ok(Pass::Idle) => {
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => break,
                        () = wake.notified() => {}
                        () = tokio::time::sleep(PERIOD) => {}
                    }
                }
                Err(e) => {
                    tracing::error!(error = %e, "outbox cannot be read");
                    not_before = self.time.mono() + PERIOD;
                }
            }
        }
        // Whatever is not sent by then stays in the table.
        let _ = tokio::time::timeout(last, async {
            while let Ok(Pass::More) = self.pass().await {}
        })
        .await;
    }

    /// One bounded batch: read the table, send, write the table.
    ///
    /// # Errors
    /// [`DbError`] only: what the network does is an outcome, not an error.
    pub async fn pass(&mut self) -> Result<Pass, DbError> {
        if !self.time.is_synced() {
            return self.learn_time().await;
        }
        let limit = self.size.limit();
        let fresh = self.entropy.uuid_v7(self.time.wall());
        let batch = self
            .db
            .call(Urgency::Now, move |c, _| batch::take(c, limit, fresh))
            .await?;
        let Some(batch) = batch else {
            return Ok(Pass::Idle);
        };
        let (batch, body) = self.render(batch).await?;
        if batch.rows.is_empty() {
            return Ok(Pass::More);
        }
        let (outcome, date) = self.send(EVENTS_PATH, Some(&body), Some(batch.key)).await;
        // First the verdicts: a corrected clock takes the batch apart, because its rendered bytes change.
        let pass = self.apply(batch, outcome).await?;
        self.learn_from(date).await?;
        Ok(pass)
    }

    /// Renders the batch; a row that cannot be rendered goes to the dead letters.
    async fn render(&self, mut batch: Batch) -> Result<(Batch, Vec<u8>), DbError> {
        let (edge_id, epoch) = (self.client.edge_id().to_owned(), self.db.epoch());
        let mut events = Vec::with_capacity(batch.rows.len());
        let mut broken = Vec::new();
        batch.rows.retain(|row| match render(&edge_id, epoch, row) {
            Some(event) => {
                events.push(event);
                true
            }
            None => {
                broken.push(row.seq);
                false
            }
        });
        if !broken.is_empty() {
            tracing::error!(
                count = broken.len(),
                "stored records are damaged, moved to the dead letters"
            );
            let now = self.time.mono();
            self.db
                .call(Urgency::Now, move |c, run| {
                    broken
                        .iter()
                        .try_for_each(|seq| dead_letter::bury(c, run, *seq, "damaged", "", now))
                })
                .await?;
        }
        Ok((batch, batch_body(&events)))
    }

    async fn apply(&mut self, batch: Batch, outcome: Outcome) -> Result<Pass, DbError> {
        let now = self.time.mono();
        let text = describe(&outcome);
        self.unheard = outcome.is_silence();
        let reaction = react(outcome);
        if !matches!(reaction, Reaction::Resign) {
            self.resigned = false;
        }
        match reaction {
            Reaction::Settle(results) => {
                let key = batch.key;
                if results.commands_pending > 0
                    && let Some(poke) = &self.poke
                {
                    poke.notify_one();
                }
                if results.twin_version != self.twin_version
                    && let Some(twin) = &self.twin
                {
                    self.twin_version = results.twin_version;
                    twin.notify_one();
                }
                let settled = self
                    .db
                    .call(Urgency::Now, move |c, run| {
                        batch::settle(c, run, key, &results, now)
                    })
                    .await?;
                Ok(self.settled(&batch, settled, now))
            }
            Reaction::Backoff(after) => {
                self.failed("retrying", &text);
                Ok(self.back_off(now, after))
            }
            Reaction::Smaller => {
                self.failed("retrying", &text);
                if self.size.shrink(batch.rows.len()) {
                    self.release().await?;
                }
                Ok(self.back_off(now, None))
            }
            Reaction::Resign => {
                // The answer's date is learned before the next pass; once at once, then as any failure.
                if std::mem::replace(&mut self.resigned, true) {
                    self.failed("retrying", &text);
                    return Ok(self.back_off(now, None));
                }
                Ok(Pass::More)
            }
            Reaction::Split { code, alarm } => self.split(&batch, code, alarm, now).await,
            Reaction::AuthLost => Ok(self.key_refused(now, &text)),
            Reaction::Suspended => Ok(self.pause("suspended", &text, now + SUSPENDED_PAUSE)),
            Reaction::Misconfigured => {
                Ok(self.pause("misconfigured", &text, now + MISCONFIGURED_PAUSE))
            }
            Reaction::TooOld => Ok(self.pause("too_old", &text, now + MISCONFIGURED_PAUSE)),
            Reaction::Unclaimed => {
                // What follows is the claimer's business. Full: it is busy with the same news.
                if let Some(to) = &self.unclaimed {
                    let _ = to.try_send(self.client.key_id(self.keys.slot()).to_owned());
                }
                Ok(self.pause("unclaimed", &text, now + MISCONFIGURED_PAUSE))
            }
            Reaction::NoCompression if now < self.no_gzip_until => {
                // It went out plain and was refused all the same.
                self.failed("retrying", &text);
                Ok(self.back_off(now, None))
            }
            Reaction::NoCompression => {
                self.no_gzip_until = now + NO_GZIP_FOR;
                self.release().await?;
                Ok(Pass::More)
            }
            Reaction::NewKey => {
                self.failed("retrying", &text);
                self.release().await?;
                Ok(self.back_off(now, None))
            }
        }
    }

    fn settled(&mut self, batch: &Batch, settled: Settled, now: Mono) -> Pass {
        if settled.delivered + settled.rejected == 0 {
            // The cloud answered, but took nothing: as a 503.
            self.failed("retrying", "the cloud took none of the records");
            return self.back_off(now, None);
        }
        self.backoff.works(now);
        self.refused_in_a_row = 0;
        self.auth_pause = AUTH_FIRST_PAUSE;
        self.status.send_modify(|s| {
            s.state = "ok";
            s.last_error = None;
            s.delivered += settled.delivered as u64;
            s.rejected += settled.rejected as u64;
            s.last_success_s = Some(now.0 / 1_000_000_000);
        });
        tracing::debug!(
            sent = batch.rows.len(),
            delivered = settled.delivered,
            "batch settled"
        );
        if settled.rejected > 0 {
            tracing::warn!(
                count = settled.rejected,
                "the cloud refused records, see outbox ls --dead"
            );
        }
        self.size.grow();
        Pass::More
    }

    /// Halves the batch; one record that is still refused goes to the dead letters.
    async fn split(
        &mut self,
        batch: &Batch,
        code: &'static str,
        alarm: bool,
        now: Mono,
    ) -> Result<Pass, DbError> {
        self.status.send_modify(|s| s.malformed += u64::from(alarm));
        if self.size.shrink(batch.rows.len()) {
            self.release().await?;
            return Ok(Pass::More);
        }
        let seq = batch.rows[0].seq;
        tracing::warn!(
            seq,
            code,
            "the cloud cannot take a record, moved to the dead letters"
        );
        self.db
            .call(Urgency::Now, move |c, run| {
                dead_letter::bury(
                    c,
                    run,
                    seq,
                    code,
                    "the cloud cannot take it alone either",
                    now,
                )
            })
            .await?;
        self.status.send_modify(|s| s.rejected += 1);
        self.refused_in_a_row += 1;
        if self.refused_in_a_row > REFUSALS_IN_A_ROW {
            // A cloud that refuses everything must not empty the outbox into the dead letters.
            self.failed("retrying", "the cloud refuses record after record");
            return Ok(self.back_off(now, None));
        }
        Ok(Pass::More)
    }

    fn back_off(&mut self, now: Mono, asked: Option<Duration>) -> Pass {
        let random = self.entropy.unit();
        Pass::Wait(match asked {
            Some(wait) => self.backoff.next_after(now, random, wait),
            None => self.backoff.next(now, random),
        })
    }

    async fn release(&self) -> Result<(), DbError> {
        self.db.call(Urgency::Now, |c, _| batch::release(c)).await
    }

    fn pause(&self, state: &'static str, text: &str, until: Mono) -> Pass {
        self.failed(state, text);
        Pass::Wait(until)
    }

    fn failed(&self, state: &'static str, text: &str) {
        self.status.send_modify(|s| {
            if s.state != state {
                tracing::warn!(
                    state,
                    reason = text,
                    "cloud does not take records, they wait"
                );
            }
            s.state = state;
            if s.last_error.is_none() || text != "no answer" {
                s.last_error = Some(text.to_owned());
            }
        });
    }
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::NoAnswer | Outcome::WrongDates | Outcome::TimedOut => "no answer".into(),
        Outcome::Answer { status, code, .. } if code.is_empty() => format!("status {status}"),
        Outcome::Answer { status, code, .. } => format!("status {status} {code}"),
    }
}
