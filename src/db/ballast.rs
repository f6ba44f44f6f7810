//! A file that is there to be deleted: when the disk is full, its room lets events and the record of what was lost still
//! be written. It is made again when there is room for it and for as much besides.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// Room that is held back.
const BYTES: u64 = 32 << 20;
/// A commit may need this much: pages of the write-ahead log and of its index.
const COMMIT: u64 = 1 << 20;

/// Opening needs this much: SQLite's index of the write-ahead log, 32 KiB, in whole blocks.
const OPEN: u64 = 32 << 10;

/// The ballast of one state directory.
#[derive(Debug, Clone)]
pub struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Ballast {
    /// In the directory of the database.
    pub fn in_dir(dir: &Path) -> Ballast {
        Ballast {
            path: dir.join("sentrycam.ballast"),
            bytes: BYTES,
        }
    }

    /// Makes it where it is missing and there is room for it twice. Blocks.
    pub fn hold(&self) -> io::Result<()> {
        if self.path.exists() {
            return Ok(());
        }
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        let space = statvfs(dir)?;
        if space.f_bavail.saturating_mul(space.f_frsize) < 2 * self.bytes {
            return Ok(());
        }
        let file = File::create(&self.path)?;
        // Blocks and no holes, but for file systems that cannot.
        let held = fallocate(&file, FallocateFlags::empty(), 0, self.bytes);
        if held.is_err() {
            fs::remove_file(&self.path)?;
        }
        held.map_err(io::Error::from)
    }

    /// Whether the disk has no room for a commit. Blocks.
    pub fn lacks_room(&self) -> io::Result<bool> {
        let space = statvfs(self.path.parent().unwrap_or(Path::new("/")))?;
        let no_inodes = space.f_files > 0 && space.f_favail == 0;
        Ok(no_inodes || space.f_bavail.saturating_mul(space.f_frsize) < COMMIT)
    }

    /// Before the database is opened: it makes files then, and maps one of them into memory, where a disk without room is a
    /// signal (SIGBUS) and no error. Gives the room away where there is too little; says what is missing where that was gone
    /// already. `index` is the file that is mapped, where it is there still. Blocks.
    pub fn make_room_to_open(&self, index: &Path) -> io::Result<()> {
        if !self.lacks_room().unwrap_or(false) || self.release() {
            return Ok(());
        }
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        let space = statvfs(dir)?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        // What it has is written over.
        let has = fs::metadata(index).map_or(0, |m| m.blocks() * 512);
        if free + has < OPEN {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!(
                    "{free} bytes are free in {}, {OPEN} are needed to open the database: make room",
                    dir.display()
                ),
            ));
        }
        Ok(())
    }

    /// Gives its room away. `false`: there is none to give.
    pub fn release(&self) -> bool {
        let released = fs::remove_file(&self.path).is_ok();
        if released {
            tracing::warn!("the disk is full, using the room held back for events");
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_held_and_given_away_once() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast {
            bytes: 1 << 20,
            ..Ballast::in_dir(dir.path())
        };
        ballast.hold().unwrap();
        ballast.hold().unwrap();
        assert_eq!(fs::metadata(&ballast.path).unwrap().len(), 1 << 20);
        assert!(ballast.release());
        assert!(!ballast.release());
    }
}
