//! What systemd hears of the real agent: ready once a camera is up, a status line, the watchdog, the end.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use sentrycam::board::clock::Clock;

use crate::process::{Agent, Home};

/// The socket that systemd listens on.
pub struct Systemd(UnixDatagram);

impl Systemd {
    fn listen(home: &Home) -> Systemd {
        Systemd::at(&home.path("notify"))
    }

    pub fn at(path: &Path) -> Systemd {
        let socket = UnixDatagram::bind(path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        Systemd(socket)
    }

    /// Listens on a thread of its own; what comes tells of each time that the watchdog is fed.
    pub fn watch(self) -> mpsc::Receiver<()> {
        let (tx, fed) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n) = self.0.recv(&mut bytes) {
                let message = String::from_utf8_lossy(&bytes[..n]);
                if message.lines().any(|l| l == "WATCHDOG=1") && tx.send(()).is_err() {
                    break;
                }
            }
        });
        fed
    }

    /// Reads until a message holds this line; returns all of that message.
    fn hear(&self, line: &str) -> String {
        let mut bytes = [0; 4096];
        loop {
            let n = self.0.recv(&mut bytes).unwrap();
            let message = String::from_utf8_lossy(&bytes[..n]).into_owned();
            if message.lines().any(|l| l == line) {
                return message;
            }
        }
    }
}

fn start(home: &Home, watchdog_us: &str) -> Agent {
    let socket = home.path("notify");
    let environment = [
        ("NOTIFY_SOCKET", socket.to_str().unwrap()),
        ("WATCHDOG_USEC", watchdog_us),
    ];
    Agent::start_with(home, "info", &environment)
}

fn standalone(cameras: &str) -> Home {
    let home = Home::new();
    let dir = home.0.path().display();
    let text = format!("state_dir = \"{dir}\"\n[spool]\nmin_free = \"1 MiB\"\n{cameras}");
    std::fs::write(home.path("sentrycam.toml"), text).unwrap();
    home
}

#[test]
fn systemd_hears_ready_when_the_camera_is_up_then_the_watchdog_then_the_end() {
    let home = standalone("[[camera]]\nid = \"door\"\ntest = true\n");
    let systemd = Systemd::listen(&home);
    let clock = Clock::default();
    let began = clock.mono();
    let agent = start(&home, "3000000");
    let ready = systemd.hear("READY=1");
    let took = clock.mono().since(began);
    println!("start to READY with one camera: {took:?}");
    assert!(ready.contains("STATUS=1 of 1 cameras up"), "{ready}");
    systemd.hear("WATCHDOG=1");
    assert!(agent.stop().success());
    systemd.hear("STOPPING=1");
}

#[test]
fn a_camera_that_is_down_does_not_keep_the_agent_from_being_ready_and_is_named() {
    let home = standalone("[[camera]]\nid = \"yard\"\nfile = \"/nowhere.mp4\"\n");
    let systemd = Systemd::listen(&home);
    let agent = start(&home, "60000000");
    let ready = systemd.hear("READY=1");
    assert!(
        ready.contains("STATUS=0 of 1 cameras up (yard: "),
        "{ready}"
    );
    assert!(agent.stop().success());
}
