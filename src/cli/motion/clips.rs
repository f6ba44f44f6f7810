//! Plays clips through whoever looks at them, with progress; says how far it came and how long it took.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::agent::camera::MAX_WIDTH;
use crate::board::clock::Clock;
use crate::cli::output;
use crate::media::OwnedGray;
use crate::media::clip_frames::{ClipFault, ClipFrames};
use crate::time::Pts;

/// What became of a clip.
#[derive(Debug)]
pub struct Played {
    /// Which.
    pub path: PathBuf,
    /// Its length as far as it was seen.
    pub seen: Duration,
    /// Pictures judged.
    pub pictures: usize,
    /// What it took.
    pub took: Duration,
    /// Why it was not seen, or not to its end.
    pub fault: Option<ClipFault>,
}

impl Played {
    /// For people.
    pub fn line(&self) -> String {
        let (seen, took) = (self.seen.as_secs_f64(), self.took.as_secs_f64());
        let speed = seen / took.max(1e-3);
        format!("{seen:.1} s judged in {took:.1} s ({speed:.0} times real time)")
    }
}

/// Shows a clip's pictures, about `fps` a second, to `look`.
pub fn play(path: &Path, fps: f32, what: &'static str, mut look: impl FnMut(&OwnedGray)) -> Played {
    let clock = Clock::default();
    let begun = clock.mono();
    let mut played = Played {
        path: path.to_owned(),
        seen: Duration::ZERO,
        pictures: 0,
        took: Duration::ZERO,
        fault: None,
    };
    match ClipFrames::open(path, fps, MAX_WIDTH) {
        Err(fault) => played.fault = Some(fault),
        Ok(frames) => {
            let length = frames.duration();
            let bar = match length {
                Some(length) => output::bar(what, length.as_secs().max(1)),
                None => output::spinner(what),
            };
            let mut last = Pts(0);
            for frame in frames {
                match frame {
                    Ok(frame) => {
                        last = frame.pts;
                        played.pictures += 1;
                        bar.set_position(last.0 / 1_000_000_000);
                        look(&frame);
                    }
                    Err(fault) => played.fault = Some(fault),
                }
            }
            bar.finish_and_clear();
            let whole = length.filter(|_| played.fault.is_none());
            played.seen = whole.unwrap_or(last.since(Pts(0)));
        }
    }
    played.took = clock.mono().since(begun);
    played
}
