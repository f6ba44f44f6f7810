//! One live session: when to connect, when to try again, what to tell, when it is over.
//!
//! ```text
//!   waiting ──its moment──▶ connecting ──server takes pictures──▶ live
//!      ▲  1 → 10 s, jitter       │ trouble                          │ trouble
//!      └─────────────────────────┴──────────────────────────────────┘
//!   from everywhere: lease over, stop, keys gone ─▶ ended · trouble that stays, never live within 30 s ─▶ failed
//! ```
//!
//! Guarantees: exactly one end, not later than the lease once it is looked at ([`Session::due`] says when); nothing
//! after the end; `rev` grows with everything that is told.

use std::time::Duration;

use crate::restart::Backoff;
use crate::time::Mono;

/// Never live within this: failed. Whoever wants to see waits before a screen.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// A camera that was seen may be away for this long.
pub const CAMERA_PATIENCE: Duration = Duration::from_secs(60);
/// How often the cloud hears how much was published.
pub const TELL_EVERY: Duration = Duration::from_secs(60);

/// Why nothing is published now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The address rule forbids what the name resolves to.
    Refused,
    /// The server is not there, or went away.
    Unreachable,
    /// The server wants another key.
    Auth,
    /// The camera delivers nothing.
    CameraDown,
    /// The server takes nothing, or the pipeline broke.
    Publisher,
    /// This protocol cannot carry what the camera sends, or this machine cannot speak it.
    Unsupported,
}

impl Trouble {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Trouble::Refused => "refused",
            Trouble::Unreachable => "unreachable",
            Trouble::Auth => "auth",
            Trouble::CameraDown => "camera_down",
            Trouble::Publisher => "publisher",
            Trouble::Unsupported => "unsupported",
        }
    }

    /// Another try would bring the same.
    fn stays(self) -> bool {
        matches!(
            self,
            Trouble::Refused | Trouble::Auth | Trouble::Unsupported
        )
    }
}

/// Why a session ends as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The cloud said so.
    Stopped,
    /// Its time was over.
    Lease,
    /// The camera went and did not come back.
    CameraLost,
    /// The device has no owner any more.
    Unclaimed,
    /// The agent ends.
    Shutdown,
}

impl Reason {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Stopped => "stopped",
            Reason::Lease => "lease",
            Reason::CameraLost => "camera_lost",
            Reason::Unclaimed => "unclaimed",
            Reason::Shutdown => "shutdown",
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// `stream.ended`
    Ended(Reason),
    /// `stream.failed`
    Failed(Trouble),
}

impl End {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            End::Ended(reason) => reason.word(),
            End::Failed(trouble) => trouble.word(),
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Begin to publish.
    Connect,
    /// Tell that it is live, with what was published so far.
    TellLive {
        /// Of this record.
        rev: u64,
    },
    /// Stop publishing, tell the end. Nothing follows.
    Over {
        /// How.
        end: End,
        /// Of this record.
        rev: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Connects at this moment.
    Waiting(Mono),
    Connecting,
    Live,
    Over,
}

/// The session; see the module.
#[derive(Debug, Clone)]
pub struct Session {
    until: Mono,
    began: Mono,
    state: State,
    backoff: Backoff,
    was_live: bool,
    /// Since when the camera has been the trouble.
    camera_down: Option<Mono>,
    trouble: Option<Trouble>,
    rev: u64,
    told: (Mono, u64),
}

impl Session {
    /// Asked for at `now`, with a lease until `until`.
    pub fn new(now: Mono, until: Mono) -> Session {
        Session {
            until,
            began: now,
            state: State::Waiting(now),
            backoff: Backoff::live(),
            was_live: false,
            camera_down: None,
            trouble: None,
            rev: 0,
            told: (now, 0),
        }
    }

    /// The lease ends then instead.
    pub fn renew(&mut self, until: Mono) {
        self.until = until;
    }

    /// The server takes pictures.
    pub fn live(&mut self, now: Mono, bytes: u64) -> Option<Act> {
        if self.state != State::Connecting {
            return None;
        }
        self.state = State::Live;
        self.camera_down = None;
        self.trouble = None;
        if self.was_live {
            return None;
        }
        self.was_live = true;
        Some(self.tell_live(now, bytes))
    }

    /// What was being done has come to nothing; `random` is a share in 0..1.
    pub fn lost(&mut self, now: Mono, trouble: Trouble, random: f64) -> Option<Act> {
        if !matches!(self.state, State::Connecting | State::Live) {
            return None;
        }
        self.trouble = Some(trouble);
        if trouble.stays() {
            return Some(self.over(End::Failed(trouble)));
        }
        if trouble == Trouble::CameraDown {
            self.camera_down.get_or_insert(now);
        } else {
            self.camera_down = None;
        }
        self.state = State::Waiting(self.backoff.next(now, random));
        None
    }

    /// Somebody ends it.
    pub fn stop(&mut self, reason: Reason) -> Option<Act> {
        (self.state != State::Over).then(|| self.over(End::Ended(reason)))
    }

    /// What is due at `now`, when `bytes` have been published in all.
    pub fn poll(&mut self, now: Mono, bytes: u64) -> Option<Act> {
        if self.state == State::Over {
            return None;
        }
        if now >= self.until {
            return Some(self.over(End::Ended(Reason::Lease)));
        }
        if self.camera_gone_at().is_some_and(|at| now >= at) {
            return Some(self.over(End::Ended(Reason::CameraLost)));
        }
        if self.hopeless_at().is_some_and(|at| now >= at) {
            let trouble = self.trouble.unwrap_or(Trouble::Unreachable);
            return Some(self.over(End::Failed(trouble)));
        }
        match self.state {
            State::Waiting(at) if now >= at => {
                self.state = State::Connecting;
                Some(Act::Connect)
            }
            State::Live => {
                self.backoff.works(now);
                let due = now >= self.told.0 + TELL_EVERY;
                if due && bytes <= self.told.1 {
                    self.told.0 = now;
                    return None;
                }
                due.then(|| self.tell_live(now, bytes))
            }
            _ => None,
        }
    }

    /// When to look again at the latest, if nothing happens before; never before what was polled last.
    pub fn due(&self) -> Mono {
        let next = match self.state {
            State::Waiting(at) => at,
            State::Live => self.told.0 + TELL_EVERY,
            State::Connecting | State::Over => self.until,
        };
        [self.hopeless_at(), self.camera_gone_at()]
            .into_iter()
            .flatten()
            .fold(next.min(self.until), Mono::min)
    }

    /// Nothing follows.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    fn hopeless_at(&self) -> Option<Mono> {
        (!self.was_live).then(|| self.began + PATIENCE)
    }

    fn camera_gone_at(&self) -> Option<Mono> {
        let since = self.camera_down.filter(|_| self.was_live);
        since.map(|since| since + CAMERA_PATIENCE)
    }

    fn tell_live(&mut self, now: Mono, bytes: u64) -> Act {
        self.rev += 1;
        self.told = (now, bytes);
        Act::TellLive { rev: self.rev }
    }

    fn over(&mut self, end: End) -> Act {
        self.state = State::Over;
        self.rev += 1;
        Act::Over { end, rev: self.rev }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
