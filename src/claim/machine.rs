//! The states of a claim (protocol section 8.2).
//!
//! ```text
//! closed ──open()──▶ window (600 s) ──sealed──▶ storing ──on disk──▶ confirming ──signed 2xx──▶ activating ──▶ claimed
//!   ▲                  │ time, refusal, 3 errors   │ does not open     │ void: discarding
//!   └──────────────────┴───────────────────────────┴───────────────────┘
//! ```
//!
//! [`Machine::poll`] says what to do next, one thing at a time; what came of it is told by the method of its name.
//! Nothing is asked of the cloud after the window has closed, and what a closed window had asked is dropped
//! ([`Machine::generation`]). From `storing` on the window's time no longer counts: `pending.json` is on disk, and only
//! the cloud's word about it, or its own deadline, ends that.

use std::time::Duration;

use uuid::Uuid;

use super::phase::{Confirming, Window, retry};
use super::windows::Windows;
use crate::model::Secret;
use crate::time::{Mono, Wall};
use crate::wire::claim::{ClaimCode, Confirmed, Created, Failure, Polled};

/// So many answers that make no sense end a window.
const MAX_ERRORS: u8 = 3;
/// What `slow_down` adds to the interval (RFC 8628 §3.5).
const SLOWER: Duration = Duration::from_secs(5);
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);
const LONGEST_RETRY: Duration = Duration::from_secs(15);
const LONGEST_CONFIRM_RETRY: Duration = Duration::from_secs(60);

/// Whose the device is, leaving aside a claim that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// Nobody's.
    Unclaimed,
    /// Somebody's; `lost` where the cloud refuses its key.
    Claimed { lost: bool },
}

/// How a window or a claim ended that brought nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Nobody bound it in time.
    Timeout,
    /// The cloud refused: its code, and what it says to people.
    Refused { code: String, detail: String },
    /// Three answers that were none.
    Errors,
    /// What was sealed does not open, or is not what it should be.
    BadCredentials(&'static str),
    /// The disk did not take the credentials.
    NotStored,
    /// The cloud does not know the claim any more: it was not confirmed in time.
    NotConfirmed,
    /// Somebody unclaimed or reset the device.
    Reset,
}

/// Why no window opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// One is open.
    AlreadyOpen,
    /// The device has an owner, and the cloud takes its key.
    Claimed,
    /// A claim is being confirmed.
    Confirming,
    /// Too many of late.
    Wait(Duration),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask for a claim, then [`Machine::created`].
    Create { code: Option<ClaimCode> },
    /// Ask how it stands, then [`Machine::polled`].
    Poll { claim: Uuid, token: Secret },
    /// Tell how often the button was pressed, then [`Machine::counted`].
    Answer {
        claim: Uuid,
        token: Secret,
        challenge: String,
        count: u8,
    },
    /// Open the blob and write `pending.json`, then [`Machine::stored`].
    Store {
        claim: Uuid,
        blob: Vec<u8>,
        confirm_by: Option<Wall>,
    },
    /// Tell the cloud, signed with the new key, then [`Machine::confirmed`].
    Confirm { claim: Uuid },
    /// Make the pending credentials the current ones, then [`Machine::activated`].
    Activate,
    /// Remove the pending credentials, then [`Machine::discarded`].
    Discard,
}

/// What people are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// `unclaimed`, `opening`, `open`, `challenge`, `confirming`, `claimed`.
    pub state: &'static str,
    /// The code to type in, with its dash.
    pub user_code: Option<String>,
    /// Where to.
    pub verification_uri: Option<String>,
    /// Until the window closes.
    pub closes_in: Option<Duration>,
    /// How the last window ended, where it brought nothing.
    pub last: Option<Ended>,
}

/// The machine.
#[derive(Debug, Clone)]
pub struct Machine {
    base: Base,
    phase: Phase,
    windows: Windows,
    busy: bool,
    generation: u64,
    last: Option<Ended>,
}

#[derive(Debug, Clone)]
enum Phase {
    Closed,
    Window(Box<Window>),
    Storing(Option<Action>),
    Confirming(Confirming),
    Activating { next: Mono },
    Discarding { next: Mono },
}

impl Machine {
    /// A device as it was found at start.
    pub fn new(base: Base) -> Self {
        Self {
            base,
            phase: Phase::Closed,
            windows: Windows::default(),
            busy: false,
            generation: 0,
            last: None,
        }
    }

    /// A claim was on disk at start that the cloud may or may not have confirmed: ask again.
    pub fn resume(&mut self, claim: Uuid, confirm_by: Option<Wall>, now: Mono) {
        self.phase = Phase::Confirming(Confirming::new(claim, confirm_by, now));
    }

    /// Opens a window; with a code while one is open, that window goes on with the code.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn open(&mut self, code: Option<ClaimCode>, now: Mono) -> Result<(), Refusal> {
        self.close_if_over(now);
        match (&mut self.phase, self.base) {
            (Phase::Window(window), _) if code.is_some() => {
                (window.claim, window.challenge, window.code) = (None, None, code);
                window.next = now;
                self.busy = false;
                self.generation += 1;
                return Ok(());
            }
            (Phase::Window(_), _) => return Err(Refusal::AlreadyOpen),
            (Phase::Closed, Base::Claimed { lost: false }) => return Err(Refusal::Claimed),
            (Phase::Closed, _) => {}
            _ => return Err(Refusal::Confirming),
        }
        self.windows.open(now).map_err(Refusal::Wait)?;
        self.last = None;
        self.phase = Phase::Window(Box::new(Window::open(code, now)));
        Ok(())
    }

    /// What to do now; `None`: nothing before [`Machine::deadline`].
    pub fn poll(&mut self, now: Mono) -> Option<Action> {
        self.close_if_over(now);
        if self.busy {
            return None;
        }
        let action = match &mut self.phase {
            Phase::Closed => None,
            Phase::Window(window) => window.poll(now),
            Phase::Storing(store) => store.take(),
            Phase::Confirming(c) => (now >= c.next).then_some(Action::Confirm { claim: c.claim }),
            Phase::Activating { next } => (now >= *next).then_some(Action::Activate),
            Phase::Discarding { next } => (now >= *next).then_some(Action::Discard),
        };
        self.busy = action.is_some();
        action
    }

    /// When [`Machine::poll`] is worth calling though nothing has happened.
    pub fn deadline(&self) -> Option<Mono> {
        let idle = |at: Mono| (!self.busy).then_some(at);
        match &self.phase {
            Phase::Closed | Phase::Storing(_) => None,
            Phase::Window(w) => {
                let challenge = w.challenge.as_ref().map(|c| c.until);
                let next = idle(w.next);
                Some(w.closes)
                    .into_iter()
                    .chain(challenge)
                    .chain(next)
                    .min()
            }
            Phase::Confirming(c) => idle(c.next),
            Phase::Activating { next } | Phase::Discarding { next } => idle(*next),
        }
    }

    /// Changes when what was asked for is not wanted any more.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether the private key has to be kept.
    pub fn wants_key(&self) -> bool {
        matches!(self.phase, Phase::Window(_) | Phase::Storing(_))
    }

    /// Whether presses are counted now.
    pub fn counts_presses(&self) -> bool {
        matches!(&self.phase, Phase::Window(w) if w.challenge.as_ref().is_some_and(|c| c.count.is_none()))
    }

    /// Whether a window is open.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Window(_))
    }

    /// Whose the device is.
    pub fn base(&self) -> Base {
        self.base
    }

    /// The cloud refuses the key, or takes it again.
    pub fn key_lost(&mut self, lost: bool) {
        if let Base::Claimed { lost: l } = &mut self.base {
            *l = lost;
        }
    }

    /// Somebody unclaimed the device; credentials and pending ones are gone.
    pub fn unclaimed(&mut self, now: Mono) {
        self.base = Base::Unclaimed;
        self.close(now, Ended::Reset);
    }

    /// A claim was asked for.
    pub fn created(&mut self, result: Result<Created, Failure>, now: Mono) {
        self.busy = false;
        let Phase::Window(window) = &mut self.phase else {
            return;
        };
        match result {
            Ok(created) => {
                window.failures = 0;
                window.closes = window.closes.min(now + created.expires_in);
                window.interval = created.interval;
                window.next = now + created.interval;
                window.claim = Some(created);
            }
            Err(failure) => self.failed(failure, now),
        }
    }

    /// A poll was answered. `true`: presses are counted from now on.
    pub fn polled(&mut self, polled: Polled, now: Mono) -> bool {
        self.busy = false;
        let Phase::Window(window) = &mut self.phase else {
            return false;
        };
        window.next = now + window.interval;
        if !matches!(polled, Polled::Failed(_)) {
            window.failures = 0;
        }
        match polled {
            Polled::Pending => {}
            Polled::SlowDown => {
                window.interval = (window.interval + SLOWER).min(LONGEST_INTERVAL);
                window.next = now + window.interval;
            }
            Polled::Challenge { id, window: length } => return window.challenged(id, length, now),
            Polled::Sealed { blob, confirm_by } => {
                if let Some(claim) = window.claim.as_ref().map(|c| c.id) {
                    self.phase = Phase::Storing(Some(Action::Store {
                        claim,
                        blob,
                        confirm_by,
                    }));
                }
            }
            Polled::Failed(failure) => self.failed(failure, now),
        }
        false
    }

    /// The button was pressed so often, then not any more.
    pub fn presses(&mut self, count: u8, now: Mono) {
        if let Phase::Window(window) = &mut self.phase
            && let Some(challenge) = &mut window.challenge
            && challenge.count.is_none()
            && now < challenge.until
        {
            challenge.count = Some(count);
            window.next = now;
        }
    }

    /// The count was sent.
    pub fn counted(&mut self, result: Result<(), Failure>, now: Mono) {
        self.busy = false;
        let Phase::Window(window) = &mut self.phase else {
            return;
        };
        match result {
            Ok(()) => {
                window.answered = window.challenge.take().map(|c| c.id);
                window.next = now + window.interval;
            }
            Err(failure) => self.failed(failure, now),
        }
    }

    /// The credentials were opened and written, or not.
    pub fn stored(
        &mut self,
        result: Result<(), Ended>,
        claim: Uuid,
        confirm_by: Option<Wall>,
        now: Mono,
    ) {
        self.busy = false;
        match result {
            Ok(()) => self.phase = Phase::Confirming(Confirming::new(claim, confirm_by, now)),
            Err(ended) => self.close(now, ended),
        }
    }

    /// The confirm was answered; `wall` is trusted time where there is one, `random` is in 0..1.
    pub fn confirmed(&mut self, result: Confirmed, wall: Option<Wall>, now: Mono, random: f64) {
        self.busy = false;
        let Phase::Confirming(c) = &mut self.phase else {
            return;
        };
        let asked = match result {
            Confirmed::Active => {
                self.phase = Phase::Activating { next: now };
                return;
            }
            Confirmed::Void => {
                self.phase = Phase::Discarding { next: now };
                return;
            }
            Confirmed::UnknownKey if c.is_over(wall, now) => {
                self.phase = Phase::Discarding { next: now };
                return;
            }
            Confirmed::Resign if c.failures == 0 => Some(Duration::ZERO),
            Confirmed::Later(asked) => asked,
            Confirmed::Resign | Confirmed::UnknownKey => None,
        };
        let longest = retry(c.failures, LONGEST_CONFIRM_RETRY);
        c.failures = c.failures.saturating_add(1);
        c.next = now + asked.unwrap_or(longest.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0));
    }

    /// The pending credentials are the current ones, or the disk did not take that.
    pub fn activated(&mut self, done: bool, now: Mono) {
        self.busy = false;
        if done {
            self.base = Base::Claimed { lost: false };
            self.phase = Phase::Closed;
            self.last = None;
            self.windows = Windows::default();
        } else {
            self.phase = Phase::Activating { next: now + SLOWER };
        }
    }

    /// The pending credentials are gone, or the disk did not take that.
    pub fn discarded(&mut self, done: bool, now: Mono) {
        self.busy = false;
        if done {
            self.close(now, Ended::NotConfirmed);
        } else {
            self.phase = Phase::Discarding { next: now + SLOWER };
        }
    }

    /// What people are shown.
    pub fn view(&self, now: Mono) -> View {
        let mut view = View {
            state: match self.base {
                Base::Unclaimed => "unclaimed",
                Base::Claimed { .. } => "claimed",
            },
            user_code: None,
            verification_uri: None,
            closes_in: None,
            last: self.last.clone(),
        };
        match &self.phase {
            Phase::Closed => {}
            Phase::Window(w) => {
                view.state = match (&w.claim, &w.challenge) {
                    (None, _) => "opening",
                    (Some(_), None) => "open",
                    (Some(_), Some(_)) => "challenge",
                };
                view.closes_in = Some(w.closes.since(now));
                if let Some(claim) = &w.claim {
                    let (a, b) = claim.user_code.split_at(claim.user_code.len() / 2);
                    view.user_code = Some(format!("{a}-{b}"));
                    view.verification_uri = Some(claim.verification_uri.to_string());
                }
            }
            _ => view.state = "confirming",
        }
        view
    }

    fn failed(&mut self, failure: Failure, now: Mono) {
        let Phase::Window(window) = &mut self.phase else {
            return;
        };
        match failure {
            Failure::Refused { code, detail } => self.close(now, Ended::Refused { code, detail }),
            Failure::Garbled if window.errors + 1 >= MAX_ERRORS => self.close(now, Ended::Errors),
            failure => {
                window.errors += u8::from(failure == Failure::Garbled);
                let asked = match failure {
                    Failure::Later(asked) => asked.unwrap_or_default(),
                    _ => Duration::ZERO,
                };
                window.next = now + asked.max(retry(window.failures, LONGEST_RETRY));
                window.failures = window.failures.saturating_add(1);
            }
        }
    }

    fn close_if_over(&mut self, now: Mono) {
        if let Phase::Window(window) = &mut self.phase {
            if now >= window.closes {
                return self.close(now, Ended::Timeout);
            }
            // A challenge that nobody answered in time: the next poll may bring another.
            if let Some(challenge) = window
                .challenge
                .take_if(|c| c.count.is_none() && now >= c.until)
            {
                window.answered = Some(challenge.id);
            }
        }
    }

    fn close(&mut self, now: Mono, how: Ended) {
        if !matches!(self.phase, Phase::Closed) && how != Ended::Reset {
            self.windows.failed(now);
        }
        self.phase = Phase::Closed;
        self.busy = false;
        self.generation += 1;
        self.last = Some(how);
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
