//! The real `sentrycam` process: its configuration, its start, its end by signal, and what its files say meanwhile.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use sentrycam::db::{self, Connection, schema};
use sentrycam::supervise::failpoint;
use tempfile::TempDir;

use crate::fixture::{ffprobe, wait_until};

/// A state directory with a configuration file in it. Every clip that a test leaves in it must play.
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

impl Drop for Home {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            for state in [self.0.path(), &self.path("state")] {
                assert_clips_play(state);
            }
        }
    }
}

/// Every clip of a state directory that its database calls kept decodes as a whole and begins with a key frame.
fn assert_clips_play(state: &Path) {
    if !state.join(db::FILE_NAME).exists() {
        return;
    }
    let Ok(conn) = schema::open_reader(&state.join(db::FILE_NAME)) else {
        return;
    };
    let Ok(mut rows) = conn.prepare("select path from recordings where state = 'kept'") else {
        return;
    };
    let paths = rows.query_map([], |r| r.get::<_, String>(0)).unwrap();
    for path in paths.filter_map(Result::ok) {
        let path = state.join("clips").join(path);
        // Some tests put other bytes in a clip's place.
        let is_mp4 = std::fs::read(&path).is_ok_and(|bytes| bytes.get(4..8) == Some(b"ftyp"));
        if is_mp4 {
            let probe = ffprobe(&path);
            let plays = probe.frames > 0 && probe.first_is_key && probe.complaints.is_empty();
            assert!(plays, "{}: {probe:?}", path.display());
        }
    }
}

/// A running agent; dropping it kills it.
pub struct Agent(Child);

impl Agent {
    /// Starts it with `log` as its filter; what it prints is appended to `out` and `err` in its home.
    pub fn start(home: &Home, log: &str) -> Agent {
        Self::start_with(home, log, &[])
    }

    /// Starts it to die at this place.
    pub fn start_to_die(home: &Home, place: &str) -> Agent {
        Self::start_with(home, "info", &[(failpoint::VARIABLE, place)])
    }

    /// The same, with more in its environment.
    pub fn start_with(home: &Home, log: &str, environment: &[(&str, &str)]) -> Agent {
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
            .envs(environment.iter().copied())
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
