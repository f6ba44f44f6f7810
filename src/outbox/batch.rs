//! What goes into the next batch: P0 first, then P1 : P2 : P3 as 8 : 3 : 1, so that an old backlog never starves a
//! new alarm; and how many records, by additive-increase-like doubling and halving.

use crate::model::Class;
use crate::model::limits::MAX_BATCH_RECORDS;

/// Shares `limit` places among the classes, given how many records wait in each (index = class).
///
/// All places are used while records wait; within a class the caller takes the oldest.
pub fn shares(waiting: [usize; 4], limit: usize) -> [usize; 4] {
    let mut shares = [0; 4];
    shares[0] = waiting[0].min(limit);
    let mut left = limit - shares[0];
    let lower = [Class::Alarm, Class::Metadata, Class::Metric];
    let total: usize = lower
        .iter()
        .filter(|c| waiting[c.index()] > 0)
        .map(|c| weight(*c))
        .sum();
    if total > 0 {
        let places = left;
        for class in lower {
            let i = class.index();
            let fair = (places * weight(class)).div_ceil(total);
            shares[i] = fair.min(waiting[i]).min(left);
            left -= shares[i];
        }
    }
    for class in lower {
        let i = class.index();
        let more = (waiting[i] - shares[i]).min(left);
        shares[i] += more;
        left -= more;
    }
    shares
}

/// Share of a batch once P0 is served.
fn weight(class: Class) -> usize {
    match class {
        Class::Critical => 0,
        Class::Alarm => 8,
        Class::Metadata => 3,
        Class::Metric => 1,
    }
}

/// Batch size that follows what the cloud can take: doubled on success, halved on 413, 400 or time-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSize(usize);

impl Default for BatchSize {
    fn default() -> Self {
        BatchSize(MAX_BATCH_RECORDS)
    }
}

impl BatchSize {
    /// Records at most in the next batch, 1 to [`MAX_BATCH_RECORDS`].
    pub fn limit(self) -> usize {
        self.0
    }

    /// A batch was settled.
    pub fn grow(&mut self) {
        self.0 = (self.0 * 2).min(MAX_BATCH_RECORDS);
    }

    /// A batch of `sent` records was too much. `false`: it was a single record and cannot be made smaller.
    pub fn shrink(&mut self, sent: usize) -> bool {
        if sent <= 1 {
            return false;
        }
        self.0 = (sent / 2).clamp(1, MAX_BATCH_RECORDS);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn critical_goes_first_and_the_rest_is_weighted() {
        assert_eq!(shares([300, 9, 9, 9], 256), [256, 0, 0, 0]);
        assert_eq!(shares([0, 1000, 1000, 1000], 120), [0, 80, 30, 10]);
        assert_eq!(shares([10, 0, 1000, 0], 100), [10, 0, 90, 0]);
        assert_eq!(shares([0, 1, 1000, 1000], 120), [0, 1, 109, 10]);
    }

    #[test]
    fn a_poisoned_batch_is_bisected_to_one_record() {
        let mut size = BatchSize::default();
        let mut sent = 200;
        let mut tries = 0;
        while size.shrink(sent) {
            sent = size.limit();
            tries += 1;
        }
        assert_eq!((sent, tries), (1, 7));
        size.grow();
        assert_eq!(size.limit(), 2);
    }

    proptest! {
        #[test]
        fn places_are_used_and_no_class_with_weight_starves(
            waiting in prop::array::uniform4(0usize..1000), limit in 0usize..=256
        ) {
            let s = shares(waiting, limit);
            let all: usize = waiting.iter().sum();
            prop_assert_eq!(s.iter().sum::<usize>(), all.min(limit));
            for i in 0..4 {
                prop_assert!(s[i] <= waiting[i]);
            }
            // An alarm always rides along unless critical records fill the batch.
            if waiting[1] > 0 && waiting[0] < limit {
                prop_assert!(s[1] > 0);
            }
        }
    }
}
