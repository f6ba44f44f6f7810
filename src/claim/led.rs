//! What the light shows (protocol section 8.6): a lasting pattern for each state, a short one over it for what has
//! just happened.

use std::time::Duration;

use crate::time::Mono;

/// One part of a pattern: light or dark, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Light.
    pub on: bool,
    /// In milliseconds.
    pub ms: u32,
}

/// What the light does until it is told otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// Light or dark.
    Steady(bool),
    /// Equal times of light and dark.
    Blink { half_ms: u32 },
    /// These steps, over and over.
    Steps(Vec<Step>),
    /// The kernel's heartbeat.
    Heartbeat,
}

/// The lasting state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// 1 Hz: nobody owns it.
    Unclaimed,
    /// 4 Hz: a window is open.
    Window,
    /// Double flashes, twice a second: press now.
    PressNow,
    /// Heartbeat: all is well.
    Fine,
    /// Long, short: the cloud does not answer or does not take the key.
    CloudLost,
    /// Light while held: letting go arms the reset.
    HeldLong,
    /// 5 Hz: a press resets.
    ResetArmed,
}

/// What has just happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flash {
    /// Light for 3 s.
    Claimed,
    /// So many presses were counted.
    Echo(u8),
    /// Ten quick ones.
    Error,
}

fn steps(of: &[(bool, u32)]) -> Vec<Step> {
    of.iter()
        .map(|(on, ms)| Step { on: *on, ms: *ms })
        .collect()
}

impl Shown {
    /// Its pattern.
    pub fn pattern(self) -> Pattern {
        match self {
            Shown::Unclaimed => Pattern::Blink { half_ms: 500 },
            Shown::Window => Pattern::Blink { half_ms: 125 },
            Shown::PressNow => {
                Pattern::Steps(steps(&[(true, 80), (false, 80), (true, 80), (false, 260)]))
            }
            Shown::Fine => Pattern::Heartbeat,
            Shown::CloudLost => Pattern::Steps(steps(&[
                (true, 900),
                (false, 300),
                (true, 200),
                (false, 600),
            ])),
            Shown::HeldLong => Pattern::Steady(true),
            Shown::ResetArmed => Pattern::Blink { half_ms: 100 },
        }
    }
}

impl Flash {
    /// Its pattern and how long it lasts.
    pub fn pattern(self) -> (Pattern, Duration) {
        let (one, times) = match self {
            Flash::Claimed => return (Pattern::Steady(true), Duration::from_secs(3)),
            // Dark first, so that the first flash is seen.
            Flash::Echo(n) => ([(false, 250), (true, 150)], u32::from(n)),
            Flash::Error => ([(true, 50), (false, 50)], 10),
        };
        let length: u32 = one.iter().map(|(_, ms)| ms).sum();
        let total = Duration::from_millis(u64::from(length) * u64::from(times));
        (Pattern::Steps(steps(&one)), total)
    }
}

/// What the light has to show now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Light {
    flash: Option<(Flash, Mono)>,
}

impl Light {
    /// Shows a flash from now on.
    pub fn flash(&mut self, flash: Flash, now: Mono) {
        self.flash = Some((flash, now + flash.pattern().1));
    }

    /// The pattern at `now`.
    pub fn pattern(&mut self, shown: Shown, now: Mono) -> Pattern {
        match self.flash {
            Some((flash, until)) if now < until => flash.pattern().0,
            _ => {
                self.flash = None;
                shown.pattern()
            }
        }
    }

    /// When the pattern changes by itself.
    pub fn deadline(&self) -> Option<Mono> {
        self.flash.map(|(_, until)| until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(pattern: &Pattern) -> u32 {
        match pattern {
            Pattern::Blink { half_ms } => 2 * half_ms,
            Pattern::Steps(steps) => steps.iter().map(|s| s.ms).sum(),
            Pattern::Steady(_) | Pattern::Heartbeat => 0,
        }
    }

    #[test]
    fn the_rates_are_those_of_the_protocol() {
        let of = |shown: Shown| period(&shown.pattern());
        assert_eq!(of(Shown::Unclaimed), 1000);
        assert_eq!(of(Shown::Window), 250);
        assert_eq!(of(Shown::PressNow), 500);
        assert_eq!(of(Shown::ResetArmed), 200);
        let all = [
            Shown::Unclaimed,
            Shown::Window,
            Shown::PressNow,
            Shown::Fine,
            Shown::CloudLost,
            Shown::HeldLong,
            Shown::ResetArmed,
        ];
        for (i, a) in all.iter().enumerate() {
            for b in &all[..i] {
                assert_ne!(a.pattern(), b.pattern(), "{a:?} {b:?}");
            }
        }
        assert_eq!(Flash::Error.pattern().1, Duration::from_secs(1));
        assert_eq!(Flash::Echo(3).pattern().1, Duration::from_millis(1200));
    }

    #[test]
    fn a_flash_lies_over_the_state_and_ends() {
        let mut light = Light::default();
        let at = |ms: u64| Mono(ms * 1_000_000);
        light.flash(Flash::Claimed, at(0));
        assert_eq!(light.pattern(Shown::Fine, at(2999)), Pattern::Steady(true));
        assert_eq!(light.deadline(), Some(at(3000)));
        assert_eq!(light.pattern(Shown::Fine, at(3000)), Pattern::Heartbeat);
        assert_eq!(light.deadline(), None);
    }
}
