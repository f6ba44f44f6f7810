//! What the pre-roll ring needs to know of a packet.

use super::{Packet, Track};
use crate::recording::ring::Item;
use crate::time::Pts;

impl Item for Packet {
    fn pts(&self) -> Pts {
        self.pts
    }

    fn is_video(&self) -> bool {
        self.track == Track::Video
    }

    fn is_video_key(&self) -> bool {
        self.is_video() && self.key
    }

    fn bytes(&self) -> usize {
        self.size()
    }
}
