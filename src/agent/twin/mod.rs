//! Takes what the cloud wants this device to be, and makes it so.
//!
//! ```text
//! offer ─▶ judged as a whole ─▶ secrets on disk ─▶ row and report committed ─▶ answered ─▶ cameras, address, heartbeat
//! ```
//!
//! A power cut before the commit leaves the old twin, after it the new one. Whatever has faults changes nothing. What
//! may cut the cloud off is provisional: without one authenticated answer within 300 s it is taken back.

mod fetch;
pub mod store;
pub(super) mod vault;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use fetch::Fetcher;
use store::{PROGRAM, Store};

use super::camera::registry::Cameras;
use super::claimed::Clients;
use super::status::StatusHub;
use super::time::TimeKeeper;
use crate::cloud::client::Transport as _;
use crate::config::Config;
use crate::db::DbError;
use crate::model::BootId;
use crate::supervise::failpoint;
use crate::twin::state::{Deadline, Document, PROVISIONAL, State};
use crate::twin::{Effective, Envelope, Reason, Refusal, Secrets, StreamPart, compile};
use crate::wire::jws::{self, JwsError, Typ};

/// Twins that may wait to be judged; when full, who offers one waits.
const QUEUE: usize = 4;
/// The deadline of what is provisional is looked at this often.
const TICK: Duration = Duration::from_secs(1);

/// How a twin was taken; committed when it is said.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It is, or is about to be, in force.
    Accepted,
    /// It has faults; what was in force stays.
    Rejected(Vec<Reason>),
    /// It, or a newer one, was judged before.
    Known,
}

/// Why a twin was not even judged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OfferError {
    /// Not the cloud's word, or longer than it may be.
    #[error("{0}")]
    Unsigned(#[from] JwsError),
    /// The claims are not a twin for this device.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The store does not take it now: offer it again.
    #[error("{0}")]
    Store(#[from] DbError),
    /// The agent ends.
    #[error("the agent ends")]
    Ending,
}

/// What the cloud is told, and what others look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// `data` of `twin.reported`, and the payload of `up/twin`.
    pub body: Value,
    /// The version that has to prove itself.
    pub provisional: Option<u64>,
}

enum Op {
    Offer(Vec<u8>, oneshot::Sender<Result<Verdict, OfferError>>),
    Proved(u64),
}

/// Handle to the twin; cheap to clone.
#[derive(Clone)]
pub struct TwinHandle {
    ops: mpsc::Sender<Op>,
    refresh: Arc<Notify>,
    report: watch::Receiver<Report>,
    clients: Clients,
}

impl TwinHandle {
    /// Offers a twin as it came, by HTTPS or by the broker; answers once the verdict is on disk.
    ///
    /// # Errors
    /// [`OfferError`]; nothing has changed then. Only [`OfferError::Store`] is worth another try.
    pub async fn offer(&self, jws: &[u8]) -> Result<Verdict, OfferError> {
        let keys = self.clients.borrow().as_ref().map(|c| c.keys().signing());
        let claims = jws::verify(jws, Typ::Twin, &keys.unwrap_or_default());
        let claims =
            claims.inspect_err(|e| tracing::warn!(code = e.code(), "a twin was refused"))?;
        self.offer_twin(claims).await
    }

    /// Offers the verified claims of a twin; answers once the verdict is on disk.
    ///
    /// # Errors
    /// [`OfferError`]; nothing has changed then.
    pub async fn offer_twin(&self, claims: Vec<u8>) -> Result<Verdict, OfferError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.ops.send(Op::Offer(claims, reply)).await;
        sent.map_err(|_| OfferError::Ending)?;
        answer.await.map_err(|_| OfferError::Ending)?
    }

    /// Asks the cloud for the twin at once (`twin.refresh`, `down/poke`, a higher `twin_version`).
    pub fn refresh(&self) {
        self.refresh.notify_one();
    }

    /// What the cloud is told, now and at every change.
    pub fn report(&self) -> watch::Receiver<Report> {
        self.report.clone()
    }

    /// The cloud answered, authentically, to a request that was sent while `version` was in force.
    pub async fn proved(&self, version: u64) {
        // An error means that the agent ends; the deadline is on disk.
        let _ = self.ops.send(Op::Proved(version)).await;
    }
}

/// What of the agent a twin reaches.
pub struct Reach {
    /// The cameras.
    pub cameras: Cameras,
    /// The way to the cloud, where there is one now.
    pub clients: Clients,
    /// Time between heartbeats.
    pub heartbeat: watch::Sender<Option<Duration>>,
    /// Where live video may be published to.
    pub stream: watch::Sender<StreamPart>,
    /// Where the version is shown.
    pub status: StatusHub,
    /// Told by whoever knows that there is another twin; see [`TwinHandle::refresh`].
    pub refresh: Arc<Notify>,
}

/// What is in force at the start of the agent.
pub struct Loaded {
    state: State,
    /// In force.
    pub effective: Effective,
    confirmed: Effective,
}

/// The task.
pub struct Twin {
    store: Store,
    local: Config,
    edge_id: String,
    boot: BootId,
    time: TimeKeeper,
    reach: Reach,
    state: State,
    effective: Effective,
    confirmed: Effective,
    ops: mpsc::Receiver<Op>,
    report: watch::Sender<Report>,
}

/// Reads what is in force, before anything runs. A document that does not fit the configuration file of today any more
/// is put aside, and the file alone counts.
///
/// # Errors
/// [`DbError`] of the store.
pub async fn load(
    store: &Store,
    local: &Config,
    boot: BootId,
    time: &TimeKeeper,
) -> Result<Loaded, DbError> {
    let stored = store.load().await?;
    let state = stored.clone().at_start(boot, time.mono(), time.wall());
    let state = if state == stored {
        state
    } else {
        if state.provisional.is_none() {
            tracing::warn!(
                version = stored.desired,
                "the twin did not prove itself in time, back to the one before"
            );
        }
        store.commit(state, time.mono()).await?
    };
    let of = |document: &Document| store.effective(document, local);
    let found = of(&state.applied).and_then(|e| Ok((e, of(state.confirmed())?)));
    Ok(match found {
        Ok((effective, confirmed)) => Loaded {
            state,
            effective,
            confirmed,
        },
        Err(reasons) => {
            tracing::error!(
                version = state.applied.version,
                ?reasons,
                "the stored twin does not fit this device's configuration, running from the configuration alone"
            );
            // Only for this run; judged by nobody, so that the cloud's copy of it is judged anew.
            let broken = State {
                desired: state.desired,
                ..State::default()
            };
            Loaded {
                state: broken.rejected(state.desired, reasons, ""),
                effective: Effective::local(local),
                confirmed: Effective::local(local),
            }
        }
    })
}

/// Makes the handle and the task.
pub fn twin(
    store: Store,
    local: Config,
    boot: BootId,
    time: TimeKeeper,
    reach: Reach,
    loaded: Loaded,
) -> (TwinHandle, Twin) {
    let (tx, ops) = mpsc::channel(QUEUE);
    let (report, reported) = watch::channel(report_of(&loaded.state));
    let handle = TwinHandle {
        ops: tx,
        refresh: Arc::clone(&reach.refresh),
        report: reported,
        clients: reach.clients.clone(),
    };
    let twin = Twin {
        store,
        local,
        edge_id: loaded.state.edge_id.clone(),
        boot,
        time,
        reach,
        state: loaded.state,
        effective: loaded.effective,
        confirmed: loaded.confirmed,
        ops,
        report,
    };
    (handle, twin)
}

fn report_of(state: &State) -> Report {
    Report {
        body: state.report(),
        provisional: state.provisional.is_some().then_some(state.applied.version),
    }
}

impl Twin {
    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        self.identify().await;
        self.tell();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                op = self.ops.recv() => match op {
                    Some(Op::Offer(claims, reply)) => {
                        let (verdict, changed) = match self.offer(&claims).await {
                            Ok((verdict, changed)) => (Ok(verdict), changed),
                            Err(e) => (Err(e), false),
                        };
                        // Whoever asked may be gone; the verdict stands.
                        let _ = reply.send(verdict);
                        if changed {
                            self.put_in_force().await;
                        }
                    }
                    Some(Op::Proved(version)) => self.proved(version).await,
                    None => break,
                },
                Ok(()) = self.reach.clients.changed() => self.identify().await,
                () = tokio::time::sleep(TICK), if self.state.provisional.is_some() => {}
            }
            if self.state.is_overdue(self.time.mono()) {
                self.revert().await;
            }
        }
    }

    /// Judges; `true`: something else is in force now.
    async fn offer(&mut self, claims: &[u8]) -> Result<(Verdict, bool), OfferError> {
        let now = self.time.is_synced().then(|| self.time.wall());
        let Envelope { version, mut doc } = Envelope::parse(claims, &self.edge_id, now)
            .inspect_err(|e| tracing::warn!(code = %e, "a twin was refused"))?;
        if !self.state.is_news(version, PROGRAM) {
            return Ok((Verdict::Known, false));
        }
        let mut faults = Vec::new();
        let secrets = Secrets::take(&mut doc, &mut faults);
        let found = compile(&doc, &secrets, &self.local);
        if let Err(more) = &found {
            faults.extend(more.iter().cloned());
        }
        let effective = match found {
            Ok(effective) if faults.is_empty() => effective,
            _ => {
                let reasons = Reason::of_faults(&faults);
                tracing::warn!(
                    version,
                    ?reasons,
                    "the twin has faults, nothing was changed"
                );
                let state = self
                    .state
                    .clone()
                    .rejected(version, reasons.clone(), PROGRAM);
                self.commit(state).await?;
                return Ok((Verdict::Rejected(reasons), false));
            }
        };
        failpoint::hit("twin.judged");
        self.store.keep_secrets(version, secrets).await?;
        failpoint::hit("twin.secrets");
        let mono = self.time.mono();
        let deadline = effective.may_cut_off(&self.confirmed).then(|| Deadline {
            boot: self.boot,
            until: mono + PROVISIONAL,
            until_wall: self.time.wall() + PROVISIONAL,
            carried: false,
        });
        let document = Document {
            version,
            text: Some(Value::Object(doc).to_string()),
        };
        let state = State {
            edge_id: self.edge_id.clone(),
            ..self.state.clone().accepted(document, deadline, PROGRAM)
        };
        self.commit(state).await?;
        failpoint::hit("twin.committed");
        tracing::info!(
            version,
            provisional = deadline.is_some(),
            cameras = effective.cameras.len(),
            "a twin is in force"
        );
        if deadline.is_none() {
            self.confirmed = effective.clone();
        }
        self.effective = effective;
        Ok((Verdict::Accepted, true))
    }

    async fn proved(&mut self, version: u64) {
        if self.state.provisional.is_none() || self.state.applied.version != version {
            return;
        }
        // Not on disk: asked again at the next answer.
        if self.commit(self.state.clone().proved()).await.is_ok() {
            tracing::info!(version, "the cloud was reached, the twin stays");
            self.confirmed = self.effective.clone();
        }
    }

    async fn revert(&mut self) {
        tracing::warn!(
            version = self.state.applied.version,
            "the cloud was not reached, back to the twin before"
        );
        // In force again even where the disk does not take it; the next start finds the time over, too.
        let state = self.state.clone().reverted();
        if self.commit(state.clone()).await.is_err() {
            self.state = state;
        }
        self.effective = self.confirmed.clone();
        self.put_in_force().await;
    }

    async fn commit(&mut self, state: State) -> Result<(), DbError> {
        let committed = self.store.commit(state, self.time.mono()).await;
        self.state =
            committed.inspect_err(|e| tracing::error!(error = %e, "the twin cannot be stored"))?;
        self.tell();
        Ok(())
    }

    fn tell(&self) {
        let report = report_of(&self.state);
        let body = report.body.clone();
        self.reach.status.update(|s| s.twin = body);
        self.report.send_replace(report);
    }

    /// There are other keys, or none. A twin is one identity's: where the device has another name now, versions begin
    /// anew, and the configuration file alone counts until the cloud sends one.
    async fn identify(&mut self) {
        let edge_id = {
            let client = self.reach.clients.borrow_and_update();
            client.as_ref().map(|c| c.edge_id().to_owned())
        };
        if let Some(edge_id) = edge_id {
            let former = self.state.edge_id.clone();
            self.edge_id.clone_from(&edge_id);
            if !former.is_empty() && former != edge_id {
                tracing::warn!(
                    version = self.state.applied.version,
                    "the device has another name in the cloud, its twin is forgotten"
                );
                let state = State {
                    edge_id,
                    ..State::default()
                };
                if self.commit(state.clone()).await.is_err() {
                    self.state = state;
                }
                self.confirmed = Effective::local(&self.local);
                self.effective = self.confirmed.clone();
                return self.put_in_force().await;
            }
        }
        self.reach_cloud();
    }

    fn reach_cloud(&self) {
        let cloud = &self.effective.cloud;
        if let Some(client) = &*self.reach.clients.borrow() {
            client.set_base(cloud.api_base.clone());
        }
        let own = self.local.cloud.as_ref().map(|c| c.heartbeat);
        let every = own.map(|own| cloud.heartbeat.unwrap_or(own));
        self.reach.heartbeat.send_replace(every);
        let allowed = &self.effective.stream;
        self.reach.stream.send_if_modified(|now| {
            let others = now != allowed;
            now.clone_from(allowed);
            others
        });
    }

    async fn put_in_force(&self) {
        self.reach_cloud();
        self.reach
            .cameras
            .apply(self.effective.cameras.clone())
            .await;
        failpoint::hit("twin.applied");
        self.store.thin_out(self.state.versions()).await;
    }
}
