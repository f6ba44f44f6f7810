use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn item(camera: &str, bytes: u64, standing: Standing, begun: u64) -> Item<u64> {
    Item {
        key: begun,
        camera: camera.into(),
        bytes,
        standing,
        begun: (1, begun),
        age: None,
        hold: None,
    }
}

fn usage(items: &[Item<u64>], free: u64, reserve: u64) -> Usage {
    let mut usage = Usage {
        free,
        floor: reserve,
        reserve,
        ..Usage::default()
    };
    for i in items {
        *usage.cameras.entry(i.camera.clone()).or_default() += i.bytes;
        usage.deletable += if i.hold.is_none() { i.bytes } else { 0 };
    }
    usage
}

fn went(items: &[Item<u64>], usage: &Usage, limits: &Limits) -> Vec<u64> {
    let decision = decide(items, usage, limits);
    decision
        .victims
        .iter()
        .map(|(i, _)| items[*i].key)
        .collect()
}

#[test]
fn uploaded_goes_before_local_before_what_waits_and_older_before_newer() {
    let items = [
        item("a", 10, Standing::Due(2), 1),
        item("a", 10, Standing::Local, 2),
        item("a", 10, Standing::Uploaded, 4),
        item("a", 10, Standing::Uploaded, 3),
        item("a", 10, Standing::Due(0), 5),
    ];
    for (limit, expected) in [
        (50, vec![]),
        (49, vec![3]),
        (30, vec![3, 4]),
        (29, vec![3, 4, 2]),
        (10, vec![3, 4, 2, 5]),
        (0, vec![3, 4, 2, 5, 1]),
    ] {
        let limits = Limits {
            total: Some(limit),
            ..Limits::default()
        };
        assert_eq!(
            went(&items, &usage(&items, 0, 0), &limits),
            expected,
            "{limit}"
        );
    }
}

#[test]
fn a_camera_that_keeps_too_much_costs_only_itself() {
    let items = [
        item("a", 10, Standing::Uploaded, 1),
        item("b", 10, Standing::Due(2), 2),
        item("b", 10, Standing::Due(2), 3),
    ];
    let limits = Limits {
        cameras: [("b".to_owned(), 15)].into(),
        ..Limits::default()
    };
    assert_eq!(went(&items, &usage(&items, 0, 0), &limits), [2]);
}

#[test]
fn a_disk_that_others_filled_costs_nothing_when_nothing_would_help() {
    let items = [item("a", 10, Standing::Uploaded, 1)];
    let decision = decide(&items, &usage(&items, 5, 16), &Limits::default());
    assert_eq!(decision.victims, []);
    assert_eq!(decision.unmet, [Why::Space].into());
    // The floor can be reached although the reserve cannot.
    let wanted = Usage {
        floor: 15,
        ..usage(&items, 5, 16)
    };
    assert_eq!(
        decide(&items, &wanted, &Limits::default()).victims,
        [(0, Why::Space)]
    );
}

#[test]
fn age_counts_only_where_it_is_proven() {
    let old = |age, hold| Item {
        age,
        hold,
        ..item("a", 1, Standing::Due(2), 1)
    };
    let items = [
        old(Some(25 * HOUR), None),
        old(Some(23 * HOUR), None),
        old(None, None),
        old(Some(99 * HOUR), Some(Hold::Locked)),
    ];
    let limits = Limits {
        max_age: Some(24 * HOUR),
        ..Limits::default()
    };
    let decision = decide(&items, &usage(&items, 0, 0), &limits);
    assert_eq!(decision.victims, [(0, Why::Age)]);
}

#[test]
fn the_reserve_counts_the_database_and_open_clips_but_never_most_of_a_small_disk() {
    assert_eq!(reserve(100, 20, [5, 7].into_iter(), 10_000), 132);
    assert_eq!(reserve(100, 2000, [5, 7].into_iter(), 800), 200);
    assert_eq!(
        reserve(u64::MAX, 1, [u64::MAX].into_iter(), u64::MAX),
        u64::MAX
    );
}

/// What happens to a store.
#[derive(Debug, Clone)]
enum Step {
    /// A clip of a camera grows by so much.
    Grow(usize, u64),
    /// It is closed, with this standing.
    Close(usize, Standing),
    Upload(usize),
    Uploading(usize),
    Lock(usize),
    Unlock(usize),
    /// Somebody else takes (or gives back) space.
    Others(i64),
}

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![
        Just(Standing::Uploaded),
        Just(Standing::Local),
        (0u8..4).prop_map(Standing::Due)
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..3, 1u64..40).prop_map(|(c, n)| Step::Grow(c, n)),
        4 => (0usize..3, standing()).prop_map(|(c, s)| Step::Close(c, s)),
        1 => any::<usize>().prop_map(Step::Upload),
        1 => any::<usize>().prop_map(Step::Uploading),
        1 => any::<usize>().prop_map(Step::Lock),
        1 => any::<usize>().prop_map(Step::Unlock),
        1 => (-60i64..60).prop_map(Step::Others),
    ]
}

const CAMERAS: [&str; 3] = ["a", "b", "c"];
const DISK: i64 = 1000;

#[derive(Default)]
struct Store {
    closed: Vec<Item<u64>>,
    open: [u64; 3],
    others: i64,
    clock: u64,
}

impl Store {
    fn apply(&mut self, step: &Step) {
        self.clock += 1;
        let pick = |at: usize, n: usize| (n > 0).then(|| at % n);
        match step {
            Step::Grow(c, n) => self.open[*c] += n,
            Step::Close(c, standing) => {
                let bytes = std::mem::take(&mut self.open[*c]);
                if bytes > 0 {
                    self.closed
                        .push(item(CAMERAS[*c], bytes, *standing, self.clock));
                }
            }
            Step::Others(n) => self.others = (self.others + n).max(0),
            Step::Upload(at) | Step::Uploading(at) | Step::Lock(at) | Step::Unlock(at) => {
                let Some(i) = pick(*at, self.closed.len()) else {
                    return;
                };
                let item = &mut self.closed[i];
                match step {
                    Step::Upload(_) => (item.standing, item.hold) = (Standing::Uploaded, None),
                    Step::Uploading(_) => item.hold = Some(Hold::Uploading),
                    Step::Lock(_) => item.hold = Some(Hold::Locked),
                    _ => item.hold = None,
                }
            }
        }
    }

    /// All files, the growing ones too.
    fn items(&self) -> Vec<Item<u64>> {
        let mut items = self.closed.clone();
        for (c, bytes) in self.open.iter().enumerate().filter(|(_, n)| **n > 0) {
            let hold = Some(Hold::Writing);
            items.push(Item {
                hold,
                ..item(CAMERAS[c], *bytes, Standing::Due(3), u64::MAX)
            });
        }
        items
    }

    fn free(&self) -> u64 {
        let used: u64 = self.items().iter().map(|i| i.bytes).sum();
        (DISK - self.others - used as i64).max(0) as u64
    }
}

fn meets(items: &[Item<u64>], limits: &Limits, why: Why, free: u64, usage: &Usage) -> bool {
    let sum = |camera: Option<&str>| -> u64 {
        let own = items
            .iter()
            .filter(|i| camera.is_none_or(|c| i.camera == c));
        own.map(|i| i.bytes).sum()
    };
    match why {
        Why::Age => true,
        Why::CameraQuota => limits.cameras.iter().all(|(c, n)| sum(Some(c)) <= *n),
        Why::Quota => limits.total.is_none_or(|n| sum(None) <= n),
        Why::Space => free >= usage.reserve,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_the_limits_hold_nothing_forbidden_goes_and_nothing_goes_in_vain(
        steps in prop::collection::vec(step(), 1..120),
        total in prop::option::of(0u64..300),
        of_b in prop::option::of(0u64..120),
        reserve in 0u64..400,
    ) {
        let limits = Limits {
            total,
            cameras: of_b.map(|n| ("b".to_owned(), n)).into_iter().collect(),
            max_age: None,
        };
        let mut store = Store::default();
        for step in &steps {
            store.apply(step);
            let items = store.items();
            let free = store.free();
            let usage = usage(&items, free, reserve);
            let decision = decide(&items, &usage, &limits);
            if !exceeded(&usage, &limits) {
                prop_assert_eq!(&decision.victims, &[]);
            }
            let forbidden = |(i, _): &&(usize, Why)| items[*i].hold.is_some();
            prop_assert_eq!(decision.victims.iter().find(forbidden), None);
            let gone: BTreeSet<usize> = decision.victims.iter().map(|(i, _)| *i).collect();
            prop_assert_eq!(gone.len(), decision.victims.len(), "nothing goes twice");

            // Each limit holds now, or there is nothing left that might go for it.
            let left: Vec<_> = (0..items.len()).filter(|i| !gone.contains(i)).map(|i| items[i].clone()).collect();
            let freed: u64 = gone.iter().map(|i| items[*i].bytes).sum();
            for why in [Why::CameraQuota, Why::Quota, Why::Space] {
                let met = meets(&left, &limits, why, free + freed, &usage);
                prop_assert_eq!(met, !decision.unmet.contains(&why), "{:?}", why);
                let could = |i: &&Item<u64>| i.hold.is_none() && (why != Why::CameraQuota || i.camera == "b");
                if !met && why != Why::Space {
                    prop_assert_eq!(left.iter().find(could), None, "{:?} could be met", why);
                }
                if !met && why == Why::Space {
                    prop_assert!(free + usage.deletable < reserve);
                }
            }
            // Without its last victim a limit would not hold: none goes in vain.
            if let Some((last, why)) = decision.victims.last() {
                let mut more = left.clone();
                more.push(items[*last].clone());
                let free = free + freed - items[*last].bytes;
                prop_assert!(!meets(&more, &limits, *why, free, &usage) || decision.unmet.contains(why));
            }
            // What goes for one limit is the beginning of the order: nothing better placed was spared.
            for (at, (i, why)) in decision.victims.iter().enumerate() {
                let better = |j: &usize| {
                    let (a, b) = (&items[*j], &items[*i]);
                    let earlier = decision.victims[..at].iter().any(|(v, _)| v == j);
                    a.hold.is_none() && !earlier && (*why != Why::CameraQuota || a.camera == b.camera)
                        && (a.standing, a.begun) < (b.standing, b.begun)
                };
                prop_assert_eq!((0..items.len()).find(better), None);
            }
            let mut n = 0;
            store.closed.retain(|_| { n += 1; !gone.contains(&(n - 1)) });
            // The promise: what is kept is never more than the quota and one open clip a camera, unless all is forbidden.
            if let Some(total) = total {
                let may_go: u64 = store.closed.iter().filter(|i| i.hold.is_none()).map(|i| i.bytes).sum();
                let kept: u64 = store.closed.iter().map(|i| i.bytes).sum();
                prop_assert!(may_go == 0 || kept + store.open.iter().sum::<u64>() <= total);
            }
        }
    }
}
