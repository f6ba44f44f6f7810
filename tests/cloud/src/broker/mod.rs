//! A private Mosquitto in a directory, for tests and the demo: TLS on loopback, nobody anonymous, every device in
//! its own topics only (section 5.4).
//!
//! ```text
//! <dir>/mosquitto.conf   written at each start     <dir>/mqtt.sock   the cloud's own way in
//! <dir>/ds.json    0600  clients, roles, hashes    <dir>/log         what the broker says
//! <dir>/logins.json 0600 the cloud's own passwords
//! ```
//! The cloud reaches its broker over the socket, so TLS on TCP is the only listener with a port. The process is
//! started, stopped, killed and frozen by its id; it does not outlive the process that started it, however that
//! one ends: a small shell, the guard, waits on a pipe.

mod control;
mod files;

use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cert::DevCert;
use crate::secret::SecretError;
pub use control::{Control, ControlError};
pub use files::Login;

/// How long Mosquitto may take to answer after its start, and to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kills the broker when the pipe closes. `$1` is its process id.
const GUARD: &str = r#"trap '' INT TERM HUP; cat > /dev/null; kill -KILL "$1" 2>/dev/null"#;

/// Why the broker is not there.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// There is no Mosquitto, or no plugin.
    #[error(
        "mosquitto with mosquitto_dynamic_security.so is not installed (Debian: apt-get install mosquitto)"
    )]
    NotInstalled,
    /// A file could not be written or a process not started.
    #[error("cannot prepare the broker")]
    Io(#[from] io::Error),
    /// No random bytes for passwords.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It ended, or did not answer in time.
    #[error("mosquitto did not start: {0}")]
    Start(String),
    /// It was asked to do something while it does not run.
    #[error("mosquitto does not run")]
    Stopped,
}

struct Running {
    process: Child,
    guard: Child,
}

/// A broker that ends with this value.
pub struct Broker {
    directory: PathBuf,
    port: u16,
    logins: files::Logins,
    running: Mutex<Option<Running>>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("directory", &self.directory)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Broker {
    /// Starts a broker in a directory on a free port of 127.0.0.1; clients of an earlier start are kept.
    ///
    /// # Errors
    /// When Mosquitto is not installed or does not start.
    pub fn start(directory: &Path, certificate: &DevCert) -> Result<Self, BrokerError> {
        Self::start_on(directory, certificate, 0)
    }

    /// The same on this port; 0 picks one.
    ///
    /// # Errors
    /// When Mosquitto is not installed or does not start.
    pub fn start_on(
        directory: &Path,
        certificate: &DevCert,
        port: u16,
    ) -> Result<Self, BrokerError> {
        std::fs::create_dir_all(directory)?;
        std::fs::write(directory.join("ca.pem"), &certificate.ca_pem)?;
        let (chain, key) = (
            certificate.cert_pem.as_bytes(),
            certificate.key_pem.as_bytes(),
        );
        Self::serving(directory, chain, key, port)
    }

    /// The same with any certificate chain and its key, PEM.
    ///
    /// # Errors
    /// When Mosquitto is not installed or does not start.
    pub fn serving(
        directory: &Path,
        chain: &[u8],
        key: &[u8],
        port: u16,
    ) -> Result<Self, BrokerError> {
        let directory = std::path::absolute(directory)?;
        std::fs::create_dir_all(&directory)?;
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700))?;
        std::fs::write(directory.join("cert.pem"), chain)?;
        files::write_private(&directory.join("key.pem"), key)?;
        let logins = files::prepare(&directory)?;
        let mut broker = Self {
            directory,
            port,
            logins,
            running: Mutex::new(None),
        };
        // A port that was free may be taken by the time Mosquitto binds it.
        let mut attempts = 3;
        loop {
            if port == 0 {
                broker.port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            }
            attempts -= 1;
            match broker.start_again() {
                Err(BrokerError::Start(_)) if port == 0 && attempts > 0 => {}
                other => return other.map(|()| broker),
            }
        }
    }

    /// The TLS listener's port; its name is `localhost`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The authority to trust, when it was started with one.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// The cloud's own way in: MQTT without TLS on a Unix socket in a directory of mode 0700.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("mqtt.sock")
    }

    /// Where clients, roles and password hashes are kept.
    pub fn clients_file(&self) -> PathBuf {
        self.directory.join("ds.json")
    }

    /// What the broker logged.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.directory.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Who makes and deletes clients.
    pub fn admin(&self) -> &Login {
        &self.logins.admin
    }

    /// The cloud itself: publishes to `edge/v1/+/down/#`, reads `edge/v1/+/up/#`.
    pub fn cloud(&self) -> &Login {
        &self.logins.cloud
    }

    /// Makes and deletes clients over the control topic; lives on without this value.
    pub fn control(&self) -> Control {
        Control::new(self.socket(), self.logins.admin.clone())
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running().as_ref().map(|running| running.process.id())
    }

    /// Starts it again after `stop` or `kill`, on the same port with the same clients; does nothing while it runs.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_again(&self) -> Result<(), BrokerError> {
        let mut running = self.running();
        if running.is_some() {
            return Ok(());
        }
        let (program, plugin) = find()?;
        let configuration = files::configuration(&self.directory, &plugin, self.port);
        let path = self.directory.join("mosquitto.conf");
        std::fs::write(&path, configuration)?;
        let socket = self.socket();
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let process = Command::new(program)
            .arg("-c")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let guard = Command::new("sh")
            .args(["-c", GUARD, "sh", &process.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        let mut started = match guard {
            Ok(guard) => Running { process, guard },
            Err(error) => {
                let mut process = process;
                let _ended = process.kill().and_then(|()| process.wait());
                return Err(error.into());
            }
        };
        let until = Instant::now() + PATIENCE;
        // The socket is the last listener of the configuration: when it answers, all do.
        while UnixStream::connect(&socket).is_err() {
            let ended = started.process.try_wait()?.is_some();
            if ended || Instant::now() > until {
                started.end(Signal::KILL);
                let log = self.log();
                let tail = log.lines().rev().take(3).collect::<Vec<_>>().join("; ");
                return Err(BrokerError::Start(tail));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        *running = Some(started);
        Ok(())
    }

    /// Stops it in order: it says goodbye and saves its sessions.
    pub fn stop(&self) {
        self.end(Signal::TERM);
    }

    /// Kills it as a crash would.
    pub fn kill(&self) {
        self.end(Signal::KILL);
    }

    /// Freezes it: connections stay open and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&self) -> Result<(), BrokerError> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen one go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&self) -> Result<(), BrokerError> {
        self.signal(Signal::CONT)
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: Signal) -> Result<(), BrokerError> {
        let running = self.running();
        let running = running.as_ref().ok_or(BrokerError::Stopped)?;
        let pid = Pid::from_child(&running.process);
        kill_process(pid, signal).map_err(|error| BrokerError::Io(error.into()))
    }

    fn end(&self, signal: Signal) {
        if let Some(mut running) = self.running().take() {
            running.end(signal);
        }
    }
}

impl Running {
    /// Signals, waits until the process is gone, then lets its guard go.
    fn end(&mut self, signal: Signal) {
        // A child that was not waited for keeps its id, so this cannot meet another process.
        if !matches!(self.process.try_wait(), Ok(Some(_))) {
            let pid = Pid::from_child(&self.process);
            let _gone = kill_process(pid, signal);
            let _thawed = kill_process(pid, Signal::CONT);
            let until = Instant::now() + PATIENCE;
            while matches!(self.process.try_wait(), Ok(None)) {
                if Instant::now() > until {
                    let _killed = self.process.kill();
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let _killed = self.guard.kill();
        let _ended = self.guard.wait();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Mosquitto and its plugin; Debian keeps the plugin below the architecture's library directory.
fn find() -> Result<(PathBuf, PathBuf), BrokerError> {
    let program = [
        "/usr/sbin/mosquitto",
        "/usr/bin/mosquitto",
        "/usr/local/sbin/mosquitto",
    ]
    .into_iter()
    .map(PathBuf::from)
    .find(|path| path.exists())
    .ok_or(BrokerError::NotInstalled)?;
    let plugin = ["/usr/lib", "/usr/local/lib"]
        .into_iter()
        .flat_map(|root| {
            let below = std::fs::read_dir(root).into_iter().flatten().flatten();
            std::iter::once(PathBuf::from(root)).chain(below.map(|entry| entry.path()))
        })
        .map(|directory| directory.join("mosquitto_dynamic_security.so"))
        .find(|path| path.exists())
        .ok_or(BrokerError::NotInstalled)?;
    Ok((program, plugin))
}
