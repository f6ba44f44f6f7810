//! What the policy wants decoded, read from a ring of its own: packets in, pictures in order out.
//!
//! The ring shares its packets with the pre-roll ring, so it costs references, not memory. A decoder reads from a
//! *cursor* in it, as fast as it takes packets: a stretch that turns out to be of interest is read again from its key
//! frame, and what arrives meanwhile waits in the ring. Where the decoder is slower than the camera for longer than
//! [`REACH`], it goes on at the newest key frame and what lies between is counted.
//!
//! Guarantees: pictures come out by rising pts within a stream; a key frame that the policy wants preceded by its stretch
//! is held back and comes again, in order.

use std::time::Duration;

use super::{Demand, Mode, REACH, Reads};
use crate::config::MotionConfig;
use crate::motion::{GrayFrame, Verdict};
use crate::recording::ring::{Item, Limits, Ring};
use crate::time::{Mono, Pts};

/// Bytes of packets that are referred to: 10 s at 25 Mbit/s. When full the oldest GOPs go.
pub(super) const RING_BYTES: usize = 32 << 20;
/// Packets given to the decoder ahead of what it does.
pub(super) const AHEAD: u64 = 24;
/// Packets after which the share is counted half, so that it is that of the last minutes: five at 30 a second.
const FORGET: u64 = 9_000;

/// What is known of a chosen picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// A key frame.
    pub key: bool,
    /// Times that the decoder had been rewound when it was chosen.
    pub run: u64,
}

/// What became of a packet that a decoder was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fed {
    /// A chosen picture: the decoder has it and all that it needs.
    Taken,
    /// No chosen picture, but the next one may need it.
    Held,
    /// Not needed: audio, before the first key frame, or a picture that nothing refers to and that is not wanted.
    Skipped,
    /// The decoder is behind; the next key frame is taken again.
    Dropped,
    /// The decoder has failed; stop it.
    Failed,
}

/// A decoder as the reader sees it. It chooses the pictures that come out, with their [`Mark`].
pub trait Decoder<P> {
    /// Gives it the next packet. Does not block.
    fn push(&mut self, packet: &P, now: Mono) -> Fed;
    /// Makes it deliver all it holds; the next packet is a key frame.
    fn drain(&mut self);
    /// The next packet is a key frame from before. Returns the number of the new run.
    fn rewind(&mut self) -> u64;
    /// Packets that it was given and has not taken yet.
    fn backlog(&self) -> u64;
    /// Packets that were decoded or will be.
    fn fed(&self) -> u64;
}

/// Reads one stream; see the module.
#[derive(Debug)]
pub struct Reader<P> {
    ring: Ring<P>,
    /// `None`: everything is decoded.
    demand: Option<Demand>,
    /// Number of the next packet to decode; `None` while key frames are decoded alone.
    cursor: Option<u64>,
    /// The next packet begins another run.
    rewind: bool,
    run: u64,
    /// The newest picture that came out.
    seen: Option<Pts>,
    /// Of the last minutes.
    packets: u64,
    fed: u64,
    /// Decoded, seen; of the whole stream.
    totals: (u64, u64),
    lost: u64,
}

impl<P: Item + Clone> Reader<P> {
    /// An empty one; with `demand`, only what that wants is decoded.
    pub fn new(demand: Option<Demand>) -> Reader<P> {
        Reader {
            ring: Ring::new(Limits {
                pre_roll: REACH,
                max_bytes: RING_BYTES,
            }),
            demand,
            cursor: None,
            rewind: true,
            run: 0,
            seen: None,
            packets: 0,
            fed: 0,
            totals: (0, 0),
            lost: 0,
        }
    }

    /// What is decoded and why; `None`: everything, because nobody asked for less.
    pub fn mode(&self) -> Option<Mode> {
        self.demand.as_ref().map(Demand::mode)
    }

    /// Share of the packets of the last minutes that were decoded, 0..1.
    pub fn share(&self) -> Option<f32> {
        (self.packets > 0).then(|| (self.fed as f32 / self.packets as f32).min(1.0))
    }

    /// Packets decoded and packets seen since the stream began.
    pub fn totals(&self) -> (u64, u64) {
        self.totals
    }

    /// Packets that should have been decoded and were not, because the decoder is too slow.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The next packet of the stream. `false`: the decoder failed.
    pub fn push(&mut self, packet: &P, decoder: Option<&mut impl Decoder<P>>, now: Mono) -> bool {
        if !packet.is_video() {
            return true;
        }
        self.count();
        let resets = self.ring.losses().resets;
        self.ring.push(packet.clone());
        if self.ring.losses().resets != resets {
            // The camera's clock went backwards: positions from before mean nothing.
            self.seen = None;
            self.restart();
        }
        let alone = self
            .demand
            .as_mut()
            .is_some_and(|d| d.packet(packet.pts(), packet.is_video_key(), packet.bytes()));
        self.follow();
        let Some(decoder) = decoder else { return true };
        if alone && self.cursor.is_none() {
            return self.give(packet, decoder, now) && {
                decoder.drain();
                true
            };
        }
        self.feed(decoder, now)
    }

    /// Gives the decoder what it can take. `false`: it failed.
    pub fn feed(&mut self, decoder: &mut impl Decoder<P>, now: Mono) -> bool {
        if let Some(cursor) = self.cursor
            && let Some((_, next)) = self.ring.at(cursor)
            && self
                .ring
                .newest()
                .is_some_and(|n| n.since(next.pts()) > REACH)
            && let Some(newest) = self.ring.number_of_key(Pts(u64::MAX))
            && newest > cursor
        {
            self.lost += newest - cursor;
            self.cursor = Some(newest);
            self.rewind = true;
        }
        while let Some(cursor) = self.cursor
            && decoder.backlog() < AHEAD
        {
            let Some((number, packet)) = self.ring.at(cursor) else {
                break;
            };
            if number != cursor {
                self.lost += number - cursor;
                self.rewind = true;
            }
            self.cursor = Some(number + 1);
            let packet = packet.clone();
            if !self.give(&packet, decoder, now) {
                return false;
            }
        }
        true
    }

    /// `false`: the decoder failed.
    fn give(&mut self, packet: &P, decoder: &mut impl Decoder<P>, now: Mono) -> bool {
        if std::mem::take(&mut self.rewind) {
            self.run = decoder.rewind();
        }
        let before = decoder.fed();
        let fed = decoder.push(packet, now);
        let taken = decoder.fed() - before;
        self.fed += taken;
        self.totals.0 += taken;
        self.lost += u64::from(fed == Fed::Dropped);
        fed != Fed::Failed
    }

    /// The packet of the key frame at `pts`, while it is remembered.
    pub fn key_at(&self, pts: Pts) -> Option<&P> {
        let number = self.ring.number_of_key(pts)?;
        let (_, packet) = self.ring.at(number)?;
        (packet.pts() == pts).then_some(packet)
    }

    /// A picture came out of the decoder; answers whether the detector may see it.
    pub fn picture(&mut self, frame: &GrayFrame<'_>, mark: Mark) -> bool {
        // What was in the decoder before it is rewound comes again, in order.
        if self.rewind || mark.run != self.run || self.seen.is_some_and(|seen| frame.pts <= seen) {
            return false;
        }
        if mark.key
            && let Some(demand) = &mut self.demand
            && !demand.key_picture(frame)
        {
            self.follow();
            return false;
        }
        self.seen = Some(frame.pts);
        self.follow();
        true
    }

    /// What the detector said of the newest picture.
    pub fn verdict(&mut self, verdict: &Verdict) {
        if let (Some(demand), Some(pts)) = (&mut self.demand, self.seen) {
            demand.verdict(pts, verdict);
            self.follow();
        }
    }

    /// Other zones or another sensitivity: the policy learns the scene anew.
    pub fn retune(&mut self, config: &MotionConfig) {
        if let Some(demand) = &mut self.demand {
            *demand = Demand::new(config);
            // Not again what was seen already.
            self.cursor = self.cursor.or(self.ring.number_of_key(Pts(u64::MAX)));
        }
    }

    /// Another decoder: it begins at the key frame before what was seen last.
    pub fn restart(&mut self) {
        let from = self.seen.unwrap_or(Pts(0));
        if self.cursor.is_some() || self.demand.is_none() {
            self.cursor = self.ring.number_of_key(from);
        }
        self.rewind = true;
    }

    /// Moves the cursor to where the policy wants it.
    fn follow(&mut self) {
        match self.demand.as_ref().map(Demand::reads) {
            Some(Reads::KeyFrames) => {
                // A stretch that was under way ends; the decoder begins at a key frame next.
                self.cursor = None;
            }
            Some(Reads::From(from)) if self.cursor.is_none() => {
                self.cursor = self.ring.number_of_key(from);
                self.rewind = true;
            }
            None if self.cursor.is_none() => self.cursor = self.ring.number_of_key(Pts(0)),
            _ => {}
        }
    }

    fn count(&mut self) {
        self.packets += 1;
        self.totals.1 += 1;
        if self.packets >= 2 * FORGET {
            self.packets /= 2;
            self.fed /= 2;
        }
    }

    /// How late a verdict may be because of what is left undecoded.
    pub fn delay(&self) -> Duration {
        if self.demand.is_some() {
            REACH
        } else {
            Duration::from_secs(2)
        }
    }

    /// The policy; only where there is one.
    #[cfg(test)]
    pub(super) fn demand(&self) -> &Demand {
        self.demand.as_ref().expect("a policy")
    }

    /// What is remembered.
    #[cfg(test)]
    pub(super) fn ring(&self) -> &Ring<P> {
        &self.ring
    }
}
