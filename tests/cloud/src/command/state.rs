//! The states of a command (section 7.2) and what a device's word changes. Pure.
//!
//! ```text
//! queued ─▶ dispatched ─▶ acknowledged ─▶ in_progress ─▶ succeeded │ failed │ timed_out │ canceled
//!    └────────────┴─▶ rejected  └─────────────┴─▶ canceled
//!    └────────────┴─▶ expired (the cloud's own; the device may say it too)
//! ```
//! Of a device's words the one with the greater place (epoch's rank, rev) wins, and an end is final. What
//! came over MQTT is a *hint*: shown at once, but the broker is not trusted with the truth, so the record
//! that comes by HTTPS replaces a hinted end, whatever its rev.

/// The words of the database and of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nobody has it yet.
    Queued,
    /// Handed out.
    Dispatched,
    /// Committed by the device.
    Acknowledged,
    /// Being done.
    InProgress,
    /// Done.
    Succeeded,
    /// Tried, not done.
    Failed,
    /// Not done in its time.
    TimedOut,
    /// Given up before its end.
    Canceled,
    /// Refused by the device.
    Rejected,
    /// Too late for anybody.
    Expired,
}

impl Status {
    const ALL: [Self; 10] = [
        Self::Queued,
        Self::Dispatched,
        Self::Acknowledged,
        Self::InProgress,
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::Canceled,
        Self::Rejected,
        Self::Expired,
    ];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Dispatched => "dispatched",
            Self::Acknowledged => "acknowledged",
            Self::InProgress => "in_progress",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Canceled => "canceled",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
        }
    }

    /// The status of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.word() == word)
    }

    /// Whether nothing comes after it.
    pub fn is_end(self) -> bool {
        !matches!(
            self,
            Self::Queued | Self::Dispatched | Self::Acknowledged | Self::InProgress
        )
    }

    /// Whether a device may say it.
    pub fn is_a_devices(self) -> bool {
        !matches!(self, Self::Queued | Self::Dispatched)
    }
}

/// Place of a word among a device's: epoch's rank, rev.
pub type Place = (i32, i64);

/// What a row says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Its status.
    pub status: Status,
    /// Place of the word that made it so.
    pub place: Place,
    /// Known by a hint only.
    pub hinted: bool,
}

/// How a word came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In a batch: the record.
    Record,
    /// Over MQTT: a hint.
    Hint,
}

/// What to do with the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It takes the word.
    Apply,
    /// It stays; its times may become earlier.
    Older,
    /// It has ended otherwise; note what was said, change nothing.
    Late,
}

/// What a device's word does to a row.
pub fn decide(now: Now, said: Status, place: Place, way: Way) -> Effect {
    let overrides = way == Way::Record && now.hinted && said.is_end();
    if now.status.is_end() {
        return match (overrides, now.hinted, way) {
            (true, ..) => Effect::Apply,
            (false, false, Way::Record) if said.is_end() && said != now.status => Effect::Late,
            _ => Effect::Older,
        };
    }
    let confirms = way == Way::Record && now.hinted && place == now.place;
    if overrides || confirms || place > now.place {
        Effect::Apply
    } else {
        Effect::Older
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Effect::{Apply, Late, Older};
    use Way::{Hint, Record};

    fn now(status: Status, rev: i64, hinted: bool) -> Now {
        Now {
            status,
            place: (1, rev),
            hinted,
        }
    }

    #[test]
    fn the_greater_rev_wins_and_an_end_is_final() {
        use Status::*;
        for (row, said, rev, way, effect) in [
            (now(Dispatched, 0, false), Acknowledged, 1, Record, Apply),
            (now(Dispatched, 0, false), Succeeded, 3, Record, Apply),
            (now(Acknowledged, 1, false), Acknowledged, 1, Record, Older),
            (now(InProgress, 2, false), Acknowledged, 1, Record, Older),
            (now(InProgress, 2, false), Succeeded, 3, Record, Apply),
            (now(Succeeded, 3, false), Succeeded, 3, Record, Older),
            (now(Succeeded, 3, false), Failed, 9, Record, Late),
            (now(Succeeded, 3, false), InProgress, 9, Record, Older),
            (now(Expired, 0, false), Succeeded, 3, Record, Late),
            (now(Expired, 0, false), Succeeded, 3, Hint, Older),
        ] {
            assert_eq!(decide(row, said, (1, rev), way), effect, "{row:?} {said:?}");
        }
        let again = decide(now(InProgress, 2, false), Acknowledged, (2, 1), Record);
        assert_eq!(again, Apply, "a new epoch counts from one again");
    }

    #[test]
    fn a_record_beats_a_hinted_end_and_never_the_other_way_round() {
        use Status::*;
        assert_eq!(
            decide(now(Dispatched, 0, false), Succeeded, (1, 3), Hint),
            Apply
        );
        let forged = now(Succeeded, 999, true);
        assert_eq!(decide(forged, InProgress, (1, 2), Record), Older);
        assert_eq!(decide(forged, Failed, (1, 3), Record), Apply);
        assert_eq!(decide(forged, Failed, (1, 1000), Hint), Older);
        assert_eq!(
            decide(now(InProgress, 2, true), InProgress, (1, 2), Record),
            Apply
        );
    }

    /// Whatever the order and however often, the same set of records ends the same.
    #[test]
    fn the_order_of_arrival_does_not_matter() {
        use Status::*;
        let said = [
            (Acknowledged, 1),
            (InProgress, 2),
            (InProgress, 3),
            (Succeeded, 4),
        ];
        let mut order = [0, 1, 2, 3, 0, 1, 2, 3];
        let mut seed: u64 = 7;
        for _ in 0..1000 {
            for at in (1..order.len()).rev() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                order.swap(at, (seed >> 33) as usize % (at + 1));
            }
            let mut row = now(Dispatched, 0, false);
            for (step, at) in order.iter().enumerate() {
                let (status, rev) = said[*at];
                let way = if step % 3 == 0 { Hint } else { Record };
                if decide(row, status, (1, rev), way) == Apply {
                    row = now(status, rev, way == Hint);
                }
            }
            assert_eq!(row.status, Succeeded);
        }
    }
}
