//! Which of the files that wait goes next.
//!
//! What a person asked for, then pictures, then clips of events, then footage; within one of these what is under way, then the
//! newest. Every fourth turn goes to whatever is oldest, so that a backlog shrinks however much is new: of `n` files that
//! wait, each gets its turn within `4 n`.

use std::cmp::Reverse;

/// Every so many turns the oldest file is served.
pub const BACKLOG_TURN: u64 = 4;

/// How much a file matters; the order in which they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A person waits for it.
    Asked,
    /// Small, and shows what happened.
    Picture,
    /// A clip of an event, or a recording on command.
    Event,
    /// Continuous footage, which shows mostly nothing.
    Footage,
}

impl Class {
    /// All, in their order.
    pub const ALL: [Class; 4] = [Class::Asked, Class::Picture, Class::Event, Class::Footage];

    /// The word in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Asked => "asked",
            Class::Picture => "pictures",
            Class::Event => "events",
            Class::Footage => "footage",
        }
    }
}

/// A file that may go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// How much it matters.
    pub class: Class,
    /// Part of it is there already.
    pub under_way: bool,
    /// Orders files in time: boot, and moment in it.
    pub begun: (i64, u64),
}

/// Whether this turn goes to the oldest file.
pub fn is_turn_of_oldest(turn: u64) -> bool {
    turn % BACKLOG_TURN == BACKLOG_TURN - 1
}

/// The index of the file that has this turn.
pub fn choose(candidates: &[Candidate], turn: u64) -> Option<usize> {
    let all = 0..candidates.len();
    if is_turn_of_oldest(turn) {
        return all.min_by_key(|i| (candidates[*i].begun, *i));
    }
    all.min_by_key(|i| {
        let c = &candidates[*i];
        (c.class, !c.under_way, Reverse(c.begun), *i)
    })
}

/// Whether a file between two parts gives way to another one that is waiting.
pub fn gives_way(current: Class, waiting: Class) -> bool {
    waiting < current
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn c(class: Class, under_way: bool, at: u64) -> Candidate {
        Candidate {
            class,
            under_way,
            begun: (1, at),
        }
    }

    #[test]
    fn people_then_pictures_then_events_then_footage_and_the_newest_first() {
        let mut waiting = vec![
            c(Class::Footage, false, 9),
            c(Class::Event, false, 1),
            c(Class::Picture, false, 2),
            c(Class::Event, false, 5),
            c(Class::Event, true, 3),
            c(Class::Asked, false, 0),
            c(Class::Picture, false, 4),
        ];
        let mut order = Vec::new();
        while let Some(i) = choose(&waiting, 0) {
            order.push((waiting[i].class, waiting.remove(i).begun.1));
        }
        use Class::*;
        assert_eq!(
            order,
            [
                (Asked, 0),
                (Picture, 4),
                (Picture, 2),
                (Event, 3),
                (Event, 5),
                (Event, 1),
                (Footage, 9)
            ]
        );
        assert_eq!(choose(&[], 3), None);
        assert!(
            gives_way(Event, Picture) && !gives_way(Event, Event) && !gives_way(Asked, Picture)
        );
    }

    fn class() -> impl Strategy<Value = Class> {
        (0..4usize).prop_map(|i| Class::ALL[i])
    }

    proptest! {
        /// However many new files arrive each turn, of the files that wait at the beginning each is gone after 4 n turns.
        #[test]
        fn a_backlog_is_never_starved(old in prop::collection::vec((class(), any::<bool>()), 1..20), turn in 0u64..8,
                                      new in class()) {
            let mut waiting: Vec<Candidate> =
                old.iter().enumerate().map(|(i, (k, u))| c(*k, *u, i as u64)).collect();
            let n = waiting.len() as u64;
            for t in 0..n * BACKLOG_TURN {
                waiting.push(c(new, false, 1000 + t));
                waiting.push(c(Class::Asked, true, 5000 + t));
                let i = choose(&waiting, turn + t).unwrap();
                waiting.remove(i);
            }
            prop_assert!(waiting.iter().all(|c| c.begun.1 >= 1000));
        }

        /// Off its turn the oldest never overtakes what matters more.
        #[test]
        fn nothing_overtakes_what_matters_more(list in prop::collection::vec((class(), any::<bool>(), 0u64..50), 1..30), turn in 0u64..3) {
            let list: Vec<Candidate> = list.iter().map(|(k, u, t)| c(*k, *u, *t)).collect();
            let chosen = list[choose(&list, turn).unwrap()];
            for other in &list {
                prop_assert!(chosen.class <= other.class);
                if other.class == chosen.class && other.under_way == chosen.under_way {
                    prop_assert!(other.begun <= chosen.begun);
                }
            }
        }
    }
}
