//! A standalone agent, asked through its own command line.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::fixture::wait_until;
use crate::process::{Agent, Home, last_words};

/// A running agent with a state directory of its own and no cloud.
pub struct Running {
    home: Home,
    agent: Option<Agent>,
}

impl Running {
    /// Starts the agent; `cameras` is the configuration without `state_dir`.
    pub fn start(cameras: &str) -> Running {
        let mut running = Running::prepare(cameras);
        running.launch(&[]);
        running
    }

    /// An agent that is not started, to be prepared.
    pub fn prepare(cameras: &str) -> Running {
        let home = Home::new();
        std::fs::create_dir(home.path("state")).unwrap();
        let running = Running { home, agent: None };
        running.configure(cameras);
        running
    }

    fn configure(&self, cameras: &str) {
        let state_dir = self.home.path("state");
        let config = format!("state_dir = \"{}\"\n{cameras}", state_dir.display());
        std::fs::write(self.home.path("sentrycam.toml"), config).unwrap();
    }

    /// Starts it, again where it ran before, with more in its environment.
    pub fn launch(&mut self, environment: &[(&str, &str)]) {
        self.agent = Some(Agent::start_with(&self.home, "info", environment));
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.kill();
        }
    }

    /// It has not ended.
    pub fn runs(&mut self) -> bool {
        self.agent.as_mut().is_some_and(Agent::runs)
    }

    /// The state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.home.path("state")
    }

    /// Runs a command and returns what it printed and how it ended.
    pub fn command(&self, command: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_sentrycam"))
            .arg("--config")
            .arg(self.home.path("sentrycam.toml"))
            .args(command)
            .output()
            .unwrap()
    }

    /// What a listing command answers with `--json`; `Null` while there is nothing to ask.
    pub fn ask(&self, command: &[&str]) -> Value {
        let out = Command::new(env!("CARGO_BIN_EXE_sentrycam"))
            .arg("--config")
            .arg(self.home.path("sentrycam.toml"))
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
        mut pick: impl FnMut(&Value) -> Option<T>,
    ) -> T {
        let mut found = None;
        let mut done = || {
            found = pick(&self.ask(command));
            found.is_some()
        };
        let waited = std::panic::AssertUnwindSafe(|| wait_until(seconds, what, &mut done));
        if std::panic::catch_unwind(waited).is_err() {
            panic!(
                "{what}; the agent's log:\n{}",
                last_words(&self.home.path("err"))
            );
        }
        found.unwrap()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path("err")).unwrap_or_default()
    }

    /// Ends the agent in order and says how it ended.
    pub fn stop(&mut self) -> Option<i32> {
        self.agent.take()?.stop().code()
    }

    pub fn clip_path(&self, clip: &Value) -> PathBuf {
        self.home
            .path("state/clips")
            .join(clip["path"].as_str().unwrap())
    }
}
