//! Asks the cloud for commands by HTTPS: at least every 30 s while the broker cannot bring them, at once when poked, and
//! rarely while it can, because a broker may lose what it acknowledged.
//!
//! Each round asks from the beginning (`after=0`) and page by page: the cloud lists what it has no word of, and the inbox
//! knows what came before. So nothing is missed, in whatever order it was numbered, lost or brought by the other way.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::inbox::{Inbox, Verdict};
use super::time::TimeKeeper;
use crate::board::entropy::Entropy;
use crate::cloud::client::{Call, ClientError, Reply, Transport};
use crate::command::Way;
use crate::time::Mono;
use crate::wire::keys::KeySlot;

/// Between two rounds while there is no broker; ± 20 %.
const PERIOD: Duration = Duration::from_secs(25);
/// While there is one.
const RARE: Duration = Duration::from_secs(300);
/// After a command that had to wait, or a round that was cut short.
const SOON: Duration = Duration::from_secs(1);
/// After a refusal that will not change soon (key, account, address).
const REFUSED: Duration = Duration::from_secs(300);
/// Pokes are not answered faster than this.
const LEAST: Duration = Duration::from_millis(200);
/// Commands a page.
const PAGE: usize = 16;
/// Pages a round; what is left comes with the next.
const PAGES: usize = 8;

#[derive(Deserialize)]
struct Page {
    commands: Vec<String>,
}

/// What a round found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// All that waits at the cloud was offered to the inbox.
    Done,
    /// Something waits that can be taken soon.
    Again,
    /// The cloud cannot be asked now, or asks for a pause.
    Failed(Option<Duration>),
}

/// The poll task.
pub struct Poll<T> {
    client: T,
    inbox: Inbox,
    time: TimeKeeper,
    entropy: Entropy,
    poke: Arc<Notify>,
    /// Since when the broker is away; nothing while it is there.
    broker_away: watch::Receiver<Option<Mono>>,
}

impl<T: Transport> Poll<T> {
    /// Asks as `client`, hands over to `inbox`, and is woken by `poke`.
    pub fn new(
        client: T,
        inbox: Inbox,
        time: TimeKeeper,
        entropy: Entropy,
        poke: Arc<Notify>,
        broker_away: watch::Receiver<Option<Mono>>,
    ) -> Self {
        Self {
            client,
            inbox,
            time,
            entropy,
            poke,
            broker_away,
        }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        // Without a broker, and with one.
        let mut pauses = (LEAST, RARE);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.until_due(pauses) => {}
            }
            pauses = pauses_after(self.round().await, self.jitter(PERIOD));
        }
    }

    /// Waits for the first of `pauses`, or the second while the broker works; a poke ends it.
    async fn until_due(&mut self, pauses: (Duration, Duration)) {
        let began = self.time.mono();
        let poke = Arc::clone(&self.poke);
        loop {
            let now = self.time.mono();
            let away = self.broker_away.borrow_and_update().is_some();
            let pause = if away { pauses.0 } else { pauses.1 };
            let rest = pause.saturating_sub(now.since(began));
            if rest.is_zero() {
                return;
            }
            tokio::select! {
                biased;
                () = poke.notified() => {
                    tokio::time::sleep(LEAST).await;
                    return;
                }
                // Without a link nobody changes it, ever.
                Ok(()) = self.broker_away.changed() => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    fn jitter(&self, period: Duration) -> Duration {
        period.mul_f64(0.8 + 0.4 * self.entropy.unit())
    }

    /// Asks for everything that waits and offers it to the inbox.
    pub async fn round(&self) -> Round {
        if !self.time.is_synced() {
            // The uploader is about to learn it; nothing can be signed before.
            return Round::Again;
        }
        let (mut after, mut again) = (0, false);
        for _ in 0..PAGES {
            let path = format!("/edge/v1/commands?after={after}&limit={PAGE}");
            let reply = match self.ask(&path).await {
                Ok(reply) => reply,
                Err(e) => {
                    tracing::debug!(error = %e, "commands cannot be asked for");
                    return Round::Failed(None);
                }
            };
            let page: Option<Page> = (reply.status == 200)
                .then(|| serde_json::from_slice(&reply.body).ok())
                .flatten();
            let Some(page) = page else {
                tracing::debug!(status = reply.status, code = reply.code, "no commands");
                let asked = match reply.status {
                    401 | 403 | 404 | 405 | 410 => Some(REFUSED),
                    _ => reply.retry_after,
                };
                return Round::Failed(asked);
            };
            for jws in page.commands.iter().take(PAGE) {
                match self.inbox.offer(jws.as_bytes(), Way::Poll).await {
                    Verdict::Later("rate") => return Round::Again,
                    // The inbox pokes once there is room.
                    Verdict::Later(_) | Verdict::Unavailable => return Round::Failed(None),
                    Verdict::Accepted(_)
                    | Verdict::Rejected(..)
                    | Verdict::Duplicate(_)
                    | Verdict::Refused(_) => {}
                }
                match number(jws) {
                    Some(n) => after = after.max(n),
                    None => again = true,
                }
            }
            if page.commands.len() < PAGE || again {
                return Round::Done;
            }
        }
        Round::Again
    }

    async fn ask(&self, path: &str) -> Result<Reply, ClientError> {
        let call = Call {
            path,
            body: None,
            delete: false,
            content_type: "",
            idempotency_key: None,
            if_none_match: None,
            gzip: false,
            key: KeySlot::Current,
            any_date: false,
        };
        let created = self.time.wall();
        self.client.send(&call, created, self.entropy.bytes()).await
    }
}

/// How long to wait after a round, without a broker and with one.
fn pauses_after(round: Round, period: Duration) -> (Duration, Duration) {
    match round {
        Round::Again => (SOON, SOON),
        Round::Done => (period, RARE),
        Round::Failed(asked) => {
            let asked = asked.unwrap_or_default();
            (asked.max(period), asked.max(RARE))
        }
    }
}

/// The number of a document, to ask for the page behind it. Unverified: it only says where to go on reading.
fn number(jws: &str) -> Option<u64> {
    use base64::Engine as _;
    #[derive(Deserialize)]
    struct Numbered {
        n: u64,
    }
    let payload = jws.split('.').nth(1)?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .ok()?;
    let numbered: Numbered = serde_json::from_slice(&bytes).ok()?;
    Some(numbered.n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_is_gone_is_replaced_at_once_and_what_was_cut_short_goes_on_soon() {
        let period = Duration::from_secs(27);
        assert_eq!(pauses_after(Round::Done, period), (period, RARE));
        assert_eq!(pauses_after(Round::Failed(None), period), (period, RARE));
        // What has to wait for a second waits for no broker.
        assert_eq!(pauses_after(Round::Again, period), (SOON, SOON));
        let hour = Duration::from_secs(3600);
        assert_eq!(
            pauses_after(Round::Failed(Some(hour)), period),
            (hour, hour)
        );
        let longest = PERIOD.mul_f64(1.2);
        assert!(longest <= Duration::from_secs(30));
    }
}
