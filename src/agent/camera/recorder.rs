//! Decides for one camera when a clip begins and ends, and feeds it: event clips with pre-roll, or segments.
//!
//! A clip's row is committed (with its event's, in one transaction) before its file is made; packets wait meanwhile.
//! When the stream changes, or a clip takes no more, another clip of the same event follows at the next key frame.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::clip_task::{ClipHandle, ClipJob, ClipStore, Handed, clip};
use super::desk::{No, Wish};
use crate::agent::journal::{Fact, Journal};
use crate::agent::records::{self, ClosedClip};
use crate::config::RecordingConfig;
use crate::db::IdSource;
use crate::db::recordings::Opening;
use crate::media::{Packet, Track, TrackCaps};
use crate::model::{CameraId, EventId, RecordId, RecordMode, RecordingId, StreamInfo};
use crate::time::{Anchor, Pts};
use crate::wire::envelope::Record;

/// A clip that could not be written (no disk, no room) is followed by another try after this.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The stream that is being recorded.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Picture and codec.
    pub info: StreamInfo,
    /// As the muxer needs them.
    pub caps: TrackCaps,
    /// Maps pts to time.
    pub anchor: Anchor,
}

struct Open {
    handle: ClipHandle,
    id: RecordingId,
    event: Option<EventId>,
    first: Pts,
}

/// One camera's clips.
pub struct Recorder {
    camera: CameraId,
    config: RecordingConfig,
    store: ClipStore,
    journal: Journal,
    ids: IdSource,
    stream: Option<Stream>,
    open: Option<Open>,
    /// A recording on command, beside the others, and where it ends.
    manual: Option<(Open, Pts)>,
    /// An event that has no clip at the moment and wants one at the next key frame.
    wanted: Option<EventId>,
    /// After a failure no clip is begun before this.
    not_before: Pts,
    tasks: JoinSet<()>,
}

impl Recorder {
    /// Records `camera` as `config` says.
    pub fn new(
        camera: CameraId,
        config: RecordingConfig,
        store: ClipStore,
        journal: Journal,
        ids: IdSource,
    ) -> Self {
        store.disk.set_quota(&camera, config.quota);
        Self {
            camera,
            config,
            store,
            journal,
            ids,
            stream: None,
            open: None,
            manual: None,
            wanted: None,
            not_before: Pts(0),
            tasks: JoinSet::new(),
        }
    }

    /// Other lengths or another mode; an open clip of another mode is closed.
    pub fn retune(&mut self, config: RecordingConfig) {
        if config.mode != self.config.mode {
            self.open = None;
            self.wanted = None;
        }
        self.store.disk.set_quota(&self.camera, config.quota);
        self.config = config;
    }

    /// A stream begins or changes: what was open is closed, an event goes on in another clip.
    pub fn stream(&mut self, stream: Option<Stream>) {
        if let Some(open) = self.open.take() {
            self.wanted = open.event;
        }
        if stream.is_none() {
            self.wanted = None;
        }
        self.manual = None;
        self.stream = stream;
        self.not_before = Pts(0);
    }

    /// The stream that is being recorded, where there is one.
    pub fn current_stream(&self) -> Option<&Stream> {
        self.stream.as_ref()
    }

    /// A clip is being written.
    pub fn is_recording(&self) -> bool {
        self.open.is_some() || self.manual.is_some()
    }

    /// The clip that shows the present, where there is one.
    pub fn current(&self) -> Option<RecordingId> {
        self.open.as_ref().map(|o| o.id)
    }

    /// An event begins: its clip starts with `packets` (from a key frame on). The returned rows and records go into the
    /// event's own transaction; the sender tells the clip that they are on disk.
    pub fn begin_event<'a>(
        &mut self,
        event: EventId,
        packets: impl Iterator<Item = &'a Packet>,
    ) -> Option<(Opening, Record, oneshot::Sender<()>)> {
        if self.config.mode != RecordMode::Motion {
            return None;
        }
        let mut packets = packets.peekable();
        let Some(first) = packets.peek().map(|p| p.pts) else {
            self.wanted = Some(event);
            return None;
        };
        let Some(begun) = self.begin(Some(event), first) else {
            // The disk takes nothing now; it may later.
            self.wanted = Some(event);
            return None;
        };
        for packet in packets {
            self.feed(packet);
        }
        Some(begun)
    }

    /// A recording on command begins with `packets` (from a key frame on), whatever else is recorded.
    pub fn begin_manual<'a>(
        &mut self,
        wish: Wish,
        packets: impl Iterator<Item = &'a Packet>,
    ) -> Result<(Opening, Record, oneshot::Sender<()>), No> {
        if self.manual.is_some() {
            return Err(No::Busy);
        }
        if !self.store.disk.takes_clips() {
            return Err(No::Disk);
        }
        let mut packets = packets.peekable();
        let first = packets.peek().map(|p| p.pts).ok_or(No::Down)?;
        let (open, opening, record, tell) = self
            .make(wish.id, wish.event, first, RecordMode::Manual)
            .ok_or(No::Down)?;
        self.manual = Some((open, first + wish.at_most));
        for packet in packets {
            self.feed_manual(packet);
        }
        Ok((opening, record, tell))
    }

    /// Ends a recording on command; `false`: it is not being made.
    pub fn end_manual(&mut self, id: RecordingId) -> bool {
        self.manual.take_if(|(open, _)| open.id == id).is_some()
    }

    /// An event and its post-roll are over.
    pub fn end_event(&mut self) {
        self.wanted = None;
        if self.config.mode == RecordMode::Motion {
            self.open = None;
        }
    }

    /// The next packet of the stream.
    pub async fn push(&mut self, packet: &Packet) {
        while self.tasks.try_join_next().is_some() {}
        if packet.key && packet.track == Track::Video {
            self.at_key_frame(packet.pts).await;
        }
        self.feed_manual(packet);
        self.feed(packet);
    }

    /// Waits until every clip is on disk and its row says so.
    pub async fn close(&mut self) {
        self.open = None;
        self.manual = None;
        self.wanted = None;
        while self.tasks.join_next().await.is_some() {}
    }

    async fn at_key_frame(&mut self, pts: Pts) {
        let continuous = self.config.mode == RecordMode::Continuous;
        if continuous
            && self
                .open
                .as_ref()
                .is_some_and(|o| segment_is_full(pts, o.first, self.config.segment))
        {
            self.open = None;
        }
        if self.open.is_none()
            && pts >= self.not_before
            && (continuous || self.wanted.is_some())
            && let Some((opening, record, committed)) = self.begin(self.wanted, pts)
        {
            let camera = self.camera.clone();
            let fact = Fact::ClipOpened {
                camera,
                clip: opening,
            };
            self.journal
                .write_then(fact, vec![record], Some(committed))
                .await;
        }
    }

    fn begin(
        &mut self,
        event: Option<EventId>,
        first: Pts,
    ) -> Option<(Opening, Record, oneshot::Sender<()>)> {
        let id = RecordingId((self.ids)());
        let (open, opening, record, tell) = self.make(id, event, first, self.config.mode)?;
        self.open = Some(open);
        self.wanted = None;
        Some((opening, record, tell))
    }

    /// A clip with its task, which waits for the row.
    fn make(
        &mut self,
        id: RecordingId,
        event: Option<EventId>,
        first: Pts,
        mode: RecordMode,
    ) -> Option<(Open, Opening, Record, oneshot::Sender<()>)> {
        let stream = self.stream.as_ref()?;
        if !self.store.disk.takes_clips() {
            return None;
        }
        let file = self.store.spool.clip_path(&self.camera, id);
        let path = format!("{}/{id}.mp4", self.camera);
        let audio = self.config.audio && stream.caps.audio.is_some();
        let info = StreamInfo {
            has_audio: audio,
            ..stream.info.clone()
        };
        let started = stream.anchor.mono(first);
        let opening = Opening {
            id,
            event,
            started,
            mode,
            info,
            path,
        };
        let record = records::recording_opened(RecordId((self.ids)()), &self.camera, &opening);
        let (tell, committed) = oneshot::channel();
        let (handle, task) = clip(ClipJob {
            clip: closed(&self.camera, &opening),
            file,
            caps: stream.caps.clone(),
            audio,
            committed,
            store: self.store.clone(),
            journal: self.journal.clone(),
            ids: self.ids.clone(),
        });
        self.tasks.spawn(task);
        let open = Open {
            handle,
            id,
            event,
            first,
        };
        Some((open, opening, record, tell))
    }

    fn feed_manual(&mut self, packet: &Packet) {
        let Some((open, until)) = &self.manual else {
            return;
        };
        let over = packet.track == Track::Video && packet.pts >= *until;
        if !over && open.handle.push(packet.clone()) == Handed::Taken {
            return;
        }
        if !over {
            tracing::warn!(camera = %self.camera, recording = %open.id, "a recording on command ends early");
        }
        self.manual = None;
    }

    fn feed(&mut self, packet: &Packet) {
        let Some(open) = &self.open else { return };
        match open.handle.push(packet.clone()) {
            Handed::Taken => return,
            Handed::Full => {
                tracing::warn!(camera = %self.camera, "the disk cannot follow, the clip is cut")
            }
            Handed::Failed => self.not_before = packet.pts + RETRY_AFTER,
        }
        self.wanted = open.event;
        self.open = None;
    }
}

/// Segments are cut at the first key frame after their length.
fn segment_is_full(now: Pts, first: Pts, length: Duration) -> bool {
    now.since(first) >= length
}

fn closed(camera: &CameraId, o: &Opening) -> ClosedClip {
    ClosedClip {
        id: o.id,
        camera: camera.to_string(),
        event: o.event,
        started: o.started,
        mode: o.mode.as_str().into(),
        codec: o.info.codec.to_string(),
        width: o.info.width,
        height: o.info.height,
        has_audio: o.info.has_audio,
        path: o.path.clone(),
        rev: 1,
    }
}
