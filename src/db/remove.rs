//! Removes the whole store, with everything that was put aside of it: the wipe of a device that changes its owner.

use std::io;
use std::path::Path;

use super::FILE_NAME;

/// Removes the store's files from the state directory and makes that durable. Nobody may have it open.
///
/// # Errors
/// What the file system says; repeat it then.
pub fn remove(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(FILE_NAME) || name == "sentrycam.ballast" {
            std::fs::remove_file(entry.path())?;
        }
    }
    std::fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_goes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let ours = [
            "sentrycam.db",
            "sentrycam.db-wal",
            "sentrycam.db.in-use",
            "sentrycam.db.corrupt-1",
            "sentrycam.ballast",
        ];
        for name in ours.iter().chain(&["sentrycam.toml", "edge.json"]) {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        remove(dir.path()).unwrap();
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 2);
    }
}
