//! The schema of the store: connection settings and numbered migrations with an up and a down each.
//!
//! `synchronous=FULL` with a WAL: a committed row survives a power cut (measured: NORMAL loses rows). A migration
//! runs in one transaction; an older program refuses a newer file instead of guessing.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};

use super::error::DbError;

const STEPS: &[M<'static>] = &[
    M::up(include_str!("migrations/0001_store.up.sql"))
        .down(include_str!("migrations/0001_store.down.sql")),
    M::up(include_str!("migrations/0002_outbox.up.sql"))
        .down(include_str!("migrations/0002_outbox.down.sql")),
    M::up(include_str!("migrations/0003_commands.up.sql"))
        .down(include_str!("migrations/0003_commands.down.sql")),
    M::up(include_str!("migrations/0004_twin.up.sql"))
        .down(include_str!("migrations/0004_twin.down.sql")),
    M::up(include_str!("migrations/0005_twin_identity.up.sql"))
        .down(include_str!("migrations/0005_twin_identity.down.sql")),
    M::up(include_str!("migrations/0006_retention.up.sql"))
        .down(include_str!("migrations/0006_retention.down.sql")),
    M::up(include_str!("migrations/0007_uploads.up.sql"))
        .down(include_str!("migrations/0007_uploads.down.sql")),
    M::up(include_str!("migrations/0008_pictures.up.sql"))
        .down(include_str!("migrations/0008_pictures.down.sql")),
];

/// Pages that the file may have: 256 MiB of 4 KiB.
const MAX_PAGES: u32 = 65_536;

/// Bytes that the file may have.
pub const MAX_BYTES: u64 = MAX_PAGES as u64 * 4096;

/// All migrations, in order.
pub fn migrations() -> Migrations<'static> {
    Migrations::from_slice(STEPS)
}

/// Opens the file for writing with the settings of the store; does not migrate.
pub fn open_writer(path: &Path) -> Result<Connection, DbError> {
    let conn = Connection::open(path)?;
    conn.execute_batch("pragma auto_vacuum = incremental; pragma journal_mode = wal;")?;
    conn.execute_batch(&format!(
        "pragma synchronous = full; pragma foreign_keys = on; pragma trusted_schema = off;
         pragma cell_size_check = on; pragma busy_timeout = 5000; pragma journal_size_limit = 16777216;
         pragma wal_autocheckpoint = 1000; pragma max_page_count = {MAX_PAGES}; pragma temp_store = memory;"
    ))?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(conn)
}

/// Opens the file for reading beside a running agent.
pub fn open_reader(path: &Path) -> Result<Connection, DbError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.execute_batch(
        "pragma query_only = on; pragma busy_timeout = 5000; pragma trusted_schema = off;",
    )?;
    Ok(conn)
}

/// Brings the file to the newest schema.
pub fn migrate(conn: &mut Connection) -> Result<(), DbError> {
    migrations().to_latest(conn).map_err(|e| match e {
        rusqlite_migration::Error::RusqliteError { err, .. } => err.into(),
        rusqlite_migration::Error::MigrationDefinition(_) => DbError::Refused(
            "the file was written by a newer sentrycam; install that version or newer".into(),
        ),
        other => DbError::Refused(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(conn: &Connection) -> Vec<String> {
        let mut stmt =
            conn.prepare("select type || ' ' || name || ': ' || coalesce(sql, '') from sqlite_schema order by 1").unwrap();
        stmt.query_map([], |r| r.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap()
    }

    #[test]
    fn every_old_database_with_rows_reaches_the_fresh_schema() {
        let dir = tempfile::tempdir().unwrap();
        let mut fresh = open_writer(&dir.path().join("fresh.db")).unwrap();
        migrate(&mut fresh).unwrap();
        for version in 1..=STEPS.len() {
            let mut old = open_writer(&dir.path().join(format!("v{version}.db"))).unwrap();
            migrations().to_version(&mut old, version).unwrap();
            old.execute_batch(
                "insert into meta values ('epoch', '019af5d8-0000-7000-8000-0000000000aa');
                 insert into boots values (1, randomblob(16), 5, 2);
                 insert into events (id, camera_id, boot, started_ns, ended_ns, state, rev, peak_score)
                     values (randomblob(16), 'cam-1', 1, 10, 20, 'ended', 2, 0.5);",
            )
            .unwrap();
            migrate(&mut old).unwrap();
            assert_eq!(dump(&old), dump(&fresh), "from version {version}");
            let events: i64 = old
                .query_row("select count(*) from events", [], |r| r.get(0))
                .unwrap();
            assert_eq!(events, 1);
            let broken: i64 = old
                .query_row("select count(*) from pragma_foreign_key_check", [], |r| {
                    r.get(0)
                })
                .unwrap();
            assert_eq!(broken, 0);
        }
    }

    #[test]
    fn every_migration_goes_down_and_up_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut conn = open_writer(&dir.path().join("x.db")).unwrap();
        migrate(&mut conn).unwrap();
        let newest = dump(&conn);
        for version in (0..STEPS.len()).rev() {
            migrations().to_version(&mut conn, version).unwrap();
        }
        assert_eq!(
            dump(&conn)
                .iter()
                .filter(|line| !line.contains("sqlite_"))
                .count(),
            0
        );
        migrate(&mut conn).unwrap();
        assert_eq!(dump(&conn), newest);
    }

    #[test]
    fn a_newer_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut conn = open_writer(&dir.path().join("x.db")).unwrap();
        conn.execute_batch("pragma user_version = 99").unwrap();
        assert!(matches!(migrate(&mut conn), Err(DbError::Refused(_))));
    }

    #[test]
    fn the_settings_are_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let conn = open_writer(&dir.path().join("x.db")).unwrap();
        let pragma = |name: &str| {
            conn.query_row(&format!("pragma {name}"), [], |r| r.get::<_, i64>(0))
                .unwrap()
        };
        assert_eq!(pragma("synchronous"), 2);
        assert_eq!(pragma("foreign_keys"), 1);
        assert_eq!(pragma("auto_vacuum"), 2);
        assert_eq!(pragma("max_page_count"), i64::from(MAX_PAGES));
    }
}
