//! The two phases of a claim that have a memory of their own: an open window, and a confirm that is repeated.

use std::time::Duration;

use uuid::Uuid;

use super::machine::Action;
use crate::time::{Mono, Wall};
use crate::wire::claim::{ClaimCode, Created};

/// A window is open for this long.
pub const WINDOW: Duration = Duration::from_secs(600);
/// After the cloud's deadline, so that clocks that differ do not matter; where it named none, after so long a wait.
const GRACE: Duration = Duration::from_secs(60);
const CONFIRM_FOR: Duration = Duration::from_secs(720);

#[derive(Debug, Clone)]
pub(super) struct Window {
    pub(super) closes: Mono,
    pub(super) code: Option<ClaimCode>,
    pub(super) claim: Option<Created>,
    pub(super) interval: Duration,
    pub(super) next: Mono,
    pub(super) failures: u32,
    pub(super) errors: u8,
    pub(super) challenge: Option<Challenge>,
    /// The challenge that was answered last: it is not asked again.
    pub(super) answered: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Challenge {
    pub(super) id: String,
    pub(super) until: Mono,
    pub(super) count: Option<u8>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Confirming {
    pub(super) claim: Uuid,
    pub(super) confirm_by: Option<Wall>,
    pub(super) began: Mono,
    pub(super) next: Mono,
    pub(super) failures: u32,
}

impl Window {
    /// One that opens now.
    pub(super) fn open(code: Option<ClaimCode>, now: Mono) -> Window {
        Window {
            closes: now + WINDOW,
            code,
            claim: None,
            interval: Duration::from_secs(5),
            next: now,
            failures: 0,
            errors: 0,
            challenge: None,
            answered: None,
        }
    }

    pub(super) fn poll(&mut self, now: Mono) -> Option<Action> {
        if now < self.next {
            return None;
        }
        let Some(claim) = &self.claim else {
            return Some(Action::Create {
                code: self.code.clone(),
            });
        };
        let (id, token) = (claim.id, claim.token.clone());
        match &self.challenge {
            Some(Challenge {
                id: challenge,
                count: Some(count),
                ..
            }) => Some(Action::Answer {
                claim: id,
                token,
                challenge: challenge.clone(),
                count: *count,
            }),
            _ => Some(Action::Poll { claim: id, token }),
        }
    }

    pub(super) fn challenged(&mut self, id: String, length: Duration, now: Mono) -> bool {
        let known = self.challenge.as_ref().is_some_and(|c| c.id == id);
        if known || self.answered.as_ref() == Some(&id) {
            return false;
        }
        self.challenge = Some(Challenge {
            id,
            until: now + length,
            count: None,
        });
        true
    }
}

impl Confirming {
    pub(super) fn new(claim: Uuid, confirm_by: Option<Wall>, now: Mono) -> Self {
        Confirming {
            claim,
            confirm_by,
            began: now,
            next: now,
            failures: 0,
        }
    }

    /// The cloud has deleted what was not confirmed by now.
    pub(super) fn is_over(&self, wall: Option<Wall>, now: Mono) -> bool {
        match (self.confirm_by, wall) {
            (Some(by), Some(wall)) => wall > by + GRACE,
            _ => now.since(self.began) >= CONFIRM_FOR,
        }
    }
}

/// 1, 2, 4 s … up to `longest`.
pub(super) fn retry(failures: u32, longest: Duration) -> Duration {
    Duration::from_secs(1 << failures.min(10)).min(longest)
}
