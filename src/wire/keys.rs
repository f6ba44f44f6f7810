//! Which of a device's two keys signs: the current one, or the next one of a rotation that was cut short.
//!
//! ```text
//! current ──401──▶ next ──401──▶ lost: pause, then from the beginning
//!                    └──signed 2xx──▶ next is made the current one
//! ```
//!
//! A refusal wipes nothing; only the cloud's signed word on a request of the next key makes that the current one. Pure.

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySlot {
    /// The one that the device works with.
    Current,
    /// Received, but not known to be accepted yet.
    Next,
}

/// What a refusal of the key leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The other key has not been tried since: send again at once.
    TryOther,
    /// No key is accepted.
    Lost,
}

/// Which key signs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyChoice {
    slot: KeySlot,
}

impl Default for KeyChoice {
    /// Begins with the current key.
    fn default() -> Self {
        Self {
            slot: KeySlot::Current,
        }
    }
}

impl KeyChoice {
    /// The key for the next request.
    pub fn slot(&self) -> KeySlot {
        self.slot
    }

    /// The cloud answered 401 `unknown-key` or `invalid-signature`; `has_next`: there is a next key by now.
    pub fn refused(&mut self, has_next: bool) -> Refused {
        if has_next && self.slot == KeySlot::Current {
            self.slot = KeySlot::Next;
            Refused::TryOther
        } else {
            self.slot = KeySlot::Current;
            Refused::Lost
        }
    }

    /// The cloud answered 2xx with a valid signature. `true`: the next key is proven and is the current one from here.
    pub fn proven(&mut self) -> bool {
        let next = self.slot == KeySlot::Next;
        *self = Self::default();
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_is_lost_at_its_first_refusal() {
        let mut keys = KeyChoice::default();
        assert_eq!(keys.refused(false), Refused::Lost);
        assert_eq!(keys.slot(), KeySlot::Current);
        assert!(!keys.proven());
    }

    #[test]
    fn each_round_tries_the_current_one_then_the_next_one_once() {
        let mut keys = KeyChoice::default();
        for _ in 0..3 {
            assert_eq!(keys.slot(), KeySlot::Current);
            assert_eq!(keys.refused(true), Refused::TryOther);
            assert_eq!(keys.slot(), KeySlot::Next);
            assert_eq!(keys.refused(true), Refused::Lost);
        }
    }

    #[test]
    fn a_next_key_that_comes_later_is_tried_all_the_same() {
        let mut keys = KeyChoice::default();
        assert_eq!(keys.refused(false), Refused::Lost);
        assert_eq!(keys.refused(true), Refused::TryOther);
        assert_eq!(keys.slot(), KeySlot::Next);
        assert!(keys.proven());
    }

    #[test]
    fn a_proven_next_key_is_the_only_one() {
        let mut keys = KeyChoice::default();
        assert!(!keys.proven(), "the current key says nothing of the next");
        keys.refused(true);
        assert!(keys.proven());
        assert_eq!(keys.slot(), KeySlot::Current);
        assert_eq!(keys.refused(false), Refused::Lost);
    }
}
