//! Numbered migrations, each with an UP and a DOWN, embedded in the program.
//!
//! Each runs in one transaction together with its row in `schema_migrations`, under an advisory lock,
//! so that two servers starting at once and a crash in the middle both leave a whole schema. Running
//! `up` again does nothing. An applied migration whose text changed since stops everything: history is
//! not edited.

use deadpool_postgres::GenericClient;

use crate::db::{Db, DbError};
use crate::secret::sha256_hex;

/// Advisory lock of the migration runner.
const LOCK: i64 = 0x5e17_7c0d;

struct Migration {
    version: i32,
    name: &'static str,
    up: &'static str,
    down: &'static str,
}

macro_rules! migration {
    ($version:literal, $name:literal, $file:literal) => {
        Migration {
            version: $version,
            name: $name,
            up: include_str!(concat!("../migrations/", $file, ".up.sql")),
            down: include_str!(concat!("../migrations/", $file, ".down.sql")),
        }
    };
}

const MIGRATIONS: &[Migration] = &[
    migration!(1, "organizations", "0001_organizations"),
    migration!(2, "devices", "0002_devices"),
    migration!(3, "records", "0003_records"),
    migration!(4, "projections", "0004_projections"),
    migration!(5, "audit", "0005_audit"),
    migration!(6, "claiming", "0006_claiming"),
    migration!(7, "rotation", "0007_rotation"),
    migration!(8, "licenses", "0008_licenses"),
    migration!(9, "mqtt_clients", "0009_mqtt_clients"),
    migration!(10, "commands", "0010_commands"),
    migration!(11, "twins", "0011_twins"),
    migration!(12, "presence", "0012_presence"),
    migration!(13, "leaving", "0013_leaving"),
    migration!(14, "camera_places", "0014_camera_places"),
    migration!(15, "uploads", "0015_uploads"),
    migration!(16, "streams", "0016_streams"),
    migration!(17, "notifications", "0017_notifications"),
    migration!(18, "offline", "0018_offline"),
    migration!(19, "people", "0019_people"),
];

const CREATE_TRACKING: &str = "create table if not exists schema_migrations (
    version    integer primary key,
    name       text not null,
    applied_at timestamptz not null default now(),
    checksum   text not null check (checksum ~ '^[0-9a-f]{64}$')  -- SHA-256 of the UP text
)";

/// Why the schema is not where it should be.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database refused.
    #[error(transparent)]
    Db(#[from] DbError),
    /// One migration failed; it was rolled back.
    #[error("migration {version} failed")]
    Failed {
        /// Its number.
        version: i32,
        /// What the database said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// An applied migration is not the one in this program.
    #[error("migration {version} was changed after it was applied, or belongs to a newer program")]
    Changed {
        /// Its number.
        version: i32,
    },
}

impl From<tokio_postgres::Error> for MigrateError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Db(error.into())
    }
}

/// One line of `migrate status`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Status {
    /// Number.
    pub version: i32,
    /// Name of the file.
    pub name: String,
    /// When it was applied; none when it is pending.
    pub applied_at: Option<jiff::Timestamp>,
}

/// The highest version this program knows.
pub fn latest() -> i32 {
    MIGRATIONS.last().map_or(0, |migration| migration.version)
}

/// Applies whatever is pending; returns the versions applied now.
///
/// # Errors
/// `Failed` leaves the earlier ones applied; `Changed` applies nothing.
pub async fn up(db: &Db) -> Result<Vec<i32>, MigrateError> {
    let mut client = db.client().await?;
    track(&mut client).await?;
    let mut applied_now = Vec::new();
    for migration in MIGRATIONS {
        let tx = client.transaction().await.map_err(DbError::from)?;
        lock(&tx).await?;
        check(&tx).await?;
        if is_applied(&tx, migration.version).await? {
            continue;
        }
        let failed = |source| MigrateError::Failed {
            version: migration.version,
            source,
        };
        tx.batch_execute(migration.up).await.map_err(failed)?;
        tx.execute(
            "insert into schema_migrations (version, name, checksum) values ($1, $2, $3)",
            &[
                &migration.version,
                &migration.name,
                &sha256_hex(migration.up.as_bytes()),
            ],
        )
        .await?;
        tx.commit().await.map_err(failed)?;
        tracing::info!(
            version = migration.version,
            name = migration.name,
            "migration applied"
        );
        applied_now.push(migration.version);
    }
    Ok(applied_now)
}

/// Takes back migrations above `to`, newest first; returns the versions taken back.
///
/// # Errors
/// `Failed` leaves the later ones taken back.
pub async fn down(db: &Db, to: i32) -> Result<Vec<i32>, MigrateError> {
    let mut client = db.client().await?;
    track(&mut client).await?;
    let mut taken_back = Vec::new();
    for migration in MIGRATIONS
        .iter()
        .rev()
        .take_while(|migration| migration.version > to)
    {
        let tx = client.transaction().await.map_err(DbError::from)?;
        lock(&tx).await?;
        if !is_applied(&tx, migration.version).await? {
            continue;
        }
        let failed = |source| MigrateError::Failed {
            version: migration.version,
            source,
        };
        tx.batch_execute(migration.down).await.map_err(failed)?;
        tx.execute(
            "delete from schema_migrations where version = $1",
            &[&migration.version],
        )
        .await?;
        tx.commit().await.map_err(failed)?;
        tracing::info!(
            version = migration.version,
            name = migration.name,
            "migration taken back"
        );
        taken_back.push(migration.version);
    }
    Ok(taken_back)
}

/// Every migration of this program with the time it was applied.
///
/// # Errors
/// When the database does not answer.
pub async fn status(db: &Db) -> Result<Vec<Status>, MigrateError> {
    let mut client = db.client().await?;
    track(&mut client).await?;
    let rows = client
        .query("select version, applied_at from schema_migrations", &[])
        .await?;
    let applied: std::collections::HashMap<i32, jiff::Timestamp> =
        rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok(MIGRATIONS
        .iter()
        .map(|migration| Status {
            version: migration.version,
            name: migration.name.to_owned(),
            applied_at: applied.get(&migration.version).copied(),
        })
        .collect())
}

/// Makes the tracking table; `create table if not exists` races with itself, so it takes the lock too.
async fn track(client: &mut deadpool_postgres::Client) -> Result<(), MigrateError> {
    let tx = client.transaction().await.map_err(DbError::from)?;
    lock(&tx).await?;
    tx.batch_execute(CREATE_TRACKING).await?;
    tx.commit().await?;
    Ok(())
}

async fn lock(client: &impl GenericClient) -> Result<(), MigrateError> {
    client
        .execute("select pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    Ok(())
}

async fn is_applied(client: &impl GenericClient, version: i32) -> Result<bool, MigrateError> {
    let row = client
        .query_opt(
            "select 1 from schema_migrations where version = $1",
            &[&version],
        )
        .await?;
    Ok(row.is_some())
}

async fn check(client: &impl GenericClient) -> Result<(), MigrateError> {
    for row in client
        .query("select version, checksum from schema_migrations", &[])
        .await?
    {
        let version: i32 = row.get(0);
        let known = MIGRATIONS
            .iter()
            .find(|migration| migration.version == version);
        let sum = known.map(|migration| sha256_hex(migration.up.as_bytes()));
        if sum.as_deref() != Some(row.get::<_, &str>(1)) {
            return Err(MigrateError::Changed { version });
        }
    }
    Ok(())
}
