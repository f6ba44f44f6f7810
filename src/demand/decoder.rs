//! Which decoder is used, and when it is left. Pure; the shell tells what goes in and what comes out.
//!
//! ```text
//!   ┌────────┐ PROOF pictures, the first like software's ┌─────────┐
//!   │ probed │ ────────────────────────────────────────▶ │ trusted │
//!   └────────┘                                           └─────────┘
//!       │  no picture for HANG, an error, another picture     │
//!       └──────────────▶ left for 10 min, 20 min, … 1 day ◀───┘      software is always there
//! ```
//!
//! Guarantees: software is chosen whenever nothing else is in good standing; a decoder that owes pictures for [`HANG`]
//! is told to be left, whatever else it says; one that was left is not tried again before its time.

use std::time::Duration;

use crate::time::Mono;

/// A decoder that has been given a chosen picture must put one out within this time.
pub const HANG: Duration = Duration::from_secs(5);
/// Pictures that a hardware decoder must deliver before it is trusted.
pub const PROOF: u32 = 10;
/// Mean difference (luma) of two decoders' pictures of one key frame up to which they are alike.
pub const ALIKE: f32 = 6.0;
/// How long a hardware decoder that failed is left alone the first time, and at most.
const LEFT: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(86_400));

/// Elements of GStreamer that decode in hardware, best first, by the beginning of their names: the stateless and the
/// stateful kernel interface (Raspberry Pi and other boards), VA-API new and old, NVIDIA.
const HARDWARE: [&str; 6] = ["v4l2sl", "v4l2h", "va", "vaapi", "nvv4l2", "nv"];

/// The hardware decoders among `names`, in the order in which they are tried.
pub fn rank(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let place = |name: &str| {
        // "vaapih264dec" begins with "va" too: the longest beginning counts.
        let fits = |(i, p): (usize, &&str)| name.starts_with(*p).then_some((p.len(), i));
        let best = HARDWARE.iter().enumerate().filter_map(fits).max();
        best.map(|(_, i)| i)
    };
    let mut known: Vec<(usize, String)> = names
        .into_iter()
        .filter_map(|name| Some((place(&name)?, name)))
        .collect();
    known.sort();
    known.dedup();
    known.into_iter().map(|(_, name)| name).collect()
}

/// Mean difference of two pictures of the same size; `None` where the sizes differ.
pub fn difference(a: &[u8], b: &[u8]) -> Option<f32> {
    let sum: u64 = a
        .iter()
        .zip(b)
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    (a.len() == b.len() && !a.is_empty()).then(|| sum as f32 / a.len() as f32)
}

/// One hardware decoder.
#[derive(Debug, Clone)]
struct Candidate {
    name: String,
    pictures: u32,
    failures: u32,
    /// Not before this.
    again: Mono,
}

/// The decoders of one camera.
#[derive(Debug, Clone)]
pub struct Decoders {
    software: String,
    hardware: Vec<Candidate>,
}

impl Decoders {
    /// `software` and the hardware in the order of [`rank`].
    pub fn new(software: &str, hardware: Vec<String>) -> Decoders {
        let candidate = |name| Candidate {
            name,
            pictures: 0,
            failures: 0,
            again: Mono(0),
        };
        Decoders {
            software: software.to_owned(),
            hardware: hardware.into_iter().map(candidate).collect(),
        }
    }

    /// The decoder to start at `now`.
    pub fn choose(&self, now: Mono) -> &str {
        let ready = self.hardware.iter().find(|c| now >= c.again);
        ready.map_or(&self.software, |c| &c.name)
    }

    /// The one that is always there.
    pub fn software(&self) -> &str {
        &self.software
    }

    /// Whether the first key frame of `name` still has to be compared with software's.
    pub fn is_unproved(&self, name: &str) -> bool {
        self.hardware
            .iter()
            .any(|c| c.name == name && c.pictures < PROOF)
    }

    /// A picture came out of `name`.
    pub fn delivered(&mut self, name: &str) {
        if let Some(c) = self.hardware.iter_mut().find(|c| c.name == name) {
            c.pictures = c.pictures.saturating_add(1);
            if c.pictures >= 100 * PROOF {
                c.failures = 0;
            }
        }
    }

    /// `name` hangs, failed, or shows something else than software.
    pub fn failed(&mut self, name: &str, now: Mono) {
        if let Some(c) = self.hardware.iter_mut().find(|c| c.name == name) {
            let wait = LEFT.0.saturating_mul(1 << c.failures.min(16)).min(LEFT.1);
            c.failures = c.failures.saturating_add(1);
            c.pictures = 0;
            c.again = now + wait;
        }
    }
}

/// Watches one running decoder.
#[derive(Debug, Clone, Copy, Default)]
pub struct Watch {
    /// Since when it owes a picture.
    owes: Option<Mono>,
    sent: Mono,
}

impl Watch {
    /// It was given a chosen picture.
    pub fn sent(&mut self, now: Mono) {
        self.owes.get_or_insert(now);
        self.sent = now;
    }

    /// It put a picture out; `owes`: it was given more.
    pub fn came(&mut self, now: Mono, owes: bool) {
        self.owes = owes.then_some(now);
    }

    /// Whether it must be left. A decoder that is given nothing may keep its last pictures; one for which packets `wait`
    /// does not even take them.
    pub fn hangs(&self, now: Mono, wait: bool) -> bool {
        self.owes.is_some_and(|since| {
            now.since(since) >= HANG && (wait || self.sent.since(since) >= HANG / 2)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(s: u64) -> Mono {
        Mono(s * 1_000_000_000)
    }

    #[test]
    fn known_hardware_comes_in_order_and_nothing_else() {
        let names = [
            "nvh264dec",
            "avdec_h264",
            "vaapih264dec",
            "v4l2h264dec",
            "vah264dec",
            "v4l2slh264dec",
        ];
        assert_eq!(
            rank(names.map(str::to_owned)),
            [
                "v4l2slh264dec",
                "v4l2h264dec",
                "vah264dec",
                "vaapih264dec",
                "nvh264dec"
            ]
        );
    }

    #[test]
    fn what_hangs_is_left_for_longer_each_time_and_software_takes_over() {
        let mut d = Decoders::new("soft", vec!["hard".into()]);
        assert_eq!(d.choose(at(0)), "hard");
        assert!(d.is_unproved("hard") && !d.is_unproved("soft"));
        let mut watch = Watch::default();
        watch.sent(at(0));
        watch.sent(at(2));
        assert!(!watch.hangs(at(9), false), "the camera sends nothing");
        assert!(watch.hangs(at(5), true), "it takes nothing");
        watch.sent(at(3));
        assert!(!watch.hangs(at(4), true) && watch.hangs(at(5), false));
        d.failed("hard", at(5));
        assert_eq!((d.choose(at(604)), d.choose(at(605))), ("soft", "hard"));
        d.failed("hard", at(605));
        assert_eq!((d.choose(at(1800)), d.choose(at(1805))), ("soft", "hard"));
        (0..PROOF).for_each(|_| d.delivered("hard"));
        assert!(!d.is_unproved("hard"));
    }

    #[test]
    fn a_decoder_that_delivers_is_never_left() {
        let mut watch = Watch::default();
        for s in 0..100 {
            watch.sent(at(s));
            assert!(!watch.hangs(at(s + 1), true));
            watch.came(at(s + 1), s % 2 == 0);
        }
        watch.came(at(100), false);
        assert!(!watch.hangs(at(10_000), true), "nothing is owed");
    }

    #[test]
    fn pictures_of_other_sizes_are_not_alike() {
        assert_eq!(difference(&[1, 2], &[1]), None);
        assert_eq!(difference(&[], &[]), None);
        assert_eq!(difference(&[10, 20], &[12, 16]), Some(3.0));
    }

    proptest! {
        #[test]
        fn software_is_there_whatever_fails(fails in prop::collection::vec((0..3usize, 0..100_000u64), 0..50), t in 0..200_000u64) {
            let names = ["a", "b", "c"];
            let mut d = Decoders::new("soft", names.map(str::to_owned).to_vec());
            let mut now = 0;
            for (i, passed) in fails {
                now += passed;
                let before = d.choose(at(now)).to_owned();
                d.failed(names[i], at(now));
                prop_assert!(d.choose(at(now)) != names[i]);
                prop_assert!(before == names[i] || d.choose(at(now)) == before);
            }
            let chosen = d.choose(at(now + t));
            prop_assert!(chosen == "soft" || names.contains(&chosen));
            prop_assert!(names.contains(&d.choose(at(now + 86_400))));
        }
    }
}
