//! Opening the store at start: check after an unclean stop, put a damaged file aside, salvage, go on.
//!
//! Recording goes on in any case: a store that cannot be read is replaced by a fresh one with a new epoch, what could
//! be read of the old one is carried over under its own ids, and a `db.recovered` record says so.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::{mpsc, watch};

use super::ballast::Ballast;
use super::recover::{self, Salvage};
use super::writer::{self, QUEUE, WriterStats};
use super::{Db, DbError, FILE_NAME, IdSource, Run, schema};
use crate::model::Retry;
use crate::model::{BootId, EpochId};
use crate::outbox::quota::Quotas;
use crate::time::{TimeQuality, Wall};
use crate::wire::envelope::BootClock;

/// Present, and locked, while a process has the store open; still there at a start means that the last one did not end well.
const MARKER: &str = "sentrycam.db.in-use";

/// A lock that is held for longer is an agent's.
const HOLD_PATIENCE: Duration = Duration::from_secs(1);

/// How to open the store.
pub struct Options {
    /// The state directory.
    pub dir: PathBuf,
    /// This boot.
    pub boot: BootId,
    /// What is known of this boot's clock at start.
    pub clock: BootClock,
    /// Names a damaged file that is put aside.
    pub now: Wall,
    /// Bytes per outbox class.
    pub quotas: Quotas,
    /// Makes ids.
    pub ids: IdSource,
}

/// What opening found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// The last process did not close the store.
    pub unclean: bool,
    /// The damaged file, where one was put aside, and what was carried over.
    pub recovered: Option<(PathBuf, Salvage)>,
    /// The last trusted time of an earlier run.
    pub last_trusted: Option<Wall>,
}

/// Keeps the writing task; ends it in order.
pub struct Closer {
    thread: JoinHandle<Connection>,
    marker: PathBuf,
    _held: File,
}

impl Closer {
    /// Waits until every [`Db`] handle is gone and the last job is on disk, then closes the file. Blocks.
    pub fn close(self) -> Result<(), DbError> {
        let conn = self.thread.join().map_err(|_| DbError::Closed)?;
        conn.execute_batch("pragma wal_checkpoint(truncate); pragma optimize;")?;
        conn.close().map_err(|(_, e)| e)?;
        std::fs::remove_file(&self.marker).map_err(|e| DbError::Io(e.to_string()))
    }
}

/// Whether a process has the store of this directory open.
pub fn is_held(dir: &Path) -> bool {
    let Ok(file) = File::open(dir.join(MARKER)) else {
        return false;
    };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Makes the marker and locks it; the lock goes with the process. Somebody who only looks, or a child that is just being
/// started, may hold it for a moment.
fn hold(marker: &Path) -> Result<File, DbError> {
    let io = |e: std::io::Error| DbError::Io(format!("{}: {e}", marker.display()));
    let options = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(marker);
    let file = options.map_err(io)?;
    let pause = Duration::from_millis(20);
    for _ in 0..HOLD_PATIENCE.as_millis() / pause.as_millis() {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(pause),
            Err(TryLockError::Error(e)) => return Err(io(e)),
        }
    }
    Err(DbError::Refused(format!(
        "another sentrycam has it open ({} is locked)",
        marker.display()
    )))
}

/// Opens the store and starts its writing task on a thread of its own. Blocks while it checks or salvages.
pub fn open(
    options: Options,
    runtime: tokio::runtime::Handle,
) -> Result<(Db, Closer, OpenReport), DbError> {
    let path = options.dir.join(FILE_NAME);
    let marker = options.dir.join(MARKER);
    let mut report = OpenReport {
        unclean: marker.exists(),
        ..OpenReport::default()
    };
    Ballast::in_dir(&options.dir)
        .make_room_to_open(&options.dir.join(format!("{FILE_NAME}-shm")))
        .map_err(|e| DbError::Full(e.to_string()))?;
    let held = hold(&marker)?;

    let mut conn = match open_checked(&path, report.unclean) {
        Ok(conn) => conn,
        Err(e) if matches!(e, DbError::Corrupt(_)) => {
            tracing::error!(error = %e, path = %path.display(), "database is damaged, putting it aside");
            let aside = recover::put_aside(&path, options.now)?;
            let mut fresh = open_checked(&path, false)?;
            let salvage = recover::salvage(&aside, &mut fresh)?;
            report.recovered = Some((aside, salvage));
            fresh
        }
        Err(e) => return Err(e),
    };
    let run = Run {
        boot: register_boot(&conn, options.boot, options.clock)?,
        epoch: epoch(&mut conn, &options.ids)?,
        quotas: options.quotas,
        ids: options.ids,
        puts: Arc::default(),
    };
    report.last_trusted = last_trusted(&conn)?;

    let (jobs, inbox) = mpsc::channel(QUEUE);
    let (stats_tx, stats) = watch::channel(WriterStats::default());
    let puts = Arc::clone(&run.puts);
    let thread = std::thread::Builder::new()
        .name("db".into())
        .spawn(move || writer::run(conn, inbox, &runtime, &stats_tx, &puts))
        .map_err(|e| DbError::Io(e.to_string()))?;
    Ok((
        Db {
            jobs,
            stats,
            run,
            path,
        },
        Closer {
            thread,
            marker,
            _held: held,
        },
        report,
    ))
}

fn open_checked(path: &Path, unclean: bool) -> Result<Connection, DbError> {
    let mut conn = schema::open_writer(path)?;
    if unclean {
        quick_check(&conn)?;
    }
    schema::migrate(&mut conn)?;
    Ok(conn)
}

/// `pragma quick_check`; an answer other than `ok` is [`DbError::Corrupt`].
pub fn quick_check(conn: &Connection) -> Result<(), DbError> {
    let answer: String = conn.query_row("pragma quick_check(1)", [], |r| r.get(0))?;
    if answer == "ok" {
        Ok(())
    } else {
        Err(DbError::Corrupt(answer))
    }
}

fn epoch(conn: &mut Connection, ids: &IdSource) -> Result<EpochId, DbError> {
    conn.execute(
        "insert or ignore into meta (key, value) values ('epoch', ?1)",
        params![(ids)().to_string()],
    )?;
    let text: String = conn.query_row("select value from meta where key = 'epoch'", [], |r| {
        r.get(0)
    })?;
    text.parse()
        .map_err(|_| DbError::Corrupt("meta.epoch is not a uuid".into()))
}

/// The run of a program that writes one row beside the agent, or while there is none: this boot, as the agent knows it
/// where it has run since. The file must have been opened by an agent before.
///
/// # Errors
/// [`DbError`]; [`DbError::Corrupt`] where the file has no epoch.
pub fn beside(
    conn: &Connection,
    boot: BootId,
    clock: BootClock,
    ids: IdSource,
) -> Result<Run, DbError> {
    let epoch: Option<String> = conn
        .query_row("select value from meta where key = 'epoch'", [], |r| {
            r.get(0)
        })
        .optional()?;
    let epoch = epoch.and_then(|text| text.parse().ok());
    Ok(Run {
        boot: register_boot(conn, boot, clock)?,
        epoch: epoch.ok_or_else(|| DbError::Corrupt("the store has no epoch".into()))?,
        quotas: Quotas::default(),
        ids,
        puts: Arc::default(),
    })
}

fn register_boot(conn: &Connection, boot: BootId, clock: BootClock) -> Result<i64, DbError> {
    conn.execute(
        "insert into boots (boot_id, offset_us, quality) values (?1, ?2, ?3) on conflict (boot_id) do nothing",
        params![boot.0, clock.offset_us, quality_column(clock.quality)],
    )?;
    Ok(conn.query_row(
        "select id from boots where boot_id = ?1",
        params![boot.0],
        |r| r.get(0),
    )?)
}

/// Remembers what is known of this boot's clock; with it every unsent record of this boot gets its time. A batch in
/// flight is taken apart, because its rendered bytes change.
pub fn set_boot_clock(
    conn: &Connection,
    run: &Run,
    clock: BootClock,
    trusted: Wall,
) -> Result<(), DbError> {
    let changed = conn.execute(
        "update boots set offset_us = ?2, quality = ?3 where id = ?1 and (offset_us <> ?2 or quality <> ?3)",
        params![run.boot, clock.offset_us, quality_column(clock.quality)],
    )?;
    if changed > 0 {
        super::batch::release(conn)?;
    }
    remember_trusted(conn, trusted)
}

/// Raises the floor that a later boot starts from.
pub fn remember_trusted(conn: &Connection, trusted: Wall) -> Result<(), DbError> {
    conn.execute(
        "insert into meta (key, value) values ('trusted_us', ?1) on conflict (key) do update set value = ?1",
        params![trusted.0.to_string()],
    )?;
    Ok(())
}

fn last_trusted(conn: &Connection) -> Result<Option<Wall>, DbError> {
    let text: Option<String> = conn
        .query_row("select value from meta where key = 'trusted_us'", [], |r| {
            r.get(0)
        })
        .optional()?;
    Ok(text.and_then(|t| t.parse().ok()).map(Wall))
}

fn quality_column(quality: TimeQuality) -> i64 {
    match quality {
        TimeQuality::None => 0,
        TimeQuality::Floor => 1,
        TimeQuality::Synced => 2,
    }
}

/// Whether the process has to end because of this error.
pub fn is_fatal(e: &DbError) -> bool {
    e.retry() == Retry::Fatal
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use uuid::Uuid;

    pub(crate) fn ids() -> IdSource {
        let next = AtomicU64::new(1);
        Arc::new(move || {
            Uuid::from_u128(u128::from(next.fetch_add(1, Ordering::Relaxed)) << 64 | 7)
        })
    }

    pub(crate) fn options(dir: &Path) -> Options {
        Options {
            dir: dir.to_owned(),
            boot: BootId(Uuid::from_u128(1)),
            clock: BootClock {
                offset_us: 0,
                quality: TimeQuality::Floor,
            },
            now: Wall(1_795_226_400_000_000),
            quotas: Quotas::default(),
            ids: ids(),
        }
    }

    /// A store without its task: for tests of statements.
    pub(crate) fn store() -> (tempfile::TempDir, Connection, Run) {
        let dir = tempfile::tempdir().unwrap();
        let mut conn = open_checked(&dir.path().join(FILE_NAME), false).unwrap();
        let o = options(dir.path());
        let run = Run {
            boot: register_boot(&conn, o.boot, o.clock).unwrap(),
            epoch: epoch(&mut conn, &o.ids).unwrap(),
            quotas: o.quotas,
            ids: o.ids,
            puts: Arc::default(),
        };
        (dir, conn, run)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Urgency;
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn an_answer_means_on_disk_and_a_failed_job_undoes_itself_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (db, closer, report) = open(
            testing::options(dir.path()),
            tokio::runtime::Handle::current(),
        )
        .unwrap();
        assert!(!report.unclean);
        let good = db.call(Urgency::Soon, |c, _| {
            c.execute("insert into meta values ('a', '1')", [])?;
            Ok(1)
        });
        let bad = db.call(Urgency::Now, |c, _| -> Result<(), DbError> {
            c.execute("insert into meta values ('b', '1')", [])?;
            c.execute("insert into meta values ('b', '2')", [])?;
            Ok(())
        });
        let (good, bad) = tokio::join!(good, bad);
        assert_eq!(good.unwrap(), 1);
        assert!(matches!(bad, Err(DbError::Refused(_))));
        let reader = schema::open_reader(db.path()).unwrap();
        let keys: i64 = reader
            .query_row(
                "select count(*) from meta where key in ('a', 'b')",
                [],
                |r| r.get(0),
            )
            .unwrap();
        assert_eq!(keys, 1);
        drop(db);
        tokio::task::spawn_blocking(|| closer.close())
            .await
            .unwrap()
            .unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn waiting_jobs_share_one_commit() {
        let dir = tempfile::tempdir().unwrap();
        let (db, _closer, _) = open(
            testing::options(dir.path()),
            tokio::runtime::Handle::current(),
        )
        .unwrap();
        let stats = db.stats();
        let mut calls = tokio::task::JoinSet::new();
        for i in 0..200 {
            let db = db.clone();
            calls.spawn(async move {
                db.call(Urgency::Now, move |c, _| {
                    c.execute("insert into meta values (?1, '')", params![i.to_string()])?;
                    Ok(())
                })
                .await
            });
        }
        while let Some(result) = calls.join_next().await {
            result.unwrap().unwrap();
        }
        let stats = *stats.borrow();
        assert_eq!(stats.jobs, 200);
        assert!(stats.commits < 100, "{stats:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_epoch_stays_and_an_unclean_stop_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (db, closer, _) = open(
            testing::options(dir.path()),
            tokio::runtime::Handle::current(),
        )
        .unwrap();
        let epoch = db.epoch();
        let second = open(
            testing::options(dir.path()),
            tokio::runtime::Handle::current(),
        );
        assert!(
            second.is_err_and(|e| e.to_string().contains("another sentrycam")),
            "one process at a time"
        );
        assert!(is_held(dir.path()));
        drop((db, closer));
        let (again, _closer, report) = open(
            testing::options(dir.path()),
            tokio::runtime::Handle::current(),
        )
        .unwrap();
        assert_eq!(again.epoch(), epoch);
        assert!(report.unclean && report.recovered.is_none());
    }
}
