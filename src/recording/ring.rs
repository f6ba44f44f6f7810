//! The pre-roll ring: the newest GOPs of one camera in memory, so that a clip can begin before its event.
//!
//! Guarantees: the first item is a key frame or the ring is empty; only whole GOPs leave; the last two GOPs and the
//! last `pre_roll` of the stream stay unless the byte bound would be exceeded; the byte bound is never exceeded.
//! Owned by the camera's task.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Pts;

/// What the ring needs to know of a packet.
pub trait Item {
    /// Position in the session.
    fn pts(&self) -> Pts;
    /// A video access unit (otherwise audio).
    fn is_video(&self) -> bool;
    /// A video access unit at which a decoder can start.
    fn is_video_key(&self) -> bool;
    /// Payload bytes.
    fn bytes(&self) -> usize;
}

/// What the ring keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// At least this much of the stream before its newest picture.
    pub pre_roll: Duration,
    /// Payload plus [`ITEM_OVERHEAD`] an item. When full the oldest GOPs go; a single GOP that is larger goes as a
    /// whole, and the ring stays empty until the next key frame.
    pub max_bytes: usize,
}

/// Bytes charged for an item beside its payload, so that many tiny items are bounded too.
pub const ITEM_OVERHEAD: usize = 128;

/// What the ring had to give up; shown in the camera's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Losses {
    /// GOPs dropped because of the byte bound while they were still wanted.
    pub gops: u64,
    /// Items refused because no key frame came before them.
    pub headless: u64,
    /// Times that the stream's clock went backwards and everything before was dropped.
    pub resets: u64,
}

/// The ring; see the module.
#[derive(Debug)]
pub struct Ring<T> {
    limits: Limits,
    items: VecDeque<T>,
    /// Absolute numbers of the key frames in `items`, oldest first; the first one equals `first`.
    keys: VecDeque<u64>,
    /// Absolute number of `items[0]`.
    first: u64,
    bytes: usize,
    newest: Pts,
    losses: Losses,
}

impl<T: Item> Ring<T> {
    /// An empty ring.
    pub fn new(limits: Limits) -> Self {
        Ring {
            limits,
            items: VecDeque::new(),
            keys: VecDeque::new(),
            first: 0,
            bytes: 0,
            newest: Pts(0),
            losses: Losses::default(),
        }
    }

    /// Keeps more or less from here on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes the next item in decoding order and lets go of what is no longer wanted.
    ///
    /// A key frame that is not later than the newest picture means that the clock went backwards: what lies before it
    /// is dropped, since a clip over the seam would show a wrong time.
    pub fn push(&mut self, item: T) {
        if item.is_video_key() {
            // Of an empty ring, too, whose last GOP was too large: others remember where the stream was.
            let known = !self.items.is_empty() || self.newest > Pts(0);
            if known && item.pts() <= self.newest {
                self.clear();
                self.losses.resets += 1;
            }
            if self.items.is_empty() {
                self.newest = item.pts();
            }
            self.keys.push_back(self.first + self.items.len() as u64);
        } else if self.items.is_empty() {
            self.losses.headless += 1;
            return;
        }
        if item.is_video() {
            self.newest = self.newest.max(item.pts());
        }
        self.bytes += cost(&item);
        self.items.push_back(item);
        self.age();
        self.shrink();
    }

    /// Forgets everything: called when a session ends or its caps change.
    pub fn clear(&mut self) {
        self.first += self.items.len() as u64;
        self.items.clear();
        self.keys.clear();
        self.bytes = 0;
        self.newest = Pts(0);
    }

    /// The items from the key frame at or before `from` (or the oldest there is) to the newest, in decoding order.
    ///
    /// The first is a key frame. Audio that arrived before that key frame but belongs after it follows it directly.
    pub fn cut(&self, from: Pts) -> impl Iterator<Item = &T> {
        let position = self.position_of_key(from);
        let (gop_before, start) = position.map_or((0, self.items.len()), |k| {
            (
                self.index(self.keys[k.saturating_sub(1)]),
                self.index(self.keys[k]),
            )
        });
        let key = self.items.get(start);
        let early_audio = self
            .items
            .range(gop_before..start)
            .filter(move |i| !i.is_video() && key.is_some_and(|k| i.pts() >= k.pts()));
        key.into_iter()
            .chain(early_audio)
            .chain(self.items.range((start + 1).min(self.items.len())..))
    }

    /// Number of the key frame at or before `from`, or of the oldest there is; numbers rise with every item and stay
    /// with it.
    pub fn number_of_key(&self, from: Pts) -> Option<u64> {
        self.position_of_key(from).map(|k| self.keys[k])
    }

    /// The item with this number, or the oldest key frame where that has gone; with its number.
    pub fn at(&self, number: u64) -> Option<(u64, &T)> {
        let number = number.max(self.first);
        Some((number, self.items.get(self.index(number))?))
    }

    /// The newest key frame, as a snapshot wants it.
    pub fn newest_key(&self) -> Option<&T> {
        self.items.get(self.index(*self.keys.back()?))
    }

    /// Pts of the oldest key frame.
    pub fn oldest(&self) -> Option<Pts> {
        self.items.front().map(Item::pts)
    }

    /// Pts of the newest picture; `None` while the ring is empty.
    pub fn newest(&self) -> Option<Pts> {
        (!self.items.is_empty()).then_some(self.newest)
    }

    /// Bytes held, [`ITEM_OVERHEAD`] included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of GOPs held, the unfinished newest one included.
    pub fn gops(&self) -> usize {
        self.keys.len()
    }

    /// What was given up since the start.
    pub fn losses(&self) -> Losses {
        self.losses
    }

    fn position_of_key(&self, from: Pts) -> Option<usize> {
        if self.keys.is_empty() {
            return None;
        }
        let after = self
            .keys
            .partition_point(|k| self.items[self.index(*k)].pts() <= from);
        Some(after.saturating_sub(1))
    }

    fn index(&self, absolute: u64) -> usize {
        (absolute - self.first) as usize
    }

    /// Lets GOPs go that neither `pre_roll` nor the rule of two wants.
    fn age(&mut self) {
        let wanted = self.newest - self.limits.pre_roll;
        while self.keys.len() > 2 && self.items[self.index(self.keys[1])].pts() <= wanted {
            self.drop_oldest_gop();
        }
    }

    fn shrink(&mut self) {
        while self.bytes > self.limits.max_bytes {
            self.drop_oldest_gop();
            self.losses.gops += 1;
        }
    }

    fn drop_oldest_gop(&mut self) {
        self.keys.pop_front();
        let end = self
            .keys
            .front()
            .map_or(self.items.len(), |k| self.index(*k));
        for item in self.items.drain(..end) {
            self.bytes -= cost(&item);
        }
        self.first += end as u64;
    }
}

fn cost<T: Item>(item: &T) -> usize {
    item.bytes().saturating_add(ITEM_OVERHEAD)
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
