//! The disk of the clips and the one of the database: mounted, room, speed.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Finding;
use crate::board::clock::Clock;
use crate::config::Config;
use crate::spool::Spool;

/// Written to measure, at most, and for at most this long.
const TEST_BYTES: usize = 16 << 20;
const TEST_TIME: Duration = Duration::from_secs(5);
/// Four cameras of 4 Mbit/s are 2 MB/s.
const SLOW: f64 = 2e6;
/// An event is told only after its fsync.
const SLOW_SYNC: Duration = Duration::from_millis(500);
/// A disk that hangs is not waited for.
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn check(config: &Config) -> Vec<Finding> {
    let config = config.clone();
    let look = tokio::task::spawn_blocking(move || look(&config));
    match tokio::time::timeout(PATIENCE, look).await {
        Ok(Ok(findings)) => findings,
        _ => vec![Finding::failure(
            "disk",
            format!("does not answer within {} s", PATIENCE.as_secs()),
            "replace the disk or card: it is failing (dmesg shows I/O errors)",
        )],
    }
}

fn look(config: &Config) -> Vec<Finding> {
    let spool = Spool::new(&config.spool);
    let dir = &config.spool.dir;
    let mut findings = Vec::new();
    match spool.check_mount() {
        Ok(()) if config.spool.require_mount => {
            findings.push(Finding::ok(
                "mount",
                format!("{} is a disk of its own", dir.display()),
            ));
        }
        Ok(()) => findings.push(Finding::skipped("mount", "no disk of its own is required")),
        Err(e) => {
            let todo = "connect the disk and mount it (findmnt, /etc/fstab)";
            findings.push(Finding::failure("mount", e.to_string(), todo));
            return findings;
        }
    }
    findings.push(space(&spool, config));
    findings.push(match existing(dir) {
        Some(dir) => speed(&dir),
        None => Finding::skipped("disk speed", "the directory of the clips is not there yet"),
    });
    findings.push(match existing(&config.state_dir) {
        Some(dir) => sync(&dir),
        None => Finding::skipped("database disk", "the state directory is not there yet"),
    });
    findings
}

fn existing(dir: &Path) -> Option<PathBuf> {
    dir.is_dir().then(|| dir.to_owned())
}

fn space(spool: &Spool, config: &Config) -> Finding {
    const CHECK: &str = "disk space";
    let least = config.spool.min_free;
    if existing(&config.spool.dir).is_none() {
        return Finding::skipped(CHECK, "the directory of the clips is not there yet");
    }
    match spool.space() {
        Ok(s) if s.free < least => Finding::failure(
            CHECK,
            format!("{} free, clips need {least}", s.free),
            "delete files, or put the clips on a larger disk (spool.dir)",
        ),
        Ok(s) if s.free.0 < least.0.saturating_mul(2) => Finding::warning(
            CHECK,
            format!("{} free; below {least} no clip is begun", s.free),
            "make room soon, or put the clips on a larger disk (spool.dir)",
        ),
        Ok(s) => Finding::ok(CHECK, format!("{} free of {}", s.free, s.total)),
        Err(e) => Finding::failure(
            CHECK,
            e.to_string(),
            "check the disk: dmesg shows I/O errors, mount shows whether it is there",
        ),
    }
}

/// The one thing to do where nothing can be written.
fn not_writable(check: &'static str, e: &std::io::Error) -> Finding {
    let todo = if e.kind() == std::io::ErrorKind::PermissionDenied {
        "run doctor as the agent's user (or root); chown the directory to that user"
    } else {
        "check the disk: dmesg shows I/O errors, mount shows whether it is read-only"
    };
    Finding::failure(check, e.to_string(), todo)
}

fn speed(dir: &Path) -> Finding {
    const CHECK: &str = "disk speed";
    let clock = Clock::default();
    let began = clock.mono();
    let chunk = vec![0xa5u8; 1 << 20];
    let mut written = 0;
    let result = (|| {
        let mut file = tempfile::tempfile_in(dir)?;
        while written < TEST_BYTES && clock.mono().since(began) < TEST_TIME {
            file.write_all(&chunk)?;
            file.sync_data()?;
            written += chunk.len();
        }
        Ok(())
    })();
    if let Err(e) = result {
        return not_writable(CHECK, &e);
    }
    let rate = written as f64 / clock.mono().since(began).as_secs_f64().max(1e-6);
    let detail = format!("{:.1} MB/s", rate / 1e6);
    if rate < SLOW {
        let todo = "use a faster card or a USB disk: clips will have gaps";
        return Finding::warning(CHECK, detail, todo);
    }
    Finding::ok(CHECK, detail)
}

fn sync(dir: &Path) -> Finding {
    const CHECK: &str = "database disk";
    let clock = Clock::default();
    let result = (|| {
        let mut file = tempfile::tempfile_in(dir)?;
        let mut worst = Duration::ZERO;
        for _ in 0..8 {
            let began = clock.mono();
            file.write_all(&[0; 4096])?;
            file.sync_all()?;
            worst = worst.max(clock.mono().since(began));
        }
        Ok(worst)
    })();
    match result {
        Err(e) => not_writable(CHECK, &e),
        Ok(worst) => {
            let detail = format!(
                "a write is safe after {:.1} ms at most",
                worst.as_secs_f64() * 1e3
            );
            if worst > SLOW_SYNC {
                let todo = "replace the card: events wait for it";
                return Finding::warning(CHECK, detail, todo);
            }
            Finding::ok(CHECK, detail)
        }
    }
}
