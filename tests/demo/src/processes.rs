//! The camera and the agent as child processes: started by path, ended by process id, killed when dropped.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use sentrycam_cloud::testing::Cloud;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// The demo's own RTSP camera.
pub struct Camera {
    /// Where it is.
    pub url: String,
    /// What it shows.
    pub what: String,
    _child: Child,
}

impl Camera {
    /// Serves the footage, or a test scene without it.
    pub async fn start(bin: &Path, footage: Option<&Path>) -> Result<Camera> {
        let mut command = Command::new(bin.join("sentrycam-testcam"));
        let what = match footage.filter(|f| f.exists()) {
            Some(file) => {
                command.arg("--file").arg(file).arg("--loop");
                format!("real footage, {}", file.display())
            }
            None => {
                command.args([
                    "--pattern",
                    "1280x720@15",
                    "--scene",
                    "quiet=8,motion=6",
                    "--counter",
                ]);
                "a test scene: 8 s quiet, 6 s motion".into()
            }
        };
        // It ends when this process does, however that ends.
        command
            .arg("--until-stdin-closes")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command
            .kill_on_drop(true)
            .spawn()
            .context("cannot start sentrycam-testcam")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = tokio::time::timeout(Duration::from_secs(20), async {
            while let Some(line) = lines.next_line().await? {
                if let Some(url) = line.strip_prefix("ready ") {
                    return Ok(url.split_whitespace().next().unwrap_or_default().to_owned());
                }
            }
            bail!("the camera ended")
        })
        .await
        .context("the camera does not become ready")??;
        Ok(Camera {
            url: ready,
            what,
            _child: child,
        })
    }
}

/// The agent.
pub struct Agent {
    /// Its log.
    pub log: PathBuf,
    program: PathBuf,
    config: PathBuf,
    child: Child,
}

impl Agent {
    /// Writes its configuration, without an owner, and starts it.
    pub fn start(bin: &Path, state: &Path, camera: &str, cloud: &Cloud) -> Result<Agent> {
        let source = if camera.contains("://") {
            "url"
        } else {
            "device"
        };
        let text = |p: &Path| Value::from(p.display().to_string()).to_string();
        let toml = format!(
            "state_dir = {}\n[cloud]\napi_base = {}\nca_file = {}\nheartbeat = \"10 s\"\nannounce = false\n\
             allow_private = [\"127.0.0.0/8\", \"::1\"]\n\
             [[camera]]\nid = \"demo\"\nname = \"Demo camera\"\n{source} = {}\n",
            text(&state.join("agent")),
            Value::from(cloud.api_base()),
            text(&cloud.ca_path()),
            Value::from(camera),
        );
        let config = state.join("sentrycam.toml");
        write_private(&config, &toml)?;
        let log = state.join("agent.log");
        let program = bin.join("sentrycam");
        let child = Command::new(&program)
            .arg("--config")
            .arg(&config)
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            // Its own group: Ctrl-C reaches the demo, which ends the agent in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start sentrycam")?;
        Ok(Agent {
            log,
            program,
            config,
            child,
        })
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Its exit status, if it has ended.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until it answers questions.
    pub async fn answers(&mut self) -> Result<()> {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        let wait = async {
            while self.ask("status").await?["claim"].is_null() {
                if let Some(status) = self.exited()? {
                    bail!(
                        "the agent ended with {status}; its log is {}",
                        self.log.display()
                    );
                }
                tick.tick().await;
            }
            Ok(())
        };
        tokio::time::timeout(Duration::from_secs(20), wait)
            .await
            .context("the agent does not answer")?
    }

    /// What one of its listing commands says (`status`, `events`, `clips`). `Null` while there is nothing to ask.
    pub async fn ask(&self, command: &str) -> Result<Value> {
        let output = Command::new(&self.program)
            .arg("--config")
            .arg(&self.config)
            .args([command, "--json"])
            .output()
            .await?;
        Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    /// Opens a claim window, as `sentrycam claim` does; it says how it stands until the window is closed.
    pub fn claiming(&self) -> Result<Child> {
        Command::new(&self.program)
            .arg("--config")
            .arg(&self.config)
            .args(["claim", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start sentrycam claim")
    }

    /// Ends it in order.
    pub async fn stop(&mut self) -> Result<()> {
        let pid = self.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().await?;
        let status = tokio::time::timeout(Duration::from_secs(20), self.child.wait())
            .await
            .context("the agent does not end")??;
        if !status.success() {
            bail!(
                "the agent ended with {status}; its log is {}",
                self.log.display()
            );
        }
        Ok(())
    }
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
