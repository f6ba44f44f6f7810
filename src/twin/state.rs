//! The life of twin documents: which is in force, which was asked for last, and what became of it.
//!
//! ```text
//!             offer: refused ──▶ rejected
//!  applied ───┤                                   authenticated 2xx
//!             └ offer: good ──▶ applied  │  provisional ───────────▶ applied
//!                                            300 s without one, or lost over two boots ──▶ reverted
//! ```
//!
//! A version is judged once: whoever sends it again (the broker's retained copy, the hourly look, a replay) changes
//! nothing. Pure: every step takes the state and gives the next one, which is stored before anything else is done.

use std::time::Duration;

use serde_json::{Value, json};

use super::Reason;
use crate::model::BootId;
use crate::time::{Mono, Wall};

/// A change that may cut the cloud off has to prove itself within this.
pub const PROVISIONAL: Duration = Duration::from_secs(300);

/// What became of the version that was asked for last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is in force.
    Applied,
    /// It has faults; what was in force is in force.
    Rejected,
    /// It was in force, did not prove itself, and is not any more.
    Reverted,
}

impl Status {
    /// The word on the wire and in the store.
    pub fn word(self) -> &'static str {
        match self {
            Status::Applied => "applied",
            Status::Rejected => "rejected",
            Status::Reverted => "reverted",
        }
    }

    /// From the word.
    pub fn from_word(word: &str) -> Option<Status> {
        [Status::Applied, Status::Rejected, Status::Reverted]
            .into_iter()
            .find(|s| s.word() == word)
    }
}

/// Until when a change has to prove itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// The boot that `until` is of.
    pub boot: BootId,
    /// In that boot.
    pub until: Mono,
    /// The same as a date, for another boot.
    pub until_wall: Wall,
    /// It was carried over into another boot once.
    pub carried: bool,
}

/// A document with its version, without secrets. Version 0 is the configuration file, without a document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// 0 where there is none.
    pub version: u64,
    /// JSON.
    pub text: Option<String>,
}

/// All that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Whose versions these are: the device's name in the cloud; empty where none was accepted yet.
    pub edge_id: String,
    /// The newest version that was judged.
    pub desired: u64,
    /// What became of it.
    pub status: Status,
    /// Why it was refused.
    pub reasons: Vec<Reason>,
    /// The program that judged it: a newer one may judge better.
    pub judge: String,
    /// What is in force.
    pub applied: Document,
    /// While that is provisional: what is in force again if it does not prove itself, and the deadline.
    pub provisional: Option<(Document, Deadline)>,
}

impl Default for State {
    fn default() -> Self {
        State {
            edge_id: String::new(),
            desired: 0,
            status: Status::Applied,
            reasons: Vec::new(),
            judge: String::new(),
            applied: Document::default(),
            provisional: None,
        }
    }
}

impl State {
    /// Whether `version` is still to be judged: it is newer than all before, or was refused by another program.
    pub fn is_news(&self, version: u64, program: &str) -> bool {
        version > self.desired
            || (version == self.desired && self.status == Status::Rejected && self.judge != program)
    }

    /// The versions whose secrets are still needed.
    pub fn versions(&self) -> Vec<u64> {
        let fallback = self.provisional.as_ref().map(|(d, _)| d.version);
        [Some(self.applied.version), fallback]
            .into_iter()
            .flatten()
            .collect()
    }

    /// What is in force and has proved itself.
    pub fn confirmed(&self) -> &Document {
        self.provisional
            .as_ref()
            .map_or(&self.applied, |(fallback, _)| fallback)
    }

    /// `version` has faults.
    pub fn rejected(mut self, version: u64, reasons: Vec<Reason>, program: &str) -> State {
        self.desired = version;
        self.status = Status::Rejected;
        self.reasons = reasons;
        self.judge = program.into();
        self
    }

    /// `document` is good; with a deadline where it has to prove itself.
    pub fn accepted(self, document: Document, deadline: Option<Deadline>, program: &str) -> State {
        let fallback = self.confirmed().clone();
        State {
            edge_id: self.edge_id,
            desired: document.version,
            status: Status::Applied,
            reasons: Vec::new(),
            judge: program.into(),
            applied: document,
            provisional: deadline.map(|d| (fallback, d)),
        }
    }

    /// The cloud answered under what is in force.
    pub fn proved(mut self) -> State {
        self.provisional = None;
        self
    }

    /// It did not prove itself.
    pub fn reverted(mut self) -> State {
        if let Some((fallback, _)) = self.provisional.take() {
            self.applied = fallback;
            // A newer version may have been refused meanwhile; that stays what is reported.
            if self.status == Status::Applied {
                self.status = Status::Reverted;
                self.reasons = vec![Reason::of_document(
                    "unconfirmed",
                    "the cloud was not reached within 300 s",
                )];
            }
        }
        self
    }

    /// At the start of the program: a change that was provisional goes on for the rest of its time in the same boot.
    /// In another boot it is reverted where its time is surely over, else gets one more full time, once: without a
    /// clock nobody knows how long the power was away.
    pub fn at_start(mut self, boot: BootId, now: Mono, not_before: Wall) -> State {
        let Some((_, deadline)) = &mut self.provisional else {
            return self;
        };
        let same = deadline.boot == boot;
        let over = if same {
            now >= deadline.until
        } else {
            deadline.carried || not_before >= deadline.until_wall
        };
        if over {
            return self.reverted();
        }
        if !same {
            deadline.boot = boot;
            deadline.until = now + PROVISIONAL;
            deadline.carried = true;
        }
        self
    }

    /// Whether the time of what is provisional is over.
    pub fn is_overdue(&self, now: Mono) -> bool {
        self.provisional
            .as_ref()
            .is_some_and(|(_, d)| now >= d.until)
    }

    /// As the cloud is told: `data` of `twin.reported`, and `up/twin`.
    pub fn report(&self) -> Value {
        let status = match self.provisional {
            Some(_) if self.status == Status::Applied => "provisional",
            _ => self.status.word(),
        };
        json!({ "desired": self.desired, "applied": self.applied.version, "status": status,
                "errors": self.reasons })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn doc(version: u64) -> Document {
        let text = (version > 0).then(|| format!("{{\"v\":{version}}}"));
        Document { version, text }
    }

    fn boot(n: u128) -> BootId {
        BootId(Uuid::from_u128(n))
    }

    fn s(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    fn provisional() -> State {
        let deadline = Deadline {
            boot: boot(1),
            until: s(400),
            until_wall: Wall::from_unix_seconds(1_000_300),
            carried: false,
        };
        State::default()
            .accepted(doc(3), None, "1")
            .accepted(doc(4), Some(deadline), "1")
    }

    #[test]
    fn a_version_is_judged_once_but_a_new_program_may_judge_again() {
        let state = State::default().accepted(doc(3), None, "1");
        assert!(!state.is_news(3, "1") && !state.is_news(2, "2") && state.is_news(4, "1"));
        let state = state.rejected(5, vec![Reason::of_document("range", "")], "1");
        assert!(!state.is_news(5, "1") && !state.is_news(4, "1"));
        assert!(state.is_news(5, "2") && state.is_news(6, "1"));
        assert_eq!((state.applied.version, state.status), (3, Status::Rejected));
    }

    #[test]
    fn what_does_not_prove_itself_is_reverted_and_not_tried_again() {
        let state = provisional();
        assert!(!state.is_overdue(s(399)) && state.is_overdue(s(400)));
        let back = state.clone().reverted();
        assert_eq!(
            (back.applied.clone(), back.status),
            (doc(3), Status::Reverted)
        );
        assert_eq!(back.report()["errors"][0]["code"], "unconfirmed");
        assert!(!back.is_news(4, "2") && back.is_news(5, "1"));
        let proved = state.proved();
        assert!(!proved.is_overdue(s(9999)));
        assert_eq!(proved.clone().reverted(), proved);
    }

    #[test]
    fn a_second_provisional_change_falls_back_to_the_last_proven_one() {
        let (_, deadline) = provisional().provisional.unwrap();
        let state = provisional().accepted(doc(5), Some(deadline), "1");
        assert_eq!(state.versions(), [5, 3]);
        assert_eq!(state.reverted().applied, doc(3));
        let refused = provisional().rejected(5, vec![], "1").reverted();
        assert_eq!(
            (refused.applied, refused.status),
            (doc(3), Status::Rejected)
        );
    }

    #[test]
    fn the_deadline_survives_a_restart_and_one_power_cut() {
        let early = Wall::from_unix_seconds(1_000_000);
        let same = provisional().at_start(boot(1), s(399), early);
        assert_eq!(same, provisional());
        let over = provisional().at_start(boot(1), s(400), early);
        assert_eq!(over.status, Status::Reverted);
        let late = Wall::from_unix_seconds(1_000_300);
        assert_eq!(
            provisional().at_start(boot(2), s(5), late).status,
            Status::Reverted
        );
        let carried = provisional().at_start(boot(2), s(5), early);
        assert!(!carried.is_overdue(s(304)) && carried.is_overdue(s(305)));
        let restarted = carried.clone().at_start(boot(2), s(100), early);
        assert_eq!(restarted, carried);
        assert_eq!(
            carried.at_start(boot(3), s(5), early).status,
            Status::Reverted
        );
    }

    #[derive(Debug, Clone)]
    enum Step {
        Accept(u64, bool),
        Reject(u64),
        Prove,
        Revert,
        Boot,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..9u64, any::<bool>()).prop_map(|(v, p)| Step::Accept(v, p)),
            (1..9u64).prop_map(Step::Reject),
            Just(Step::Prove),
            Just(Step::Revert),
            Just(Step::Boot),
        ]
    }

    proptest! {
        /// Whatever happens: versions are judged in order, and what is in force was accepted and not reverted.
        #[test]
        fn versions_only_grow_and_nothing_unproven_stays(steps in proptest::collection::vec(step(), 0..40)) {
            let (_, deadline) = provisional().provisional.unwrap();
            let mut state = State::default();
            let mut boots = 1;
            for step in steps {
                let before = state.clone();
                state = match step {
                    Step::Accept(v, p) if state.is_news(v, "1") => {
                        let d = Deadline { boot: boot(boots), ..deadline };
                        state.accepted(doc(v), p.then_some(d), "1")
                    }
                    Step::Reject(v) if state.is_news(v, "1") => state.rejected(v, vec![], "1"),
                    Step::Prove => state.proved(),
                    Step::Revert => state.reverted(),
                    Step::Boot => {
                        boots += 1;
                        state.at_start(boot(boots), s(1), Wall(0))
                    }
                    _ => state,
                };
                prop_assert!(state.desired >= before.desired);
                prop_assert!(state.applied.version <= state.desired);
                prop_assert_eq!(&state.applied, &doc(state.applied.version));
                prop_assert!(state.confirmed().version <= state.applied.version);
            }
            let unproven = state.provisional.is_some();
            let end = state.clone().at_start(boot(98), s(1), Wall(0)).at_start(boot(99), s(1), Wall(0));
            prop_assert!(end.provisional.is_none());
            if unproven {
                prop_assert_eq!(&end.applied, state.confirmed());
            }
        }
    }
}
