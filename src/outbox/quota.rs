//! What goes when a class is full, so that the newest alarm always finds room and no loss is silent.

use crate::model::Class;
use crate::units::ByteSize;

/// Bytes of stored bodies that each class may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas(pub [u64; 4]);

impl Default for Quotas {
    fn default() -> Self {
        Quotas([
            ByteSize::mib(32).0,
            ByteSize::mib(64).0,
            ByteSize::mib(64).0,
            ByteSize::mib(16).0,
        ])
    }
}

/// Room that must be made before a record is put: the oldest rows of `class`, at least `bytes` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eviction {
    /// Whose oldest rows go.
    pub class: Class,
    /// At least this many bytes.
    pub bytes: u64,
}

/// Decides what must go so that `incoming` bytes of `class` fit. `used` is what each class holds now.
///
/// A class over its own quota (or all of them over the sum) loses its oldest rows, except P0, which takes the room
/// of P3, then P2, and is admitted in
/// any case; P1 borrows the room of P3 and P2 before it loses an alarm.
pub fn make_room(quotas: &Quotas, used: [u64; 4], class: Class, incoming: u64) -> Vec<Eviction> {
    let lenders: &[Class] = match class {
        Class::Critical => &[Class::Metric, Class::Metadata],
        Class::Alarm => &[Class::Metric, Class::Metadata, Class::Alarm],
        Class::Metadata => &[Class::Metadata],
        Class::Metric => &[Class::Metric],
    };
    let own_over = (used[class.index()] + incoming).saturating_sub(quotas.0[class.index()]);
    let free = |c: &Class| quotas.0[c.index()].saturating_sub(used[c.index()]);
    let borrowable: u64 = lenders.iter().filter(|c| **c != class).map(free).sum();
    // What others have borrowed is missing here: the total never outgrows the sum of the quotas.
    let total_over = (used.iter().sum::<u64>() + incoming).saturating_sub(quotas.0.iter().sum());
    let mut need = own_over.saturating_sub(borrowable).max(total_over);
    let mut evictions = Vec::new();
    for lender in lenders {
        let take = need.min(used[lender.index()]);
        if take > 0 {
            evictions.push(Eviction {
                class: *lender,
                bytes: take,
            });
            need -= take;
        }
    }
    evictions
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: Quotas = Quotas([100, 100, 100, 100]);

    #[test]
    fn room_within_the_quota_costs_nothing() {
        assert_eq!(make_room(&SMALL, [0, 90, 0, 0], Class::Alarm, 10), []);
    }

    #[test]
    fn an_alarm_takes_metrics_then_metadata_then_the_oldest_alarms() {
        let evictions = make_room(&SMALL, [0, 100, 100, 100], Class::Alarm, 10);
        assert_eq!(
            evictions,
            [Eviction {
                class: Class::Metric,
                bytes: 10
            }]
        );
        // 295 + 3 + 2 of 300 are held, so all ten bytes must be freed.
        assert_eq!(
            make_room(&SMALL, [0, 295, 3, 2], Class::Alarm, 10),
            [
                Eviction {
                    class: Class::Metric,
                    bytes: 2
                },
                Eviction {
                    class: Class::Metadata,
                    bytes: 3
                },
                Eviction {
                    class: Class::Alarm,
                    bytes: 5
                }
            ]
        );
    }

    #[test]
    fn metadata_loses_its_own_oldest_only() {
        assert_eq!(
            make_room(&SMALL, [0, 0, 100, 50], Class::Metadata, 7),
            [Eviction {
                class: Class::Metadata,
                bytes: 7
            }]
        );
    }

    proptest! {
        #[test]
        fn critical_is_never_evicted(used in prop::array::uniform4(0u64..300), class in 0i64..4, incoming in 1u64..64) {
            let class = Class::from_index(class).unwrap();
            let evictions = make_room(&SMALL, used, class, incoming);
            prop_assert!(evictions.iter().all(|e| e.class != Class::Critical));
            prop_assert!(evictions.iter().all(|e| e.bytes <= used[e.class.index()]));
            // A class never loses rows for one of lower priority.
            prop_assert!(evictions.iter().all(|e| e.class >= class));
        }

        #[test]
        fn the_total_stays_bounded(puts in prop::collection::vec((1i64..4, 1u64..40), 1..200)) {
            let mut used = [0u64; 4];
            for (class, bytes) in puts {
                let class = Class::from_index(class).unwrap();
                for e in make_room(&SMALL, used, class, bytes) {
                    used[e.class.index()] -= e.bytes;
                }
                used[class.index()] += bytes;
                // P2 and P3 admit one record even where their room is lent out.
                prop_assert!(used.iter().sum::<u64>() <= 400 + 2 * 40, "{used:?}");
            }
        }
    }
}
