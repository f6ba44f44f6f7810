//! Persistence: a blob counts when it is seen again near where it was expected.
//!
//! Rain, insects' glints and compression bursts appear once and elsewhere; a body comes back. A track is confirmed at a
//! size when N of the last M frames show it at least that large; asking for a larger size never confirms more.
//!
//! ```text
//!  blob without track ─▶ tentative ─ N of M ─▶ confirmed ─ nothing changes inside for STILL ─▶ resting
//!                          │ missed                │ missed MISSES frames       ▲───── changes ─────┘
//!                          └──────▶ dropped ◀──────┘
//! ```

use std::time::Duration;

use super::blobs::Blob;
use crate::model::Region;
use crate::time::Pts;

/// Frames that a track remembers.
const MEMORY: usize = 8;
/// Tracks that are followed at once; the lightest give way.
const MAX_TRACKS: usize = 32;
/// A track ends after this many frames without its blob.
const MISSES: u8 = 3;
/// How long something confirmed may stand still before it no longer counts as moving.
pub const STILL: Duration = Duration::from_millis(1500);
/// Time over which a movement must be seen.
const CONFIRM_SECONDS: f32 = 0.4;
/// A blob is alive when this share of its pixels changed.
const LIVELY: f32 = 0.08;
/// A blob whose centre moved this many pixels is alive too, however slowly.
const TRAVEL: f32 = 2.0;

/// One followed blob.
#[derive(Debug, Clone)]
pub struct Track {
    /// Its number; 0 until it is seen for the second time.
    pub id: u32,
    /// The blob as last seen.
    pub blob: Blob,
    /// Pixels a second.
    velocity: (f32, f32),
    /// Latest first; mass 0 where it was not seen.
    history: [(Pts, f32); MEMORY],
    misses: u8,
    /// What appears without changing (a threshold that fell below an old difference) has never been alive.
    last_lively: Option<Pts>,
    /// Where it was when it last went somewhere.
    anchor: (f32, f32),
}

/// How many of how many frames must show a movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persistence {
    /// Frames that show it.
    pub hits: usize,
    /// Frames that are looked at, at most 8.
    pub of: usize,
}

impl Persistence {
    /// For frames `dt` seconds apart.
    pub fn for_interval(dt: f32) -> Persistence {
        let hits = ((CONFIRM_SECONDS / dt).round() as usize + 1).clamp(2, 6);
        Persistence {
            hits,
            of: (hits + 1 + hits / 4).min(MEMORY),
        }
    }
}

impl Track {
    fn new(blob: Blob, pts: Pts) -> Track {
        let mut history = [(pts, 0.0); MEMORY];
        history[0].1 = blob.mass;
        Track {
            id: 0,
            blob,
            velocity: (0.0, 0.0),
            history,
            misses: 0,
            last_lively: (blob.lively >= LIVELY).then_some(pts),
            anchor: blob.centre,
        }
    }

    /// The first frame of the movement when it is confirmed at `mass` or more, seen in this frame and alive.
    pub fn moving(&self, mass: f32, need: Persistence) -> Option<Pts> {
        let (now, seen) = self.history[0];
        let alive = self.last_lively.is_some_and(|l| now.since(l) <= STILL);
        if seen < mass || !alive {
            return None;
        }
        let recent = &self.history[..need.of];
        if recent.iter().filter(|(_, m)| *m >= mass).count() < need.hits {
            return None;
        }
        let first = recent.iter().rev().find(|(_, m)| *m >= mass);
        first.map(|(pts, _)| *pts)
    }

    /// Its box in a picture of `size` pixels.
    pub fn region(&self, size: (usize, usize)) -> Region {
        Region {
            track: Some(self.id),
            ..self.blob.region(size)
        }
    }

    /// Distance to a blob in pixels when it may be the same thing, `dt` seconds later.
    fn distance(&self, blob: &Blob, dt: f32) -> Option<f32> {
        let ahead = dt * (1 + u16::from(self.misses)) as f32;
        let x = self.blob.centre.0 + self.velocity.0 * ahead;
        let y = self.blob.centre.1 + self.velocity.1 * ahead;
        let apart = (x - blob.centre.0).hypot(y - blob.centre.1);
        let reach = |b: &Blob| f32::from((b.x.1 - b.x.0).max(b.y.1 - b.y.0)) / 2.0 + 4.0;
        let gate = reach(&self.blob) + reach(blob) + 48.0 * ahead.min(0.5);
        let ratio = self.blob.mass / blob.mass.max(1.0);
        (apart <= gate && (0.1..=10.0).contains(&ratio)).then_some(apart)
    }

    fn seen(&mut self, blob: Blob, pts: Pts, dt: f32) {
        let over = dt * (1 + u16::from(self.misses)) as f32;
        let now = (
            (blob.centre.0 - self.blob.centre.0) / over,
            (blob.centre.1 - self.blob.centre.1) / over,
        );
        self.velocity.0 += (now.0 - self.velocity.0) * 0.5;
        self.velocity.1 += (now.1 - self.velocity.1) * 0.5;
        let gone = (blob.centre.0 - self.anchor.0).hypot(blob.centre.1 - self.anchor.1);
        let travelled = gone >= TRAVEL;
        if travelled {
            self.anchor = blob.centre;
        }
        if blob.lively >= LIVELY || travelled {
            self.last_lively = Some(pts);
        }
        self.history[0] = (pts, blob.mass);
        self.misses = 0;
        self.blob = blob;
    }
}

/// All tracks of a camera.
#[derive(Debug, Clone, Default)]
pub struct Tracks {
    tracks: Vec<Track>,
    /// The highest number given so far.
    newest: u32,
}

impl Tracks {
    /// None yet; their numbers follow on `newest`.
    pub fn after(newest: u32) -> Tracks {
        Tracks {
            tracks: Vec::new(),
            newest,
        }
    }

    /// The highest number given so far, 0 for none.
    pub fn newest(&self) -> u32 {
        self.newest
    }

    /// Forgets everything but the numbers that were given.
    pub fn clear(&mut self) {
        self.tracks.clear();
    }

    /// The tracks, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Track> {
        self.tracks.iter()
    }

    /// Assigns a frame's blobs (heaviest first) to tracks; `dt` is the time since the last frame in seconds.
    pub fn observe(&mut self, blobs: &[Blob], pts: Pts, dt: f32) {
        for t in &mut self.tracks {
            t.history.rotate_right(1);
            t.history[0] = (pts, 0.0);
        }
        let known = self.tracks.len();
        for blob in blobs {
            let nearest = self.tracks[..known]
                .iter()
                .enumerate()
                .filter(|(_, t)| t.history[0].1 == 0.0)
                .filter_map(|(i, t)| Some((i, t.distance(blob, dt)?)))
                .min_by(|a, b| a.1.total_cmp(&b.1));
            match nearest {
                Some((i, _)) => {
                    let track = &mut self.tracks[i];
                    track.seen(*blob, pts, dt);
                    if track.id == 0 {
                        self.newest = self.newest.wrapping_add(1).max(1);
                        track.id = self.newest;
                    }
                }
                None => self.tracks.push(Track::new(*blob, pts)),
            }
        }
        for t in &mut self.tracks {
            if t.history[0].1 == 0.0 {
                t.misses += 1;
            }
        }
        self.tracks.retain(|t| t.misses <= MISSES);
        if self.tracks.len() > MAX_TRACKS {
            self.tracks
                .sort_by(|a, b| b.blob.mass.total_cmp(&a.blob.mass));
            self.tracks.truncate(MAX_TRACKS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEED: Persistence = Persistence { hits: 3, of: 4 };

    fn blob(x: u16, mass: f32) -> Blob {
        Blob {
            x: (x, x + 2),
            y: (5, 7),
            mass,
            centre: (f32::from(x) + 1.0, 6.0),
            strength: 2.0,
            lively: 1.0,
            zones: 0,
        }
    }

    fn run(blobs: &[Option<Blob>]) -> Option<Pts> {
        let mut tracks = Tracks::default();
        for (i, b) in blobs.iter().enumerate() {
            tracks.observe(b.as_slice(), Pts(i as u64 * 200_000_000), 0.2);
        }
        tracks.iter().find_map(|t| t.moving(50.0, NEED))
    }

    #[test]
    fn three_frames_confirm_and_name_the_first() {
        let b = |x| Some(blob(x, 60.0));
        assert_eq!(run(&[b(2), b(4)]), None);
        assert_eq!(run(&[b(2), b(4), b(6)]), Some(Pts(0)));
        assert_eq!(run(&[None, b(2), None, b(6), b(8)]), Some(Pts(200_000_000)));
    }

    #[test]
    fn one_thing_keeps_its_number_and_the_next_gets_another() {
        let mut tracks = Tracks::default();
        let mut seen = Vec::new();
        for i in 0..30u64 {
            let walker = blob(2 + 2 * (i % 20) as u16, 60.0);
            let glint = blob(100 + 70 * i as u16, 60.0);
            // Goes after the tenth frame; another comes at the twentieth, where it began.
            let here = !(10..20).contains(&i);
            let blobs: Vec<Blob> = here.then_some(walker).into_iter().chain([glint]).collect();
            tracks.observe(&blobs, Pts(i * 200_000_000), 0.2);
            let moving = tracks.iter().filter(|t| t.moving(50.0, NEED).is_some());
            seen.extend(moving.map(|t| t.id));
        }
        seen.dedup();
        assert_eq!(seen, [1, 2], "glints get no number");
        let mut later = Tracks::after(tracks.newest());
        for i in 0..2 {
            later.observe(&[blob(2 + i, 60.0)], Pts(u64::from(i) * 200_000_000), 0.2);
        }
        assert_eq!(later.iter().next().unwrap().id, 3);
    }

    #[test]
    fn what_jumps_about_is_not_confirmed() {
        let b = |x| Some(blob(x, 60.0));
        assert_eq!(run(&[b(2), b(40), b(70), b(20), b(60)]), None);
    }

    #[test]
    fn where_there_are_too_many_the_lightest_give_way_to_a_newcomer() {
        let mut tracks = Tracks::default();
        // Two frames of far more light things than are followed, each elsewhere.
        for frame in 0..2u64 {
            let many: Vec<Blob> = (0..24u16)
                .map(|i| blob(200 + 400 * i + 200 * frame as u16, 20.0 + f32::from(i)))
                .collect();
            tracks.observe(&many, Pts(frame * 200_000_000), 0.2);
        }
        assert_eq!(tracks.iter().count(), MAX_TRACKS);
        let lightest = |t: &Tracks| t.iter().map(|t| t.blob.mass).fold(f32::MAX, f32::min);
        assert_eq!(lightest(&tracks), 28.0);
        for i in 2..5u64 {
            tracks.observe(&[blob(i as u16 * 4, 60.0)], Pts(i * 200_000_000), 0.2);
        }
        let newcomer = tracks.iter().find_map(|t| t.moving(50.0, NEED));
        assert_eq!(newcomer, Some(Pts(400_000_000)));
    }

    #[test]
    fn persistence_follows_the_frame_rate() {
        assert_eq!(Persistence::for_interval(0.2), NEED);
        assert_eq!(Persistence::for_interval(4.0).hits, 2);
        assert!(Persistence::for_interval(0.01).of <= MEMORY);
    }
}
