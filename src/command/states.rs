//! The states of a command on the device, which may follow which, and what a crash makes of an open one.
//!
//! ```text
//! acknowledged ─▶ in_progress ─▶ succeeded | failed | timed_out | canceled
//!      └────────▶ canceled                      rejected (from the beginning)
//! ```
//!
//! Each change raises `rev` by one and is committed before anything is done because of it. Terminal states are final.

use super::kinds::Kind;

/// State of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Its row is on disk; it will run.
    Acknowledged,
    /// It runs, or did when the process died.
    InProgress,
    /// Done.
    Succeeded,
    /// It did not work.
    Failed,
    /// It took longer than its type may.
    TimedOut,
    /// It was not begun, and never will be.
    Canceled,
    /// It is none that this device carries out.
    Rejected,
}

impl State {
    /// All of them.
    pub const ALL: [State; 7] = [
        State::Acknowledged,
        State::InProgress,
        State::Succeeded,
        State::Failed,
        State::TimedOut,
        State::Canceled,
        State::Rejected,
    ];

    /// The word on the wire and in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Acknowledged => "acknowledged",
            State::InProgress => "in_progress",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::TimedOut => "timed_out",
            State::Canceled => "canceled",
            State::Rejected => "rejected",
        }
    }

    /// By its word.
    pub fn from_word(word: &str) -> Option<State> {
        State::ALL.into_iter().find(|s| s.as_str() == word)
    }

    /// Nothing follows.
    pub fn is_terminal(self) -> bool {
        !matches!(self, State::Acknowledged | State::InProgress)
    }

    /// Whether `next` may follow.
    pub fn may_become(self, next: State) -> bool {
        match self {
            State::Acknowledged => matches!(next, State::InProgress | State::Canceled),
            State::InProgress => matches!(
                next,
                State::Succeeded | State::Failed | State::TimedOut | State::Canceled
            ),
            _ => false,
        }
    }
}

/// What the machine shows of a command that was running when the process died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evidence {
    /// This is another boot than the one in which it began.
    pub rebooted: bool,
    /// What it was to make has a row.
    pub made: bool,
    /// Its time is over.
    pub expired: bool,
}

/// What to do with a command that was running when the process died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterCrash {
    /// Run it again.
    RunAgain,
    /// It did what it was to do.
    Succeeded,
    /// Nobody knows how far it came: `failed{interrupted}`.
    Interrupted,
}

/// Decides by its type and by evidence.
pub fn after_crash(kind: Kind, evidence: Evidence) -> AfterCrash {
    match kind {
        Kind::Reboot if evidence.rebooted => AfterCrash::Succeeded,
        Kind::RecordingStart | Kind::Snapshot if evidence.made => AfterCrash::Succeeded,
        kind if kind.idempotent() && !evidence.expired => AfterCrash::RunAgain,
        _ => AfterCrash::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_states_both_ways() {
        for state in State::ALL {
            assert_eq!(State::from_word(state.as_str()), Some(state));
        }
        assert_eq!(State::from_word("expired"), None);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_tried_a_command_has_at_most_one_terminal_state(tries in proptest::collection::vec(0usize..7, 0..30)) {
            let (mut state, mut terminals) = (State::Acknowledged, 0);
            for next in tries.into_iter().map(|i| State::ALL[i]) {
                if state.may_become(next) {
                    state = next;
                    terminals += usize::from(next.is_terminal());
                }
            }
            proptest::prop_assert!(terminals <= 1);
            proptest::prop_assert_eq!(terminals == 1, state.is_terminal());
        }
    }

    #[test]
    fn after_a_crash_evidence_decides_then_idempotence() {
        let none = Evidence::default();
        let rebooted = Evidence {
            rebooted: true,
            ..none
        };
        let made = Evidence { made: true, ..none };
        let late = Evidence {
            expired: true,
            ..none
        };
        for (kind, evidence, then) in [
            (Kind::Reboot, none, AfterCrash::Interrupted),
            (Kind::Reboot, rebooted, AfterCrash::Succeeded),
            (Kind::RecordingStart, none, AfterCrash::Interrupted),
            (Kind::RecordingStart, made, AfterCrash::Succeeded),
            (Kind::Snapshot, none, AfterCrash::RunAgain),
            (Kind::Snapshot, made, AfterCrash::Succeeded),
            (Kind::RecordingStop, rebooted, AfterCrash::RunAgain),
            (Kind::SyncNow, none, AfterCrash::RunAgain),
            (Kind::SyncNow, late, AfterCrash::Interrupted),
            (Kind::DiagCollect, none, AfterCrash::RunAgain),
            (Kind::KeyRotate, none, AfterCrash::RunAgain),
            (Kind::Unclaim, none, AfterCrash::RunAgain),
        ] {
            assert_eq!(after_crash(kind, evidence), then, "{kind:?} {evidence:?}");
        }
    }
}
