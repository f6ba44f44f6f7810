//! A private PostgreSQL cluster in a directory, for tests and the demo: real durability (fsync on), no
//! TCP port, one Unix socket in that directory that only its owner can reach.
//!
//! ```text
//! <dir>/data/            the cluster          <dir>/log    the server's log
//! <dir>/.s.PGSQL.5432    the socket
//! ```
//! PostgreSQL refuses to run as root; then it runs as user `postgres` and the directory is given to it.

use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The longest path of a Unix socket is 107 bytes.
const MAX_SOCKET_PATH: usize = 107;

/// Why PostgreSQL is not there.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No binaries under `/usr/lib/postgresql`.
    #[error("PostgreSQL is not installed: no /usr/lib/postgresql/*/bin/initdb")]
    NotInstalled,
    /// The directory's path cannot be used.
    #[error("{0} cannot hold a PostgreSQL socket: its path is too long or has special characters")]
    Directory(PathBuf),
    /// A file could not be written.
    #[error("cannot prepare the directory")]
    Io(#[from] io::Error),
    /// One of PostgreSQL's programs failed.
    #[error("{program} failed: {message}")]
    Failed {
        /// Which.
        program: &'static str,
        /// What it said.
        message: String,
    },
}

/// A cluster's directory. It starts and stops with `start` and `stop`, not with this value.
#[derive(Debug, Clone)]
pub struct Postgres {
    directory: PathBuf,
    binaries: PathBuf,
}

impl Postgres {
    /// Names a cluster's directory, which need not exist.
    ///
    /// # Errors
    /// `NotInstalled`, or `Directory` when its path cannot be used.
    pub fn at(directory: &Path) -> Result<Self, PostgresError> {
        let directory = std::path::absolute(directory)?;
        let text = directory.to_string_lossy();
        let plain = text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/-_.+".contains(c));
        if !plain || directory.join(".s.PGSQL.5432").as_os_str().len() > MAX_SOCKET_PATH {
            return Err(PostgresError::Directory(directory));
        }
        Ok(Self {
            directory,
            binaries: find_binaries()?,
        })
    }

    /// Connection string for a user and a database.
    pub fn url(&self, user: &str, database: &str) -> String {
        format!(
            "host={} user={user} dbname={database}",
            self.directory.display()
        )
    }

    /// The cluster's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Path of one of PostgreSQL's programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// `<dir>/data`.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Makes the cluster if it is new, starts it unless it runs, and waits until it answers.
    ///
    /// # Errors
    /// `Failed` with what initdb or pg_ctl said.
    pub fn start(&self) -> Result<(), PostgresError> {
        self.start_with(&[])
    }

    /// The same for a cluster that is thrown away: its making does not wait for the disk. The server
    /// itself syncs each commit all the same.
    ///
    /// # Errors
    /// `Failed` with what initdb or pg_ctl said.
    pub fn start_temporary(&self) -> Result<(), PostgresError> {
        self.start_with(&["--no-sync"])
    }

    /// Whether the server runs.
    pub fn is_running(&self) -> bool {
        self.run("pg_ctl", &["-D", &self.data().to_string_lossy(), "status"])
            .is_ok()
    }

    fn start_with(&self, initdb: &[&str]) -> Result<(), PostgresError> {
        std::fs::create_dir_all(&self.directory)?;
        if let Some((uid, gid)) = postgres_user()? {
            chown(&self.directory, Some(uid), Some(gid))?;
        }
        std::fs::set_permissions(&self.directory, std::fs::Permissions::from_mode(0o700))?;
        let data = self.data();
        if !data.join("PG_VERSION").exists() {
            let data = data.to_string_lossy();
            let arguments = [
                "-D",
                &data,
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-locale",
            ];
            self.run("initdb", &[&arguments, initdb].concat())?;
        } else if self.is_running() {
            return Ok(());
        }
        self.configure()?;
        let log = self.directory.join("log");
        let arguments = [
            "-D",
            &data.to_string_lossy(),
            "-l",
            &log.to_string_lossy(),
            "-w",
            "start",
        ];
        self.run("pg_ctl", &arguments)
    }

    /// Stops the server by the process id in its data directory and waits for its end.
    ///
    /// # Errors
    /// `Failed` when it does not run.
    pub fn stop(&self, mode: StopMode) -> Result<(), PostgresError> {
        let mode = match mode {
            StopMode::Fast => "fast",
            StopMode::Immediate => "immediate",
        };
        let data = self.data();
        self.run(
            "pg_ctl",
            &["-D", &data.to_string_lossy(), "-m", mode, "-w", "stop"],
        )
    }

    /// Settings that differ from PostgreSQL's own; `fsync` and `synchronous_commit` stay on.
    fn configure(&self) -> Result<(), PostgresError> {
        let path = self.data().join("postgresql.auto.conf");
        let text = format!(
            "# Written at each start.\nlisten_addresses = ''\nunix_socket_directories = '{}'\n\
             unix_socket_permissions = 0700\ntimezone = 'UTC'\n",
            self.directory.display()
        );
        std::fs::write(&path, text)?;
        if let Some((uid, gid)) = postgres_user()? {
            chown(&path, Some(uid), Some(gid))?;
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(())
    }

    fn run(&self, program: &'static str, arguments: &[&str]) -> Result<(), PostgresError> {
        let path = self.program(program);
        let mut command = if postgres_user()?.is_some() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        let Output {
            status,
            stdout,
            stderr,
        } = command
            .args(arguments)
            .current_dir("/")
            .env("LC_ALL", "C")
            .output()?;
        if status.success() {
            return Ok(());
        }
        let said = [stdout, stderr].concat();
        let message = String::from_utf8_lossy(&said).trim().to_owned();
        Err(PostgresError::Failed { program, message })
    }
}

/// How to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Disconnects everyone and writes a checkpoint.
    Fast,
    /// As a crash: the next start recovers from the log.
    Immediate,
}

/// The newest installed version's programs.
fn find_binaries() -> Result<PathBuf, PostgresError> {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").map_err(|_| PostgresError::NotInstalled)?;
    versions
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let binaries = entry.path().join("bin");
            binaries
                .join("initdb")
                .exists()
                .then_some((version, binaries))
        })
        .max()
        .map(|(_, binaries)| binaries)
        .ok_or(PostgresError::NotInstalled)
}

/// User and group `postgres`, when this process is root; none when it may run PostgreSQL itself.
fn postgres_user() -> Result<Option<(u32, u32)>, io::Error> {
    let id = |arguments: &[&str]| -> Result<u32, io::Error> {
        let output = Command::new("id").args(arguments).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim()
            .parse()
            .map_err(|_| io::Error::other("there is no user postgres"))
    };
    if id(&["-u"])? != 0 {
        return Ok(None);
    }
    Ok(Some((id(&["-u", "postgres"])?, id(&["-g", "postgres"])?)))
}
