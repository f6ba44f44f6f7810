//! Contact sheets: for each clip a title, its score curve and its telling pictures with boxes, zones and captions.

use embedded_graphics::mono_font::ascii::{FONT_7X13, FONT_9X15_BOLD};
use embedded_graphics::pixelcolor::Rgb888;

use super::canvas::Canvas;
use super::curve::Curve;
use crate::tuning::replay::{Judged, Seen, State};

/// Pictures of a clip.
pub const PICTURES: usize = 8;
/// Clips of a sheet: it stays below some 6,000 rows.
pub const MAX_CLIPS: usize = 12;
/// Columns of a picture on the sheet.
pub const THUMB_WIDTH: usize = 320;
/// Columns of a sheet.
pub const WIDTH: usize = PER_ROW * (THUMB_WIDTH + GAP) + GAP;

const PER_ROW: usize = 4;
const GAP: usize = 8;
const TITLE_ROWS: usize = 20;
const CAPTION_ROWS: usize = 16;
const CURVE_ROWS: usize = 72;
const PAPER: Rgb888 = Rgb888::new(14, 15, 18);
const TITLE: Rgb888 = Rgb888::new(240, 242, 246);
const CAPTION: Rgb888 = Rgb888::new(180, 186, 194);

/// A frame that is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pick {
    /// Index of the judged frame.
    pub frame: usize,
    /// Number of the event that it belongs to, from 0.
    pub event: Option<usize>,
}

/// A clip on the sheet.
#[derive(Debug, Clone)]
pub struct Section {
    /// First line.
    pub title: String,
    /// The score, [`WIDTH`] less two gaps wide.
    pub curve: Curve,
    /// Pictures of [`THUMB_WIDTH`] with their captions, in order.
    pub pictures: Vec<(Canvas, String)>,
}

impl Section {
    /// Columns of its curve.
    pub const CURVE_WIDTH: usize = WIDTH - 2 * GAP;

    /// Rows that it takes.
    fn height(&self) -> usize {
        let rows = self.pictures.chunks(PER_ROW).map(row_height);
        TITLE_ROWS + CURVE_ROWS + GAP + rows.sum::<usize>() + GAP
    }
}

/// Rows of one row of pictures.
fn row_height(row: &[(Canvas, String)]) -> usize {
    let highest = row.iter().map(|(p, _)| p.height()).max().unwrap_or(0);
    highest + CAPTION_ROWS + GAP
}

/// Chooses at most [`PICTURES`] frames, in order: of each event its peak, and more of its frames where there is room; of
/// a clip without an event four frames, evenly.
pub fn picks(judged: &[Judged], events: &[Seen]) -> Vec<Pick> {
    if events.is_empty() {
        let n = judged.len();
        let mut quiet: Vec<Pick> = (0..4.min(n))
            .map(|i| Pick {
                frame: (2 * i + 1) * n / (2 * 4.min(n)),
                event: None,
            })
            .collect();
        quiet.dedup();
        return quiet;
    }
    // The strongest events where there are too many.
    let mut shown: Vec<usize> = (0..events.len()).collect();
    shown.sort_by(|a, b| events[*b].peak_score.total_cmp(&events[*a].peak_score));
    shown.truncate(PICTURES);
    shown.sort_unstable();
    let (each, mut spare) = (PICTURES / shown.len(), PICTURES % shown.len());
    let mut all = Vec::new();
    for event in shown {
        let room = each + usize::from(spare > 0);
        spare = spare.saturating_sub(1);
        let frames = of_event(judged, &events[event], room);
        all.extend(frames.into_iter().map(|frame| Pick {
            frame,
            event: Some(event),
        }));
    }
    all
}

/// The peak, and other frames of the event that moved, evenly; ascending.
fn of_event(judged: &[Judged], event: &Seen, room: usize) -> Vec<usize> {
    let moving: Vec<usize> = judged
        .iter()
        .enumerate()
        .filter(|(_, j)| j.state == State::Motion)
        .filter(|(_, j)| (event.started_at..=event.ended_at).contains(&j.at))
        .map(|(i, _)| i)
        .collect();
    let peak = moving
        .iter()
        .copied()
        .find(|i| judged[*i].at == event.peak_at);
    let mut frames: Vec<usize> = peak.or(moving.first().copied()).into_iter().collect();
    let others = room.saturating_sub(1);
    for i in 0..others {
        let at = (2 * i + 1) * moving.len() / (2 * others);
        if let Some(frame) = moving.get(at).filter(|f| !frames.contains(f)) {
            frames.push(*frame);
        }
    }
    frames.sort_unstable();
    frames
}

/// Draws the sheet.
pub fn sheet(sections: &[Section]) -> Canvas {
    let height = sections.iter().map(Section::height).sum::<usize>() + GAP;
    let mut sheet = Canvas::new(WIDTH, height.max(1), PAPER);
    let mut y = GAP;
    for section in sections {
        let x = GAP as i32;
        sheet.text(&section.title, x, y as i32, &FONT_9X15_BOLD, TITLE);
        y += TITLE_ROWS;
        section
            .curve
            .draw(&mut sheet, x, y as i32, CURVE_ROWS as u32, None);
        y += CURVE_ROWS + GAP;
        for row in section.pictures.chunks(PER_ROW) {
            for (i, (picture, caption)) in row.iter().enumerate() {
                let x = GAP + i * (THUMB_WIDTH + GAP);
                sheet.paste(picture, x, y);
                let below = (y + picture.height() + 2) as i32;
                sheet.text(caption, x as i32, below, &FONT_7X13, CAPTION);
            }
            y += row_height(row);
        }
        y += GAP;
    }
    sheet
}

/// Caption of a picked frame.
pub fn caption(judged: &Judged, event: Option<usize>) -> String {
    let at = judged.at.0 as f64 / 1e9;
    match event {
        Some(n) => format!("{at:.1} s  score {:.2}  event {}", judged.score, n + 1),
        None => format!("{at:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recording::event::EndReason;
    use crate::time::Pts;

    fn event(from: usize, to: usize, peak: usize, score: f32) -> Seen {
        Seen {
            started_at: Pts(from as u64),
            ended_at: Pts(to as u64),
            clip_from: Pts(0),
            clip_until: Pts(0),
            reason: EndReason::Quiet,
            continues: false,
            peak_score: score,
            peak_at: Pts(peak as u64),
            largest: None,
            tracks: Default::default(),
            zones: Vec::new(),
        }
    }

    fn judged(n: usize, moves: impl Fn(usize) -> bool) -> Vec<Judged> {
        (0..n)
            .map(|i| Judged {
                at: Pts(i as u64),
                state: if moves(i) {
                    State::Motion
                } else {
                    State::Quiet
                },
                score: 0.3,
                regions: Vec::new(),
            })
            .collect()
    }

    #[test]
    fn one_event_fills_the_room_and_shows_its_peak() {
        let frames = judged(100, |i| (20..80).contains(&i));
        let all = picks(&frames, &[event(20, 79, 33, 0.9)]);
        assert_eq!(all.len(), PICTURES);
        assert!(all.iter().any(|p| p.frame == 33));
        assert!(
            all.iter()
                .all(|p| (20..80).contains(&p.frame) && p.event == Some(0))
        );
    }

    #[test]
    fn of_many_events_the_strongest_are_shown_in_order() {
        let frames = judged(200, |_| true);
        let events: Vec<Seen> = (0..20)
            .map(|i| event(i * 10, i * 10 + 5, i * 10 + 2, i as f32 / 20.0))
            .collect();
        let shown: Vec<_> = picks(&frames, &events).iter().map(|p| p.frame).collect();
        assert_eq!(shown, [122, 132, 142, 152, 162, 172, 182, 192]);
    }

    #[test]
    fn a_quiet_clip_shows_four_frames() {
        let all = picks(&judged(100, |_| false), &[]);
        assert_eq!(
            all.iter().map(|p| p.frame).collect::<Vec<_>>(),
            [12, 37, 62, 87]
        );
        assert_eq!(picks(&judged(2, |_| false), &[]).len(), 2);
        assert!(picks(&[], &[]).is_empty());
    }

    #[test]
    fn the_sheet_holds_all_pictures_without_overlap() {
        let colour = |n: u8| Rgb888::new(200, n, 7);
        let pictures = (0..6u8)
            .map(|n| {
                (
                    Canvas::new(THUMB_WIDTH, 100 + usize::from(n), colour(n)),
                    "x".to_owned(),
                )
            })
            .collect();
        let section = Section {
            title: "clip.mp4".into(),
            curve: Curve::new(&[], &[], Pts(1), Section::CURVE_WIDTH),
            pictures,
        };
        let sheet = sheet(&[section.clone(), section]);
        assert_eq!(sheet.width() % 4, 0);
        let (w, h) = (sheet.width(), sheet.height());
        for n in 0..6u8 {
            let found = (0..h).flat_map(|y| (0..w).map(move |x| (x, y)));
            let count = found
                .filter(|(x, y)| sheet.pixel(*x, *y) == Some(colour(n)))
                .count();
            assert_eq!(count, 2 * THUMB_WIDTH * (100 + usize::from(n)), "{n}");
        }
    }

    proptest! {
        #[test]
        fn picks_are_few_ascending_and_there(
            n in 0..300usize,
            events in prop::collection::vec((0..300usize, 0..60usize, 0..60usize, 0.0..1.0f32), 0..30),
            pattern in any::<u64>(),
        ) {
            let frames = judged(n, |i| pattern >> (i % 64) & 1 == 1);
            let events: Vec<Seen> = events.into_iter().map(|(f, l, p, s)| event(f, f + l, f + p, s)).collect();
            let all = picks(&frames, &events);
            prop_assert!(all.len() <= PICTURES);
            prop_assert!(all.iter().all(|p| p.frame < n));
            for of in 0..events.len() {
                let own: Vec<usize> = all.iter().filter(|p| p.event == Some(of)).map(|p| p.frame).collect();
                prop_assert!(own.windows(2).all(|w| w[0] < w[1]));
            }
        }
    }
}
