//! The way from the source's threads to the camera task: stamp, hand over, return.
//!
//! Invariants: a streaming thread never waits for the channel; nothing precedes the first key frame; after a dropped
//! video packet nothing follows until the next key frame, so that the task never sees a GOP with a hole of our
//! making; no event follows `Down`. A frame that the network damaged is handed on all the same: evidence with a
//! flaw is better than a gap. Only buffers that their source flags as corrupted are dropped.
//!
//! ```text
//!  waiting ──key frame, caps complete──▶ held (≤ 1 s, only for the AAC caps) ──▶ open ──channel full──▶ waiting
//! ```

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gstreamer as gst;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::caps::{same_video, stream_info};
use super::stamps::Stamper;
use super::{CaptureEvent, OwnedGray, Packet, Track, TrackCaps};
use crate::model::DownReason;
use crate::time::{Anchor, Pts};

/// How long the first packets are held back until the caps of a promised audio track are known.
const AUDIO_GRACE: Duration = Duration::from_secs(1);

/// What a session counts; read it at any time.
#[derive(Debug, Default)]
pub struct Stats {
    /// Packets that arrived from the source (video and audio); a flat figure means a stalled source.
    pub packets: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
    /// Packets that were not handed on: channel full, corrupted, no time stamp, after a gap until the key frame.
    pub dropped: AtomicU64,
    /// Packets whose time stamp was made up.
    pub repaired: AtomicU64,
}

/// What wakes the session's own thread.
#[derive(Debug)]
pub(super) enum Wake {
    /// The pipeline ended; the reason is final.
    Down(DownReason),
    /// The camera cannot serve at the moment (503 of RTSP); final unless a connection before this one explains it.
    Busy(DownReason),
    /// The owner, or the receiver's end, wants no more.
    Stop,
    /// A file source is ready to be started.
    Ready,
    /// A repeated file reached its end.
    SegmentDone,
}

/// An access unit as its source delivers it, with what the source knows of its times (running time).
pub(super) struct Arrived {
    pub(super) track: Track,
    pub(super) pts: Option<Pts>,
    pub(super) dts: Option<Pts>,
    /// A decoder can start here; of no matter for audio.
    pub(super) key: bool,
    /// The source says that the bytes are wrong.
    pub(super) damaged: bool,
    pub(super) buffer: gst::Buffer,
}

/// What the sinks of one session share.
pub(super) struct Flow {
    tx: mpsc::Sender<CaptureEvent>,
    wake: mpsc::UnboundedSender<Wake>,
    anchor: Anchor,
    /// Files have decode times of their own, RTP has not.
    trust_dts: bool,
    pub(super) stats: Arc<Stats>,
    pub(super) offers: Arc<Mutex<Vec<String>>>,
    state: Mutex<State>,
}

/// What the streaming threads share under the lock.
#[derive(Default)]
pub(super) struct State {
    closed: bool,
    expects_audio: bool,
    pub(super) only_segments: bool,
    phase: Phase,
    held: Vec<Packet>,
    video: Stamper,
    audio: Stamper,
    video_caps: Option<gst::Caps>,
    audio_caps: Option<gst::Caps>,
    announced: Option<Announced>,
}

struct Announced {
    video: gst::Caps,
    audio: Option<gst::Caps>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Waiting,
    Held,
    Open,
}

impl Flow {
    pub(super) fn new(
        tx: mpsc::Sender<CaptureEvent>,
        wake: mpsc::UnboundedSender<Wake>,
        anchor: Anchor,
        trust_dts: bool,
    ) -> Arc<Flow> {
        Arc::new(Flow {
            tx,
            wake,
            anchor,
            trust_dts,
            stats: Arc::default(),
            offers: Arc::default(),
            state: Mutex::default(),
        })
    }

    /// The source will deliver AAC: wait a moment for its caps before the session is announced.
    pub(super) fn expect_audio(&self) {
        self.lock().expects_audio = true;
    }

    /// Only packets of a segment seek count: what a repeated file sends before it is started does not.
    pub(super) fn only_segments(&self) {
        self.lock().only_segments = true;
    }

    /// Notes a stream that the source offers, chosen or not.
    pub(super) fn offered(&self, media: &str, encoding: &str) {
        let name = format!("{media} {encoding}");
        let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        if !encoding.is_empty() && !offers.contains(&name) {
            offers.push(name);
        }
    }

    /// True where streams are offered and none is video that can be recorded.
    pub(super) fn nothing_to_record(&self) -> bool {
        let offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        !offers.is_empty()
            && !offers.iter().any(|o| {
                o.eq_ignore_ascii_case("video h264") || o.eq_ignore_ascii_case("video h265")
            })
    }

    /// What to say of such a camera.
    pub(super) fn nothing_text(&self) -> String {
        let offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        format!(
            "neither H.264 nor H.265 is offered, but {}",
            offers.join(", ")
        )
    }

    /// Wakes the session's thread; never waits.
    pub(super) fn wake(&self, why: Wake) {
        // The thread may be gone already; then nobody wants to know.
        let _ = self.wake.send(why);
    }

    /// Nothing is handed on from here on.
    pub(super) fn close(&self) {
        let mut s = self.lock();
        s.closed = true;
        s.held.clear();
    }

    /// Hands on the last event; waits for room, so only the session's own thread may call it.
    pub(super) fn finish(&self, reason: DownReason) {
        self.close();
        let _ = self.tx.blocking_send(CaptureEvent::Down(reason));
    }

    /// Hands on a raw picture; a picture that finds no room is forgotten, the next one will do.
    pub(super) fn luma(&self, gray: OwnedGray) {
        let s = self.lock();
        if !s.closed && s.phase == Phase::Open {
            let _ = self.tx.try_send(CaptureEvent::Luma(gray));
        }
    }

    /// Counts, stamps and hands on an access unit; never waits. `Err` where nobody wants more.
    pub(super) fn take(&self, arrived: Arrived, caps: gst::Caps) -> Result<(), Gone> {
        self.stats.packets.fetch_add(1, Relaxed);
        let size = arrived.buffer.size() as u64;
        self.stats.bytes.fetch_add(size, Relaxed);
        let mut s = self.lock();
        if s.closed {
            return Err(Gone);
        }
        let done = match self.stamp(&mut s, arrived) {
            Some(packet) => self.hand_over(&mut s, packet, caps),
            None => {
                self.count_drop(1);
                Ok(())
            }
        };
        if done.is_err() {
            s.closed = true;
            self.wake(Wake::Stop);
        }
        done
    }

    /// Makes a packet of an access unit; `None` drops it.
    fn stamp(&self, s: &mut State, arrived: Arrived) -> Option<Packet> {
        if arrived.damaged {
            return None;
        }
        let (pts, dts) = (arrived.pts, arrived.dts);
        let (stamper, dts) = match arrived.track {
            Track::Video => (
                &mut s.video,
                dts.filter(|_| self.trust_dts || pts.is_none()),
            ),
            Track::Audio => (&mut s.audio, None),
        };
        let stamp = stamper.stamp(pts, dts)?;
        if stamp.repaired {
            self.stats.repaired.fetch_add(1, Relaxed);
        }
        let mut buffer = arrived.buffer;
        let meta = buffer.make_mut();
        meta.set_pts(gst::ClockTime::from_nseconds(stamp.pts.0));
        meta.set_dts(gst::ClockTime::from_nseconds(stamp.dts.0));
        Some(Packet {
            track: arrived.track,
            pts: stamp.pts,
            key: arrived.key || arrived.track == Track::Audio,
            buffer,
        })
    }

    /// `Err` where the receiver is gone.
    fn hand_over(&self, s: &mut State, packet: Packet, caps: gst::Caps) -> Result<(), Gone> {
        if packet.track == Track::Audio {
            s.audio_caps = Some(caps);
            return match s.phase {
                Phase::Waiting => {
                    self.count_drop(1);
                    Ok(())
                }
                Phase::Held => {
                    s.held.push(packet);
                    self.announce(s)
                }
                Phase::Open if s.announced.as_ref().is_none_or(|a| a.audio.is_none()) => {
                    self.count_drop(1);
                    Ok(())
                }
                Phase::Open => self.send(CaptureEvent::Packet(packet)).map(|_| ()),
            };
        }
        let fresh = s
            .video_caps
            .as_ref()
            .is_none_or(|old| !same_video(old, &caps));
        s.video_caps = Some(caps);
        match s.phase {
            Phase::Open if packet.key || fresh => {
                let changed = s.announced.as_ref().is_none_or(|a| {
                    s.video_caps
                        .as_ref()
                        .is_none_or(|v| !same_video(&a.video, v))
                        || a.audio.is_none() && s.audio_caps.is_some()
                });
                if !changed {
                    return self.video(s, packet);
                }
                if !packet.key {
                    // New parameter sets without a key frame: nothing is decodable before one comes.
                    self.shut(s, 1);
                    return Ok(());
                }
                s.held.push(packet);
                self.announce(s)
            }
            Phase::Open => self.video(s, packet),
            Phase::Waiting => {
                let ready = packet.key
                    && s.video_caps
                        .as_ref()
                        .is_some_and(|c| stream_info(c, false).is_some());
                if !ready {
                    self.count_drop(1);
                    return Ok(());
                }
                s.phase = Phase::Held;
                s.held.push(packet);
                let resumed = s.announced.is_some();
                if resumed || !s.expects_audio || s.audio_caps.is_some() {
                    self.announce(s)
                } else {
                    Ok(())
                }
            }
            Phase::Held => {
                if fresh {
                    // The caps changed before they were announced: start over with this packet.
                    let n = s.held.len() as u64;
                    self.shut(s, n);
                    return self.hand_over_again(s, packet);
                }
                let waited = s.held.first().map(|p| packet.pts.since(p.pts));
                s.held.push(packet);
                let enough = waited.is_some_and(|w| w >= AUDIO_GRACE)
                    || s.held.len() >= self.tx.max_capacity() / 2;
                if enough || s.audio_caps.is_some() {
                    self.announce(s)
                } else {
                    Ok(())
                }
            }
        }
    }

    fn hand_over_again(&self, s: &mut State, packet: Packet) -> Result<(), Gone> {
        if packet.key {
            s.phase = Phase::Held;
            s.held.push(packet);
        } else {
            self.count_drop(1);
        }
        Ok(())
    }

    /// Sends `Up` or `Changed` where there is news, and everything held, or nothing at all.
    fn announce(&self, s: &mut State) -> Result<(), Gone> {
        let Some(video) = s.video_caps.clone() else {
            return Ok(());
        };
        let caps = TrackCaps {
            audio: s.audio_caps.clone(),
            video,
        };
        let Some(info) = stream_info(&caps.video, caps.audio.is_some()) else {
            return Ok(());
        };
        let news = match &s.announced {
            None => Some(CaptureEvent::Up {
                info,
                caps: caps.clone(),
                anchor: self.anchor,
            }),
            Some(a)
                if !same_video(&a.video, &caps.video)
                    || a.audio.is_none() && caps.audio.is_some() =>
            {
                Some(CaptureEvent::Changed {
                    info,
                    caps: caps.clone(),
                })
            }
            Some(_) => None,
        };
        let mut events: Vec<_> = news.into_iter().collect();
        events.extend(s.held.drain(..).map(CaptureEvent::Packet));
        match self.tx.try_reserve_many(events.len()) {
            Ok(permits) => {
                for (permit, event) in permits.zip(events) {
                    permit.send(event);
                }
                s.phase = Phase::Open;
                s.announced = Some(Announced {
                    video: caps.video,
                    audio: caps.audio,
                });
                Ok(())
            }
            Err(TrySendError::Full(())) => {
                self.shut(s, events.len() as u64);
                Ok(())
            }
            Err(TrySendError::Closed(())) => Err(Gone),
        }
    }

    fn video(&self, s: &mut State, packet: Packet) -> Result<(), Gone> {
        if !self.send(CaptureEvent::Packet(packet))? {
            s.phase = Phase::Waiting;
        }
        Ok(())
    }

    /// False where the channel is full: the event is gone and counted.
    fn send(&self, event: CaptureEvent) -> Result<bool, Gone> {
        match self.tx.try_send(event) {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(_)) => {
                self.count_drop(1);
                Ok(false)
            }
            Err(TrySendError::Closed(_)) => Err(Gone),
        }
    }

    fn shut(&self, s: &mut State, lost: u64) {
        s.held.clear();
        s.phase = Phase::Waiting;
        self.count_drop(lost);
    }

    pub(super) fn count_drop(&self, n: u64) {
        self.stats.dropped.fetch_add(n, Relaxed);
    }

    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The receiver was dropped.
#[derive(Debug)]
pub(super) struct Gone;
