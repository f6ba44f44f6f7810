//! One connection of the link: waits for whatever comes first and does what the session says.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::tail::Rows;
use super::{FAREWELL, Link};
use crate::cloud::mqtt::{Broker, Wire, WireError};
use crate::db::{DbError, WriterStats};
use crate::link::{
    Action, Answer, Ended, Incoming, Outgoing, Publication, Session, Topics, Verdict,
};
use crate::time::Mono;

type Looking = Pin<Box<dyn Future<Output = Result<Rows, DbError>> + Send>>;
type Offered = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What happened first.
enum Input {
    Stop,
    Packet(Result<Incoming, WireError>),
    Answer(Answer),
    Rows(Result<Rows, DbError>),
    Put(u64),
    Reported,
    Time,
}

/// Whose publication is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    State,
    Reported,
}

/// What goes on beside the connection.
struct Beside {
    looking: Option<Looking>,
    offered: Option<Offered>,
    given: Option<Given>,
    /// The reported twin was not published on this connection as it is now.
    reported: bool,
    farewell: Option<Mono>,
    up_since: Option<Mono>,
    /// Records put when the outbox was last known to have grown.
    puts: u64,
}

impl<B: Broker> Link<B> {
    /// Runs the session over a connection that stands.
    pub(super) async fn serve(
        &mut self,
        mut wire: B::Wire,
        stop: &CancellationToken,
    ) -> (Ended, Option<Mono>) {
        let presence = self.presence();
        let now = self.deps.time.mono();
        let (mut session, first) = Session::begin(presence, self.config.keep_alive, now);
        let mut stats = self.deps.db.stats();
        let mut beside = Beside {
            looking: None,
            offered: None,
            given: None,
            reported: true,
            farewell: None,
            up_since: None,
            puts: stats.borrow().puts,
        };
        let mut todo = VecDeque::from(first);
        let ended = loop {
            if let Err(ended) = self
                .perform(&mut wire, &mut session, &mut beside, &mut todo)
                .await
            {
                break ended;
            }
            let input = self
                .next(&mut wire, &session, &mut beside, &mut stats, stop)
                .await;
            let now = self.deps.time.mono();
            match input {
                Input::Packet(Err(e)) => break e.into(),
                Input::Time if beside.farewell.is_some_and(|until| now >= until) => {
                    break Ended::Stopped;
                }
                Input::Packet(Ok(packet)) => todo.extend(session.packet(now, packet)),
                Input::Answer(answer) => {
                    beside.offered = None;
                    if answer != Answer::Later {
                        self.change(|s| s.received += 1);
                    }
                    todo.extend(session.answered(now, answer));
                }
                Input::Rows(rows) => {
                    beside.looking = None;
                    self.rows(rows, &session, &mut todo);
                }
                Input::Put(puts) => {
                    beside.puts = puts;
                    self.tail.grown();
                }
                Input::Reported => beside.reported = true,
                Input::Time => todo.extend(session.tick(now)),
                Input::Stop => {
                    beside.farewell = Some(now + FAREWELL);
                    todo.extend(session.leave(now));
                }
            }
        };
        let under_way = beside.given == Some(Given::State);
        self.tail
            .disconnected(under_way, ended.blames_publication());
        let ended = match (stop.is_cancelled(), ended) {
            (true, _) => Ended::Stopped,
            (false, ended) => ended,
        };
        (ended, beside.up_since)
    }

    /// Waits for what comes first.
    async fn next(
        &mut self,
        wire: &mut B::Wire,
        session: &Session,
        beside: &mut Beside,
        stats: &mut tokio::sync::watch::Receiver<WriterStats>,
        stop: &CancellationToken,
    ) -> Input {
        if session.worked() && beside.looking.is_none() && self.tail.hungry() {
            beside.looking = Some(Box::pin(self.tail.look(&self.deps.db)));
        }
        let puts = beside.puts;
        let now = self.deps.time.mono();
        let deadline = beside
            .farewell
            .map_or(session.deadline(), |until| until.min(session.deadline()));
        let reported = &mut self.plugs.reported;
        tokio::select! {
            biased;
            () = stop.cancelled(), if beside.farewell.is_none() => Input::Stop,
            packet = wire.recv(), if session.reads() => Input::Packet(packet),
            answer = poll(&mut beside.offered) => Input::Answer(answer),
            rows = poll(&mut beside.looking) => Input::Rows(rows),
            Ok(s) = stats.wait_for(|s| s.puts != puts) => Input::Put(s.puts),
            Ok(()) = reported.changed() => Input::Reported,
            () = tokio::time::sleep(deadline.since(now)) => Input::Time,
        }
    }

    /// Does what the session said, then gives it the next publication where it takes one.
    async fn perform(
        &mut self,
        wire: &mut B::Wire,
        session: &mut Session,
        beside: &mut Beside,
        todo: &mut VecDeque<Action>,
    ) -> Result<(), Ended> {
        loop {
            let now = self.deps.time.mono();
            let Some(action) = todo.pop_front() else {
                if !session.ready(now) {
                    return Ok(());
                }
                let Some((given, publication)) = self.publication(beside) else {
                    return Ok(());
                };
                beside.given = Some(given);
                todo.extend(session.publish(now, publication));
                continue;
            };
            match action {
                Action::Send(packet) => {
                    if let Err(e) = wire.send(packet).await {
                        return Err(e.into());
                    }
                }
                Action::Offer { to, payload } => {
                    let inbox = Arc::clone(self.plugs.of(to));
                    beside.offered = Some(Box::pin(async move { inbox.offer(payload).await }));
                }
                Action::Poke => self.plugs.poke.notify_one(),
                Action::Up => {
                    beside.up_since = Some(now);
                    tracing::info!("the link to the broker is up");
                    self.change(|s| s.sessions += 1);
                    self.show("up", None);
                }
                Action::Settled(verdict) => self.settled(beside, verdict),
                Action::End(ended) => return Err(ended),
            }
        }
    }

    fn publication(&mut self, beside: &mut Beside) -> Option<(Given, Publication)> {
        if beside.reported {
            beside.reported = false;
            let reported = self.plugs.reported.borrow_and_update().body.clone();
            if reported["desired"]
                .as_u64()
                .is_some_and(|version| version > 0)
            {
                let payload = reported.to_string().into_bytes();
                let topic = Topics::of(&self.config.edge_id).reported();
                let publication = Publication {
                    topic,
                    payload,
                    retain: true,
                };
                return Some((Given::Reported, publication));
            }
        }
        let state = self.tail.next()?.clone();
        Some((Given::State, state))
    }

    fn settled(&mut self, beside: &mut Beside, verdict: Verdict) {
        match beside.given.take() {
            Some(Given::State) => self.tail.settle(verdict),
            // What was put off is published after the pause.
            Some(Given::Reported) => {
                beside.reported |= matches!(verdict, Verdict::Denied | Verdict::Later);
            }
            None => {}
        }
        if verdict == Verdict::Denied {
            tracing::warn!("the broker does not let us publish, trying again in five minutes");
        }
        self.change(|s| {
            s.denied = verdict == Verdict::Denied;
            s.published += u64::from(verdict == Verdict::Delivered);
        });
    }

    fn rows(
        &mut self,
        rows: Result<Rows, DbError>,
        session: &Session,
        todo: &mut VecDeque<Action>,
    ) {
        match rows {
            Ok(rows) => {
                let topic = Topics::of(&self.config.edge_id).hint();
                for payload in self.tail.take(rows) {
                    if !session.fits(topic.len() + payload.len()) {
                        continue;
                    }
                    todo.push_back(Action::Send(Outgoing::Publish {
                        id: None,
                        topic: topic.clone(),
                        payload,
                        retain: false,
                    }));
                }
            }
            // The next record wakes it.
            Err(e) => tracing::warn!(error = %e, "the outbox cannot be read for the link"),
        }
    }
}

/// Waits for the future, for ever where there is none.
async fn poll<T>(slot: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match slot {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
