//! Whether the camera still sees its scene: covered, out of focus, turned away.
//!
//! Where edges lie and how strong they are is the camera's view, whatever the light: a switch, dusk and the infrared
//! cut change brightness, not the place of edges. The picture is reduced to the edges in [`COLS`]×[`ROWS`] fields, relative
//! to the brightness, and compared with what was usual over the last minutes.

use std::time::Duration;

use crate::time::Pts;

/// Fields a row and a column.
const COLS: usize = 32;
const ROWS: usize = 18;
/// Time constant of what is usual, in seconds.
const USUAL_SECONDS: f32 = 120.0;
/// What must be known before anything is said.
const LEARNED: Duration = Duration::from_secs(20);
/// How long a view must be wrong, and right again, before it is told.
const LASTS: Duration = Duration::from_secs(4);
/// After this time the view that was wrong is the usual one.
const ACCEPTED: Duration = Duration::from_secs(600);
/// Edges left of what is usual: hardly any behind a hand, few without focus.
const COVERED: f32 = 0.12;
const DEFOCUSED: f32 = 0.35;
/// Large differences of brightness left of what is usual: a blurred scene keeps them, a hand does not.
const FLAT: f32 = 0.3;
/// Correlation of the edges' places with the usual ones: below it the camera looks elsewhere.
const ELSEWHERE: f32 = 0.25;
/// Steps that are no edge, luma × 4.
const NOISE: i16 = 12;
/// Edges, luma a pixel relative to the brightness, that a scene must usually have to be told from a cover.
const LEAST_EDGES: f32 = 0.008;

/// What became of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tamper {
    /// Hardly anything is seen.
    Covered,
    /// The same scene without its edges.
    Defocused,
    /// Another scene.
    Turned,
}

impl Tamper {
    /// The word on the wire.
    pub fn code(self) -> &'static str {
        match self {
            Tamper::Covered => "covered",
            Tamper::Defocused => "defocused",
            Tamper::Turned => "turned",
        }
    }
}

/// Watches the view of one camera.
#[derive(Debug, Clone)]
pub struct View {
    usual: Vec<f32>,
    now: Vec<f32>,
    light: Vec<f32>,
    /// Spread of the fields' brightness, luma × 4: usual and now.
    spread: (f32, f32),
    /// Seconds of this view that were learned from; `None` before the first picture. Positions begin anew with a stream.
    seen: Option<f32>,
    last: Pts,
    /// What is suspected, and since when.
    suspect: (Option<Tamper>, Pts),
    told: Option<Tamper>,
}

impl Default for View {
    fn default() -> View {
        View {
            usual: vec![0.0; COLS * ROWS],
            now: vec![0.0; COLS * ROWS],
            light: vec![0.0; COLS * ROWS],
            spread: (0.0, 0.0),
            seen: None,
            last: Pts(0),
            suspect: (None, Pts(0)),
            told: None,
        }
    }
}

impl View {
    /// What is wrong with the view, as long as it is.
    pub fn tamper(&self) -> Option<Tamper> {
        self.told
    }

    /// Looks at a small picture of `width × height` (any unit of brightness, above 0).
    pub fn look(&mut self, picture: &[i16], width: usize, height: usize, at: Pts) {
        if width < 2 * COLS || height < 2 * ROWS {
            return;
        }
        let edges = self.measure(picture, width, height);
        let Some(seen) = self.seen else {
            self.usual.copy_from_slice(&self.now);
            self.spread.0 = self.spread.1;
            (self.seen, self.last, self.suspect) = (Some(0.0), at, (None, at));
            return;
        };
        if at < self.last {
            (self.last, self.suspect.1) = (at, at);
        }
        let dt = at.since(self.last).as_secs_f32().min(2.0);
        self.last = at;
        let seen = seen + dt;
        self.seen = Some(seen);
        let usual = mean(&self.usual);
        let wrong = if usual < LEAST_EDGES || seen < LEARNED.as_secs_f32() {
            None
        } else if edges < COVERED * usual && self.spread.1 < FLAT * self.spread.0 {
            Some(Tamper::Covered)
        } else if edges < DEFOCUSED * usual {
            Some(Tamper::Defocused)
        } else if correlation(&self.usual, &self.now) < ELSEWHERE {
            Some(Tamper::Turned)
        } else {
            None
        };
        if wrong != self.suspect.0 {
            self.suspect = (wrong, at);
        }
        let lasts = at.since(self.suspect.1);
        if lasts >= LASTS {
            self.told = wrong;
        }
        if wrong.is_some() && lasts >= ACCEPTED {
            self.usual.copy_from_slice(&self.now);
            self.spread.0 = self.spread.1;
            (self.told, self.suspect, self.seen) = (None, (None, at), Some(0.0));
        }
        if wrong.is_none() && self.told.is_none() {
            let young = 1.0 / (1.0 + seen);
            let rate = (dt / USUAL_SECONDS).max(dt * young).min(0.5);
            for (u, n) in self.usual.iter_mut().zip(&self.now) {
                *u += (n - *u) * rate;
            }
            self.spread.0 += (self.spread.1 - self.spread.0) * rate;
        }
    }

    /// Fills `now`; answers its mean.
    fn measure(&mut self, picture: &[i16], width: usize, height: usize) -> f32 {
        self.now.fill(0.0);
        self.light.fill(0.0);
        let mut brightness = 0.0f32;
        for y in 0..height - 1 {
            let row_of_fields = y * ROWS / height * COLS;
            let field = &mut self.now[row_of_fields..][..COLS];
            let lights = &mut self.light[row_of_fields..][..COLS];
            let (row, below) = (
                &picture[y * width..][..width],
                &picture[(y + 1) * width..][..width],
            );
            for (c, sum) in field.iter_mut().enumerate() {
                let (from, to) = (c * width / COLS, ((c + 1) * width / COLS).min(width - 1));
                let mut edges = 0i32;
                let mut light = 0i32;
                for x in from..to {
                    edges += i32::from(((row[x + 1] - row[x]).abs() - NOISE).max(0))
                        + i32::from(((below[x] - row[x]).abs() - NOISE).max(0));
                    light += i32::from(row[x]);
                }
                *sum += edges as f32;
                brightness += light as f32;
                lights[c] += light as f32;
            }
        }
        // Relative to the brightness, but never to the noise of a dark picture: 20 of 255 at luma × 4.
        let pixels = (width * height) as f32;
        let scale = 1.0 / (brightness / pixels).max(80.0) * (COLS * ROWS) as f32 / pixels;
        for n in &mut self.now {
            *n *= scale;
        }
        let field = pixels / (COLS * ROWS) as f32;
        let middle = mean(&self.light);
        let apart: f32 = self.light.iter().map(|l| (l - middle).abs()).sum();
        self.spread.1 = apart / field / (COLS * ROWS) as f32;
        mean(&self.now)
    }
}

fn mean(v: &[f32]) -> f32 {
    v.iter().sum::<f32>() / v.len().max(1) as f32
}

/// Pearson's correlation; 0 where one of them is flat.
fn correlation(a: &[f32], b: &[f32]) -> f32 {
    let (ma, mb) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0f32, 0.0f32, 0.0f32);
    for (a, b) in a.iter().zip(b) {
        ab += (a - ma) * (b - mb);
        aa += (a - ma) * (a - ma);
        bb += (b - mb) * (b - mb);
    }
    let of = (aa * bb).sqrt();
    if of > 0.0 { ab / of } else { 0.0 }
}

#[cfg(test)]
#[path = "reference/view.rs"]
mod reference;

#[cfg(test)]
mod tests {
    use super::*;

    const W: usize = 160;
    const H: usize = 90;

    /// Blocks of random brightness, `seed` chooses the scene.
    fn scene(seed: u64, light: f32, blur: bool) -> Vec<i16> {
        let value = |x: usize, y: usize| {
            let mut h = seed.wrapping_add(
                (x / (10 + 4 * seed as usize)) as u64 * 7919
                    + (y / (6 + 5 * seed as usize)) as u64 * 104_729,
            );
            h ^= h << 13;
            h ^= h >> 7;
            h ^= h << 17;
            (40 + (h.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57)) as f32 * 4.0
        };
        (0..W * H)
            .map(|i| {
                let (x, y) = (i % W, i / W);
                let v = if blur {
                    let around =
                        (0..289).map(|k| value((x + k % 17).min(W - 1), (y + k / 17).min(H - 1)));
                    around.sum::<f32>() / 289.0
                } else {
                    value(x, y)
                };
                ((v + 60.0) * light) as i16
            })
            .collect()
    }

    /// Shows each scene for so many seconds, twice a second; what is told after each.
    fn show(scenes: &[(Vec<i16>, u64)]) -> Vec<Option<Tamper>> {
        let mut view = View::default();
        let mut at = 0;
        scenes
            .iter()
            .map(|(picture, seconds)| {
                for _ in 0..seconds * 2 {
                    view.look(picture, W, H, Pts(at * 500_000_000));
                    at += 1;
                }
                view.tamper()
            })
            .collect()
    }

    #[test]
    fn a_hand_a_turn_and_a_lost_focus_are_told_apart() {
        let usual = || (scene(1, 1.0, false), 40);
        let hand = (vec![90; W * H], 8);
        assert_eq!(
            show(&[usual(), hand, usual()]),
            [None, Some(Tamper::Covered), None]
        );
        assert_eq!(
            show(&[usual(), (scene(2, 1.0, false), 8)]),
            [None, Some(Tamper::Turned)]
        );
        let soft = (scene(1, 1.0, true), 8);
        assert_eq!(show(&[usual(), soft]), [None, Some(Tamper::Defocused)]);
    }

    #[test]
    fn a_stream_that_begins_anew_keeps_what_is_usual_and_learns_no_turned_view() {
        let mut view = View::default();
        let mut told = |picture: &[i16], from: u64, seconds: u64| {
            for n in 0..seconds * 2 {
                view.look(picture, W, H, Pts((from * 2 + n) * 500_000_000));
            }
            view.tamper()
        };
        assert_eq!(told(&scene(1, 1.0, false), 10_000, 40), None);
        // The camera restarts, turned: positions are small again.
        assert_eq!(told(&scene(2, 1.0, false), 0, 8), Some(Tamper::Turned));
        assert_eq!(told(&scene(1, 1.0, false), 0, 8), None);
    }

    #[test]
    fn light_is_no_tampering_and_a_moment_is_none_either() {
        let usual = || (scene(1, 1.0, false), 40);
        assert_eq!(show(&[usual(), (scene(1, 0.4, false), 20)]), [None, None]);
        assert_eq!(
            show(&[usual(), (vec![90; W * H], 2), usual()]),
            [None, None, None]
        );
    }

    #[test]
    fn a_view_that_stays_is_the_usual_one_some_day() {
        let told = show(&[
            (scene(1, 1.0, false), 40),
            (scene(2, 1.0, false), 620),
            (scene(2, 1.0, false), 60),
        ]);
        assert_eq!(told[2], None);
    }

    #[test]
    fn an_empty_wall_is_never_covered() {
        assert_eq!(
            show(&[(vec![400; W * H], 60), (vec![80; W * H], 20)]),
            [None, None]
        );
    }
}
