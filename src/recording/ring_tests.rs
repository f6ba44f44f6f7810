use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, PartialEq)]
struct Unit {
    pts: u64,
    video: bool,
    key: bool,
    bytes: usize,
    n: usize,
}

impl Item for Unit {
    fn pts(&self) -> Pts {
        Pts(self.pts * 1_000_000)
    }
    fn is_video(&self) -> bool {
        self.video
    }
    fn is_video_key(&self) -> bool {
        self.video && self.key
    }
    fn bytes(&self) -> usize {
        self.bytes
    }
}

fn ms(pts: u64) -> Pts {
    Pts(pts * 1_000_000)
}

fn unit(pts: u64, key: bool) -> Unit {
    Unit {
        pts,
        video: true,
        key,
        bytes: 100,
        n: 0,
    }
}

fn audio(pts: u64) -> Unit {
    Unit {
        pts,
        video: false,
        key: true,
        bytes: 10,
        n: 0,
    }
}

fn ring(pre_roll_ms: u64, max_bytes: usize) -> Ring<Unit> {
    Ring::new(Limits {
        pre_roll: Duration::from_millis(pre_roll_ms),
        max_bytes,
    })
}

#[test]
fn a_cut_begins_at_the_key_frame_at_or_before_the_wanted_moment() {
    let mut r = ring(10_000, 1 << 20);
    for i in 0..100u64 {
        r.push(unit(i * 100, i % 10 == 0));
    }
    assert_eq!(r.cut(ms(5_500)).next().unwrap().pts, 5_000);
    assert_eq!(r.cut(ms(5_000)).next().unwrap().pts, 5_000);
    assert_eq!(r.cut(ms(0)).next().unwrap().pts, 0);
    assert_eq!(r.cut(ms(99_000)).next().unwrap().pts, 9_000);
    assert_eq!(r.cut(ms(5_500)).count(), 50);
}

#[test]
fn a_moment_before_the_oldest_gives_all_there_is() {
    let mut r = ring(1_000, 1 << 20);
    for i in 50..100u64 {
        r.push(unit(i * 100, i % 10 == 0));
    }
    assert_eq!(
        r.cut(ms(0)).next().unwrap().pts,
        r.oldest().unwrap().0 / 1_000_000
    );
    assert_eq!(ring(0, 0).cut(ms(5)).count(), 0);
}

#[test]
fn two_gops_stay_even_without_pre_roll() {
    let mut r = ring(0, 1 << 20);
    for i in 0..100u64 {
        r.push(unit(i * 100, i % 10 == 0));
        assert!(i < 10 || r.gops() == 2);
    }
    assert_eq!(r.losses(), Losses::default());
}

#[test]
fn audio_that_came_early_follows_the_key_frame() {
    let mut r = ring(10_000, 1 << 20);
    for u in [
        unit(0, true),
        audio(990),
        audio(1_010),
        unit(1_000, true),
        audio(1_030),
    ] {
        r.push(u);
    }
    let cut: Vec<u64> = r.cut(ms(1_000)).map(|u| u.pts).collect();
    assert_eq!(cut, [1_000, 1_010, 1_030]);
}

#[test]
fn a_gop_larger_than_the_bound_goes_as_a_whole_and_is_counted() {
    let mut r = ring(10_000, 1_000);
    r.push(unit(0, true));
    for i in 1..20 {
        r.push(unit(i * 40, false));
        assert!(r.bytes() <= 1_000);
    }
    assert_eq!(r.losses().gops, 1);
    assert!(r.losses().headless > 0);
    r.push(unit(1_000, true));
    assert_eq!(r.cut(ms(0)).count(), 1);
}

#[test]
fn a_clock_that_goes_backwards_is_noticed_by_a_ring_that_overflowed() {
    let mut r = ring(10_000, 1_000);
    r.push(unit(5_000, true));
    r.push(Unit {
        bytes: 2_000,
        ..unit(5_040, false)
    });
    assert_eq!((r.gops(), r.losses().gops), (0, 1));
    r.push(unit(80, true));
    assert_eq!((r.gops(), r.losses().resets), (1, 1));
    r.clear();
    r.push(unit(40, true));
    assert_eq!(r.losses().resets, 1, "another session is no step backwards");
}

#[test]
fn a_clock_that_goes_backwards_starts_again() {
    let mut r = ring(10_000, 1 << 20);
    for i in 0..30u64 {
        r.push(unit(60_000 + i * 100, i % 10 == 0));
    }
    r.push(unit(100, true));
    assert_eq!((r.gops(), r.losses().resets), (1, 1));
    assert_eq!(r.newest_key().unwrap().pts, 100);
}

/// The plain way: remember everything, say afterwards what should be there.
#[derive(Default)]
struct Model {
    all: Vec<Unit>,
}

fn stream() -> impl Strategy<Value = Vec<Unit>> {
    let step = (0u64..400, 0u8..10, 1usize..3_000, 0u8..60);
    proptest::collection::vec(step, 1..400).prop_map(|steps| {
        let mut now = 10_000u64;
        steps
            .into_iter()
            .enumerate()
            .map(|(n, (gap, kind, bytes, jump))| {
                now = match jump {
                    0 => now.saturating_sub(5_000),
                    1 => now + 20_000,
                    _ => now + gap,
                };
                // B-frames: some pictures come with an earlier pts.
                let pts = if kind == 3 {
                    now.saturating_sub(80)
                } else {
                    now
                };
                Unit {
                    pts,
                    video: kind != 0,
                    key: kind < 3,
                    bytes,
                    n,
                }
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn the_ring_agrees_with_the_model(units in stream(), pre_roll in 0u64..20_000, max in 2_000usize..60_000, from in 0u64..60_000) {
        let mut r = ring(pre_roll, max);
        let mut model = Model::default();
        for u in units {
            r.push(u.clone());
            model.all.push(u);
            prop_assert!(r.bytes() <= max);
            let held: Vec<&Unit> = r.items.iter().collect();
            prop_assert_eq!(r.bytes(), held.iter().map(|u| u.bytes + ITEM_OVERHEAD).sum::<usize>());
            prop_assert_eq!(r.gops(), held.iter().filter(|u| u.is_video_key()).count());
            let Some(first) = held.first() else { continue };
            // What is held is the unbroken end of what came, from a key frame on.
            prop_assert!(first.is_video_key());
            prop_assert!(model.all.ends_with(&held.iter().map(|u| (*u).clone()).collect::<Vec<_>>()));
            // Nothing that is still wanted was let go, unless a loss was counted.
            let lost = r.losses();
            if lost.gops == 0 && lost.resets == 0 {
                let newest = model.all[model.all.len() - held.len()..].iter().filter(|u| u.video).map(|u| u.pts).max().unwrap();
                let had_older = model.all[..model.all.len() - held.len()].iter().any(Item::is_video_key);
                if had_older {
                    prop_assert!(first.pts <= newest.saturating_sub(pre_roll));
                    prop_assert!(r.gops() >= 2);
                }
            }
        }
        let cut: Vec<&Unit> = r.cut(ms(from)).collect();
        if let Some(first) = cut.first() {
            prop_assert!(first.is_video_key());
            prop_assert!(first.pts <= from || Some(first.pts()) == r.oldest());
            let later_key = r.items.iter().any(|u| u.is_video_key() && u.pts > first.pts && u.pts <= from);
            prop_assert!(!later_key);
            prop_assert_eq!(cut.last().unwrap().n, r.items.back().unwrap().n.max(first.n));
        } else {
            prop_assert!(r.items.is_empty());
        }
    }
}
