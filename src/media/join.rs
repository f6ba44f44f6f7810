//! Joins pieces of clips into one playable MP4 without transcoding: access units are taken out of their files, their times
//! are moved so that each piece follows the one before, and the clip writer writes them.
//!
//! One file holds one picture size and codec. Where they change, joining ends with an error, or goes on in another file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gstreamer as gst;

use super::clip::{ClipError, ClipFile, ClipWriter, Pushed};
use super::demux::{DemuxError, Reader};
use super::{Packet, Track, TrackCaps};
use crate::model::Sha256;
use crate::recording::joining::Piece;
use crate::time::{Pts, Wall};

/// Clips are known to a millisecond; frames are never this close.
const TOLERANCE_US: i64 = 5_000;
/// What may wait for the disk; then the reader waits.
const AHEAD: u64 = 8 << 20;
/// A group of pictures that is searched for its key frame is smaller.
const MAX_GOP: usize = 256 << 20;
/// A picture whose length nobody says.
const USUAL_FRAME: Duration = Duration::from_millis(40);
/// The disk takes nothing for so long: given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why clips cannot be joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Two pictures do not fit into one file.
    #[error(
        "the picture changes from {before} to {after} at {at}: use --split to get a file for each"
    )]
    Changed {
        before: String,
        after: String,
        at: String,
    },
    /// It is there already.
    #[error("{0} exists already: remove it or choose another name")]
    Exists(PathBuf),
    /// The disk does not follow.
    #[error("the disk takes nothing more")]
    Stuck,
    /// No frame lies in the time that is asked for.
    #[error("no picture in the time asked for")]
    Nothing,
    #[error(transparent)]
    Read(#[from] DemuxError),
    #[error(transparent)]
    Write(#[from] ClipError),
}

/// A file that was made.
#[derive(Debug, Clone)]
pub struct Joined {
    /// Where.
    pub path: PathBuf,
    /// Bytes.
    pub size_bytes: u64,
    /// Of its picture track.
    pub duration: Duration,
    /// Pictures.
    pub frames: u64,
    /// When its first picture was captured.
    pub begins: Wall,
    /// Clips in it.
    pub clips: usize,
    /// Codec and size, e.g. `h264 1920x1080`.
    pub format: String,
    /// Sound of some clip is missing.
    pub without_audio: bool,
    /// Of the file.
    pub sha256: Sha256,
}

struct Open {
    writer: ClipWriter,
    path: PathBuf,
    caps: TrackCaps,
    /// The next piece begins here.
    end: Pts,
    begins: Wall,
    clips: usize,
    without_audio: bool,
}

/// Joins pieces in their order. What is not finished leaves nothing behind.
pub struct Joiner {
    path: PathBuf,
    split: bool,
    open: Option<Open>,
    done: Vec<Joined>,
}

impl Joiner {
    /// Writes to `path`, which ends in `.mp4`; with `split` to further files beside it.
    pub fn new(path: &Path, split: bool) -> Joiner {
        Joiner {
            path: path.to_owned(),
            split,
            open: None,
            done: Vec::new(),
        }
    }

    /// Appends a piece. Blocks until it is read.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn add(&mut self, piece: &Piece<PathBuf>) -> Result<(), JoinError> {
        let mut reader = Reader::open(&piece.key)?;
        if let Some(open) = &self.open
            && !same_picture(&open.caps.video, &reader.caps.video)
        {
            if !self.split {
                return Err(JoinError::Changed {
                    before: format(&open.caps.video),
                    after: format(&reader.caps.video),
                    at: piece.from.rfc3339(),
                });
            }
            self.close()?;
        }
        let mut cut = Cut::new(piece);
        let mut base = None;
        while let Some(packet) = reader.packet()? {
            let taken = match cut.take(packet)? {
                Step::Wait => continue,
                Step::End => break,
                Step::Take(packets) => packets,
            };
            for packet in taken {
                self.push(&reader.caps, piece, &mut base, packet)?;
            }
        }
        if let Some(open) = &mut self.open
            && base.is_some()
        {
            open.clips += 1;
        }
        Ok(())
    }

    fn push(
        &mut self,
        caps: &TrackCaps,
        piece: &Piece<PathBuf>,
        base: &mut Option<(Pts, Pts)>,
        packet: Packet,
    ) -> Result<(), JoinError> {
        if self.open.is_none() {
            let path = self.next_path();
            if path.exists() {
                return Err(JoinError::Exists(path));
            }
            self.open = Some(Open {
                writer: ClipWriter::open(&path, caps, true)?,
                path,
                caps: caps.clone(),
                end: Pts(0),
                begins: piece.start + Duration::from_nanos(packet.pts.0),
                clips: 0,
                without_audio: false,
            });
        }
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        if packet.track == Track::Audio && !same_sound(&open.caps, caps) {
            open.without_audio = true;
            return Ok(());
        }
        let (from, to) = *base.get_or_insert((packet.pts, open.end));
        if packet.pts < from {
            // Sound from before the first picture, or a picture that leads it.
            return Ok(());
        }
        let moved = Packet {
            pts: to + packet.pts.since(from),
            ..packet
        };
        if moved.track == Track::Video {
            let length = moved.duration().unwrap_or(USUAL_FRAME);
            open.end = open.end.max(moved.pts + length);
        }
        wait_for_room(&open.writer)?;
        match open.writer.push(&moved)? {
            Pushed::Taken | Pushed::Skipped => Ok(()),
            Pushed::Dropped => Err(JoinError::Stuck),
        }
    }

    fn next_path(&self) -> PathBuf {
        match self.done.len() {
            0 => self.path.clone(),
            n => {
                let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
                self.path.with_file_name(format!("{stem}-{}.mp4", n + 1))
            }
        }
    }

    fn close(&mut self) -> Result<(), JoinError> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let part = part_of(&open.path);
        let file: ClipFile = open.writer.finish().inspect_err(|_| {
            let _ = std::fs::remove_file(&part);
        })?;
        self.done.push(Joined {
            size_bytes: file.size_bytes,
            duration: file.duration,
            frames: file.frames,
            begins: open.begins,
            clips: open.clips.max(1),
            format: format(&open.caps.video),
            without_audio: open.without_audio,
            sha256: file.sha256,
            path: open.path,
        });
        Ok(())
    }

    /// Closes the last file. Blocks.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn finish(mut self) -> Result<Vec<Joined>, JoinError> {
        self.close()?;
        if self.done.is_empty() {
            return Err(JoinError::Nothing);
        }
        Ok(std::mem::take(&mut self.done))
    }
}

impl Drop for Joiner {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            let part = part_of(&open.path);
            drop(open);
            let _ = std::fs::remove_file(part);
        }
    }
}

fn wait_for_room(writer: &ClipWriter) -> Result<(), JoinError> {
    let step = Duration::from_millis(2);
    for _ in 0..PATIENCE.as_millis() / step.as_millis() {
        if writer.queued() < AHEAD {
            return Ok(());
        }
        std::thread::sleep(step);
    }
    Err(JoinError::Stuck)
}

enum Step {
    /// Perhaps wanted later.
    Wait,
    /// Wanted, in this order.
    Take(Vec<Packet>),
    /// Nothing more is.
    End,
}

/// Cuts a piece out of its clip: from the key frame at or before its beginning, up to its end.
struct Cut {
    start: Wall,
    from: Wall,
    until: Wall,
    /// From the newest key frame on, while the beginning is not reached.
    held: Vec<Packet>,
    bytes: usize,
    begun: bool,
}

impl Cut {
    fn new(piece: &Piece<PathBuf>) -> Cut {
        Cut {
            start: piece.start,
            from: piece.from,
            until: piece.until,
            held: Vec::new(),
            bytes: 0,
            begun: false,
        }
    }

    fn take(&mut self, packet: Packet) -> Result<Step, JoinError> {
        let at = self.start + Duration::from_nanos(packet.pts.0);
        let video = packet.track == Track::Video;
        if at.since_us(self.until) >= -TOLERANCE_US {
            return Ok(match (video, self.begun) {
                (true, _) => Step::End,
                (false, _) => Step::Wait,
            });
        }
        if self.begun {
            return Ok(Step::Take(vec![packet]));
        }
        let before = at.since_us(self.from) <= TOLERANCE_US;
        if video && packet.key && before {
            self.held.clear();
            self.bytes = 0;
        }
        self.bytes += packet.size();
        if self.bytes > MAX_GOP {
            return Err(DemuxError::Broken("no key frame for too long".into()).into());
        }
        self.held.push(packet);
        if before && !video {
            return Ok(Step::Wait);
        }
        if before && self.from > self.start {
            return Ok(Step::Wait);
        }
        self.begun = true;
        Ok(Step::Take(self.key_on()))
    }

    /// What is held, without the sound before the first picture.
    fn key_on(&mut self) -> Vec<Packet> {
        let held = std::mem::take(&mut self.held);
        held.into_iter()
            .skip_while(|p| !(p.key && p.track == Track::Video))
            .collect()
    }
}

fn field<T: for<'a> gst::glib::value::FromValue<'a>>(caps: &gst::Caps, name: &str) -> Option<T> {
    caps.structure(0)?.get::<T>(name).ok()
}

/// As the clip writer names what it has not finished.
fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// The same decoder can go on.
fn same_picture(a: &gst::Caps, b: &gst::Caps) -> bool {
    let name = |c: &gst::Caps| c.structure(0).map(|s| s.name().to_string());
    name(a) == name(b)
        && field::<i32>(a, "width") == field::<i32>(b, "width")
        && field::<i32>(a, "height") == field::<i32>(b, "height")
        && codec_data(a) == codec_data(b)
}

fn same_sound(a: &TrackCaps, b: &TrackCaps) -> bool {
    match (&a.audio, &b.audio) {
        (Some(a), Some(b)) => codec_data(a) == codec_data(b),
        _ => false,
    }
}

fn codec_data(caps: &gst::Caps) -> Option<Vec<u8>> {
    let buffer = field::<gst::Buffer>(caps, "codec_data")?;
    Some(buffer.map_readable().ok()?.to_vec())
}

fn format(caps: &gst::Caps) -> String {
    let codec = match caps.structure(0).map(|s| s.name().as_str()) {
        Some("video/x-h264") => "h264",
        Some("video/x-h265") => "h265",
        _ => "video",
    };
    let (width, height) = (field::<i32>(caps, "width"), field::<i32>(caps, "height"));
    format!("{codec} {}x{}", width.unwrap_or(0), height.unwrap_or(0))
}
