//! Looks at the disk, on a thread of its own: one that does not answer (a dead network mount, a dying stick) holds up that
//! thread and nothing else, and no second one is started meanwhile.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::db::retention::OpenClip;
use crate::db::schema;
use crate::recording::storage::Look;
use crate::spool::{Spool, SpoolError, part_of};

/// A disk that takes longer does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// The disk itself.
    pub look: Look,
    /// Bytes of the file system.
    pub total: u64,
    /// Clips that are being written, with their length now.
    pub open: Vec<(OpenClip, u64)>,
    /// What the database may still grow by, where it lies on the same file system.
    pub database_growth: u64,
}

pub(super) struct Looker {
    spool: Spool,
    database: PathBuf,
    running: Option<JoinHandle<Seen>>,
}

impl Looker {
    pub(super) fn new(spool: Spool, database: PathBuf) -> Looker {
        Looker {
            spool,
            database,
            running: None,
        }
    }

    /// Looks, for [`PATIENCE`] at most.
    pub(super) async fn look(&mut self, open: Vec<OpenClip>) -> Seen {
        let running = self.running.get_or_insert_with(|| {
            let (spool, database) = (self.spool.clone(), self.database.clone());
            tokio::task::spawn_blocking(move || see(&spool, &database, open))
        });
        match tokio::time::timeout(PATIENCE, running).await {
            Ok(seen) => {
                self.running = None;
                seen.unwrap_or_else(|e| unreadable(e.to_string()))
            }
            Err(_) => unreadable(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }
}

fn unreadable(why: String) -> Seen {
    Seen {
        look: Look {
            unreadable: Some(why),
            ..Look::default()
        },
        ..Seen::default()
    }
}

fn see(spool: &Spool, database: &Path, open: Vec<OpenClip>) -> Seen {
    match spool.check_mount() {
        Ok(()) => {}
        Err(SpoolError::NotMounted { .. }) => {
            let look = Look {
                missing: true,
                ..Look::default()
            };
            return Seen {
                look,
                ..Seen::default()
            };
        }
        Err(e) => return unreadable(e.to_string()),
    }
    let space = match spool.space() {
        Ok(space) => space,
        Err(e) => return unreadable(e.to_string()),
    };
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
    let open = open
        .into_iter()
        .map(|clip| {
            let path = spool.clip_path(&clip.camera, clip.id);
            let bytes = length(&part_of(&path)) + length(&path);
            (clip, bytes)
        })
        .collect();
    let device = |path: &Path| std::fs::metadata(path).ok().map(|m| m.dev());
    let shared = device(database).is_some_and(|d| Some(d) == device(spool.dir()));
    let wal = database.with_extension("db-wal");
    let database_growth = if shared {
        schema::MAX_BYTES.saturating_sub(length(database) + length(&wal))
    } else {
        0
    };
    Seen {
        look: Look {
            read_only: space.read_only,
            free: space.free.0,
            inodes_free: space.inodes_free,
            ..Look::default()
        },
        total: space.total.0,
        open,
        database_growth,
    }
}
