//! Makes the device somebody's camera, and nobody's again: drives `claim::machine` with the button, the command line,
//! the code file and the cloud, and owns what is in the credentials directory.
//!
//! The keys that the rest of the agent works with come from here ([`Handle::clients`]); everything else goes on whether
//! there are any or not. Only a signed word of the cloud, the button, or somebody with access to this machine ends a
//! claim; an HTTP status never does.

pub mod control;
mod effects;
mod exchange;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::claimed::Clients;
use super::journal::Journal;
use super::status::StatusHub;
use super::time::TimeKeeper;
use super::uploader::SyncStatus;
use super::wipe::Wipe;
use crate::board::announce::Announcement;
use crate::board::button::Button;
use crate::board::entropy::Entropy;
use crate::board::facts;
use crate::board::led::Led;
use crate::claim::led::{Flash, Light, Pattern, Shown};
use crate::claim::machine::{Action, Base, Machine, Refusal};
use crate::claim::press::Presses;
use crate::cloud::client::TOTAL_TIMEOUT;
use crate::cloud::tls::TlsConfigs;
use crate::cloud::{ClaimApi, Client, Credentials, Keys, Pending, Store};
use crate::config::{BoardConfig, CloudConfig};
use crate::db::{Db, IdSource};
use crate::supervise::failpoint;
use crate::time::Mono;
use crate::wire::claim::{ClaimCode, Facts};
use crate::wire::keys::KeySlot;
use crate::wire::seal::KemKey;

/// Requests that may wait; more than that fail at once.
const REQUESTS: usize = 8;

/// What the claimer works with.
pub struct Parts {
    /// Where to be claimed, where the keys are.
    pub cloud: CloudConfig,
    /// Button and light.
    pub board: BoardConfig,
    /// Where orders to wipe go.
    pub state_dir: PathBuf,
    /// The credentials directory.
    pub store: Store,
    /// For the cloud.
    pub tls: TlsConfigs,
    /// For what the clock learns.
    pub db: Db,
    /// For what has to be told.
    pub journal: Journal,
    /// Clocks.
    pub time: TimeKeeper,
    /// Keys, jitter.
    pub entropy: Entropy,
    /// Makes record ids.
    pub ids: IdSource,
    /// Where the claim is shown.
    pub status: StatusHub,
    /// How the link to the cloud is.
    pub sync: watch::Receiver<SyncStatus>,
    /// Asks the composition to start anew, so that an order to wipe is carried out.
    pub restart: Arc<Notify>,
}

/// What people and programs are told of the claim.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClaimStatus {
    /// `unclaimed`, `opening`, `open`, `challenge`, `confirming`, `claimed`.
    pub state: String,
    /// Names this box on the local network.
    pub id: String,
    /// Name in the cloud, where it has one.
    pub edge_id: Option<String>,
    /// The owner.
    pub tenant: Option<String>,
    /// The code to type in.
    pub user_code: Option<String>,
    /// Where.
    pub verification_uri: Option<String>,
    /// Until the window closes.
    pub closes_in_s: Option<u64>,
    /// How the last window ended, where it brought nothing: a word, and a sentence.
    pub ended: Option<(String, String)>,
}

/// Why a request is refused: a word for programs, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// `open`, `claimed`, `confirming`, `wait`, `no_cloud`, `failed`, `gone`.
    pub code: String,
    /// What to do.
    pub text: String,
}

impl Refused {
    fn new(code: &str, text: impl Into<String>) -> Refused {
        Refused {
            code: code.into(),
            text: text.into(),
        }
    }
}

type Answer = oneshot::Sender<Result<(), Refused>>;

enum Request {
    Open(Option<ClaimCode>, Answer),
    Unclaim(Wipe, Answer),
}

/// The way to the claimer; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    /// Takes the name of a key with which the cloud said, signed, that the device is unclaimed.
    pub unclaimed: mpsc::Sender<String>,
    /// The claim as it is shown.
    pub status: watch::Receiver<ClaimStatus>,
    /// The way to the cloud with the keys of the device, while it has some.
    pub clients: Clients,
    /// Whether the button may reset the device; the owner can forbid it.
    pub physical_reset: Arc<AtomicBool>,
    /// Rings when the device was claimed.
    pub claimed: Arc<Notify>,
}

impl Handle {
    /// Opens a window, with a claim code or without.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn open(&self, code: Option<ClaimCode>) -> Result<(), Refused> {
        self.ask(|answer| Request::Open(code, answer)).await
    }

    /// Removes the keys, with [`Wipe::All`] also everything else; whoever asks has told the cloud what it has to know.
    ///
    /// # Errors
    /// [`Refused`]: the disk did not take it.
    pub async fn unclaim(&self, wipe: Wipe) -> Result<(), Refused> {
        self.ask(|answer| Request::Unclaim(wipe, answer)).await
    }

    async fn ask(&self, request: impl FnOnce(Answer) -> Request) -> Result<(), Refused> {
        let gone = || Refused::new("gone", "the agent is ending");
        let (answer, answered) = oneshot::channel();
        let sent = self.requests.try_send(request(answer));
        sent.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

type InFlight = Pin<Box<dyn Future<Output = exchange::Done> + Send>>;

/// The task.
pub struct Claimer {
    parts: Parts,
    machine: Machine,
    presses: Presses,
    light: Light,
    held: Option<Shown>,
    button: Option<Button>,
    led: Option<Led>,
    showing: Option<Pattern>,
    led_tries: u8,
    led_again: Option<Mono>,
    api: Option<ClaimApi>,
    key: Option<KemKey>,
    pending: Option<Pending>,
    facts: Facts,
    id: String,
    announced: Option<Announcement>,
    code_file: Option<(ClaimCode, Mono)>,
    /// The code that the cloud was asked with last.
    judged_code: Option<ClaimCode>,
    in_flight: Option<(u64, InFlight)>,
    requests: mpsc::Receiver<Request>,
    unclaimed: mpsc::Receiver<String>,
    status: watch::Sender<ClaimStatus>,
    clients: watch::Sender<Option<Client>>,
    physical_reset: Arc<AtomicBool>,
    claimed: Arc<Notify>,
}

/// What has happened.
enum Input {
    Stop,
    Done(exchange::Done),
    Level(std::io::Result<bool>),
    Request(Request),
    Unclaimed(String),
    Sync,
    Timer,
}

impl Claimer {
    /// Looks at what is on disk and opens button and light; needs a runtime.
    pub fn new(parts: Parts) -> (Claimer, Handle) {
        let (requests_tx, requests) = mpsc::channel(REQUESTS);
        let (unclaimed_tx, unclaimed) = mpsc::channel(1);
        let (status, status_rx) = watch::channel(ClaimStatus::default());
        let (clients_tx, clients) = watch::channel(None);
        let physical_reset = Arc::new(AtomicBool::new(true));
        let claimed = Arc::new(Notify::new());
        let root = std::path::Path::new("/");
        let facts = facts::read(root);
        let mut claimer = Claimer {
            machine: Machine::new(Base::Unclaimed),
            presses: Presses::default(),
            light: Light::default(),
            held: None,
            button: effects::open_button(&parts.board),
            led: effects::open_led(&parts.board),
            showing: None,
            led_tries: 0,
            led_again: None,
            api: None,
            key: None,
            pending: None,
            id: facts::short_id(root, &facts),
            facts,
            announced: None,
            code_file: None,
            judged_code: None,
            in_flight: None,
            requests,
            unclaimed,
            status,
            clients: clients_tx,
            physical_reset: Arc::clone(&physical_reset),
            claimed: Arc::clone(&claimed),
            parts,
        };
        claimer.look_at_disk();
        claimer.show();
        let handle = Handle {
            requests: requests_tx,
            unclaimed: unclaimed_tx,
            status: status_rx,
            clients,
            physical_reset,
            claimed,
        };
        (claimer, handle)
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            self.start_next().await;
            self.show();
            match self.next(&stop).await {
                Input::Stop => break,
                input => self.apply(input).await,
            }
        }
        // A window ends with the process; what is on disk is found at the next start.
        self.announced = None;
        if let Some(led) = &self.led {
            let _ = led.show(&Pattern::Steady(false));
        }
    }

    async fn next(&mut self, stop: &CancellationToken) -> Input {
        let now = self.parts.time.mono();
        let deadlines = [
            self.machine.deadline(),
            self.presses.deadline(),
            self.light.deadline(),
            self.led_again,
            self.code_file.as_ref().map(|(_, at)| *at),
        ];
        let wait = deadlines
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.since(now));
        let in_flight = self.in_flight.as_mut();
        let button = self.button.as_mut();
        tokio::select! {
            biased;
            () = stop.cancelled() => Input::Stop,
            level = async { match button { Some(b) => b.next().await, None => std::future::pending().await } } => Input::Level(level),
            Some(request) = self.requests.recv() => Input::Request(request),
            Some(key) = self.unclaimed.recv() => Input::Unclaimed(key),
            done = async { match in_flight { Some((_, f)) => f.await, None => std::future::pending().await } } => Input::Done(done),
            Ok(()) = self.parts.sync.changed() => Input::Sync,
            () = async { match wait { Some(wait) => tokio::time::sleep(wait).await, None => std::future::pending().await } } => Input::Timer,
        }
    }

    async fn apply(&mut self, input: Input) {
        let now = self.parts.time.mono();
        match input {
            Input::Stop => {}
            Input::Done(done) => {
                self.in_flight = None;
                self.done(done).await;
            }
            Input::Level(Ok(level)) => {
                for gesture in self.presses.edge(level, now) {
                    self.gesture(gesture).await;
                }
            }
            Input::Level(Err(e)) => {
                tracing::warn!(error = %e, "the button is gone, `sentrycam claim` still works");
                self.button = None;
            }
            Input::Request(Request::Open(code, answer)) => {
                let opened = self.open(code);
                // Seen before it is answered, so that whoever asked follows this window and not the last one.
                self.show();
                let _ = answer.send(opened);
            }
            Input::Request(Request::Unclaim(wipe, answer)) => {
                let unclaimed = self.unclaim(wipe, "request").await;
                self.show();
                let _ = answer.send(unclaimed);
            }
            Input::Unclaimed(key) => self.told_unclaimed(&key).await,
            Input::Sync => match self.parts.sync.borrow_and_update().state {
                "auth_lost" => self.machine.key_lost(true),
                "ok" => self.machine.key_lost(false),
                _ => {}
            },
            Input::Timer => {
                for gesture in self.presses.tick(now) {
                    self.gesture(gesture).await;
                }
                self.try_code_file();
            }
        }
    }

    /// Begins whatever the machine wants next. What concerns the disk is done at once and whole; what concerns the
    /// network is left running, and dropped when it is not wanted any more.
    async fn start_next(&mut self) {
        loop {
            let now = self.parts.time.mono();
            let was_open = self.machine.is_open();
            let action = self.machine.poll(now);
            if was_open && !self.machine.is_open() {
                self.window_ended();
            }
            let generation = self.machine.generation();
            if self
                .in_flight
                .as_ref()
                .is_some_and(|(g, _)| *g != generation)
            {
                self.in_flight = None;
            }
            if !self.machine.wants_key() {
                self.key = None;
            }
            match action {
                None => return,
                Some(Action::Store {
                    claim,
                    blob,
                    confirm_by,
                }) => {
                    failpoint::hit("claim.sealed");
                    let stored = self.store(claim, blob, confirm_by).await;
                    failpoint::hit("claim.stored");
                    let now = self.parts.time.mono();
                    self.machine.stored(stored, claim, confirm_by, now);
                    if !self.machine.wants_key() && self.pending.is_none() {
                        self.window_ended();
                    }
                }
                Some(Action::Activate) => self.activate().await,
                Some(Action::Discard) => self.discard().await,
                Some(action) => {
                    if let Action::Create { code } = &action {
                        self.judged_code.clone_from(code);
                    }
                    self.in_flight = Some((generation, self.exchange(action)));
                }
            }
        }
    }

    fn open(&mut self, code: Option<ClaimCode>) -> Result<(), Refused> {
        let now = self.parts.time.mono();
        let base = self.parts.cloud.api_base.clone();
        let base = base.or_else(|| self.current().map(|c| c.api_base));
        let base = base.ok_or_else(|| {
            Refused::new(
                "no_cloud",
                "no cloud to ask: set cloud.api_base in the configuration",
            )
        })?;
        let was_open = self.machine.is_open();
        self.machine.open(code, now).map_err(|r| self.refused(r))?;
        if !was_open || self.key.is_none() {
            let failed = |e: &dyn std::fmt::Display| Refused::new("failed", e.to_string());
            let key = KemKey::generate(self.parts.entropy.source()).map_err(|e| failed(&e))?;
            let api = ClaimApi::new(base, self.parts.tls.clone()).map_err(|e| failed(&e))?;
            (self.key, self.api) = (Some(key), Some(api));
            tracing::info!("a claim window is open for 10 minutes");
        }
        failpoint::hit("claim.window");
        Ok(())
    }

    fn refused(&self, refusal: Refusal) -> Refused {
        let minutes = |wait: Duration| wait.as_secs().div_ceil(60);
        match refusal {
            Refusal::AlreadyOpen => Refused::new("open", "a claim window is open already"),
            Refusal::Claimed => {
                let owner = self.current().map(|c| c.tenant);
                let by = owner
                    .filter(|o| !o.is_empty())
                    .map(|o| format!(" by {o}"))
                    .unwrap_or_default();
                let text =
                    format!("this device is claimed{by}; `sentrycam unclaim --local` ends that");
                Refused::new("claimed", text)
            }
            Refusal::Confirming => {
                Refused::new("confirming", "a claim is being confirmed by the cloud")
            }
            Refusal::Wait(wait) => {
                let text = format!(
                    "too many claim windows of late, try again in {} min",
                    minutes(wait)
                );
                Refused::new("wait", text)
            }
        }
    }

    /// What the device signs with now.
    fn current(&self) -> Option<Credentials> {
        let client = self.clients.borrow();
        client.as_ref().map(|c| c.keys().of(KeySlot::Current))
    }

    /// From here on the agent works with these keys.
    fn work_with(&self, keys: Keys) {
        match Client::new(keys, self.parts.tls.clone(), TOTAL_TIMEOUT) {
            Ok(client) => {
                self.clients.send_replace(Some(client));
            }
            Err(e) => tracing::error!(error = %e, "nothing can be sent to the cloud"),
        }
    }

    fn window_ended(&mut self) {
        let now = self.parts.time.mono();
        if let Some(ended) = self.machine.view(now).last {
            let (code, text) = effects::ended_words(&ended);
            tracing::warn!(code, "the claim window is closed: {text}");
            self.light.flash(Flash::Error, now);
        }
    }
}
