//! Small files written as a whole: after a power cut there is all of it or nothing.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use super::{SpoolError, failed, sync_dir};

/// Writes `bytes` to `path` through a file beside it: write, fsync, rename, fsync of the directory. One that was there
/// before is replaced.
///
/// # Errors
/// What the file system says; nothing is left behind then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), SpoolError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    let part = path.with_file_name(name);
    let write = || {
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    if let Err(e) = write() {
        let _ = fs::remove_file(&part);
        return Err(failed("write", path)(e));
    }
    match path.parent() {
        Some(dir) => sync_dir(dir),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_or_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jpg");
        write_whole(&path, b"one").unwrap();
        write_whole(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert!(write_whole(&dir.path().join("none/a.jpg"), b"x").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
