//! The real `sentrycam` process: its configuration, its start, its end by signal, and what its files say meanwhile.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use sentrycam::db::{self, Connection, schema};
use tempfile::TempDir;

use crate::fixture::wait_until;

/// A state directory with a configuration file in it.
pub struct Home(pub TempDir);

impl Home {
    /// An empty one; `edge.json` and `ca.pem` are expected in it where there is a cloud.
    pub fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes the configuration: the cloud's part, and `cameras` as they stand.
    pub fn configure(&self, cameras: &str) {
        let dir = self.0.path().display();
        let text = format!(
            "state_dir = \"{dir}\"\n[spool]\ndir = \"{dir}/clips\"\nmin_free = \"1 MiB\"\n\
             [cloud]\ncredentials_file = \"{dir}/edge.json\"\nca_file = \"{dir}/ca.pem\"\nheartbeat = \"5 s\"\n{cameras}"
        );
        std::fs::write(self.path("sentrycam.toml"), text).unwrap();
    }

    /// The running agent's database, to look at.
    pub fn reader(&self) -> Option<Connection> {
        schema::open_reader(&self.path(db::FILE_NAME)).ok()
    }

    /// One number of the database; nothing where it is not there yet.
    pub fn number(&self, sql: &str) -> Option<i64> {
        self.reader()?.query_row(sql, [], |r| r.get(0)).ok()
    }

    /// A copy of the database as it is on disk, opened aside, so that looking changes nothing of it.
    pub fn copy(&self) -> (TempDir, Connection) {
        let aside = tempfile::tempdir().unwrap();
        for suffix in ["", "-wal"] {
            let name = format!("{}{suffix}", db::FILE_NAME);
            if self.path(&name).exists() {
                std::fs::copy(self.path(&name), aside.path().join(&name)).unwrap();
            }
        }
        let conn = Connection::open(aside.path().join(db::FILE_NAME)).unwrap();
        (aside, conn)
    }
}

/// A running agent; dropping it kills it.
pub struct Agent(Child);

impl Agent {
    /// Starts it with `log` as its filter; what it prints is appended to `out` and `err` in its home.
    pub fn start(home: &Home, log: &str) -> Agent {
        Self::start_cut(home, log, None)
    }

    /// The same, to be cut at a step where one is named.
    pub fn start_cut(home: &Home, log: &str, step: Option<&str>) -> Agent {
        let append = |name| {
            File::options()
                .create(true)
                .append(true)
                .open(home.path(name))
        };
        let child = Command::new(env!("CARGO_BIN_EXE_sentrycam"))
            .arg("--config")
            .arg(home.path("sentrycam.toml"))
            .arg("run")
            .env("SENTRYCAM_LOG", log)
            .envs(step.map(|step| ("SENTRYCAM_FAIL_AT", step)))
            .stdout(append("out").unwrap())
            .stderr(append("err").unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        Agent(child)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    fn signal(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// Kills it and whatever it started, at once.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = kill_process_group(self.signal(), Signal::KILL);
            let _ = self.0.wait();
        }
    }

    /// Asks it to end, and waits for that.
    pub fn stop(mut self) -> ExitStatus {
        kill_process(self.signal(), Signal::TERM).unwrap();
        let mut status = None;
        wait_until(20, "the agent ends in order", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub fn runs(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.end();
    }
}

/// The last lines that it printed, for a test that fails.
pub fn last_words(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
