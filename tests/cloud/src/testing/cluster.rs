//! A temporary PostgreSQL that cannot outlive its test process.
//!
//! A small shell, the guard, waits on a pipe that the test process holds open. However that process
//! ends (return, panic, SIGKILL), the pipe closes, and the guard stops the server by its process id
//! and removes the directory. Statics are not dropped at the end of a process, so `Drop` alone would
//! leave the shared cluster running.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use uuid::Uuid;

use crate::db::{APP_ROLE, Db};
use crate::migrate;
use crate::postgres::{Postgres, StopMode};

/// `$1` pg_ctl, `$2` data directory, `$3` directory to remove.
const GUARD: &str = r#"
trap '' INT TERM HUP
cat > /dev/null
if [ -d "$2" ]; then
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$1" -D "$2" -m immediate -w stop
    else "$1" -D "$2" -m immediate -w stop; fi
fi
rm -rf -- "$3"
"#;

/// A temporary cluster.
#[derive(Debug)]
pub struct Cluster {
    postgres: Postgres,
    guard: Child,
}

impl Cluster {
    /// Starts a new cluster; takes a few seconds.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("scpg-").tempdir()?;
        let postgres = Postgres::at(directory.path())?;
        let guard = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .args([
                postgres.program("pg_ctl"),
                postgres.data(),
                directory.path().to_owned(),
            ])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("the guard did not start")?;
        // From here the guard removes it.
        let _path = directory.keep();
        let cluster = Self { postgres, guard };
        cluster.postgres.start_temporary()?;
        Ok(cluster)
    }

    /// The cluster that all tests of this process share.
    ///
    /// # Errors
    /// When it does not start; then every test fails alike.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Cluster, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| Self::start().map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// Makes an empty database with the schema; returns its name.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn create_database(&self) -> Result<String> {
        let name = self.create_empty_database().await?;
        migrate::up(&Db::connect_as_owner(&self.owner_url(&name))?).await?;
        Ok(name)
    }

    /// Makes a database without a schema; returns its name.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn create_empty_database(&self) -> Result<String> {
        let name = format!("t{}", Uuid::now_v7().simple());
        let db = Db::connect_as_owner(&self.owner_url("postgres"))?;
        db.client()
            .await?
            .batch_execute(&format!("create database {name}"))
            .await?;
        Ok(name)
    }

    /// Connection string of the superuser.
    pub fn owner_url(&self, database: &str) -> String {
        self.postgres.url("postgres", database)
    }

    /// Connection string of the server's role, to which row-level security applies.
    pub fn app_url(&self, database: &str) -> String {
        self.postgres.url(APP_ROLE, database)
    }

    /// Stops the server as a crash would, for tests of a cloud without its database.
    ///
    /// # Errors
    /// When it does not run.
    pub fn crash(&self) -> Result<()> {
        Ok(self.postgres.stop(StopMode::Immediate)?)
    }

    /// Starts it again after `crash`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn recover(&self) -> Result<()> {
        Ok(self.postgres.start()?)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Closing the pipe lets the guard do it; waiting makes sure that it is done.
        drop(self.guard.stdin.take());
        let _status = self.guard.wait();
    }
}
