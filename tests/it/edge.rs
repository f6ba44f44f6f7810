//! A box that may have no owner yet: the real process, its command line, its button and its light.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use sentrycam::db::schema;
use sentrycam_cloud::testing::Cloud;
use serde_json::Value;

use crate::fixture::wait_until;
use crate::process::{Agent, Home, last_words};

/// The box.
pub struct Edge {
    pub home: Home,
    agent: Option<Agent>,
}

impl Edge {
    /// Configured for a cloud, not started.
    pub fn of(cloud: &Cloud) -> Edge {
        let home = Home::new();
        std::fs::write(home.path("ca.pem"), cloud.ca_pem()).unwrap();
        std::fs::create_dir(home.path("led")).unwrap();
        for (name, text) in [
            ("max_brightness", "1"),
            ("brightness", "0"),
            ("delay_on", ""),
            ("delay_off", ""),
            ("pattern", ""),
        ] {
            std::fs::write(home.path("led").join(name), text).unwrap();
        }
        let dir = home.0.path().display();
        let text = format!(
            "state_dir = \"{dir}/state\"\n[spool]\nmin_free = \"1 MiB\"\n\
             [cloud]\napi_base = \"{}\"\nca_file = \"{dir}/ca.pem\"\nheartbeat = \"5 s\"\nannounce = false\n\
             claim_code_file = \"{dir}/claim.txt\"\n[board]\nbutton = \"pipe:{dir}/button\"\nled = \"{dir}/led\"\n",
            cloud.api_base()
        );
        std::fs::write(home.path("sentrycam.toml"), text).unwrap();
        Edge { home, agent: None }
    }

    /// The same, running.
    pub fn start(cloud: &Cloud) -> Edge {
        let mut edge = Edge::of(cloud);
        edge.run(None);
        edge
    }

    /// Starts the agent, to be cut at a step where one is named.
    pub fn run(&mut self, step: Option<&str>) {
        // The kernel always lists every trigger.
        let triggers = "none timer heartbeat pattern";
        std::fs::write(self.home.path("led/trigger"), triggers).unwrap();
        let agent = match step {
            Some(step) => Agent::start_to_die(&self.home, step),
            None => Agent::start(&self.home, "info"),
        };
        self.agent = Some(agent);
        self.wait("it answers", |s| s["claim"]["state"].is_string());
    }

    /// Starts it without waiting for an answer.
    pub fn run_to_its_end(&mut self, step: &str) {
        self.agent = Some(Agent::start_to_die(&self.home, step));
        self.wait_for_its_end();
    }

    pub fn runs(&mut self) -> bool {
        self.agent.as_mut().is_some_and(Agent::runs)
    }

    pub fn wait_for_its_end(&mut self) {
        wait_until(30, "it was cut", || !self.runs());
        self.agent = None;
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.agent.as_ref().map(Agent::pid).unwrap()
    }

    pub fn stop(&mut self) {
        self.agent.take().unwrap().stop();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sentrycam"));
        command
            .arg("--config")
            .arg(self.home.path("sentrycam.toml"))
            .args(args);
        command
    }

    /// Runs a command to its end.
    pub fn cli(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub fn status(&self) -> Value {
        serde_json::from_slice(&self.cli(&["status", "--json"]).stdout).unwrap_or(Value::Null)
    }

    /// Waits for something in `status`.
    pub fn wait(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut status = Value::Null;
        let mut done = || {
            status = self.status();
            holds(&status)
        };
        let waited = std::panic::AssertUnwindSafe(|| wait_until(40, what, &mut done));
        if std::panic::catch_unwind(waited).is_err() {
            panic!("{what}: {}\n{status}", self.log());
        }
        status
    }

    pub fn wait_for(&self, state: &str) -> Value {
        self.wait(state, |s| s["claim"]["state"] == state)
    }

    /// A text of its store.
    pub fn text(&self, sql: &str) -> Option<String> {
        let store = schema::open_reader(&self.home.path("state/sentrycam.db")).unwrap();
        store.query_row(sql, [], |row| row.get(0)).ok()
    }

    pub fn log(&self) -> String {
        last_words(&self.home.path("err"))
    }

    pub fn credentials(&self, name: &str) -> PathBuf {
        self.home.path("state/credentials").join(name)
    }

    pub fn edge_id(&self) -> String {
        let text = std::fs::read_to_string(self.credentials("current.json")).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        value["edge_id"].as_str().unwrap().to_owned()
    }

    /// Exactly claimed, with nothing half done beside it.
    pub fn is_claimed(&self) -> bool {
        let there = |name: &str| self.credentials(name).exists();
        assert!(!there("pending.json") && !there(".pending.json.new") && !there("next.json"));
        there("current.json")
    }

    /// Opens a window from the command line.
    pub fn claim(&self, args: &[&str]) -> Claiming {
        let mut child = self
            .command(&[&["claim", "--json"], args].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Claiming { child, out }
    }

    /// Claims it with its user code.
    pub async fn claim_for(&self, cloud: &Cloud) {
        let mut claiming = self.claim(&[]);
        let code = claiming.user_code();
        cloud.bind(&code, "box").await.unwrap();
        assert!(claiming.ends_well(), "{}", self.log());
    }

    /// Holds the button for so long, or presses it so often.
    pub fn hold(&self, time: Duration) {
        let mut pipe = self.button();
        pipe.write_all(b"1").unwrap();
        std::thread::sleep(time);
        pipe.write_all(b"0").unwrap();
    }

    pub fn press(&self, times: u64) {
        for _ in 0..times {
            self.hold(Duration::from_millis(200));
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Presses the button and does not let go.
    pub fn press_down(&self) {
        self.button().write_all(b"1").unwrap();
    }

    fn button(&self) -> std::fs::File {
        let path = self.home.path("button");
        std::fs::OpenOptions::new().write(true).open(path).unwrap()
    }

    /// What the light shows: the trigger, and the rate where it blinks.
    pub fn light(&self) -> (String, String) {
        let read = |name| std::fs::read_to_string(self.home.path("led").join(name)).unwrap();
        (read("trigger"), read("delay_on"))
    }

    pub fn wait_for_light(&self, trigger: &str, delay: &str) {
        let wanted = (trigger.to_owned(), delay.to_owned());
        wait_until(20, &format!("the light shows {wanted:?}"), || {
            let (trigger, delay) = self.light();
            trigger == wanted.0 && (wanted.1.is_empty() || delay == wanted.1)
        });
    }
}

/// `sentrycam claim --json` at work.
pub struct Claiming {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Claiming {
    /// The next state; `None` at the end.
    pub fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        serde_json::from_str(&line).ok()
    }

    /// Waits for a state.
    pub fn until(&mut self, state: &str) -> Value {
        loop {
            let now = self.next().unwrap_or_else(|| panic!("never {state}"));
            if now["state"] == state {
                return now;
            }
        }
    }

    pub fn user_code(&mut self) -> String {
        let open = self.until("open");
        assert!(open["closes_in_s"].as_u64().unwrap() <= 600);
        open["user_code"].as_str().unwrap().to_owned()
    }

    /// Waits for its end; whether the device is claimed.
    pub fn ends_well(mut self) -> bool {
        while self.next().is_some() {}
        self.child.wait().unwrap().success()
    }

    /// Waits for its end and tells why the device is not claimed.
    pub fn ends_with(mut self) -> String {
        let mut last = Value::Null;
        while let Some(status) = self.next() {
            last = status;
        }
        assert!(!self.child.wait().unwrap().success(), "{last}");
        last["ended"][0].as_str().unwrap_or_default().to_owned()
    }
}

impl Drop for Claiming {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
