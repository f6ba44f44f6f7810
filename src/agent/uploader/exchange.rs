//! One request and its answer: which key signs it, what its `Date` teaches.

use uuid::Uuid;

use super::{AUTH_LONGEST_PAUSE, BATCH_TYPE, Pass, TIME_PATH, Uploader, describe};
use crate::agent::time::learn;
use crate::cloud::client::{Call, ClientError, Reply, Transport};
use crate::db::DbError;
use crate::time::Mono;
use crate::wire::answer::{Outcome, Reaction, parse_results, react};
use crate::wire::keys::Refused;
use crate::wire::skew::DateSample;

impl<T: Transport> Uploader<T> {
    /// Asks for the time before anything is signed for good: an answer's `Date` is enough, even that of a refusal.
    pub(super) async fn learn_time(&mut self) -> Result<Pass, DbError> {
        let (mut outcome, mut date) = self.send(TIME_PATH, None, None).await;
        if outcome == Outcome::WrongDates {
            (outcome, date) = self.ask_over_any_date().await;
        }
        self.learn_from(date).await?;
        if self.time.is_synced() {
            return Ok(Pass::More);
        }
        if react(outcome.clone()) == Reaction::AuthLost {
            return Ok(self.key_refused(self.time.mono(), &describe(&outcome)));
        }
        self.failed("retrying", &describe(&outcome));
        self.unheard = outcome.is_silence();
        let asked = match outcome {
            Outcome::Answer { retry_after, .. } => retry_after,
            Outcome::NoAnswer | Outcome::WrongDates | Outcome::TimedOut => None,
        };
        Ok(self.back_off(self.time.mono(), asked))
    }

    /// Asks whoever has the cloud's certificate, valid at some time. The answer teaches only with a signature that
    /// belongs to this request: one with the key of an expired certificate cannot make it.
    async fn ask_over_any_date(&mut self) -> (Outcome, Option<DateSample>) {
        tracing::info!("the cloud's certificate is not valid at our time, asking for the time");
        let (outcome, date) = self.request(TIME_PATH, None, None, true).await;
        let authentic = matches!(
            outcome,
            Outcome::Answer {
                authentic: true,
                ..
            }
        );
        (outcome, date.filter(|_| authentic))
    }

    /// Sends one request, signed with the key in use; the cloud's signed word proves that key.
    pub(super) async fn send(
        &mut self,
        path: &str,
        body: Option<&[u8]>,
        key: Option<Uuid>,
    ) -> (Outcome, Option<DateSample>) {
        self.request(path, body, key, false).await
    }

    async fn request(
        &mut self,
        path: &str,
        body: Option<&[u8]>,
        key: Option<Uuid>,
        any_date: bool,
    ) -> (Outcome, Option<DateSample>) {
        let sent = self.time.mono();
        let call = Call {
            path,
            body,
            delete: false,
            content_type: BATCH_TYPE,
            idempotency_key: key,
            if_none_match: None,
            gzip: sent >= self.no_gzip_until,
            key: self.keys.slot(),
            any_date,
        };
        match self
            .client
            .send(&call, self.time.wall(), self.entropy.bytes())
            .await
        {
            Ok(reply) => {
                let proof = reply.authentic && (200..300).contains(&reply.status);
                if proof && self.keys.proven() {
                    self.client.promote_next_key().await;
                }
                let sample = reply.date.map(|date| DateSample {
                    date,
                    sent,
                    received: self.time.mono(),
                    cached: reply.cached,
                });
                (outcome(reply), sample)
            }
            Err(e) => {
                tracing::debug!(error = %e, "no answer from the cloud");
                self.status
                    .send_modify(|s| s.last_error = Some(e.to_string()));
                let outcome = match e {
                    ClientError::TimedOut(_) => Outcome::TimedOut,
                    ClientError::CertificateDates(_) => Outcome::WrongDates,
                    ClientError::Setup(_) | ClientError::NoAnswer(_) => Outcome::NoAnswer,
                };
                (outcome, None)
            }
        }
    }

    pub(super) async fn learn_from(&mut self, sample: Option<DateSample>) -> Result<(), DbError> {
        match sample {
            Some(sample) => learn(&self.time, &self.db, sample).await,
            None => Ok(()),
        }
    }

    /// Sends again at once with the other key, once; then pauses. Nothing is wiped.
    pub(super) fn key_refused(&mut self, now: Mono, text: &str) -> Pass {
        match self.keys.refused(self.client.has_next_key()) {
            Refused::TryOther => {
                tracing::warn!(reason = text, "the key is refused, trying the next one");
                Pass::More
            }
            Refused::Lost => {
                self.failed("auth_lost", text);
                let pause = self.auth_pause;
                self.auth_pause = (pause * 2).min(AUTH_LONGEST_PAUSE);
                Pass::Wait(now + pause)
            }
        }
    }
}

fn outcome(reply: Reply) -> Outcome {
    let results = (200..300)
        .contains(&reply.status)
        .then(|| parse_results(&reply.body))
        .flatten();
    Outcome::Answer {
        status: reply.status,
        code: reply.code,
        retry_after: reply.retry_after,
        results,
        authentic: reply.authentic,
    }
}
