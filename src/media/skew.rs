//! Maps a camera's media clock (RTP time stamps) to the session's running time, and keeps it there for weeks. Pure.
//!
//! A packet says when it was captured by the camera's clock; when it arrived is known by ours. Arrival is capture plus
//! a delay that is never below its minimum, so the smallest (arrival − media) of the last seconds is what separates the
//! two clocks. Its slow change is the drift of the camera's clock, everything above it is jitter and is not believed.
//!
//! - A smaller difference counts at once, so that no picture is ever dated later than its arrival, and so that times
//!   never run backwards where the camera's do not. What a camera sends in a burst at the start is dated by its arrival.
//! - A larger one counts once it held for [`WINDOW`] seconds, and then gradually: a stall of the network passes without
//!   a trace, pictures that waited keep the distance at which they were taken.
//! - A media clock that jumps back is anchored anew at its arrival.

use crate::time::Pts;

/// Seconds over which the smallest difference is looked for.
const WINDOW: usize = 16;

const SECOND: i64 = 1_000_000_000;
const MILLISECOND: i64 = 1_000_000;

/// Media time that falls by more than this was set back, it is no B-frame.
const BACK: i64 = SECOND;

/// Audio and video that a camera's reports put further apart than this are not believed.
const APART: i64 = SECOND / 2;

/// The clock of one track.
#[derive(Debug, Clone, Default)]
pub(super) struct Skew {
    state: Option<State>,
}

#[derive(Debug, Clone)]
struct State {
    /// Running time − media time.
    offset: i64,
    newest_media: i64,
    /// Smallest difference of the second that runs, and its end by arrival.
    low: i64,
    turn: i64,
    /// Smallest differences of the seconds before.
    lows: [i64; WINDOW],
    seconds: usize,
}

impl State {
    fn new(delta: i64, media: i64, arrival: i64) -> State {
        State {
            offset: delta,
            newest_media: media,
            low: delta,
            turn: arrival.saturating_add(SECOND),
            lows: [delta; WINDOW],
            seconds: 0,
        }
    }

    /// Closes the second that ran, and lets the offset rise to what held for a whole window.
    fn turn(&mut self, arrival: i64) {
        self.lows[self.seconds % WINDOW] = self.low;
        self.seconds += 1;
        self.low = i64::MAX;
        self.turn = arrival.saturating_add(SECOND);
        if self.seconds < WINDOW {
            return;
        }
        let floor = self.lows.iter().copied().min().unwrap_or(self.offset);
        let gap = floor.saturating_sub(self.offset);
        if gap > SECOND {
            self.offset = floor;
        } else if gap > 0 {
            self.offset += gap.min(MILLISECOND.max(gap / 8));
        }
    }
}

impl Skew {
    /// Running time of the next packet: `media` nanoseconds by the camera's clock (any origin), `arrival` by ours.
    pub(super) fn map(&mut self, media: i64, arrival: Pts) -> Pts {
        let arrival = i64::try_from(arrival.0).unwrap_or(i64::MAX);
        let delta = arrival.saturating_sub(media);
        let s = self
            .state
            .get_or_insert_with(|| State::new(delta, media, arrival));
        if s.newest_media.saturating_sub(media) > BACK && delta.saturating_sub(s.offset) > BACK {
            *s = State::new(delta, media, arrival);
        }
        if arrival >= s.turn {
            s.turn(arrival);
        }
        s.newest_media = s.newest_media.max(media);
        s.low = s.low.min(delta);
        s.offset = s.offset.min(delta);
        running(media, s.offset)
    }

    /// Running time of a moment that is no packet's.
    pub(super) fn at(&self, media: i64) -> Option<Pts> {
        self.state.as_ref().map(|s| running(media, s.offset))
    }
}

fn running(media: i64, offset: i64) -> Pts {
    Pts(u64::try_from(media.saturating_add(offset)).unwrap_or(0))
}

/// Keeps audio beside the video. Each track follows its own arrival, which leaves the difference of the encoders'
/// delays between them; a camera's sender reports give both tracks' times on one clock and so take it away.
#[derive(Debug, Clone, Default)]
pub(super) struct Lips {
    video: Option<i64>,
    audio: Option<i64>,
    /// What is added to audio, and what should be.
    shift: i64,
    wanted: i64,
}

impl Lips {
    /// Notes a sender report: `wall` nanoseconds by the camera's clock were `running` by ours.
    pub(super) fn report(&mut self, audio: bool, wall: i64, running: Pts) {
        let running = i64::try_from(running.0).unwrap_or(i64::MAX);
        let told = Some(running.saturating_sub(wall));
        if audio {
            self.audio = told;
        } else {
            self.video = told;
        }
        if let (Some(video), Some(audio)) = (self.video, self.audio) {
            let late = audio.saturating_sub(video);
            self.wanted = if late.unsigned_abs() <= APART.unsigned_abs() {
                -late
            } else {
                0
            };
        }
    }

    /// An audio packet's time beside the video. It moves by a millisecond a packet, which nobody hears.
    pub(super) fn audio(&mut self, pts: Pts) -> Pts {
        self.shift += (self.wanted - self.shift).clamp(-MILLISECOND, MILLISECOND);
        Pts(pts.0.saturating_add_signed(self.shift))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(n: i64) -> i64 {
        n * MILLISECOND
    }

    fn at(n: i64) -> Pts {
        Pts(ms(n) as u64)
    }

    /// Small noise that needs no randomness.
    fn noise(n: i64, upto: i64) -> i64 {
        (n.wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(144_115_188_075_855_872)
            >> 33)
            .rem_euclid(upto)
    }

    #[test]
    fn days_of_a_drifting_clock_stay_within_the_jitter() {
        for ppm in [-200, 0, 200] {
            let mut skew = Skew::default();
            let mut last = Pts(0);
            // Three days at five a second, up to 60 ms of jitter.
            for n in 0..3 * 86_400 * 5 {
                let captured = ms(200) * n;
                let media = captured + captured / 1_000_000 * ppm + ms(77_000_000);
                let arrival = captured + ms(5) + noise(n, ms(60));
                let pts = skew.map(media, Pts(arrival as u64));
                assert!(pts >= last && pts.0 <= arrival as u64, "{ppm} {n}");
                last = pts;
                let error = pts.0 as i64 - captured;
                assert!((-ms(1)..=ms(66)).contains(&error), "{ppm} {n}: {error}");
                if n > 1_000 {
                    assert!((ms(0)..=ms(20)).contains(&error), "{ppm} {n}: {error}");
                }
            }
        }
    }

    #[test]
    fn pictures_that_waited_for_the_network_keep_their_distance() {
        let mut skew = Skew::default();
        for n in 0..100 {
            skew.map(ms(40) * n, at(40 * n));
        }
        // Five seconds of silence, then everything at once.
        for n in 100..225 {
            assert_eq!(skew.map(ms(40) * n, at(9_000 + (n - 100) / 10)), at(40 * n));
        }
        for n in 226..300 {
            assert_eq!(skew.map(ms(40) * n, at(40 * n)), at(40 * n));
        }
    }

    #[test]
    fn a_burst_at_the_start_leaves_the_live_edge_at_now() {
        let mut skew = Skew::default();
        for n in 0..50 {
            skew.map(ms(40) * n, at(n / 10));
        }
        let live = skew.map(ms(40) * 60, at(10 * 40 + 5));
        assert!(at(400) <= live && live <= at(405), "{live:?}");
    }

    #[test]
    fn a_clock_set_back_is_anchored_anew_and_one_set_forward_too() {
        for jump in [-3_600_000, -5_000, 5_000, 3_600_000] {
            let mut skew = Skew::default();
            for n in 0..1_000 {
                let media = 40 * n + if n < 500 { 4_000_000 } else { 4_000_000 + jump };
                assert_eq!(skew.map(ms(media), at(40 * n)), at(40 * n), "{jump} {n}");
            }
        }
    }

    #[test]
    fn one_wild_stamp_does_no_harm() {
        let mut skew = Skew::default();
        for n in 0..100 {
            let media = if n == 50 { 900_000 } else { 40 * n };
            assert_eq!(skew.map(ms(media), at(40 * n)), at(40 * n), "{n}");
        }
    }

    #[test]
    fn a_way_that_became_longer_is_believed_after_a_while() {
        let mut skew = Skew::default();
        let mut last = Pts(0);
        for n in 0..3_000 {
            let way = if n < 500 { 0 } else { 300 };
            let pts = skew.map(ms(40 * n), at(40 * n + way));
            assert!(pts > last || n == 0);
            last = pts;
        }
        assert!(last > at(40 * 2_999 + 290), "{last:?}");
    }

    #[test]
    fn reports_bring_audio_to_the_video_gently_and_nonsense_does_not() {
        let mut lips = Lips::default();
        lips.report(false, ms(1_000_000), at(5_000));
        lips.report(true, ms(1_000_000), at(5_080));
        let mut last = 0;
        for n in 1..200 {
            let t = lips.audio(at(5_000 + 21 * n)).0;
            assert!(t > last);
            last = t;
        }
        assert_eq!(lips.audio(at(20_000)), at(19_920));
        lips.report(true, ms(0), at(5_080));
        for _ in 0..100 {
            lips.audio(at(1));
        }
        assert_eq!(lips.audio(at(20_000)), at(20_000));
    }

    proptest! {
        #[test]
        fn never_later_than_its_arrival_and_never_backwards_where_media_does_not(
            steps in prop::collection::vec((0i64..3_000, 0i64..3_000), 1..300), origin in any::<i32>()) {
            let mut skew = Skew::default();
            let (mut media, mut arrival, mut last) = (ms(i64::from(origin)), 0, Pts(0));
            for (m, a) in steps {
                media += ms(m);
                arrival += a;
                let pts = skew.map(media, at(arrival));
                prop_assert!(pts >= last && pts <= at(arrival));
                last = pts;
            }
        }

        #[test]
        fn any_numbers_are_taken(steps in prop::collection::vec((any::<i64>(), any::<u64>()), 1..100)) {
            let mut skew = Skew::default();
            let mut lips = Lips::default();
            for (n, (media, arrival)) in steps.into_iter().enumerate() {
                let pts = skew.map(media, Pts(arrival));
                lips.report(n % 2 == 0, media, pts);
                lips.audio(pts);
            }
        }
    }
}
