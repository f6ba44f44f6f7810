//! Where clips lie: plain files below one directory, named by camera and recording id only.
//!
//! ```text
//! <dir>/<camera-id>/<recording-uuid>.mp4         closed, fsynced
//! <dir>/<camera-id>/<recording-uuid>.mp4.part    being written, or left by a crash: see [`salvage`]
//! <dir>/<camera-id>/<snapshot-uuid>.jpg
//! ```
//!
//! No path comes from outside: a [`CameraId`] and a UUID cannot leave the directory. The rows in SQLite decide what a
//! file means; [`Spool::scan`] lists what is there and judges nothing.

pub mod mp4;
mod mp4_index;
pub mod salvage;
pub mod whole;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::config::SpoolConfig;
use crate::model::{CameraId, RecordingId, Retry};
use crate::units::ByteSize;

/// The most files that one [`Spool::scan`] reports.
pub const MAX_SCAN: usize = 200_000;

/// Diagnostic bundles lie here; no camera id begins so.
pub const DIAG_DIR: &str = "_diag";

/// Why the spool refuses.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The directory lies on the root file system though a mount is required: recording here would fill the SD card.
    #[error(
        "{dir} is not on a mounted disk: mount it (see /etc/fstab), or set spool.require_mount = false to record on \
         the system disk"
    )]
    NotMounted {
        /// The configured directory.
        dir: PathBuf,
    },
    /// The file system is full; delete something and try again.
    #[error("no space left while working on {path}")]
    Full {
        /// The file concerned.
        path: PathBuf,
    },
    /// Both the part and the closed file exist; neither is touched.
    #[error("{path} exists already")]
    Exists {
        /// The closed file.
        path: PathBuf,
    },
    /// Anything else the file system says.
    #[error("{what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file concerned.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl SpoolError {
    /// What the caller can do.
    pub fn retry(&self) -> Retry {
        match self {
            SpoolError::Exists { .. } => Retry::Never,
            SpoolError::NotMounted { .. } | SpoolError::Full { .. } | SpoolError::Io { .. } => {
                Retry::Later
            }
        }
    }
}

/// Builds the error of a failed file operation.
pub(crate) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SpoolError {
    let path = path.to_owned();
    move |source| {
        if source.kind() == io::ErrorKind::StorageFull {
            SpoolError::Full { path }
        } else {
            SpoolError::Io { what, path, source }
        }
    }
}

/// Free and total space of the file system below the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What this process may still write.
    pub free: ByteSize,
    /// Size of the file system.
    pub total: ByteSize,
    /// Nothing can be written.
    pub read_only: bool,
    /// Files that can still be made; `None` where the file system makes room for them as it goes.
    pub inodes_free: Option<u64>,
}

/// What a file in the spool is by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// `.mp4`
    Clip,
    /// `.mp4.part`
    Part,
    /// `.jpg`
    Picture,
    /// Not a name that the agent gives; never touched.
    Foreign,
}

/// One file that [`Spool::scan`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it lies.
    pub path: PathBuf,
    /// By its directory; `None` where that is no camera id.
    pub camera: Option<CameraId>,
    /// By its stem; `None` for [`FileKind::Foreign`].
    pub id: Option<RecordingId>,
    /// By its name.
    pub kind: FileKind,
    /// Length of the file.
    pub bytes: u64,
}

/// The spool directory.
#[derive(Debug, Clone)]
pub struct Spool {
    dir: PathBuf,
    require_mount: bool,
}

impl Spool {
    /// Names the directory; checks and makes nothing yet (the disk may come later).
    pub fn new(config: &SpoolConfig) -> Spool {
        Spool {
            dir: config.dir.clone(),
            require_mount: config.require_mount,
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Checks the mount and makes the directory (mode 0700) where it is missing.
    ///
    /// # Errors
    /// [`SpoolError::NotMounted`] before anything is created; else what the file system says.
    pub fn open(config: &SpoolConfig) -> Result<Spool, SpoolError> {
        let spool = Spool::new(config);
        spool.check_mount()?;
        make_dir(&spool.dir)?;
        Ok(spool)
    }

    /// Says whether the required disk is (still) there. Call it before each new clip: a stick may be pulled.
    ///
    /// # Errors
    /// [`SpoolError::NotMounted`].
    pub fn check_mount(&self) -> Result<(), SpoolError> {
        if !self.require_mount {
            return Ok(());
        }
        let root = fs::metadata("/").map_err(failed("look at", Path::new("/")))?;
        let existing = self.dir.ancestors().find_map(|p| fs::metadata(p).ok());
        match existing {
            Some(m) if m.dev() != root.dev() => Ok(()),
            _ => Err(SpoolError::NotMounted {
                dir: self.dir.clone(),
            }),
        }
    }

    /// The directory of a camera, made where it is missing.
    ///
    /// # Errors
    /// What the file system says.
    pub fn prepare(&self, camera: &CameraId) -> Result<PathBuf, SpoolError> {
        let dir = self.dir.join(camera.as_str());
        make_dir(&dir)?;
        Ok(dir)
    }

    /// A directory beside the cameras', made where it is missing. `name` is one of our own words.
    ///
    /// # Errors
    /// What the file system says.
    pub fn side_dir(&self, name: &'static str) -> Result<PathBuf, SpoolError> {
        let dir = self.dir.join(name);
        make_dir(&dir)?;
        Ok(dir)
    }

    /// Where the closed clip lies.
    pub fn clip_path(&self, camera: &CameraId, id: RecordingId) -> PathBuf {
        self.named(camera, id, "mp4")
    }

    /// Where a snapshot lies.
    pub fn picture_path(&self, camera: &CameraId, id: RecordingId) -> PathBuf {
        self.named(camera, id, "jpg")
    }

    fn named(&self, camera: &CameraId, id: RecordingId, extension: &str) -> PathBuf {
        let name = format!("{}.{extension}", id.0.hyphenated());
        self.dir.join(camera.as_str()).join(name)
    }

    /// Free and total space.
    ///
    /// # Errors
    /// What the file system says.
    pub fn space(&self) -> Result<Space, SpoolError> {
        // Before the first clip the directory may not be there.
        let there = self.dir.ancestors().find(|p| p.exists());
        let s = rustix::fs::statvfs(there.unwrap_or(&self.dir))
            .map_err(|e| failed("ask for the free space of", &self.dir)(e.into()))?;
        Ok(Space {
            read_only: s.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
            inodes_free: (s.f_files > 0).then_some(s.f_favail),
            free: ByteSize(s.f_bavail.saturating_mul(s.f_frsize)),
            total: ByteSize(s.f_blocks.saturating_mul(s.f_frsize)),
        })
    }

    /// Lists every file two levels deep (symbolic links are not followed), at most [`MAX_SCAN`].
    ///
    /// # Errors
    /// What the file system says; a file that vanishes meanwhile is left out.
    pub fn scan(&self) -> Result<Vec<Found>, SpoolError> {
        let mut found = Vec::new();
        for camera_dir in list(&self.dir)? {
            let name = camera_dir.file_name();
            let camera: Option<CameraId> = name.to_str().and_then(|n| n.parse().ok());
            if !camera_dir.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            for file in list(&camera_dir.path())? {
                let Some(meta) = file.metadata().ok().filter(fs::Metadata::is_file) else {
                    continue;
                };
                if found.len() >= MAX_SCAN {
                    return Ok(found);
                }
                let (kind, id) = classify(&file.file_name().to_string_lossy());
                found.push(Found {
                    path: file.path(),
                    camera: camera.clone(),
                    id,
                    kind,
                    bytes: meta.len(),
                });
            }
        }
        Ok(found)
    }

    /// Removes a recording's clip, part and picture, and fsyncs the directory. Returns the bytes that it freed; what is
    /// not there counts as removed.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(&self, camera: &CameraId, id: RecordingId) -> Result<ByteSize, SpoolError> {
        let clip = self.clip_path(camera, id);
        let mut freed = 0;
        for path in [part_of(&clip), clip, self.picture_path(camera, id)] {
            freed += unlink(&path)?;
        }
        if freed > 0 {
            sync_dir(&self.dir.join(camera.as_str()))?;
        }
        Ok(ByteSize(freed))
    }

    /// Removes everything that the agent wrote, torn pictures and diagnostic bundles too; what is not ours stays. Returns
    /// how many files went.
    ///
    /// # Errors
    /// What the file system says; repeat it then.
    pub fn clear(&self) -> Result<usize, SpoolError> {
        let mut removed = 0;
        while self.dir.is_dir() {
            let ours = self.scan()?;
            let mut ours = ours.iter().filter(|f| is_ours(f)).peekable();
            if ours.peek().is_none() {
                break;
            }
            for file in ours {
                unlink(&file.path)?;
                removed += 1;
            }
        }
        // The names of cameras go, too; a directory that holds something of somebody else's stays.
        for dir in list(&self.dir).unwrap_or_default() {
            let _ = fs::remove_dir(dir.path());
        }
        Ok(removed)
    }
}

/// The name under which a file is written: `.part` appended.
pub fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn classify(name: &str) -> (FileKind, Option<RecordingId>) {
    let known = [
        (".mp4", FileKind::Clip),
        (".mp4.part", FileKind::Part),
        (".jpg", FileKind::Picture),
    ];
    for (suffix, kind) in known {
        if let Some(stem) = name.strip_suffix(suffix)
            && let Ok(id) = stem.parse::<RecordingId>()
            && id.0.hyphenated().to_string() == stem
        {
            return (kind, Some(id));
        }
    }
    (FileKind::Foreign, None)
}

/// Whether the agent wrote it, though it may not be a recording or a picture.
fn is_ours(found: &Found) -> bool {
    let below = |name: &str| found.path.parent().is_some_and(|dir| dir.ends_with(name));
    let torn = || found.path.extension().is_some_and(|e| e == "part");
    let whole = found.path.with_extension("");
    let name = whole.file_name().unwrap_or_default().to_string_lossy();
    found.kind != FileKind::Foreign
        || below(DIAG_DIR)
        || (torn() && classify(&name).0 == FileKind::Picture)
}

fn list(dir: &Path) -> Result<Vec<fs::DirEntry>, SpoolError> {
    let entries = fs::read_dir(dir).map_err(failed("list", dir))?;
    Ok(entries.filter_map(Result::ok).take(MAX_SCAN).collect())
}

fn make_dir(dir: &Path) -> Result<(), SpoolError> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed("make directory", dir))?;
    dir.parent().map_or(Ok(()), sync_dir)
}

/// Removes a file; returns its length, zero where it is not there.
pub(crate) fn unlink(path: &Path) -> Result<u64, SpoolError> {
    let bytes = fs::symlink_metadata(path).map_or(0, |m| m.len());
    match fs::remove_file(path) {
        Ok(()) => Ok(bytes),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(failed("remove", path)(e)),
    }
}

/// Makes names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), SpoolError> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(failed("fsync directory", dir))
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
