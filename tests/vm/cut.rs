//! What a disk with a volatile cache may hold after a power cut, made from the log of all its writes and flushes (QEMU's
//! `blklogwrites`, the format of Linux' dm-log-writes).
//!
//! Guarantee: everything up to the last flush before the cut is there, and what was written through (FUA); of the rest each
//! write is there or not, at random, or only its first sectors are: what NVMe, SD and virtio promise and no more.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use super::machine::tool;
use crate::dice::Dice;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const SECTOR: u64 = 512;
const FLUSH: u64 = 1;
const THROUGH: u64 = 2;
const DISCARD: u64 = 4;

#[derive(Debug, Clone, Copy)]
struct Entry {
    sector: u64,
    sectors: u64,
    flags: u64,
    /// Of its data in the log.
    at: u64,
}

/// The log of one run of a machine.
#[derive(Debug)]
pub struct Log {
    file: File,
    entries: Vec<Entry>,
}

fn number(block: &[u8], n: usize) -> u64 {
    block[n * 8..n * 8 + 8]
        .try_into()
        .map_or(0, u64::from_le_bytes)
}

/// How many entries a log has by now; everything that was acknowledged before is among them.
pub fn length(path: &Path) -> io::Result<usize> {
    let mut head = [0; SECTOR as usize];
    File::open(path)?.read_exact_at(&mut head, 0)?;
    if number(&head, 0) != MAGIC {
        return Ok(0);
    }
    Ok(number(&head, 2) as usize)
}

impl Log {
    /// Reads what was logged.
    pub fn open(path: &Path) -> io::Result<Log> {
        let file = File::open(path)?;
        let mut head = [0; SECTOR as usize];
        let mut at = SECTOR;
        let mut entries = Vec::new();
        for _ in 0..length(path)? {
            file.read_exact_at(&mut head, at)?;
            at += SECTOR;
            let entry = Entry {
                sector: number(&head, 0),
                sectors: number(&head, 1),
                flags: number(&head, 2),
                at,
            };
            if entry.flags & DISCARD == 0 {
                at += entry.sectors * SECTOR;
            }
            entries.push(entry);
        }
        Ok(Log { file, entries })
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that were written, and how often the cache was flushed.
    pub fn volume(&self) -> (u64, usize) {
        let bytes = self.entries.iter().map(|e| e.sectors * SECTOR).sum();
        let flushes = self.entries.iter().filter(|e| e.flags & FLUSH != 0).count();
        (bytes, flushes)
    }

    /// Writes onto `disk`, as it was when the log began, what is there after a cut behind the first `count` entries.
    pub fn replay(&self, disk: &File, count: usize, dice: &mut Dice) -> io::Result<()> {
        let entries = &self.entries[..count.min(self.entries.len())];
        // A flush is done when it is in the log; what it carries itself comes after it.
        let flushed = entries
            .iter()
            .rposition(|e| e.flags & FLUSH != 0)
            .unwrap_or(0);
        for (n, entry) in entries.iter().enumerate() {
            let sure = n < flushed || entry.flags & THROUGH != 0;
            let sectors = match (sure, dice.below(8)) {
                (true, _) | (false, 0..3) => entry.sectors,
                (false, 3) => dice.below(entry.sectors + 1),
                (false, _) => 0,
            };
            self.apply(disk, entry, sectors)?;
        }
        Ok(())
    }

    fn apply(&self, disk: &File, entry: &Entry, sectors: u64) -> io::Result<()> {
        if entry.flags & DISCARD != 0 {
            return Ok(());
        }
        let mut data = vec![0; (sectors * SECTOR) as usize];
        self.file.read_exact_at(&mut data, entry.at)?;
        disk.write_all_at(&data, entry.sector * SECTOR)
    }
}

/// Copies an image, holes and all.
pub fn copy(from: &Path, to: &Path) {
    let mut cp = Command::new("cp");
    tool(
        cp.args(["--sparse=always", "--reflink=auto"])
            .arg(from)
            .arg(to),
    );
}

/// Makes `image` what a disk that was `before` holds when the power goes behind the first `count` entries of the log.
pub fn crash(before: &Path, log: &Log, count: usize, dice: &mut Dice, image: &Path) {
    copy(before, image);
    let disk = File::options().write(true).open(image).unwrap();
    log.replay(&disk, count, dice).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of (sector, flags, byte) writes of one sector; a flush has no data.
    fn log(dir: &Path, entries: &[(u64, u64, u8)]) -> Log {
        let mut bytes = Vec::new();
        let block = |words: &[u64]| {
            let mut head = [0; SECTOR as usize];
            for (n, word) in words.iter().enumerate() {
                head[n * 8..n * 8 + 8].copy_from_slice(&word.to_le_bytes());
            }
            head
        };
        bytes.extend(block(&[MAGIC, 1, entries.len() as u64, SECTOR]));
        for (sector, flags, byte) in entries {
            let sectors = u64::from(flags & FLUSH == 0);
            bytes.extend(block(&[*sector, sectors, *flags, 0]));
            bytes.extend(vec![*byte; (sectors * SECTOR) as usize]);
        }
        let path = dir.join("log");
        std::fs::write(&path, bytes).unwrap();
        Log::open(&path).unwrap()
    }

    #[test]
    fn flushed_and_written_through_survives_the_rest_may() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(
            dir.path(),
            &[
                (0, 0, 1),
                (0, FLUSH, 0),
                (1, 0, 2),
                (2, THROUGH, 3),
                (3, 0, 4),
                (4, 0, 5),
            ],
        );
        assert_eq!((log.len(), log.volume()), (6, (5 * SECTOR, 1)));
        let mut seen = [[false; 2]; 5];
        for seed in 0..200 {
            let path = dir.path().join("disk");
            std::fs::write(&path, vec![0; 5 * SECTOR as usize]).unwrap();
            let disk = File::options().read(true).write(true).open(&path).unwrap();
            // Behind the write of sector 3.
            log.replay(&disk, 5, &mut Dice(seed)).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            for (sector, seen) in seen.iter_mut().enumerate() {
                seen[usize::from(bytes[sector * SECTOR as usize] != 0)] = true;
            }
        }
        let (always, maybe, never) = ([false, true], [true, true], [true, false]);
        assert_eq!(seen, [always, maybe, always, maybe, never]);
    }
}
