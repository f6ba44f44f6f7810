//! The strongest frame of the event under way. Its packets are held, not its pixels: nothing is decoded or copied while the
//! event goes on, and the camera never waits.

use crate::agent::camera::recorder::Stream;
use crate::agent::pictures::{self, MAX_BYTES, MAX_PACKETS};
use crate::media::{Packet, Track};
use crate::model::Region;
use crate::motion::Activity;
use crate::recording::ring::Ring;
use crate::time::Pts;

/// What is held of the event under way.
#[derive(Debug, Default)]
pub(super) struct Strongest {
    /// Score of the best frame so far.
    score: f32,
    held: Option<pictures::Strongest>,
    /// A better one whose packets have not been taken: a sub-stream, or raw luma, may be ahead of the main stream.
    wanted: Option<(Pts, Vec<Region>)>,
    too_long: bool,
}

impl Strongest {
    /// A frame of the event was judged.
    pub(super) fn judged(&mut self, at: Pts, activity: &Activity) {
        if activity.score > self.score {
            self.score = activity.score;
            self.wanted = Some((at, activity.regions.clone()));
        }
    }

    /// Takes the packets of the wanted frame once the ring has them; with `now`, whatever it has.
    pub(super) fn look(&mut self, ring: &Ring<Packet>, stream: Option<&Stream>, now: bool) {
        let (Some((at, regions)), Some(stream)) = (&self.wanted, stream) else {
            return;
        };
        if !now && ring.newest().is_none_or(|newest| newest < *at) {
            return;
        }
        let Some(packets) = up_to(ring, *at) else {
            return;
        };
        match bounded(packets) {
            Some(packets) => {
                self.held = Some(pictures::Strongest {
                    packets,
                    caps: stream.caps.video.clone(),
                    at: *at,
                    anchor: stream.anchor,
                    regions: regions.clone(),
                });
            }
            None => self.too_long = true,
        }
        self.wanted = None;
    }

    /// The event is over.
    pub(super) fn take(&mut self) -> Result<pictures::Strongest, &'static str> {
        let all = std::mem::take(self);
        match all.held {
            Some(held) => Ok(held),
            None if all.too_long => Err("the camera's key frames are too far apart"),
            None => Err("the camera sent no picture"),
        }
    }
}

/// The video from the key frame at or before `at` up to that frame, or to the first one after it.
fn up_to(ring: &Ring<Packet>, at: Pts) -> Option<Vec<&Packet>> {
    let mut packets: Vec<&Packet> = ring.cut(at).filter(|p| p.track == Track::Video).collect();
    let exact = packets.iter().position(|p| p.pts == at);
    let end = exact.or_else(|| packets.iter().position(|p| p.pts > at));
    packets.truncate(end.map_or(packets.len(), |last| last + 1));
    (!packets.is_empty()).then_some(packets)
}

/// References to the packets, where they are few enough to be kept and decoded for one picture.
pub(super) fn bounded(packets: Vec<&Packet>) -> Option<Vec<Packet>> {
    let bytes: usize = packets.iter().map(|p| p.size()).sum();
    let few = packets.len() <= MAX_PACKETS && bytes <= MAX_BYTES;
    few.then(|| packets.into_iter().cloned().collect())
}
