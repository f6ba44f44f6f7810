//! What the claimer does to the machine it runs on: light, announcement, code file, and the wipes.

use std::io::ErrorKind::{NotFound, PermissionDenied};
use std::io::Read as _;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::{ClaimStatus, Claimer, Refused};
use crate::agent::wipe::{self, Wipe};
use crate::board::announce::Announcement;
use crate::board::button::Button;
use crate::board::led::Led;
use crate::claim::led::{Flash, Pattern, Shown};
use crate::claim::machine::{Base, Ended};
use crate::claim::press::Gesture;
use crate::config::BoardConfig;
use crate::db::{Urgency, commands, query};
use crate::supervise::failpoint;
use crate::time::Mono;
use crate::wire::claim::{ClaimCode, Created, Failure};
use crate::wire::keys::KeySlot;

/// The cloud is told of a factory reset, and the store asked about an unclaim, for at most this long.
const LAST_GASP: Duration = Duration::from_secs(5);
/// A light that cannot be set is tried again after this, and so often.
const LED_AGAIN: Duration = Duration::from_millis(100);
const LED_TRIES: u8 = 100;
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// A code file that could not be used is tried again after this.
const CODE_RETRY: Duration = Duration::from_secs(60);

pub(super) fn open_button(board: &BoardConfig) -> Option<Button> {
    let config = board.button.as_ref()?;
    Button::open(config)
        .inspect_err(|e| tracing::warn!(error = %e, "board.button cannot be used, `sentrycam claim` still works"))
        .ok()
}

pub(super) fn open_led(board: &BoardConfig) -> Option<Led> {
    let dir = board.led.as_ref()?;
    Led::open(dir)
        .inspect_err(
            |e| tracing::warn!(led = %dir.display(), error = %e, "board.led cannot be used"),
        )
        .ok()
}

/// A word for programs, a sentence for people.
pub(super) fn ended_words(ended: &Ended) -> (String, String) {
    let (code, text) = match ended {
        Ended::Timeout => (
            "timeout",
            "nobody claimed the device within 10 minutes".into(),
        ),
        Ended::Refused { code, detail } => {
            let text = match (code.as_str(), detail.as_str()) {
                ("access_denied", "") => "the claim was denied".into(),
                ("expired_token", "") => "the cloud's time for it is over".into(),
                ("conflict", "") => "two people tried to claim this device".into(),
                (code, "") => format!("the cloud refused ({code})"),
                (_, detail) => detail.to_owned(),
            };
            return (code.clone(), text);
        }
        Ended::Errors => (
            "errors",
            "what answers at cloud.api_base is not a sentrycam cloud".into(),
        ),
        Ended::BadCredentials(what) => ("bad_credentials", format!("the credentials {what}")),
        Ended::NotStored => (
            "not_stored",
            "the credentials could not be written to disk".into(),
        ),
        Ended::NotConfirmed => (
            "not_confirmed",
            "the claim was not confirmed in time".into(),
        ),
        Ended::Reset => ("unclaimed", "the device was unclaimed".into()),
    };
    (code.to_owned(), text)
}

impl Claimer {
    /// Takes over what the last run left: keys, a claim that is not confirmed, a code file. Blocks, shortly.
    pub(super) fn look_at_disk(&mut self) {
        let now = self.parts.time.mono();
        if let Err(e) = self.parts.store.prepare() {
            tracing::error!(error = %e, "the credentials directory cannot be used");
        }
        match self.parts.store.keys() {
            Ok(Some(keys)) => {
                let tenant = keys.of(KeySlot::Current).tenant_id.clone();
                self.machine = crate::claim::machine::Machine::new(Base::Claimed { lost: false });
                if self.settle_owner(&tenant) {
                    self.work_with(keys);
                }
            }
            Ok(None) => {
                tracing::info!("no owner yet: press the button for 3 s, or use `sentrycam claim`")
            }
            Err(e) => {
                tracing::error!(error = %e, "the credentials cannot be used; recording goes on, a claim window may be opened");
                self.machine = crate::claim::machine::Machine::new(Base::Claimed { lost: true });
            }
        }
        match self.parts.store.pending() {
            Ok(Some(pending)) => {
                tracing::info!("a claim was not confirmed yet, asking the cloud");
                self.machine.resume(pending.claim, pending.confirm_by, now);
                self.pending = Some(pending);
            }
            Ok(None) => {}
            Err(e) => {
                tracing::error!(error = %e, "a pending claim cannot be used and is removed");
                let _ = self.parts.store.discard();
            }
        }
        self.read_code_file(now);
    }

    fn read_code_file(&mut self, now: Mono) {
        let path = &self.parts.cloud.claim_code_file;
        if self.machine.base() != Base::Unclaimed || self.pending.is_some() || !path.exists() {
            return;
        }
        let mut text = String::new();
        let read = std::fs::File::open(path).and_then(|f| f.take(256).read_to_string(&mut text));
        let code = match read {
            Ok(_) => ClaimCode::parse(text.trim_start_matches('\u{feff}')).map_err(str::to_owned),
            Err(e) => Err(e.to_string()),
        };
        match code {
            Ok(code) => self.code_file = Some((code, now)),
            Err(e) => {
                tracing::warn!(path = %path.display(), error = e, "the claim code file cannot be used")
            }
        }
    }

    /// Opens a window with the code file's code, when that is due and allowed.
    pub(super) fn try_code_file(&mut self) {
        let now = self.parts.time.mono();
        let Some((code, due)) = self.code_file.clone() else {
            return;
        };
        if now < due {
            return;
        }
        let next = match self.machine.base() {
            Base::Claimed { .. } => {
                self.code_file = None;
                return;
            }
            Base::Unclaimed if self.machine.is_open() => now + CODE_RETRY,
            Base::Unclaimed => {
                match self.open(Some(code.clone())) {
                    Ok(()) => tracing::info!("claiming with the code of the claim code file"),
                    Err(e) => tracing::info!(reason = e.text, "the claim code file has to wait"),
                }
                now + CODE_RETRY
            }
        };
        self.code_file = Some((code, next));
    }

    /// A code that the cloud refuses is not tried again.
    pub(super) fn code_judged(&mut self, created: &Result<Created, Failure>) {
        let judged = self.judged_code.take();
        let of_file = self.code_file.as_ref().map(|(code, _)| code);
        let wrong = matches!(created, Err(Failure::Refused { code, .. }) if code == "wrong_code");
        // One that somebody mistyped says nothing of the file's.
        if wrong && judged.as_ref() == of_file {
            self.forget_code_file();
        }
    }

    pub(super) fn forget_code_file(&mut self) {
        if self.code_file.take().is_none() {
            return;
        }
        let path = &self.parts.cloud.claim_code_file;
        if let Err(e) = std::fs::remove_file(path) {
            tracing::warn!(path = %path.display(), error = %e, "the used claim code file cannot be removed; remove it by hand");
        }
    }

    pub(super) async fn gesture(&mut self, gesture: Gesture) {
        let now = self.parts.time.mono();
        match gesture {
            Gesture::Pressed(_) => {}
            Gesture::Counted(count) => {
                if self.machine.counts_presses() {
                    self.machine.presses(count, now);
                    self.light.flash(Flash::Echo(count), now);
                }
            }
            Gesture::Open => {
                if let Err(e) = self.open(None) {
                    tracing::info!(reason = e.text, "the button opens no claim window");
                    if e.code != "claimed" && e.code != "open" {
                        self.light.flash(Flash::Error, now);
                    }
                }
            }
            Gesture::HeldLong => self.held = Some(Shown::HeldLong),
            Gesture::Armed => {
                tracing::warn!("factory reset armed: a press within 5 s removes everything");
                self.held = Some(Shown::ResetArmed);
            }
            Gesture::Disarmed => self.held = None,
            Gesture::Reset => {
                self.held = None;
                self.factory_reset().await;
            }
        }
    }

    async fn factory_reset(&mut self) {
        // What a former owner forbade binds nobody.
        let owned = matches!(self.machine.base(), Base::Claimed { .. });
        if owned && !self.physical_reset.load(Relaxed) {
            tracing::warn!("the owner has forbidden a reset by the button");
            self.light.flash(Flash::Error, self.parts.time.mono());
            return;
        }
        tracing::warn!("factory reset by the button");
        if self.parts.sync.borrow().state == "ok" {
            let tell = async {
                self.note("claim.factory_reset").await;
                self.until_told().await;
            };
            let _ = tokio::time::timeout(LAST_GASP, tell).await;
        }
        if let Err(e) = self.unclaim(Wipe::All, "factory_reset").await {
            tracing::error!(
                error = e.text,
                "the factory reset did not work, hold the button again"
            );
            self.light.flash(Flash::Error, self.parts.time.mono());
        }
    }

    /// Waits until no critical record waits for the cloud.
    async fn until_told(&mut self) {
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            let now = self.parts.time.mono();
            let backlog = self
                .parts
                .db
                .call(Urgency::Now, move |c, run| query::backlog(c, run.boot, now))
                .await;
            if !backlog.is_ok_and(|b| b.rows[0] > 0) {
                return;
            }
        }
    }

    /// The cloud said, signed with this key, that the device is unclaimed.
    pub(super) async fn told_unclaimed(&mut self, key: &str) {
        let ours = self.clients.borrow().as_ref().map(|c| c.keys().signing());
        if !ours.iter().flatten().any(|k| k.key_id() == key) {
            return;
        }
        // The cloud may revoke the keys before the executor has seen the last record go: the command says how much goes.
        let asked = key.to_owned();
        let left = self
            .parts
            .db
            .call(Urgency::Now, move |c, _| commands::left_with(c, &asked));
        let Ok(Ok(left)) = tokio::time::timeout(LAST_GASP, left).await else {
            // The keys are worth nothing any more; the next refusal asks again.
            tracing::error!(
                "the device is unclaimed, but the store cannot say how much has to go: trying again within the hour"
            );
            return;
        };
        let wipe = match left.as_deref() {
            Some("all") => Wipe::All,
            _ => Wipe::Credentials,
        };
        tracing::warn!("the owner has unclaimed this device");
        if let Err(e) = self.unclaim(wipe, "owner").await {
            tracing::error!(error = e.text, "the keys cannot be removed");
        }
    }

    /// Removes the keys, or orders that everything goes, and starts anew.
    pub(super) async fn unclaim(&mut self, wipe: Wipe, why: &'static str) -> Result<(), Refused> {
        let everything = wipe == Wipe::All;
        // A pass of the uploader must not sign with a key that is being removed.
        let clients = self.clients.send_replace(None);
        if let Err(e) = self.remove_keys(everything).await {
            // Claimed as before, it goes on sending.
            if matches!(self.parts.store.keys(), Ok(Some(_))) {
                if let Err(e) = wipe::revoke(&self.parts.state_dir) {
                    tracing::error!(error = %e, "everything goes at the next start all the same");
                }
                self.clients.send_replace(clients);
            }
            return Err(Refused::new("failed", e.to_string()));
        }
        self.pending = None;
        self.code_file = None;
        self.machine.unclaimed(self.parts.time.mono());
        tracing::warn!(why, everything, "the device is unclaimed");
        if everything {
            self.parts.restart.notify_one();
        } else {
            self.note("claim.unclaimed").await;
        }
        Ok(())
    }

    async fn remove_keys(&mut self, everything: bool) -> std::io::Result<()> {
        if everything {
            wipe::order(&self.parts.state_dir, Wipe::All)?;
            failpoint::hit("unclaim.ordered");
        }
        let store = self.parts.store.clone();
        let wiped = tokio::task::spawn_blocking(move || store.wipe()).await;
        wiped.map_err(std::io::Error::other)?
    }

    /// Whose the device is; the records know it where the credentials cannot be read.
    pub(super) fn tenant_id(&self) -> Option<String> {
        let tenant = self.current().map(|c| c.tenant_id);
        let tenant = tenant.filter(|t| !t.is_empty());
        tenant.or_else(|| self.parts.store.owner())
    }

    /// Shows the state: light, announcement, status.
    pub(super) fn show(&mut self) {
        let now = self.parts.time.mono();
        let pattern = self.light.pattern(self.shown(), now);
        if self.showing.as_ref() == Some(&pattern) {
            self.led_again = None;
        } else if self.led_again.is_none_or(|at| now >= at) {
            self.set_light(pattern, now);
        }
        let announce = self.machine.is_open() && self.parts.cloud.announce;
        if announce && self.announced.is_none() {
            let begun = Announcement::start(&self.id, "open", &self.facts.model);
            self.announced = begun
                .inspect_err(|e| tracing::warn!(error = e, "the claim window cannot be announced"))
                .ok();
        } else if !announce {
            self.announced = None;
        }
        self.publish(now);
    }

    /// The files of a trigger are there, and allowed by a udev rule, a moment after it was chosen.
    fn set_light(&mut self, pattern: Pattern, now: Mono) {
        self.led_again = None;
        let set = self.led.as_ref().map_or(Ok(()), |led| led.show(&pattern));
        match set {
            Ok(()) => {
                self.led_tries = 0;
                self.showing = Some(pattern);
            }
            Err(e)
                if matches!(e.kind(), PermissionDenied | NotFound)
                    && self.led_tries < LED_TRIES =>
            {
                self.led_tries += 1;
                self.led_again = Some(now + LED_AGAIN);
            }
            Err(e) => {
                tracing::warn!(error = %e, "the light cannot be set, going on without it");
                self.led = None;
                self.showing = Some(pattern);
            }
        }
    }

    fn shown(&self) -> Shown {
        let lost = || !matches!(self.parts.sync.borrow().state, "ok" | "starting");
        match (self.held, self.machine.base()) {
            (Some(held), _) => held,
            _ if self.machine.counts_presses() => Shown::PressNow,
            _ if self.machine.is_open() => Shown::Window,
            (None, Base::Unclaimed) => Shown::Unclaimed,
            (None, Base::Claimed { .. }) if lost() => Shown::CloudLost,
            (None, Base::Claimed { .. }) => Shown::Fine,
        }
    }

    fn publish(&self, now: Mono) {
        let view = self.machine.view(now);
        let (edge_id, tenant) = self.current().map(|c| (c.edge_id, c.tenant)).unzip();
        let status = ClaimStatus {
            state: view.state.to_owned(),
            id: self.id.clone(),
            edge_id,
            tenant: tenant.filter(|t| !t.is_empty()),
            user_code: view.user_code,
            verification_uri: view.verification_uri,
            closes_in_s: view.closes_in.map(|d| d.as_secs()),
            ended: view.last.as_ref().map(ended_words),
        };
        let changed = self.status.send_if_modified(|shown| {
            // The time that is left changes all the while; whoever shows it counts himself.
            let same = ClaimStatus {
                closes_in_s: status.closes_in_s,
                ..shown.clone()
            } == status;
            *shown = status.clone();
            !same
        });
        if changed {
            let shown = serde_json::json!({ "state": status.state, "id": status.id, "edge_id": status.edge_id,
                                            "tenant": status.tenant, "ended": status.ended });
            self.parts.status.update(|s| s.claim = shown);
        }
    }
}
