//! The score over a whole clip as a strip: one column a pixel, the strongest frame of its span.

use embedded_graphics::mono_font::ascii::FONT_6X10;
use embedded_graphics::pixelcolor::Rgb888;

use super::canvas::{Canvas, Rect};
use crate::time::Pts;
use crate::tuning::replay::{Judged, Seen, State};

const GROUND: Rgb888 = Rgb888::new(24, 26, 30);
const GRID: Rgb888 = Rgb888::new(52, 56, 62);
const LABEL: Rgb888 = Rgb888::new(150, 156, 164);
const SCORE: Rgb888 = Rgb888::new(255, 214, 10);
const EVENT: Rgb888 = Rgb888::new(30, 96, 150);
const WARMING: Rgb888 = Rgb888::new(70, 74, 82);
const CHANGED: Rgb888 = Rgb888::new(180, 90, 220);
const CURSOR: Rgb888 = Rgb888::new(255, 255, 255);

/// What one column of the strip shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Column {
    /// Highest score of the frames in its span, 0..1.
    pub score: f32,
    /// What stands out most in its span; `None` where no frame was judged.
    pub state: Option<State>,
}

/// The strip of a clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    columns: Vec<Column>,
    /// First and last column of each event.
    events: Vec<(usize, usize)>,
    length: Pts,
}

/// Spreads judged frames over `width` columns; `length` is the end of the clip.
pub fn columns(judged: &[Judged], length: Pts, width: usize) -> Vec<Column> {
    let none = Column {
        score: 0.0,
        state: None,
    };
    let mut columns = vec![none; width];
    for j in judged {
        if let Some(c) = columns.get_mut(column(j.at, length, width)) {
            c.score = c.score.max(j.score.clamp(0.0, 1.0));
            if c.state.is_none_or(|s| weight(s) < weight(j.state)) {
                c.state = Some(j.state);
            }
        }
    }
    columns
}

/// The column of a position; positions behind the end belong to the last one.
fn column(at: Pts, length: Pts, width: usize) -> usize {
    let at = u128::from(at.0) * width as u128 / u128::from(length.0.max(1));
    usize::try_from(at)
        .unwrap_or(usize::MAX)
        .min(width.saturating_sub(1))
}

fn weight(state: State) -> u8 {
    match state {
        State::Quiet => 0,
        State::Warming => 1,
        State::Motion => 2,
        State::SceneChanged => 3,
    }
}

impl Curve {
    /// Of a clip that ends at `length`, `width` pixels wide.
    pub fn new(judged: &[Judged], events: &[Seen], length: Pts, width: usize) -> Curve {
        let place = |at: Pts| column(at, length, width);
        Curve {
            columns: columns(judged, length, width),
            events: events
                .iter()
                .map(|e| (place(e.started_at), place(e.ended_at)))
                .collect(),
            length,
        }
    }

    /// Draws it with its top left corner at `x`, `y`, `height` rows high, the last 11 of them the time axis. `now` is
    /// marked.
    pub fn draw(&self, canvas: &mut Canvas, x: i32, y: i32, height: u32, now: Option<Pts>) {
        let width = self.columns.len() as u32;
        let plot = height.saturating_sub(11);
        let (w, bottom) = (width, y + plot as i32);
        canvas.fill(Rect { x, y, w, h: height }, GROUND);
        for (from, to) in &self.events {
            let band = Rect {
                x: x + *from as i32,
                y,
                w: (to - from + 1) as u32,
                h: plot,
            };
            canvas.fill(band, EVENT);
        }
        self.axis(canvas, x, y, plot);
        let mut before: Option<i32> = None;
        for (i, c) in self.columns.iter().enumerate() {
            let Some(state) = c.state else { continue };
            // Frames may be rarer than columns: each is drawn back to the one before it.
            let at = x + i as i32;
            let from = before.map_or(at, |b| b + 1);
            before = Some(at);
            let mut bar = |h: u32, colour| {
                let (y, w) = (bottom - h as i32, (at - from + 1) as u32);
                canvas.fill(Rect { x: from, y, w, h }, colour);
            };
            match state {
                State::Warming => bar(plot / 3, WARMING),
                State::SceneChanged => bar(plot, CHANGED),
                State::Quiet | State::Motion => {}
            }
            bar((c.score * plot as f32).round() as u32, SCORE);
        }
        if let Some(now) = now {
            let at = x + column(now, self.length, self.columns.len()) as i32;
            canvas.line((at, y), (at, bottom), CURSOR, 1);
        }
    }

    fn axis(&self, canvas: &mut Canvas, x: i32, y: i32, plot: u32) {
        let width = self.columns.len();
        let seconds = self.length.0 / 1_000_000_000;
        let step = step(seconds);
        canvas.line(
            (x, y + plot as i32 / 2),
            (x + width as i32 - 1, y + plot as i32 / 2),
            GRID,
            1,
        );
        for at in (0..=seconds).step_by(step as usize) {
            let column = x + column(Pts(at * 1_000_000_000), self.length, width) as i32;
            canvas.line((column, y), (column, y + plot as i32), GRID, 1);
            let label = format!("{at} s");
            let end = column + 2 + label.len() as i32 * 6;
            if end <= x + width as i32 {
                let below = y + plot as i32 + 1;
                canvas.text(&label, column + 2, below, &FONT_6X10, LABEL);
            }
        }
    }
}

/// Seconds between two marks, so that there are at most ten of them.
fn step(seconds: u64) -> u64 {
    const ROUND: [u64; 11] = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_800];
    let enough = |s: &u64| seconds / s < 10;
    ROUND.into_iter().find(enough).unwrap_or(seconds / 10 + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judged(at: u64, state: State, score: f32) -> Judged {
        Judged {
            at: Pts(at),
            state,
            score,
            regions: Vec::new(),
        }
    }

    #[test]
    fn a_column_shows_the_strongest_of_its_span() {
        let all = [
            judged(0, State::Warming, 0.0),
            judged(10, State::Quiet, 0.0),
            judged(11, State::Motion, 0.4),
            judged(12, State::Motion, 0.9),
            judged(30, State::SceneChanged, 0.0),
            judged(99, State::Quiet, 0.0),
        ];
        let c = columns(&all, Pts(100), 10);
        assert_eq!(c[0].state, Some(State::Warming));
        assert_eq!(
            c[1],
            Column {
                score: 0.9,
                state: Some(State::Motion)
            }
        );
        assert_eq!(c[2].state, None);
        assert_eq!(
            (c[3].state, c[9].state),
            (Some(State::SceneChanged), Some(State::Quiet))
        );
    }

    #[test]
    fn the_strip_shows_score_event_and_cursor_where_they_are() {
        let all: Vec<Judged> = (0..100)
            .map(|i| {
                let moves = (40..60).contains(&i);
                let state = if moves { State::Motion } else { State::Quiet };
                judged(i, state, if moves { 0.5 } else { 0.0 })
            })
            .collect();
        let event = Seen {
            started_at: Pts(40),
            ended_at: Pts(59),
            clip_from: Pts(30),
            clip_until: Pts(70),
            reason: crate::recording::event::EndReason::Quiet,
            continues: false,
            peak_score: 0.5,
            peak_at: Pts(40),
            largest: None,
            tracks: Default::default(),
            zones: Vec::new(),
        };
        let mut canvas = Canvas::new(100, 31, Rgb888::new(0, 0, 0));
        Curve::new(&all, &[event], Pts(100), 100).draw(&mut canvas, 0, 0, 31, Some(Pts(80)));
        assert_eq!(canvas.pixel(50, 19), Some(SCORE));
        assert_eq!(canvas.pixel(50, 2), Some(EVENT));
        assert_eq!(canvas.pixel(70, 2), Some(GROUND));
        assert_eq!(canvas.pixel(80, 2), Some(CURSOR));
    }

    #[test]
    fn marks_are_never_many() {
        for seconds in [0, 1, 9, 10, 59, 300, 3_600, 86_400, u64::MAX / 2] {
            assert!(seconds / step(seconds) <= 10, "{seconds}");
        }
    }

    proptest! {
        #[test]
        fn every_frame_is_in_a_column(at in prop::collection::vec(any::<u64>(), 0..50), length in any::<u64>(), width in 1..300usize) {
            let all: Vec<Judged> = at.iter().map(|a| judged(*a, State::Motion, 0.7)).collect();
            let c = columns(&all, Pts(length), width);
            prop_assert_eq!(c.len(), width);
            prop_assert_eq!(c.iter().any(|c| c.state.is_some()), !all.is_empty());
        }
    }
}
