//! The real binary as a child process: configured by text, asked through its own command line, killed when dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::wait_until;

pub const BINARY: &str = env!("CARGO_BIN_EXE_sentrycam");

/// A running agent with a state directory of its own.
pub struct Running {
    dir: TempDir,
    child: Child,
}

impl Running {
    /// Starts the agent; `cameras` is the configuration without `state_dir`.
    pub fn start(cameras: &str) -> Running {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "state_dir = \"{}\"\n{cameras}",
            dir.path().join("state").display()
        );
        std::fs::write(dir.path().join("sentrycam.toml"), config).unwrap();
        let child = spawn(dir.path());
        Running { dir, child }
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// What a listing command answers with `--json`; `Null` while there is nothing to ask.
    pub fn ask(&self, command: &[&str]) -> Value {
        let out = Command::new(BINARY)
            .arg("--config")
            .arg(self.dir.path().join("sentrycam.toml"))
            .args(command)
            .arg("--json")
            .output()
            .unwrap();
        serde_json::from_slice(&out.stdout).unwrap_or(Value::Null)
    }

    /// Waits for something in an answer and returns what `pick` found.
    pub fn wait<T>(
        &self,
        seconds: u64,
        command: &[&str],
        what: &str,
        pick: impl Fn(&Value) -> Option<T>,
    ) -> T {
        let mut found = None;
        let mut done = || {
            found = pick(&self.ask(command));
            found.is_some()
        };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(seconds, what, &mut done)
        }));
        if result.is_err() {
            panic!(
                "not within {seconds} s: {what}; the agent's log:\n{}",
                self.log()
            );
        }
        found.unwrap()
    }

    /// Ends the agent in order and says how it ended.
    pub fn stop(&mut self) -> Option<i32> {
        Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .unwrap();
        wait_until(20, "the agent ends", || {
            self.child.try_wait().unwrap().is_some()
        });
        self.child.wait().unwrap().code()
    }

    pub fn clip_path(&self, clip: &Value) -> PathBuf {
        self.state()
            .join("clips")
            .join(clip["path"].as_str().unwrap())
    }
}

fn spawn(dir: &Path) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))
        .unwrap();
    Command::new(BINARY)
        .arg("--config")
        .arg(dir.join("sentrycam.toml"))
        .arg("run")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
