//! A running QEMU machine: Debian 12 with systemd and the package, made by `root.sh`. What is changed on its root disk is
//! thrown away; commands go over a virtio port, so that they work without a network.

use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sentrycam::board::clock::Clock;
use tempfile::TempDir;

use crate::fixture::wait_until;
use crate::process::{Home, last_words};

/// The host, as the machine sees it: QEMU's user network.
pub const HOST: &str = "10.0.2.2";

/// For the machine's own boot, which nobody measures: software emulation, also of another architecture, on a machine that
/// builds beside.
const BOOT: Duration = Duration::from_secs(900);
const COMMAND: Duration = Duration::from_secs(240);

/// Where `root.sh` put it, or a word on how to make it.
fn built(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/vm")
        .join(name);
    assert!(path.exists(), "{} is missing: make vm", path.display());
    path
}

/// Runs a tool of the host.
pub fn tool(command: &mut Command) -> String {
    let out = command.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {text}{complaints}");
    text
}

/// An image with an ext4 of a directory's files, or an empty one.
pub fn ext4(image: &Path, from: Option<&Path>, mib: u32) {
    let mut command = Command::new("mkfs.ext4");
    command.args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"]);
    if let Some(dir) = from {
        command.arg("-d").arg(dir);
    }
    tool(command.arg(image).arg(format!("{mib}M")));
}

/// What is on an image of `/var/lib/sentrycam`, without mounting it.
pub fn dump(image: &Path) -> Home {
    let home = Home::new();
    let script = format!("rdump / {}", home.0.path().display());
    tool(Command::new("debugfs").arg("-R").arg(script).arg(image));
    home
}

/// The state on a card of the image: its root begins at 260 MiB.
fn dump_card(card: &Path) -> Home {
    let home = Home::new();
    let script = format!("rdump /var/lib/sentrycam {}", home.0.path().display());
    let root = format!("{}?offset={}", card.display(), 260 << 20);
    tool(Command::new("debugfs").arg("-R").arg(script).arg(root));
    let inner = home.path("sentrycam");
    for entry in std::fs::read_dir(&inner).unwrap() {
        let entry = entry.unwrap();
        std::fs::rename(entry.path(), home.path(entry.file_name().to_str().unwrap())).unwrap();
    }
    home
}

/// The disk of `/var/lib/sentrycam`.
pub enum Disk<'a> {
    /// An image.
    Plain(&'a Path),
    /// Its writes reach `image`; each and every flush is told in `log` too (Linux' dm-log-writes format).
    Logged { image: &'a Path, log: &'a Path },
}

/// What is written in an hour, in MiB.
pub struct Written {
    /// Of the block device, the file system's own journal and tables with it.
    pub disk: f64,
    /// By the agent's process.
    pub agent: f64,
    /// Commits of its database, not MiB.
    pub commits: f64,
    /// How much the clips grew.
    pub clips: f64,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Written {
            disk,
            agent,
            commits,
            clips,
        } = self;
        write!(
            f,
            "{disk:.0} MiB: {agent:.0} by the agent ({clips:.0} clips, {commits:.0} commits), the rest by the file system"
        )
    }
}

/// A machine that runs; dropping it is a power cut.
pub struct Machine {
    qemu: Child,
    dir: TempDir,
    control: BufReader<UnixStream>,
    monitor: BufReader<UnixStream>,
    /// Of the boot that said `ready` last.
    pub boot_id: String,
}

impl Machine {
    /// Boots it. `payload/setup.sh` runs in it, as root and before the agent; the directory is `/payload` there.
    pub fn boot(payload: &Path, disk: &Disk<'_>) -> Machine {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        ext4(&at("payload.img"), Some(payload), 64);
        let mut image = Command::new("qemu-img");
        image.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
        tool(image.arg(built("root.ext4")).arg(at("root.qcow2")));

        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.current_dir(dir.path());
        // Software emulation runs everywhere; SENTRYCAM_VM_ACCEL=kvm where that works.
        match std::env::var("SENTRYCAM_VM_ACCEL").as_deref() {
            Ok("kvm") => qemu.args(["-accel", "kvm", "-cpu", "host"]),
            _ => qemu.args(["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max"]),
        };
        qemu.args(
            "-M q35 -smp 2 -m 1024 -nodefaults -display none -serial file:console".split(' '),
        );
        qemu.arg("-kernel").arg(built("vmlinuz"));
        qemu.arg("-initrd").arg(built("initrd.img"));
        qemu.args([
            "-append",
            "root=/dev/vda rw console=ttyS0 quiet loglevel=4 panic=1 watchdog_thresh=60 systemd.journald.forward_to_console=1",
        ]);
        let drive = |qemu: &mut Command, id: &str, rest: &str| {
            qemu.args(["-drive", &format!("if=none,id={id},{rest}")]);
            qemu.args(["-device", &format!("virtio-blk-pci,drive={id}")]);
        };
        drive(
            &mut qemu,
            "root",
            "file=root.qcow2,format=qcow2,cache=unsafe",
        );
        drive(
            &mut qemu,
            "payload",
            "file=payload.img,format=raw,readonly=on",
        );
        match disk {
            Disk::Plain(image) => drive(
                &mut qemu,
                "data",
                &format!("file={},format=raw", image.display()),
            ),
            Disk::Logged { image, log } => {
                let file = |node: &str, path: &Path| {
                    format!("driver=file,node-name={node},filename={}", path.display())
                };
                qemu.args([
                    "-blockdev",
                    &file("data", image),
                    "-blockdev",
                    &file("log", log),
                ]);
                qemu.args([
                "-blockdev",
                "driver=blklogwrites,node-name=logged,file=data,log=log,log-sector-size=512,log-super-update-interval=1",
                "-device",
                "virtio-blk-pci,drive=logged,discard=off,write-zeroes=off",
            ]);
            }
        }
        Machine::launch(dir, qemu)
    }

    /// Boots a card of the image (`card.sh`) in `dir`, as a Raspberry Pi's firmware would: its kernel, its initrd, its command line.
    pub fn boot_card(dir: TempDir) -> Machine {
        let cmdline = std::fs::read_to_string(dir.path().join("cmdline.txt")).unwrap();
        let mut qemu = Command::new("qemu-system-aarch64");
        qemu.current_dir(dir.path());
        qemu.args(
            "-M virt,gic-version=3 -accel tcg,thread=multi,tb-size=512 -cpu cortex-a72".split(' '),
        );
        qemu.args("-smp 2 -m 1024 -nodefaults -display none -serial file:console".split(' '));
        qemu.args("-kernel vmlinuz -initrd initrd.img -append".split(' '));
        // The console of this machine; the rest is the card's.
        qemu.arg(format!("{} console=ttyAMA0 loglevel=4", cmdline.trim()));
        qemu.args("-drive if=none,id=card,file=card.img,format=raw,cache=unsafe".split(' '));
        qemu.args("-device virtio-blk-pci,drive=card".split(' '));
        Machine::launch(dir, qemu)
    }

    /// What every machine has: a network, a port for commands, a monitor.
    fn launch(dir: TempDir, mut qemu: Command) -> Machine {
        let at = |name: &str| dir.path().join(name);
        qemu.args(
            "-netdev user,id=net -device virtio-net-pci,netdev=net,id=nic -device virtio-rng-pci"
                .split(' '),
        );
        qemu.args(
            "-device virtio-serial -chardev socket,id=control,path=control,server=on,wait=off"
                .split(' '),
        );
        qemu.args("-device virtserialport,chardev=control,name=control".split(' '));
        qemu.args(
            "-chardev socket,id=qmp,path=qmp,server=on,wait=off -mon chardev=qmp,mode=control"
                .split(' '),
        );
        let log = std::fs::File::create(at("qemu.log")).unwrap();
        let qemu = qemu
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let qemu = qemu
            .spawn()
            .expect("QEMU is installed: make vm, make vm-arm64");
        let connect = |name: &str| {
            let mut stream = None;
            wait_until(30, "QEMU listens", || {
                stream = UnixStream::connect(at(name)).ok();
                stream.is_some()
            });
            BufReader::new(stream.unwrap())
        };
        let mut machine = Machine {
            control: connect("control"),
            monitor: connect("qmp"),
            qemu,
            dir,
            boot_id: String::new(),
        };
        machine.qmp(r#"{"execute":"qmp_capabilities"}"#);
        machine.wait_ready();
        machine
    }

    /// Waits until the machine, or the one that it restarted into, can be told what to do.
    pub fn wait_ready(&mut self) {
        self.boot_id = loop {
            let line = self.answer(BOOT);
            if let Some(id) = line.strip_prefix("ready ") {
                break id.to_owned();
            }
        };
    }

    /// A line from the machine.
    fn answer(&mut self, at_most: Duration) -> String {
        self.control
            .get_ref()
            .set_read_timeout(Some(at_most))
            .unwrap();
        let mut line = String::new();
        let read = self.control.read_line(&mut line);
        assert!(
            matches!(read, Ok(n) if n > 0),
            "the machine says nothing ({read:?}):\n{}\n{}",
            last_words(&self.dir.path().join("qemu.log")),
            last_words(&self.dir.path().join("console"))
        );
        line.trim_end().to_owned()
    }

    /// Runs a shell script as root; what it printed, and its exit code.
    pub fn try_run(&mut self, script: &str) -> (i32, String) {
        let line = format!("{}\n", BASE64.encode(script));
        self.control.get_mut().write_all(line.as_bytes()).unwrap();
        let answer = self.answer(COMMAND);
        let (rc, text) = answer.split_once(' ').unwrap_or((&answer, ""));
        let text = BASE64.decode(text).unwrap_or_default();
        let rc = rc
            .parse()
            .unwrap_or_else(|_| panic!("not an answer: {answer}"));
        (rc, String::from_utf8_lossy(&text).into_owned())
    }

    /// The same, of a script that must succeed; without the last line end.
    pub fn run(&mut self, script: &str) -> String {
        let (rc, text) = self.try_run(script);
        assert_eq!(rc, 0, "{script}:\n{text}\n{}", self.journal());
        text.trim_end().to_owned()
    }

    /// Runs it until it succeeds.
    pub fn wait(&mut self, at_most: Duration, what: &str, script: &str) -> String {
        let clock = Clock::default();
        let until = clock.mono() + at_most;
        loop {
            let (rc, text) = self.try_run(script);
            if rc == 0 {
                return text.trim_end().to_owned();
            }
            let late = clock.mono() > until;
            assert!(
                !late,
                "not within {at_most:?}: {what}\n{text}\n{}",
                self.journal()
            );
        }
    }

    /// The last lines of the agent, for a test that fails.
    pub fn journal(&mut self) -> String {
        self.try_run(
            "journalctl -u sentrycam -u vm-setup -n 40 --no-pager; systemctl --no-pager --failed",
        )
        .1
    }

    /// Looks for so many seconds at what is written to the state's disk.
    pub fn written(&mut self, seconds: u32) -> Written {
        let look = "echo $(awk '{printf \"%.0f\", $7 * 512}' /sys/block/vdc/stat) \
            $(awk '/^write_bytes/ {print $2}' /proc/$(systemctl show sentrycam -P MainPID)/io) \
            $(sentrycam status --json | sed -n 's/.*\"db_commits\": \\([0-9]*\\).*/\\1/p') \
            $(find /var/lib/sentrycam -path '*/clips/*.mp4*' | xargs -r cat | wc -c)";
        let text = self.run(&format!("sync; {look}; sleep {seconds}; sync; {look}"));
        let number = |n: &str| n.parse::<f64>().unwrap_or_else(|_| panic!("{text}"));
        let numbers: Vec<f64> = text.split_whitespace().map(number).collect();
        assert_eq!(numbers.len(), 8, "{text}");
        let hourly = |n: usize| (numbers[n + 4] - numbers[n]) * 3600.0 / f64::from(seconds);
        let mib = |n: usize| hourly(n) / f64::from(1 << 20);
        Written {
            disk: mib(0),
            agent: mib(1),
            commits: hourly(2),
            clips: mib(3),
        }
    }

    /// What it wrote to its console, the journal with it where the machine was told so.
    pub fn console(&self) -> String {
        let bytes = std::fs::read(self.dir.path().join("console"));
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    }

    /// One command of QEMU's monitor.
    pub fn qmp(&mut self, command: &str) {
        self.monitor
            .get_mut()
            .write_all(command.as_bytes())
            .unwrap();
        loop {
            let mut line = String::new();
            assert!(self.monitor.read_line(&mut line).unwrap() > 0, "QEMU ended");
            assert!(!line.contains("\"error\""), "{command}: {line}");
            if line.contains("\"return\"") {
                return;
            }
        }
    }

    /// Plugs the network cable in or out.
    pub fn network(&mut self, up: bool) {
        self.qmp(&format!(
            r#"{{"execute":"set_link","arguments":{{"name":"nic","up":{up}}}}}"#
        ));
    }

    /// The power goes: what the machine had in memory is gone.
    pub fn cut(self) {}

    /// The same, of a machine that another one follows.
    pub fn lose_power(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }

    /// Shuts down in order.
    pub fn power_off(mut self) {
        self.turn_off();
    }

    /// The same; what is on its card then.
    pub fn card(mut self) -> Home {
        self.turn_off();
        dump_card(&self.dir.path().join("card.img"))
    }

    fn turn_off(&mut self) {
        self.try_run("systemctl --no-block poweroff");
        wait_until(300, "the machine is off", || {
            !matches!(self.qemu.try_wait(), Ok(None))
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.lose_power();
        if std::thread::panicking() {
            let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/vm/failed.txt");
            // The words that a failed test prints are only the last ones.
            let _ = std::fs::write(kept, self.console());
        }
    }
}
