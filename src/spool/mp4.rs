//! A bounded reader of MP4 boxes: what in this file can be played, and up to which byte?
//!
//! Reads through `Read + Seek` and trusts nothing: every size is checked against the file before it is used, only
//! index boxes up to [`MAX_INDEX`] bytes are loaded, the number of boxes is bounded, and no claim in the file decides an
//! allocation. Never panics, whatever the bytes.
//!
//! The clip writer's file while it grows, and after it was closed:
//!
//! ```text
//! ftyp free mdat moov(mvex)  free mdat moof  free mdat moof  free mdat…      growing: data first, then its index
//! ftyp free mdat────────────────────────────────────────────────────── moov  closed: one mdat over everything
//! ```
//!
//! Closing renames the inner `moov` to `hoov`, widens the first `mdat` and appends the new `moov`; a cut between these
//! steps hides the index inside `mdat`. [`survey`] finds it again and says which bytes to put back.

use std::io::{self, Read, Seek, SeekFrom};
use std::time::Duration;

use super::mp4_index::{self, Movie};

/// The largest `moov` or `moof` that is read, in bytes. A day of 30 pictures a second needs about 40 MiB; clips are
/// minutes long.
pub const MAX_INDEX: u64 = 32 << 20;

/// The most top-level boxes that are looked at: more than a day of fragments of one second.
pub const MAX_BOXES: u32 = 400_000;

/// What a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackKind {
    /// Handler `vide`.
    Video,
    /// Handler `soun`.
    Audio,
    /// Any other handler.
    Other,
}

/// One track as its index tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// `track_ID`.
    pub id: u32,
    /// What it carries.
    pub kind: TrackKind,
    /// Pixels of its first sample entry; zero where it is no picture.
    pub width: u16,
    /// Pixels of its first sample entry; zero where it is no picture.
    pub height: u16,
    /// Type of its first sample entry, such as `avc1`, `hvc1` or `mp4a`.
    pub codec: [u8; 4],
    /// Ticks a second; never zero.
    pub timescale: u32,
    /// Samples in all complete fragments.
    pub samples: u64,
    /// Sum of their durations in ticks.
    pub ticks: u64,
}

impl Track {
    /// Length of the track's samples.
    pub fn duration(&self) -> Duration {
        let nanos = u128::from(self.ticks) * 1_000_000_000 / u128::from(self.timescale.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// How far the writer of a file had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No complete index: nothing can be played.
    Nothing,
    /// A first index and perhaps fragments.
    Growing,
    /// One index over everything, at the front or the end.
    Finalised,
}

/// Bytes to put at an offset so that a hidden index is seen again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// Where.
    pub offset: u64,
    /// What, at most 16 bytes.
    pub bytes: Vec<u8>,
}

/// What [`survey`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Length of the file in bytes.
    pub file_len: u64,
    /// How far its writer had come.
    pub stage: Stage,
    /// Everything before this byte can be played; what follows is torn. Zero where nothing can be.
    pub playable_end: u64,
    /// Complete `moof` boxes before `playable_end`.
    pub fragments: u32,
    /// The tracks, samples after `playable_end` not counted.
    pub tracks: Vec<Track>,
    /// To be written (in any order) before the file is cut at `playable_end`.
    pub patches: Vec<Patch>,
}

impl Survey {
    /// The first video track with samples.
    pub fn video(&self) -> Option<&Track> {
        self.tracks
            .iter()
            .find(|t| t.kind == TrackKind::Video && t.samples > 0)
    }
}

#[derive(Debug, Clone, Copy)]
struct Header {
    at: u64,
    kind: [u8; 4],
    head: u64,
    end: u64,
    /// The size field is zero: "up to the end of the file", or not written yet.
    open: bool,
}

/// Walks the file and tells what can be played.
///
/// # Errors
/// Only those of the reader; hostile or torn bytes are an answer, not an error.
pub fn survey<R: Read + Seek>(reader: &mut R) -> io::Result<Survey> {
    let file_len = reader.seek(SeekFrom::End(0))?;
    let mut walk = Walk {
        reader,
        len: file_len,
        movie: Movie::default(),
        stage: Stage::Nothing,
        playable_end: 0,
        fragments: 0,
        data_before: false,
        awaiting: None,
        patches: Vec::new(),
    };
    if let Some(wide) = walk.run(0, true)?
        && walk.stage == Stage::Nothing
        && let Some(hidden) = walk.find_hidden(wide)?
    {
        walk.unhide(wide, hidden);
        walk.run(hidden, false)?;
    }
    if walk.stage == Stage::Nothing {
        walk.patches.clear();
    }
    Ok(Survey {
        file_len,
        stage: walk.stage,
        playable_end: walk.playable_end,
        fragments: walk.fragments,
        tracks: walk.movie.tracks,
        patches: walk.patches,
    })
}

struct Walk<'r, R> {
    reader: &'r mut R,
    len: u64,
    movie: Movie,
    stage: Stage,
    playable_end: u64,
    fragments: u32,
    /// A complete `mdat` that no index has claimed yet (our writer's order).
    data_before: bool,
    /// A `moof` whose `mdat` has not come yet (the usual order).
    awaiting: Option<Movie>,
    patches: Vec<Patch>,
}

impl<R: Read + Seek> Walk<'_, R> {
    /// Walks top-level boxes from `at`; returns the first `mdat`.
    fn run(&mut self, mut at: u64, need_ftyp: bool) -> io::Result<Option<Header>> {
        let mut first_mdat = None;
        for n in 0..MAX_BOXES {
            let Some(h) = self.header(at)? else { break };
            if need_ftyp && n == 0 && h.kind != *b"ftyp" {
                break;
            }
            if h.kind == *b"mdat" && first_mdat.is_none() {
                first_mdat = Some(h);
            }
            if h.open || h.end > self.len || !self.enter(h)? {
                break;
            }
            at = h.end;
        }
        Ok(first_mdat)
    }

    /// Takes one complete box in; false ends the walk.
    fn enter(&mut self, h: Header) -> io::Result<bool> {
        match &h.kind {
            b"mdat" => match self.awaiting.take() {
                Some(movie) => self.commit_fragment(movie, h.end),
                None => self.data_before = true,
            },
            b"moov" | b"hoov" => {
                if self.stage != Stage::Nothing {
                    return Ok(false);
                }
                let Some(body) = self.load(h)? else {
                    return Ok(false);
                };
                let Some(movie) = mp4_index::movie(&body, self.len) else {
                    return Ok(false);
                };
                if h.kind == *b"hoov" {
                    self.patches.push(Patch {
                        offset: h.at + 4,
                        bytes: b"moov".to_vec(),
                    });
                }
                self.stage = if movie.fragmented {
                    Stage::Growing
                } else {
                    Stage::Finalised
                };
                self.playable_end = h.end;
                self.data_before = false;
                self.movie = movie;
            }
            b"moof" => {
                if self.stage != Stage::Growing || self.awaiting.is_some() {
                    return Ok(false);
                }
                let Some(body) = self.load(h)? else {
                    return Ok(false);
                };
                let mut movie = self.movie.clone();
                if mp4_index::add_fragment(&mut movie, &body).is_none() {
                    return Ok(false);
                }
                if std::mem::take(&mut self.data_before) {
                    self.commit_fragment(movie, h.end);
                } else {
                    self.awaiting = Some(movie);
                }
            }
            // The data of an index at the front; anything printable is left in place.
            kind if !kind.iter().all(|b| (0x20..0x7f).contains(b)) => return Ok(false),
            _ => {}
        }
        // An index at the front covers the data that follows it.
        if self.stage == Stage::Finalised && h.kind == *b"mdat" {
            self.playable_end = h.end;
        }
        Ok(true)
    }

    fn commit_fragment(&mut self, movie: Movie, end: u64) {
        self.movie = movie;
        self.playable_end = end;
        self.fragments += 1;
    }

    fn header(&mut self, at: u64) -> io::Result<Option<Header>> {
        if self.len.saturating_sub(at) < 8 {
            return Ok(None);
        }
        self.reader.seek(SeekFrom::Start(at))?;
        let mut b = [0u8; 16];
        self.reader.read_exact(&mut b[..8])?;
        let short = u32::from_be_bytes([b[0], b[1], b[2], b[3]]);
        let kind = [b[4], b[5], b[6], b[7]];
        let (head, size) = match short {
            0 => (8, self.len - at),
            1 if self.len - at >= 16 => {
                self.reader.read_exact(&mut b[8..])?;
                let mut long = [0u8; 8];
                long.copy_from_slice(&b[8..]);
                (16, u64::from_be_bytes(long))
            }
            1 => return Ok(None),
            n => (8, u64::from(n)),
        };
        let Some(end) = at.checked_add(size).filter(|_| size >= head) else {
            return Ok(None);
        };
        Ok(Some(Header {
            at,
            kind,
            head,
            end,
            open: short == 0,
        }))
    }

    /// Reads the body of a box that lies in the file and is small enough to be an index.
    fn load(&mut self, h: Header) -> io::Result<Option<Vec<u8>>> {
        let size = h.end - h.at - h.head;
        if size > MAX_INDEX || h.end > self.len {
            return Ok(None);
        }
        self.reader.seek(SeekFrom::Start(h.at + h.head))?;
        let mut body = Vec::new();
        self.reader.by_ref().take(size).read_to_end(&mut body)?;
        Ok(Some(body).filter(|b| b.len() as u64 == size))
    }

    /// Looks inside the first `mdat` for the index that closing had hidden.
    fn find_hidden(&mut self, wide: Header) -> io::Result<Option<u64>> {
        const CHUNK: usize = 64 * 1024;
        const PATTERN: usize = 16;
        let start = wide.at + wide.head;
        self.reader.seek(SeekFrom::Start(start))?;
        let mut window: Vec<u8> = Vec::with_capacity(CHUNK + PATTERN);
        let mut base = start;
        loop {
            let got = self
                .reader
                .by_ref()
                .take(CHUNK as u64)
                .read_to_end(&mut window)?;
            for i in 4..window.len().saturating_sub(11) {
                let name = &window[i..i + 4];
                if (name == b"hoov" || name == b"moov") && &window[i + 8..i + 12] == b"mvhd" {
                    return Ok(Some(base + i as u64 - 4));
                }
            }
            if got == 0 {
                return Ok(None);
            }
            let keep = window.len().min(PATTERN - 1);
            base += (window.len() - keep) as u64;
            window.drain(..window.len() - keep);
        }
    }

    /// Notes how the first `mdat` must be narrowed so that the box at `hidden` is at the top level again.
    fn unhide(&mut self, wide: Header, hidden: u64) {
        let (at, bytes) = if wide.head == 16 {
            let mut b = b"\0\0\0\x08free".to_vec();
            let size = u32::try_from(hidden - wide.at - 8).unwrap_or(0);
            b.extend(size.to_be_bytes());
            b.extend(b"mdat");
            (wide.at, b)
        } else {
            let size = u32::try_from(hidden - wide.at).unwrap_or(0);
            (wide.at, size.to_be_bytes().to_vec())
        };
        self.patches.push(Patch { offset: at, bytes });
        self.data_before = true;
    }
}

#[cfg(test)]
#[path = "mp4_tests.rs"]
mod tests;
