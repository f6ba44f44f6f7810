//! A decoder of what was decoded before, for studies and tests: it chooses as the sampler chooses and is as slow as who
//! takes its pictures.

use std::collections::VecDeque;

use super::{Decoder, Fed, Mark, Pace};
use crate::recording::ring::Item;
use crate::time::Mono;

/// See the module.
#[derive(Debug)]
pub struct Replayed<P> {
    pace: Pace,
    run: u64,
    needs_key: bool,
    given: Vec<P>,
    out: VecDeque<(P, Mark)>,
}

impl<P: Item + Copy> Replayed<P> {
    /// Chooses about `fps` pictures a second.
    pub fn new(fps: f32) -> Replayed<P> {
        Replayed {
            pace: Pace::new(fps),
            run: 0,
            needs_key: true,
            given: Vec::new(),
            out: VecDeque::new(),
        }
    }

    /// The next chosen picture, as the packet that it was made of.
    pub fn picture(&mut self) -> Option<(P, Mark)> {
        self.out.pop_front()
    }

    /// All packets that it has decoded, in the order in which it got them.
    pub fn given(&self) -> &[P] {
        &self.given
    }

    /// Another decoder takes its place: what was in it is gone.
    pub fn replace(&mut self) {
        self.out.clear();
        self.needs_key = true;
    }
}

impl<P: Item + Copy> Decoder<P> for Replayed<P> {
    fn push(&mut self, packet: &P, _: Mono) -> Fed {
        if self.needs_key && !packet.is_video_key() {
            return Fed::Skipped;
        }
        self.needs_key = false;
        self.given.push(*packet);
        let key = packet.is_video_key();
        if !self.pace.choose(packet.pts(), key) {
            return Fed::Held;
        }
        self.out.push_back((*packet, Mark { key, run: self.run }));
        Fed::Taken
    }

    fn drain(&mut self) {
        self.needs_key = true;
    }

    fn rewind(&mut self) -> u64 {
        self.drain();
        self.pace.restart();
        self.run += 1;
        self.run
    }

    fn backlog(&self) -> u64 {
        self.out.len() as u64
    }

    fn fed(&self) -> u64 {
        self.given.len() as u64
    }
}
