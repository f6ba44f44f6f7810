//! One picture with zones, boxes and words, and one frame of an annotated film: picture above, score curve below.

use embedded_graphics::mono_font::ascii::{FONT_6X10, FONT_7X13_BOLD};
use embedded_graphics::pixelcolor::Rgb888;

use super::canvas::{Canvas, Rect};
use super::curve::Curve;
use crate::config::Zone;
use crate::model::Region;
use crate::time::Pts;
use crate::tuning::replay::{Judged, State};

const BOX: Rgb888 = Rgb888::new(255, 214, 10);
const INCLUDE: Rgb888 = Rgb888::new(80, 220, 110);
const EXCLUDE: Rgb888 = Rgb888::new(240, 80, 70);
const PAPER: Rgb888 = Rgb888::new(0, 0, 0);
const WORDS: Rgb888 = Rgb888::new(235, 238, 242);
const ALARM: Rgb888 = Rgb888::new(230, 50, 50);

/// Rows below the picture: a line of words and the curve.
const WORD_ROWS: usize = 16;
const CURVE_ROWS: usize = 52;

/// What is drawn on every picture of a clip.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// Watched polygons.
    pub include: &'a [Zone],
    /// Polygons that are not watched.
    pub exclude: &'a [Zone],
}

/// Draws zones, and the boxes of a judged frame.
pub fn annotate(picture: &mut Canvas, look: Look<'_>, judged: Option<&Judged>) {
    for zone in look.include {
        polygon(picture, zone, INCLUDE);
    }
    for zone in look.exclude {
        polygon(picture, zone, EXCLUDE);
    }
    let line = (picture.width() as u32 / 240).max(2);
    for region in judged.into_iter().flat_map(|j| &j.regions) {
        let r = pixels(region, picture.width(), picture.height());
        picture.outline(r, BOX, line);
        if let Some(track) = region.track {
            let under = r.y + r.h as i32 + 2;
            let room = under + 10 <= picture.height() as i32;
            let y = if room { under } else { r.y - 11 };
            picture.text(&format!("#{track}"), r.x, y, &FONT_6X10, BOX);
        }
    }
}

/// Rows of a film's frame for pictures of this height: even, as encoders want it.
pub fn film_height(picture: usize) -> usize {
    (picture + WORD_ROWS + CURVE_ROWS).next_multiple_of(2)
}

/// A frame of the film: `picture` was shown at `at`, `judged` is the newest judged frame before it.
pub fn film_frame(
    mut picture: Canvas,
    look: Look<'_>,
    judged: Option<&Judged>,
    in_event: bool,
    curve: &Curve,
    at: Pts,
) -> Canvas {
    annotate(&mut picture, look, judged);
    let (width, height) = (picture.width(), picture.height());
    let mut frame = Canvas::new(width, film_height(height), PAPER);
    frame.paste(&picture, 0, 0);
    let y = height as i32;
    if in_event {
        frame.fill(
            Rect {
                x: 4,
                y: y + 4,
                w: 9,
                h: 9,
            },
            ALARM,
        );
    }
    let text = words(judged, at);
    frame.text(&text, 18, y + 2, &FONT_7X13_BOLD, WORDS);
    curve.draw(
        &mut frame,
        0,
        y + WORD_ROWS as i32,
        CURVE_ROWS as u32,
        Some(at),
    );
    frame
}

fn words(judged: Option<&Judged>, at: Pts) -> String {
    let at = at.0 as f64 / 1e9;
    let what = match judged.map(|j| (j.state, j.score)) {
        None => "not judged yet".to_owned(),
        Some((State::Warming, _)) => "learning the scene".to_owned(),
        Some((State::Quiet, _)) => "quiet".to_owned(),
        Some((State::Motion, score)) => format!("motion {score:.2}"),
        Some((State::SceneChanged, _)) => "scene changed".to_owned(),
    };
    format!("{at:6.1} s  {what}")
}

fn pixels(r: &Region, width: usize, height: usize) -> Rect {
    let (x, w) = side(r.x, r.w, width);
    let (y, h) = side(r.y, r.h, height);
    Rect { x, y, w, h }
}

fn side(from: f32, length: f32, whole: usize) -> (i32, u32) {
    // `as` stops at the ends of the type and makes 0 of what is no number.
    let pixel = |share: f32| share * whole as f32;
    let begin = (pixel(from).floor() as i64).clamp(0, whole as i64);
    let end = (pixel(from + length).ceil() as i64).clamp(begin, whole as i64);
    (begin as i32, (end - begin) as u32)
}

fn polygon(picture: &mut Canvas, zone: &Zone, colour: Rgb888) {
    let (w, h) = (picture.width() as f32 - 1.0, picture.height() as f32 - 1.0);
    let corner = |p: &(f32, f32)| ((p.0 * w) as i32, (p.1 * h) as i32);
    let Some(last) = zone.points.last() else {
        return;
    };
    let mut before = corner(last);
    for p in &zone.points {
        let p = corner(p);
        picture.line(before, p, colour, 2);
        before = p;
    }
    let n = zone.points.len() as f32;
    let centre = |of: fn(&(f32, f32)) -> f32| zone.points.iter().map(of).sum::<f32>() / n;
    let (x, y) = corner(&(centre(|p| p.0), centre(|p| p.1)));
    let half = zone.name.chars().count() as i32 * 3;
    picture.text(&zone.name, x - half, y - 5, &FONT_6X10, colour);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(regions: Vec<Region>) -> Judged {
        Judged {
            at: Pts(0),
            state: State::Motion,
            score: 0.42,
            regions,
        }
    }

    #[test]
    fn boxes_and_zones_are_where_they_belong() {
        let mut picture = Canvas::new(200, 100, PAPER);
        let zone = Zone {
            name: String::new(),
            points: vec![(0.0, 0.0), (0.1, 0.0), (0.1, 0.1), (0.0, 0.1)],
            sensitivity: None,
        };
        let region = Region {
            x: 0.5,
            y: 0.5,
            w: 0.25,
            h: 0.25,
            ..Region::default()
        };
        let look = Look {
            include: &[],
            exclude: &[zone],
        };
        annotate(&mut picture, look, Some(&judged(vec![region])));
        for (x, y) in [(100, 50), (149, 50), (100, 74), (149, 74), (101, 60)] {
            assert_eq!(picture.pixel(x, y), Some(BOX), "{x},{y}");
        }
        assert_eq!(picture.pixel(120, 60), Some(PAPER));
        assert_eq!(picture.pixel(10, 0), Some(EXCLUDE));
        assert_eq!(picture.pixel(60, 80), Some(PAPER));
    }

    #[test]
    fn regions_from_outside_of_the_picture_are_cut() {
        for bad in [-3.0, f32::NAN, f32::INFINITY, 7.0] {
            let r = Region {
                x: bad,
                y: bad,
                w: bad,
                h: bad,
                ..Region::default()
            };
            let mut picture = Canvas::new(64, 48, PAPER);
            let look = Look {
                include: &[],
                exclude: &[],
            };
            annotate(&mut picture, look, Some(&judged(vec![r])));
            assert_eq!(picture.into_rgb().len(), 64 * 48 * 3);
        }
    }

    #[test]
    fn a_film_frame_has_room_for_words_and_curve() {
        let curve = Curve::new(&[], &[], Pts(1_000_000_000), 64);
        let picture = Canvas::new(64, 47, PAPER);
        let look = Look {
            include: &[],
            exclude: &[],
        };
        let frame = film_frame(
            picture,
            look,
            Some(&judged(Vec::new())),
            true,
            &curve,
            Pts(0),
        );
        assert_eq!((frame.width(), frame.height()), (64, film_height(47)));
        assert!(frame.height().is_multiple_of(2));
        assert_eq!(frame.pixel(6, 47 + 6), Some(ALARM));
        assert_eq!(
            words(Some(&judged(Vec::new())), Pts(1_250_000_000)),
            "   1.2 s  motion 0.42"
        );
    }
}
