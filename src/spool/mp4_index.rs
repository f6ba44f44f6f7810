//! The inside of `moov` and `moof`: tracks, sample counts, durations. Works on a slice that is already in memory;
//! every step is bounded by that slice.

use super::mp4::{Track, TrackKind};

/// The most tracks that are kept; a clip has two.
const MAX_TRACKS: usize = 16;

/// Tracks and the defaults that fragments refer to.
#[derive(Debug, Clone, Default)]
pub(super) struct Movie {
    pub tracks: Vec<Track>,
    /// `mvex` is there: fragments may follow.
    pub fragmented: bool,
    /// (track id, default sample duration) from `trex`.
    defaults: Vec<(u32, u32)>,
}

/// Reads the body of a `moov`; `None` where it is not one, or where it points outside the file.
pub(super) fn movie(body: &[u8], file_len: u64) -> Option<Movie> {
    let mut movie = Movie::default();
    child(body, b"mvhd")?;
    for (kind, data) in Boxes(body) {
        match kind {
            b"trak" if movie.tracks.len() < MAX_TRACKS => movie.tracks.push(track(data, file_len)?),
            b"mvex" => {
                movie.fragmented = true;
                for (kind, trex) in Boxes(data).take(MAX_TRACKS) {
                    if kind == b"trex" {
                        movie.defaults.push((u32_at(trex, 4)?, u32_at(trex, 12)?));
                    }
                }
            }
            _ => {}
        }
    }
    (!movie.tracks.is_empty()).then_some(movie)
}

/// Adds what the body of a `moof` tells; `None` where it is malformed.
pub(super) fn add_fragment(movie: &mut Movie, body: &[u8]) -> Option<()> {
    child(body, b"mfhd")?;
    for (kind, traf) in Boxes(body) {
        if kind != b"traf" {
            continue;
        }
        let (id, default) = fragment_header(child(traf, b"tfhd")?)?;
        let default = default.or_else(|| {
            let trex = movie.defaults.iter().find(|(t, _)| *t == id);
            trex.map(|(_, d)| *d)
        });
        let track = movie.tracks.iter_mut().find(|t| t.id == id)?;
        for (kind, run) in Boxes(traf) {
            if kind == b"trun" {
                let (samples, ticks) = track_run(run, default)?;
                track.samples = track.samples.saturating_add(samples);
                track.ticks = track.ticks.saturating_add(ticks);
            }
        }
    }
    Some(())
}

fn track(trak: &[u8], file_len: u64) -> Option<Track> {
    let tkhd = child(trak, b"tkhd")?;
    let id = u32_at(tkhd, if tkhd.first()? == &1 { 20 } else { 12 })?;
    let mdia = child(trak, b"mdia")?;
    let mdhd = child(mdia, b"mdhd")?;
    let timescale = u32_at(mdhd, if mdhd.first()? == &1 { 20 } else { 12 })?;
    let kind = match child(mdia, b"hdlr")?.get(8..12)? {
        b"vide" => TrackKind::Video,
        b"soun" => TrackKind::Audio,
        _ => TrackKind::Other,
    };
    let stbl = child(child(mdia, b"minf")?, b"stbl")?;
    let (codec, entry) = Boxes(child(stbl, b"stsd")?.get(8..)?).next()?;
    let (mut samples, mut ticks) = (0u64, 0u64);
    if let Some(stts) = child(stbl, b"stts") {
        let entries = stts.get(8..)?.as_chunks::<8>().0.iter();
        for e in entries.take(u32_at(stts, 4)? as usize) {
            let count = u64::from(u32_at(e, 0)?);
            samples = samples.saturating_add(count);
            ticks = ticks.saturating_add(count.saturating_mul(u64::from(u32_at(e, 4)?)));
        }
    }
    let inside = chunks_end(stbl)?.is_none_or(|last| last < file_len);
    (timescale > 0 && inside).then_some(Track {
        id,
        kind,
        width: pixels(kind, entry, 24),
        height: pixels(kind, entry, 26),
        codec: *codec,
        timescale,
        samples,
        ticks,
    })
}

/// A side of a visual sample entry.
fn pixels(kind: TrackKind, entry: &[u8], at: usize) -> u16 {
    let two = entry.get(at..at + 2).and_then(|b| b.first_chunk::<2>());
    match (kind, two) {
        (TrackKind::Video, Some(two)) => u16::from_be_bytes(*two),
        _ => 0,
    }
}

/// The greatest chunk offset; `Some(None)` where there is no chunk.
fn chunks_end(stbl: &[u8]) -> Option<Option<u64>> {
    if let Some(stco) = child(stbl, b"stco") {
        let all = stco.get(8..)?.as_chunks::<4>().0.iter();
        return Some(all.map(|c| u64::from(u32::from_be_bytes(*c))).max());
    }
    if let Some(co64) = child(stbl, b"co64") {
        let all = co64.get(8..)?.as_chunks::<8>().0.iter();
        return Some(all.map(|c| u64::from_be_bytes(*c)).max());
    }
    Some(None)
}

/// Track id and default sample duration of a `tfhd`.
fn fragment_header(tfhd: &[u8]) -> Option<(u32, Option<u32>)> {
    let flags = u32_at(tfhd, 0)? & 0x00ff_ffff;
    let mut at = 8;
    for (flag, size) in [(0x1, 8), (0x2, 4)] {
        if flags & flag != 0 {
            at += size;
        }
    }
    let default = if flags & 0x8 != 0 {
        Some(u32_at(tfhd, at)?)
    } else {
        None
    };
    Some((u32_at(tfhd, 4)?, default))
}

/// Samples and ticks of a `trun`.
fn track_run(trun: &[u8], default: Option<u32>) -> Option<(u64, u64)> {
    let flags = u32_at(trun, 0)? & 0x00ff_ffff;
    let count = u32_at(trun, 4)? as usize;
    let start = 8 + [0x1, 0x4].iter().filter(|f| flags & **f != 0).count() * 4;
    let fields = [0x100, 0x200, 0x400, 0x800];
    let stride = fields.iter().filter(|f| flags & **f != 0).count() * 4;
    if count.checked_mul(stride)?.checked_add(start)? > trun.len() {
        return None;
    }
    let ticks = if flags & 0x100 != 0 {
        let all = trun[start..].chunks_exact(stride).take(count);
        all.map(|e| u32_at(e, 0).map_or(0, u64::from)).sum()
    } else {
        u64::from(default.unwrap_or(0)).saturating_mul(count as u64)
    };
    Some((count as u64, ticks))
}

/// The boxes in a slice; ends at the first that does not fit.
struct Boxes<'a>(&'a [u8]);

impl<'a> Iterator for Boxes<'a> {
    type Item = (&'a [u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (head, size) = match u32_at(self.0, 0)? {
            0 => (8, self.0.len()),
            1 => {
                let long = self.0.get(8..16)?.first_chunk::<8>()?;
                (16, usize::try_from(u64::from_be_bytes(*long)).ok()?)
            }
            n => (8, n as usize),
        };
        let kind = self.0.get(4..8)?.first_chunk::<4>()?;
        let body = self.0.get(head..size)?;
        self.0 = &self.0[size..];
        Some((kind, body))
    }
}

fn child<'a>(body: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    Boxes(body).find(|(k, _)| *k == kind).map(|(_, b)| b)
}

fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    let four = b.get(at..at.checked_add(4)?)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*four))
}
