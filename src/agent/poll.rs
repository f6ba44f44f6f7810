//! Asks the cloud for commands by HTTPS: within 30 s while the broker cannot bring them, at once when poked, and rarely
//! while it can, because a broker may lose what it acknowledged.
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
/// The broker has to be away for so long before its work is done here.
const GRACE: Duration = Duration::from_secs(60);
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
        let mut pause = LEAST;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.until_due(pause) => {}
            }
            pause = match self.round().await {
                Round::Again => SOON,
                Round::Done => self.jitter(PERIOD),
                Round::Failed(asked) => asked.unwrap_or_default().max(self.jitter(PERIOD)),
            };
        }
    }

    /// Waits for `pause`, longer while the broker works; a poke ends it.
    async fn until_due(&mut self, pause: Duration) {
        let began = self.time.mono();
        let poke = Arc::clone(&self.poke);
        loop {
            let now = self.time.mono();
            let rest = match *self.broker_away.borrow_and_update() {
                Some(since) if now.since(since) >= GRACE || since == Mono(0) => {
                    pause.saturating_sub(now.since(began))
                }
                Some(since) => GRACE.saturating_sub(now.since(since)),
                None => RARE.max(pause).saturating_sub(now.since(began)),
            };
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
