//! Asks the cloud for the twin: at the start, every hour, and whenever somebody says that there is another. While a
//! change has to prove itself, asks for a signed answer instead, which is the proof.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{OfferError, TwinHandle};
use crate::agent::time::TimeKeeper;
use crate::board::entropy::Entropy;
use crate::cloud::Client;
use crate::cloud::client::{Call, Reply, Transport};
use crate::restart::Backoff;
use crate::wire::keys::KeySlot;

const TWIN_PATH: &str = "/edge/v1/twin";
/// Its answers are always signed.
const PROOF_PATH: &str = "/edge/v1/time";
const PERIOD: Duration = Duration::from_secs(3600);
/// Tries of a proof; 300 s are enough for many.
const PROOF_PERIOD: Duration = Duration::from_secs(5);
/// Nothing can be signed before the time is known.
const TIME_PERIOD: Duration = Duration::from_secs(1);

/// The task.
pub struct Fetcher<T = Client> {
    client: T,
    time: TimeKeeper,
    entropy: Entropy,
    twin: TwinHandle,
    backoff: Backoff,
    /// Of the twin that was taken last.
    etag: Option<String>,
}

impl<T: Transport> Fetcher<T> {
    /// Asks as `client` and hands what it gets to `twin`.
    pub fn new(client: T, time: TimeKeeper, entropy: Entropy, twin: TwinHandle) -> Self {
        Self {
            client,
            time,
            entropy,
            twin,
            backoff: Backoff::http(),
            etag: None,
        }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut report = self.twin.report();
        loop {
            let pause = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                pause = self.pass() => pause,
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.twin.refresh.notified() => {}
                // Something has to prove itself from now on, or no more.
                Ok(_) = report.wait_for(|r| r.provisional.is_some()), if pause > PROOF_PERIOD => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One question; returns when to ask next, if nobody asks for it before. Cancel safe.
    pub async fn pass(&mut self) -> Duration {
        if !self.time.is_synced() {
            return TIME_PERIOD;
        }
        let provisional = self.twin.report.borrow().provisional;
        if let Some(version) = provisional {
            if let Some(reply) = self.ask(PROOF_PATH, None).await
                && reply.authentic
                && (200..300).contains(&reply.status)
            {
                self.twin.proved(version).await;
            }
            return PROOF_PERIOD;
        }
        let etag = self.etag.clone();
        let Some(reply) = self.ask(TWIN_PATH, etag.as_deref()).await else {
            return self.back_off(None);
        };
        match reply.status {
            200 => self.take(reply).await,
            // A cloud without twins, or without one for this device, is a cloud all the same.
            304 | 204 | 404 => self.settled(),
            // The uploader finds out when we are known again, and the answer to its records names the version.
            401 if matches!(reply.code.as_str(), "unknown-key" | "invalid-signature") => PERIOD,
            403 | 410 | 426 => PERIOD,
            status => {
                tracing::debug!(status, code = reply.code, "no twin from the cloud");
                self.back_off(reply.retry_after)
            }
        }
    }

    async fn take(&mut self, reply: Reply) -> Duration {
        match self.twin.offer(&reply.body).await {
            Ok(verdict) => {
                tracing::debug!(?verdict, "asked for the twin");
                self.etag = reply.etag;
                self.settled()
            }
            Err(OfferError::Ending) => PERIOD,
            Err(_) => self.back_off(None),
        }
    }

    async fn ask(&self, path: &str, etag: Option<&str>) -> Option<Reply> {
        let call = Call {
            path,
            body: None,
            delete: false,
            content_type: "",
            idempotency_key: None,
            if_none_match: etag,
            gzip: false,
            key: KeySlot::Current,
            any_date: false,
        };
        let (now, nonce) = (self.time.wall(), self.entropy.bytes());
        let reply = self.client.send(&call, now, nonce).await;
        reply
            .inspect_err(|e| tracing::debug!(error = %e, "no answer about the twin"))
            .ok()
    }

    fn settled(&mut self) -> Duration {
        self.backoff.works(self.time.mono());
        // A fleet that started together does not ask together.
        PERIOD.mul_f64(0.9 + 0.2 * self.entropy.unit())
    }

    fn back_off(&mut self, asked: Option<Duration>) -> Duration {
        let (now, random) = (self.time.mono(), self.entropy.unit());
        let until = match asked {
            Some(wait) => self.backoff.next_after(now, random, wait),
            None => self.backoff.next(now, random),
        };
        until.since(now)
    }
}
