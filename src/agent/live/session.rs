//! One session: carries out what [`crate::live::session`] decides, and tells the cloud.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::attempt::{Attempt, Lost, Progress};
use super::{Parts, Start};
use crate::agent::journal::Fact;
use crate::agent::records::{self, LiveEnd, LiveTold};
use crate::agent::status::LiveStatus;
use crate::live::{Act, End, Reason, Session, Trouble};
use crate::model::RecordId;
use crate::time::Mono;

/// How long a publisher may take to say goodbye to its server.
const FAREWELL: Duration = Duration::from_secs(3);

/// What others want of a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// End of the lease.
    pub until: Mono,
    /// It is to end now.
    pub end: Option<Reason>,
}

type Trying = Pin<Box<dyn Future<Output = Lost> + Send>>;

/// A session that runs.
pub(super) struct Running {
    parts: Parts,
    start: Arc<Start>,
    wanted: watch::Receiver<Wanted>,
    progress: Arc<Progress>,
    /// Cancelled, the publisher ends in order.
    ending: CancellationToken,
    started: Option<Mono>,
    /// What went wrong last, for people.
    detail: Option<String>,
    /// The word in `status`.
    state: &'static str,
}

impl Running {
    pub(super) fn new(parts: Parts, start: Start, wanted: watch::Receiver<Wanted>) -> Running {
        Running {
            parts,
            start: Arc::new(start),
            wanted,
            progress: Arc::default(),
            ending: CancellationToken::new(),
            started: None,
            detail: None,
            state: "connecting",
        }
    }

    /// Runs to its end, which is told.
    pub(super) async fn run(mut self) {
        let mut machine = Session::new(self.now(), self.start.until);
        let mut trying: Option<Trying> = None;
        let mut hosts = self.parts.in_force.clone();
        let (end, rev) = loop {
            self.show();
            let mut act = machine.poll(self.now(), self.bytes());
            if act.is_none() {
                let wait = machine.due().since(self.now());
                act = tokio::select! {
                    biased;
                    changed = self.wanted.changed() => match (changed, *self.wanted.borrow_and_update()) {
                        (Ok(()), Wanted { end: None, until }) => {
                            machine.renew(until);
                            None
                        }
                        (Ok(()), Wanted { end: Some(reason), .. }) => machine.stop(reason),
                        // Its owner is gone, and so is the agent.
                        (Err(_), _) => machine.stop(Reason::Shutdown),
                    },
                    Ok(()) = hosts.changed() => match self.parts.place(&self.start) {
                        Ok(_) => None,
                        Err(e) => self.lost(&mut machine, Lost::new(Trouble::Refused, e)),
                    },
                    () = self.progress.live.notified() => {
                        self.state = "live";
                        machine.live(self.now(), self.bytes())
                    }
                    lost = outcome(&mut trying) => {
                        trying = None;
                        self.lost(&mut machine, lost)
                    }
                    () = tokio::time::sleep(wait) => None,
                };
            }
            match act {
                None => {}
                Some(Act::Connect) => {
                    let attempt = Attempt {
                        parts: self.parts.clone(),
                        start: Arc::clone(&self.start),
                        progress: Arc::clone(&self.progress),
                        ending: self.ending.clone(),
                    };
                    trying = Some(Box::pin(attempt.run()));
                }
                Some(Act::TellLive { rev }) => self.tell_live(rev).await,
                Some(Act::Over { end, rev }) => break (end, rev),
            }
        };
        self.ending.cancel();
        if let Some(trying) = trying {
            let _ = tokio::time::timeout(FAREWELL, trying).await;
        }
        self.parts.status.live(self.start.session.to_string(), None);
        self.tell_end(end, rev).await;
    }

    fn show(&self) {
        let now = LiveStatus {
            camera: self.start.camera.to_string(),
            protocol: self.start.protocol.to_string(),
            state: self.state.into(),
            detail: self.detail.clone(),
            bytes: self.bytes(),
            ends_in_s: 0,
            until: Some(self.wanted.borrow().until),
        };
        let session = self.start.session.to_string();
        self.parts.status.live(session, Some(now));
    }

    fn lost(&mut self, machine: &mut Session, lost: Lost) -> Option<Act> {
        let Lost { trouble, text } = lost;
        tracing::info!(session = %self.start.session, camera = %self.start.camera, reason = trouble.word(), text,
                       "live view is interrupted");
        self.detail = Some(text);
        self.state = "interrupted";
        machine.lost(self.now(), trouble, self.parts.entropy.unit())
    }

    async fn tell_live(&mut self, rev: u64) {
        let now = self.now();
        if self.started.is_none() {
            tracing::info!(session = %self.start.session, camera = %self.start.camera, "live");
        }
        let started = *self.started.get_or_insert(now);
        let (id, start) = (RecordId((self.parts.ids)()), &self.start);
        let told = LiveTold {
            session: start.session,
            protocol: start.protocol,
            started,
            bytes: self.bytes(),
            rev,
        };
        let record = records::stream_live(id, &start.camera, told, now);
        self.parts.journal.write(Fact::Told, vec![record]).await;
    }

    async fn tell_end(&self, end: End, rev: u64) {
        let (bytes, dropped) = (self.bytes(), self.progress.dropped.load(Relaxed));
        tracing::info!(session = %self.start.session, camera = %self.start.camera, reason = end.word(), bytes, dropped,
                       "live view ended");
        let told = LiveEnd {
            session: self.start.session,
            started: self.started,
            end,
            detail: self.detail.as_deref(),
            bytes,
            rev,
        };
        let id = RecordId((self.parts.ids)());
        let record = records::stream_over(id, &self.start.camera, &told, self.now());
        self.parts.journal.write(Fact::Told, vec![record]).await;
    }

    fn now(&self) -> Mono {
        self.parts.time.mono()
    }

    fn bytes(&self) -> u64 {
        self.progress.bytes.load(Relaxed)
    }
}

async fn outcome(trying: &mut Option<Trying>) -> Lost {
    match trying {
        Some(trying) => trying.await,
        None => std::future::pending().await,
    }
}
