//! Where a camera's packets can be had beside its clips: the pre-roll ring, and whoever watches live.
//!
//! The camera's task never waits for a watcher: one whose queue is full gets nothing more until the next key frame,
//! counted. A watcher sees the stream's caps first, then packets from a key frame on; when the camera goes down its queue
//! ends, and it may ask again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::mpsc;

use super::desk::No;
use super::recorder::Stream;
use crate::media::{Packet, TrackCaps};
use crate::recording::ring::{Item as _, Limits, Ring};
use crate::time::Pts;

/// Packets that wait for one watcher: [`LONGEST_START`] and two seconds. When full, see the module.
const QUEUE: usize = 320;
/// A watcher begins with the GOP that runs, unless more packets of it have passed; then with the next one.
const LONGEST_START: usize = 250;
/// Watchers of one camera; more are told that it is busy.
const MAX_WATCHERS: usize = 4;

/// What a watcher sees, in order.
#[derive(Debug)]
pub enum Feed {
    /// Packets follow that are as these caps say; the first is a key frame.
    Stream(TrackCaps),
    /// The next one.
    Packet(Packet),
}

/// A camera watched.
#[derive(Debug)]
pub struct Watch {
    /// Ends with the camera's session.
    pub feed: mpsc::Receiver<Feed>,
    /// Packets that were dropped because nobody took them.
    pub dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Watcher {
    feed: mpsc::Sender<Feed>,
    dropped: Arc<AtomicU64>,
    /// Until the next key frame nothing is of use to it.
    needs_key: bool,
    /// It does not know the caps yet: there was no room.
    needs_caps: bool,
}

/// The ring and the watchers of one camera.
#[derive(Debug)]
pub struct Tap {
    ring: Ring<Packet>,
    watchers: Vec<Watcher>,
    caps: Option<TrackCaps>,
}

impl Tap {
    /// An empty ring, nobody watches.
    pub fn new(limits: Limits) -> Tap {
        Tap {
            ring: Ring::new(limits),
            watchers: Vec::new(),
            caps: None,
        }
    }

    /// The ring keeps more or less from here on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.ring.set_limits(limits);
    }

    /// The packets that are kept.
    pub fn ring(&self) -> &Ring<Packet> {
        &self.ring
    }

    /// See [`Ring::cut`].
    pub fn cut(&self, from: Pts) -> impl Iterator<Item = &Packet> {
        self.ring.cut(from)
    }

    /// A stream begins, or changes.
    pub fn begin(&mut self, stream: &Stream) {
        self.ring.clear();
        self.caps = Some(stream.caps.clone());
        for watcher in &mut self.watchers {
            watcher.needs_caps = true;
            watcher.needs_key = true;
        }
    }

    /// The next packet.
    pub fn push(&mut self, packet: Packet) {
        if let Some(caps) = &self.caps {
            self.watchers.retain_mut(|w| w.give(&packet, caps));
        }
        self.ring.push(packet);
    }

    /// The camera is down.
    pub fn clear(&mut self) {
        self.ring.clear();
        self.watchers.clear();
        self.caps = None;
    }

    /// Somebody watches from now on.
    pub(super) fn watch(&mut self) -> Result<Watch, No> {
        let caps = self.caps.as_ref().ok_or(No::Down)?;
        self.watchers.retain(|w| !w.feed.is_closed());
        if self.watchers.len() >= MAX_WATCHERS {
            return Err(No::Busy);
        }
        let (tx, feed) = mpsc::channel(QUEUE);
        let dropped = Arc::<AtomicU64>::default();
        let mut watcher = Watcher {
            feed: tx,
            dropped: Arc::clone(&dropped),
            needs_key: true,
            needs_caps: true,
        };
        let gop: Vec<&Packet> = self.ring.cut(Pts(u64::MAX)).collect();
        if gop.len() <= LONGEST_START {
            for packet in gop {
                watcher.give(packet, caps);
            }
        }
        self.watchers.push(watcher);
        Ok(Watch { feed, dropped })
    }
}

impl Watcher {
    /// `false`: it watches no more.
    fn give(&mut self, packet: &Packet, caps: &TrackCaps) -> bool {
        if self.feed.is_closed() {
            return false;
        }
        if self.needs_key && !packet.is_video_key() {
            self.dropped.fetch_add(u64::from(!self.needs_caps), Relaxed);
            return true;
        }
        // Both or neither, so that caps are always followed by their key frame.
        let wanted = if self.needs_caps { 2 } else { 1 };
        if self.feed.capacity() < wanted {
            self.needs_key = true;
            self.dropped.fetch_add(1, Relaxed);
            return true;
        }
        // There is room, and nobody else sends.
        if self.needs_caps {
            let _ = self.feed.try_send(Feed::Stream(caps.clone()));
        }
        let _ = self.feed.try_send(Feed::Packet(packet.clone()));
        self.needs_caps = false;
        self.needs_key = false;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{self, Caps, Track};
    use crate::model::{StreamInfo, VideoCodec};
    use crate::time::{Anchor, Mono};

    fn packet(n: u64, key: bool) -> Packet {
        Packet {
            track: Track::Video,
            pts: Pts(n * 40_000_000),
            key,
            buffer: Default::default(),
        }
    }

    fn tap() -> Tap {
        media::init().unwrap();
        let mut tap = Tap::new(Limits {
            pre_roll: std::time::Duration::from_secs(5),
            max_bytes: 1 << 20,
        });
        tap.begin(&stream());
        tap
    }

    fn stream() -> Stream {
        Stream {
            info: StreamInfo {
                codec: VideoCodec::H264,
                width: 1,
                height: 1,
                fps: 25.0,
                has_audio: false,
            },
            caps: TrackCaps {
                video: Caps::new_empty(),
                audio: None,
            },
            anchor: Anchor { zero: Mono(0) },
        }
    }

    fn seen(watch: &mut Watch) -> Vec<Option<(u64, bool)>> {
        let mut seen = Vec::new();
        while let Ok(feed) = watch.feed.try_recv() {
            seen.push(match feed {
                Feed::Stream(_) => None,
                Feed::Packet(p) => Some((p.pts.0 / 40_000_000, p.key)),
            });
        }
        seen
    }

    #[test]
    fn a_watcher_begins_with_the_running_gop_and_sees_changes_in_order() {
        let mut tap = tap();
        for n in 0..7 {
            tap.push(packet(n, n % 5 == 0));
        }
        let mut watch = tap.watch().unwrap();
        tap.push(packet(7, false));
        assert_eq!(
            seen(&mut watch),
            [None, Some((5, true)), Some((6, false)), Some((7, false))]
        );
        tap.begin(&stream());
        tap.push(packet(8, false));
        tap.push(packet(9, true));
        assert_eq!(seen(&mut watch), [None, Some((9, true))]);
        tap.clear();
        assert!(watch.feed.try_recv().is_err() && tap.watch().is_err());
    }

    #[test]
    fn who_does_not_look_loses_packets_up_to_a_key_frame_and_nobody_waits() {
        let mut tap = tap();
        tap.push(packet(0, true));
        let mut watch = tap.watch().unwrap();
        for n in 1..1000 {
            tap.push(packet(n, n % 50 == 0));
        }
        let before = seen(&mut watch);
        assert_eq!(before.len(), QUEUE);
        assert_eq!(watch.dropped.load(Relaxed), 1000 - (QUEUE as u64 - 1));
        tap.push(packet(1000, false));
        tap.push(packet(1001, true));
        tap.push(packet(1002, false));
        assert_eq!(seen(&mut watch), [Some((1001, true)), Some((1002, false))]);
        for _ in 1..MAX_WATCHERS {
            std::mem::forget(tap.watch().unwrap());
        }
        assert_eq!(tap.watch().err(), Some(No::Busy));
        drop(watch);
        assert!(tap.watch().is_ok(), "whoever is gone makes room");
    }
}
