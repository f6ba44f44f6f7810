//! One action of the machine against the cloud or the disk, and what came of it.

use std::time::Duration;

use uuid::Uuid;

use super::{Claimer, InFlight};
use crate::agent::journal::Fact;
use crate::agent::records;
use crate::agent::time::learn;
use crate::agent::wipe::{self, Wipe};
use crate::claim::led::Flash;
use crate::claim::machine::{Action, Base, Ended};
use crate::cloud::client::{Call, ClientError, Reply, Transport as _};
use crate::cloud::credentials::CredentialsError;
use crate::cloud::{Client, Credentials};
use crate::model::RecordId;
use crate::supervise::failpoint;
use crate::time::{Mono, Wall};
use crate::wire::claim::{self, Answer, Confirmed, Failure};
use crate::wire::keys::KeySlot;
use crate::wire::seal::claim_info;
use crate::wire::skew::DateSample;

/// For the confirm, as for every request of a claim.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The journal takes a record within this, unless the disk is stuck.
const NOTED_WITHIN: Duration = Duration::from_secs(3);

/// An answer, what was asked, and when.
pub(super) struct Done {
    asked: Asked,
    reply: Result<Reply, ClientError>,
    sent: Mono,
}

#[derive(Debug, Clone, Copy)]
enum Asked {
    Create,
    Poll,
    Answer,
    Confirm,
}

impl Claimer {
    /// Begins a request; where it cannot even begin, that is its answer.
    pub(super) fn exchange(&self, action: Action) -> InFlight {
        let (sent, now) = (self.parts.time.mono(), self.parts.time.wall());
        let no_way = |asked, why: &str| -> InFlight {
            let reply = Err(ClientError::NoAnswer(why.into()));
            Box::pin(std::future::ready(done(asked, reply, sent)))
        };
        let api = self.api.clone();
        let version = env!("CARGO_PKG_VERSION");
        match action {
            Action::Create { code } => {
                let (Some(api), Some(key)) = (api, &self.key) else {
                    return no_way(Asked::Create, "no key");
                };
                let body = claim::create_body(key.public(), &self.facts, version, code.as_ref());
                Box::pin(async move {
                    let reply = api.create(body, now).await;
                    done(Asked::Create, reply, sent)
                })
            }
            Action::Poll { claim, token } => {
                let Some(api) = api else {
                    return no_way(Asked::Poll, "no cloud");
                };
                Box::pin(async move {
                    let reply = api.post_of(claim, "poll", &token, b"{}".into(), now).await;
                    done(Asked::Poll, reply, sent)
                })
            }
            Action::Answer {
                claim,
                token,
                challenge,
                count,
            } => {
                let Some(api) = api else {
                    return no_way(Asked::Answer, "no cloud");
                };
                let body = claim::challenge_body(&challenge, count);
                Box::pin(async move {
                    let reply = api.post_of(claim, "challenge", &token, body, now).await;
                    done(Asked::Answer, reply, sent)
                })
            }
            Action::Confirm { claim } => {
                let Some(pending) = &self.pending else {
                    return no_way(Asked::Confirm, "no pending credentials");
                };
                failpoint::hit("claim.confirming");
                let (tls, nonce) = (self.parts.tls.clone(), self.parts.entropy.bytes());
                let keys = pending.credentials.clone();
                Box::pin(async move {
                    let reply = confirm(keys, tls, claim, now, nonce).await;
                    done(Asked::Confirm, reply, sent)
                })
            }
            Action::Store { .. } | Action::Activate | Action::Discard => {
                no_way(Asked::Poll, "not a request")
            }
        }
    }

    /// Tells the machine what came of a request.
    pub(super) async fn done(&mut self, done: Done) {
        let reply = match done.reply {
            Ok(reply) => reply,
            Err(e) => {
                tracing::info!(asked = ?done.asked, error = %e, "no answer from the cloud");
                return self.told(done.asked, None).await;
            }
        };
        tracing::debug!(asked = ?done.asked, status = reply.status, code = reply.code, "the cloud answered");
        if let Some(date) = reply.date {
            let received = self.parts.time.mono();
            let sample = DateSample {
                date,
                sent: done.sent,
                received,
                cached: reply.cached,
            };
            if let Err(e) = learn(&self.parts.time, &self.parts.db, sample).await {
                tracing::warn!(error = %e, "the time cannot be written down");
            }
        }
        self.told(done.asked, Some(reply)).await;
    }

    async fn told(&mut self, asked: Asked, reply: Option<Reply>) {
        let now = self.parts.time.mono();
        let later = Failure::Later(None);
        let answer = reply.as_ref().map(|r| Answer {
            status: r.status,
            code: &r.code,
            retry_after: r.retry_after,
            body: &r.body,
        });
        let was_open = self.machine.is_open();
        match asked {
            Asked::Create => {
                let created = answer.map_or(Err(later), |a| claim::parse_created(&a));
                failpoint::hit("claim.created");
                self.code_judged(&created);
                self.machine.created(created, now);
            }
            Asked::Poll => {
                let polled =
                    answer.map_or(claim::Polled::Failed(later), |a| claim::parse_polled(&a));
                if self.machine.polled(polled, now) {
                    tracing::info!("press the button as often as the app says");
                    failpoint::hit("claim.challenge");
                    self.presses.begin_count();
                }
            }
            Asked::Answer => {
                let counted = answer.map_or(Err(later), |a| claim::parse_counted(&a));
                failpoint::hit("claim.counted");
                self.machine.counted(counted, now);
            }
            Asked::Confirm => {
                let authentic = reply.as_ref().is_some_and(|r| r.authentic);
                let confirmed = answer.map_or(Confirmed::Later(None), |a| {
                    claim::parse_confirmed(&a, authentic)
                });
                let time = &self.parts.time;
                let wall = time.is_synced().then(|| time.wall());
                self.machine
                    .confirmed(confirmed, wall, now, self.parts.entropy.unit());
            }
        }
        if was_open && !self.machine.is_open() && !self.machine.wants_key() {
            self.window_ended();
        }
    }

    /// Opens the blob and writes it as the pending claim.
    pub(super) async fn store(
        &mut self,
        claim: Uuid,
        blob: Vec<u8>,
        confirm_by: Option<Wall>,
    ) -> Result<(), Ended> {
        let bad = Ended::BadCredentials;
        let key = self.key.take().ok_or(bad("come too late"))?;
        let info = claim_info(claim, key.public());
        let plain = key
            .open(&info, &blob)
            .map_err(|_| bad("are not sealed to this device"))?;
        failpoint::hit("claim.opened");
        let text = std::str::from_utf8(&plain).map_err(|_| bad("are not text"))?;
        let theirs = Credentials::parse(text).map_err(bad)?.tenant_id;
        if let (Base::Claimed { .. }, Some(ours)) = (self.machine.base(), self.tenant_id())
            && ours != theirs
        {
            // Records of the owner wait here: another one gets the device only after an unclaim.
            return Err(bad("are another owner's; unclaim the device first"));
        }
        let store = self.parts.store.clone();
        let written =
            tokio::task::spawn_blocking(move || store.write_pending(&plain, claim, confirm_by));
        match written.await {
            Ok(Ok(pending)) => {
                self.pending = Some(pending);
                Ok(())
            }
            Ok(Err(CredentialsError::Content { problem, .. })) => Err(bad(problem)),
            Ok(Err(e)) => {
                tracing::error!(error = %e, "the credentials cannot be written");
                Err(Ended::NotStored)
            }
            Err(_) => Err(Ended::NotStored),
        }
    }

    /// Makes the pending credentials the current ones and lets the rest of the agent have them.
    pub(super) async fn activate(&mut self) {
        failpoint::hit("claim.confirmed");
        let store = self.parts.store.clone();
        let activated = tokio::task::spawn_blocking(move || store.activate()).await;
        let now = self.parts.time.mono();
        match activated {
            Ok(Ok(keys)) => {
                self.pending = None;
                self.machine.activated(true, now);
                self.light.flash(Flash::Claimed, now);
                self.forget_code_file();
                let current = keys.of(KeySlot::Current);
                tracing::info!(
                    edge_id = current.edge_id,
                    tenant = current.tenant,
                    "the device is claimed"
                );
                if self.settle_owner(&current.tenant_id.clone()) {
                    self.work_with(keys);
                    self.claimed.notify_one();
                    self.note("claim.claimed").await;
                }
            }
            Ok(Err(e)) => {
                tracing::error!(error = %e, "the credentials cannot be put in place, trying again");
                self.machine.activated(false, now);
            }
            Err(_) => self.machine.activated(false, now),
        }
    }

    /// Removes the pending credentials.
    pub(super) async fn discard(&mut self) {
        let store = self.parts.store.clone();
        let discarded = tokio::task::spawn_blocking(move || store.discard()).await;
        let done = matches!(discarded, Ok(Ok(())));
        if done {
            self.pending = None;
        } else {
            tracing::error!("the pending credentials cannot be removed, trying again");
        }
        self.machine.discarded(done, self.parts.time.mono());
        if done {
            self.window_ended();
        }
    }

    /// Whose records are in the store is whose the device is; if not, they go. `false`: they go, the agent starts
    /// anew.
    pub(super) fn settle_owner(&mut self, tenant_id: &str) -> bool {
        if tenant_id.is_empty() {
            return true;
        }
        match self.parts.store.owner() {
            Some(owner) if owner == tenant_id => true,
            Some(_) => {
                tracing::warn!(
                    "the records here are a former owner's: they are removed, the agent starts anew"
                );
                match wipe::order(&self.parts.state_dir, Wipe::Records) {
                    Ok(()) => self.parts.restart.notify_one(),
                    Err(e) => {
                        tracing::error!(error = %e, "the former owner's records cannot be removed, nothing is sent");
                    }
                }
                false
            }
            None => {
                if let Err(e) = self.parts.store.set_owner(tenant_id) {
                    tracing::warn!(error = %e, "the owner cannot be written down");
                }
                failpoint::hit("claim.owned");
                true
            }
        }
    }

    /// Commits a record of the claim. A store that takes nothing now keeps no claim, unclaim or button waiting for long.
    pub(super) async fn note(&mut self, kind: &'static str) {
        let (id, at) = (RecordId((self.parts.ids)()), self.parts.time.mono());
        let record = records::claim(id, kind, at, serde_json::json!({ "id": self.id }));
        let write = self.parts.journal.write(Fact::Told, vec![record]);
        if tokio::time::timeout(NOTED_WITHIN, write).await.is_err() {
            tracing::error!(
                kind,
                "the journal is stuck, this cannot be told to the cloud"
            );
        }
    }
}

fn done(asked: Asked, reply: Result<Reply, ClientError>, sent: Mono) -> Done {
    Done { asked, reply, sent }
}

async fn confirm(
    keys: Credentials,
    tls: crate::cloud::tls::TlsConfigs,
    claim: Uuid,
    now: Wall,
    nonce: [u8; 16],
) -> Result<Reply, ClientError> {
    let path = format!("/edge/v1/claims/{claim}/confirm");
    let call = Call {
        path: &path,
        body: Some(b"{}"),
        delete: false,
        content_type: "application/json",
        idempotency_key: None,
        if_none_match: None,
        gzip: false,
        key: KeySlot::Current,
        any_date: false,
    };
    Client::new(keys, tls, TIMEOUT)?
        .send(&call, now, nonce)
        .await
}
