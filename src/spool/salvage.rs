//! Saves what a crash or power cut left: the torn end of a `.part` is cut, what remains becomes a closed clip.
//!
//! Only the unfinished fragment (about a second) and what was not yet flushed is lost. The file is never copied, so a
//! full disk is no obstacle. Idempotent: a crash in the middle is salvaged again. Blocking; runs at start-up.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::mp4::{self, Stage, TrackKind};
use super::{SpoolError, failed, sync_dir, unlink};
use crate::model::{Sha256, VideoCodec};

/// What became of a `.part`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is a clip now.
    Salvaged(Salvaged),
    /// No picture was in it; the file is removed.
    Nothing {
        /// Length of what was removed.
        bytes: u64,
    },
}

/// A clip made from a `.part`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salvaged {
    /// The closed file.
    pub path: PathBuf,
    /// Its length.
    pub size_bytes: u64,
    /// Length of its video track.
    pub duration: Duration,
    /// Video samples in it.
    pub frames: u64,
    /// Digest of the whole file.
    pub sha256: Sha256,
    /// False where the writer had closed the file and only the rename was missing.
    pub truncated: bool,
    /// Bytes that were cut off.
    pub cut_bytes: u64,
    /// Codec, width, height, and whether there is sound.
    pub picture: (VideoCodec, u32, u32, bool),
}

/// Turns `<name>.mp4.part` into `<name>.mp4`. Where only the closed file is there (the process died between the rename
/// and its row), that one is surveyed in its place.
///
/// # Errors
/// [`SpoolError::Exists`] where both files exist or the name does not end in `.part`; otherwise what the file system
/// says.
pub fn salvage(part: &Path) -> Result<Outcome, SpoolError> {
    let path = part.with_extension("");
    let dir = part.parent().unwrap_or(Path::new("/"));
    let there = |p: &Path| fs::symlink_metadata(p).is_ok();
    if part.extension().is_none_or(|e| e != "part") || (there(&path) && there(part)) {
        return Err(SpoolError::Exists { path });
    }
    let part: &Path = if there(&path) { &path } else { part };
    let file = File::options()
        .read(true)
        .write(true)
        .open(part)
        .map_err(failed("open", part))?;
    let survey = mp4::survey(&mut io::BufReader::new(&file)).map_err(failed("read", part))?;
    let Some(video) = survey.video() else {
        drop(file);
        let bytes = unlink(part)?;
        sync_dir(dir)?;
        return Ok(Outcome::Nothing { bytes });
    };
    // Everything that the patched index needs lies before the cut, so the order of these writes does not matter: a
    // crash between them leaves a file that is surveyed the same way.
    for patch in &survey.patches {
        file.write_all_at(&patch.bytes, patch.offset)
            .map_err(failed("mend", part))?;
    }
    file.set_len(survey.playable_end)
        .and_then(|()| file.sync_all())
        .map_err(failed("cut", part))?;
    fs::rename(part, &path).map_err(failed("rename", part))?;
    sync_dir(dir)?;
    let (sha256, size_bytes) = File::open(&path)
        .and_then(Sha256::of_reader)
        .map_err(failed("read", &path))?;
    Ok(Outcome::Salvaged(Salvaged {
        size_bytes,
        duration: video.duration(),
        frames: video.samples,
        sha256,
        truncated: survey.stage != Stage::Finalised,
        cut_bytes: survey.file_len - survey.playable_end,
        picture: (
            match &video.codec {
                b"hvc1" | b"hev1" => VideoCodec::H265,
                _ => VideoCodec::H264,
            },
            video.width.into(),
            video.height.into(),
            survey
                .tracks
                .iter()
                .any(|t| t.kind == TrackKind::Audio && t.samples > 0),
        ),
        path,
    }))
}
