//! Small files that nobody else may read, replaced as a whole: after a power cut there is the old one or the new one, and
//! at most a half one beside it under a fixed name, for [`remove`] to find.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Replaces `path` (0600): temporary file, fsync, rename, fsync of the directory. Blocks.
///
/// # Errors
/// What the file system says; the old file is there then, or the new one is but may not survive a power cut.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_in_steps(path, bytes, |_| {})
}

/// What [`replace_in_steps`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The temporary file is on disk.
    Written,
    /// It has its name, which may not be on disk yet.
    Renamed,
}

/// As [`replace`], telling `step` in between.
///
/// # Errors
/// As [`replace`].
pub fn replace_in_steps(path: &Path, bytes: &[u8], step: impl Fn(Step)) -> io::Result<()> {
    let half = half(path);
    remove_one(&half)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(&half)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    step(Step::Written);
    fs::rename(&half, path)?;
    step(Step::Renamed);
    sync_dir(path)
}

/// Removes the file and what a cut left half written of it; what is not there counts as removed. Not yet durable.
///
/// # Errors
/// What the file system says.
pub fn remove(path: &Path) -> io::Result<()> {
    remove_half(path)?;
    remove_one(path)
}

/// Removes what a cut left half written.
///
/// # Errors
/// What the file system says.
pub fn remove_half(path: &Path) -> io::Result<()> {
    remove_one(&half(path))
}

/// Makes the names beside `path` durable.
///
/// # Errors
/// What the file system says.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
}

fn half(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

fn remove_one(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_is_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        fs::write(half(&path), "torn").unwrap();
        for text in ["one", "two"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::write(half(&path), "torn").unwrap();
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
