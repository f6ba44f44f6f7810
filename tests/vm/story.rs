//! What the days of the installed package (`days`) are told with: a machine with a camera, a button and a light, the cloud
//! and an RTSP camera on the host, and a comparison of SQLite, PostgreSQL and files at the end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sentrycam::board::clock::Clock;
use sentrycam::time::Mono;
use sentrycam_cloud::command::Wanted;
use sentrycam_cloud::testing::Cloud;
use sentrycam_testcam::{Picture, Scene, TestCamera};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use super::cut::{self, Log};
use super::machine::{Disk, HOST, Machine, dump, ext4};
use crate::agent::{serve, small};
use crate::dice::Dice;
use crate::verdict::{self, Seen};

pub const AT_MOST: Duration = Duration::from_secs(180);
const DB: &str = "/var/lib/sentrycam/sentrycam.db";
/// The camera that the machine itself has.
const DOOR: &str = "/dev/v4l/by-path/platform-vivid.0-video-index0";

/// Makes the camera (vivid), the button (gpio-sim) and the light (uleds), and puts the files into their places.
const SETUP: &str = r#"set -eu
printf '10.0.2.2 localhost\n127.0.0.1 vm\n' >/etc/hosts
install -m 644 /payload/modprobe.conf /etc/modprobe.d/vm.conf
modprobe -a vivid gpio-sim uleds ledtrig-timer ledtrig-heartbeat ledtrig-pattern
button=/sys/kernel/config/gpio-sim/button
mkdir -p $button/bank0/line3
echo 4 >$button/bank0/num_lines
echo 1 >$button/live
echo pull-up >/sys/devices/platform/gpio-sim.0/gpiochip0/sim_gpio3/pull
{ printf light; head -c 59 /dev/zero; printf '\001\000\000\000'; } >/run/light
systemd-run -q --no-block --unit=vm-light -p DefaultDependencies=no sh -c 'exec 5<>/dev/uleds; cat /run/light >&5; exec sleep infinity'
until [ -e /sys/class/leds/light/trigger ]; do sleep 0.1; done
# vivid's own clock in the picture would be motion for ever.
v4l2-ctl -d /dev/video0 -c osd_text_mode=2
install -m 640 -g sentrycam /payload/sentrycam.toml /etc/sentrycam/sentrycam.toml
install -m 644 /payload/ca.pem /etc/sentrycam/ca.pem
# As docs/operations.md tells of lights that are not a Raspberry Pi's.
mkdir -p /run/systemd/system/sentrycam.service.d
printf '[Service]\nReadWritePaths=/sys/devices/virtual/misc/uleds/light\n' >/run/systemd/system/sentrycam.service.d/light.conf
systemctl daemon-reload
"#;

pub struct Story {
    pub cloud: Cloud,
    cameras: Vec<TestCamera>,
    pub machine: Machine,
    disk: TempDir,
    clock: Clock,
    began: Mono,
    payload: TempDir,
    seen: Seen,
}

pub fn camera(scene: Scene) -> TestCamera {
    serve(Picture {
        // It changes with every frame, which is motion.
        counter: false,
        ..small(scene)
    })
}

/// Boots it with the disk in `dir` as it is, and logs what is written to it.
fn boot(payload: &Path, dir: &Path) -> Machine {
    let (image, log) = (&dir.join("data.img"), &dir.join("log.img"));
    cut::copy(image, &dir.join("before.img"));
    File::create(log).unwrap().set_len(8 << 30).unwrap();
    Machine::boot(payload, &Disk::Logged { image, log })
}

fn sql_in(machine: &mut Machine, sql: &str) -> String {
    machine.run(&format!(
        "runuser -u sentrycam -- sqlite3 -readonly {DB} \"{sql}\""
    ))
}

impl Story {
    pub async fn new() -> Story {
        Story::on(false).await
    }

    /// With a disk of which each write is logged, so that the power can be cut.
    pub async fn with_a_power_switch() -> Story {
        Story::on(true).await
    }

    async fn on(logged: bool) -> Story {
        let clock = Clock::default();
        let began = clock.mono();
        let cloud = Cloud::builder().broker().storage().start().await.unwrap();
        let (payload, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| payload.path().join(name);
        let cameras = vec![
            camera(Scene {
                quiet: 8,
                motion: 2,
            }),
            camera(Scene {
                quiet: 36_000,
                motion: 1,
            }),
        ];
        for (name, yard) in [("sentrycam.toml", &cameras[0]), ("quiet.toml", &cameras[1])] {
            let recording = "[camera.recording]\npre_roll = \"2 s\"\npost_roll = \"2 s\"\nmax_event = \"10 s\"\n";
            let text = format!(
                "[spool]\nmin_free = \"64 MiB\"\n[cloud]\napi_base = \"{}\"\nca_file = \"/etc/sentrycam/ca.pem\"\n\
                 heartbeat = \"5 s\"\nannounce = false\nallow_private = [\"{HOST}/32\"]\n[mqtt]\nkeep_alive = \"5 s\"\n\
                 [board]\nbutton = \"gpio:/dev/gpiochip0:3\"\nled = \"light\"\n\
                 [[camera]]\nid = \"door\"\ndevice = \"{DOOR}\"\nformat = \"yuyv\"\nwidth = 320\nheight = 180\nfps = 10\n{recording}\
                 [[camera]]\nid = \"yard\"\nurl = \"{}\"\n{recording}",
                cloud.api_base(),
                yard.url().replace("127.0.0.1", HOST),
            );
            std::fs::write(at(name), text).unwrap();
        }
        std::fs::write(at("ca.pem"), cloud.ca_pem()).unwrap();
        std::fs::write(at("setup.sh"), SETUP).unwrap();
        std::fs::write(
            at("modprobe.conf"),
            "options vivid n_devs=1 num_inputs=1 input_types=0 node_types=1\n",
        )
        .unwrap();
        let image = disk.path().join("data.img");
        ext4(&image, None, 512);
        let machine = if logged {
            boot(payload.path(), disk.path())
        } else {
            Machine::boot(payload.path(), &Disk::Plain(&image))
        };
        Story {
            cloud,
            cameras,
            machine,
            disk,
            began,
            clock,
            payload,
            seen: Seen::default(),
        }
    }

    /// The power goes and comes back; the disk holds what was flushed, and of the rest what dice say.
    pub fn cut_the_power(&mut self, dice: &mut Dice) {
        for (table, of) in [
            ("events", &mut self.seen.events),
            ("recordings", &mut self.seen.clips),
            ("outbox where class < 3", &mut self.seen.records),
        ] {
            let sql = format!("select hex(id) from {table}");
            let text = sql_in(&mut self.machine, &sql);
            of.extend(text.lines().map(|id| id.parse::<Uuid>().unwrap()));
        }
        self.machine.lose_power();
        let at = |name: &str| self.disk.path().join(name);
        let log = Log::open(&at("log.img")).unwrap();
        cut::crash(&at("before.img"), &log, log.len(), dice, &at("data.img"));
        self.machine = boot(self.payload.path(), self.disk.path());
    }

    pub fn say(&self, what: &str) {
        println!(
            "{:6.0} s  {what}",
            self.clock.mono().since(self.began).as_secs_f64()
        );
    }

    fn status(&mut self) -> Value {
        let (_, text) = self.machine.try_run("sentrycam status --json 2>/dev/null");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Waits until the agent's status is so.
    pub fn wait_status(&mut self, what: &str, holds: impl Fn(&Value) -> bool) {
        let until = self.clock.mono().0 + AT_MOST.as_nanos() as u64;
        loop {
            let status = self.status();
            if holds(&status) {
                return;
            }
            let late = self.clock.mono().0 > until;
            assert!(!late, "not {what}: {status:#}\n{}", self.machine.journal());
        }
    }

    /// Waits until a clip is being written.
    pub fn wait_recording(&mut self) {
        self.wait_number(
            "a clip is being written",
            "select count(*) > 0 from recordings where state = 'recording'",
        );
    }

    /// A number that systemd has of the unit.
    pub fn unit(&mut self, property: &str) -> f64 {
        let script = format!("systemctl show sentrycam -P {property}");
        let text = self.machine.run(&script);
        text.parse()
            .unwrap_or_else(|_| panic!("{property}: {text}"))
    }

    /// Seconds of the machine's boot time.
    pub fn uptime(&mut self) -> f64 {
        let text = self.machine.run("cut -d ' ' -f 1 /proc/uptime");
        text.parse().unwrap()
    }

    fn sql(&mut self, sql: &str) -> String {
        sql_in(&mut self.machine, sql)
    }

    pub fn number(&mut self, sql: &str) -> i64 {
        self.sql(sql).parse().unwrap()
    }

    pub fn wait_number(&mut self, what: &str, sql: &str) {
        let script =
            format!("[ \"$(runuser -u sentrycam -- sqlite3 -readonly {DB} \"{sql}\")\" = 1 ]");
        self.machine.wait(AT_MOST, what, &script);
    }

    pub fn wait_ready(&mut self) {
        self.machine.wait(
            AT_MOST,
            "the agent is ready",
            "systemctl is-active sentrycam",
        );
    }

    pub fn wait_up(&mut self) {
        let up = |s: &Value, id: &str| s["cameras"][id]["state"] == "up";
        self.wait_status("both cameras are up", |s| up(s, "door") && up(s, "yard"));
    }

    /// What is written through a map ends the process where the disk is full: of the state disk it is nothing but SQLite's
    /// index, which has its blocks.
    pub fn assert_maps(&mut self) {
        self.machine.run(
            "maps=/proc/$(systemctl show sentrycam -P MainPID)/maps; grep -q /dev/shm/orcexec $maps &&
             ! grep /var/lib/sentrycam/ $maps | grep -v db-shm",
        );
    }

    pub async fn wait_cloud(&mut self, condition: &str) {
        self.wait_cloud_for(AT_MOST, condition).await;
    }

    pub async fn wait_cloud_for(&mut self, at_most: Duration, condition: &str) {
        if let Err(e) = self.cloud.wait_for(condition, at_most).await {
            panic!("{e:#}\n{}", self.machine.journal());
        }
    }

    /// An event that begins from now on ends, and is in both databases.
    pub async fn event(&mut self, camera: &str) {
        let id = self.local_event(camera);
        self.wait_arrived(id).await;
    }

    pub async fn wait_arrived(&mut self, id: Uuid) {
        self.wait_cloud(&format!(
            "(select status = 'ended' from events where event_uid = '{id}')"
        ))
        .await;
    }

    /// How many events the device has.
    pub fn events(&mut self, camera: &str) -> i64 {
        self.number(&format!(
            "select count(*) from events where camera_id = '{camera}'"
        ))
    }

    /// A script after which something has moved: it appears before the machine's own camera, and goes; run again where
    /// detection was still learning the scene. The yard's camera shows movement by itself.
    pub fn moves(camera: &str) -> String {
        let show = |on: u8| format!("v4l2-ctl -d {DOOR} -c show_square={on}; sleep 0.4;");
        match camera {
            "door" => (show(1) + &show(0)).repeat(4) + "sleep 8;",
            _ => String::new(),
        }
    }

    /// An event that begins from now on and ends, on the device; its id.
    pub fn local_event(&mut self, camera: &str) -> Uuid {
        let before = self.events(camera);
        let of = format!("from events where camera_id = '{camera}' and state = 'ended'");
        let sql = format!("select count(*) > {before} {of}");
        let moves = Self::moves(camera);
        let script = format!(
            "{moves} [ \"$(runuser -u sentrycam -- sqlite3 -readonly {DB} \"{sql}\")\" = 1 ]"
        );
        self.machine
            .wait(AT_MOST, &format!("an event at {camera}"), &script);
        let newest = format!("select hex(id) {of} order by boot desc, started_ns desc limit 1");
        self.sql(&newest).parse().unwrap()
    }

    fn pull(level: &str) -> String {
        format!("echo pull-{level} >/sys/devices/platform/gpio-sim.0/gpiochip0/sim_gpio3/pull;")
    }

    /// Holds the button so many seconds, so many times.
    fn press(&mut self, seconds: f64, times: u64) {
        let once = format!(
            "{} sleep {seconds}; {} sleep 0.2;",
            Self::pull("down"),
            Self::pull("up")
        );
        self.machine.run(&once.repeat(times as usize));
    }

    pub fn light(&mut self) -> String {
        let text = self.machine.run("cat /sys/class/leds/light/trigger");
        let chosen = text
            .split_once('[')
            .and_then(|(_, rest)| rest.split_once(']'));
        chosen.map_or(String::new(), |(name, _)| name.to_owned())
    }

    fn wait_light(&mut self, trigger: &str) {
        let script = format!("grep -F '[{trigger}]' /sys/class/leds/light/trigger");
        self.machine.wait(AT_MOST, trigger, &script);
    }

    /// Becomes somebody's by its button.
    pub async fn claim(&mut self) {
        self.press(3.4, 1);
        self.wait_status("a window is open", |s| s["claim"]["state"] == "open");
        let open = "(select count(*) = 1 from device_claiming_queue where state = 'open')";
        self.wait_cloud(open).await;
        let sql = "select claim_id from device_claiming_queue where state = 'open'";
        let window = self.cloud.query(sql).await.unwrap()[0]["claim_id"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let asked = self.cloud.bind_by_button(window, "vm").await.unwrap();
        self.wait_status("it asks for presses", |s| {
            s["claim"]["state"] == "challenge"
        });
        self.press(0.15, asked["press"].as_u64().unwrap());
        self.wait_status("it is claimed", |s| s["claim"]["state"] == "claimed");
        self.wait_light("heartbeat");
        self.say("claimed by the button; the light says so");
    }

    /// Lets everything be sent, shuts down in order, and compares.
    pub async fn finish(mut self) {
        self.cameras.clear();
        self.wait_number(
            "everything is closed and sent",
            "select not exists (select 1 from outbox where class < 3) and not exists (select 1 from recordings where state = 'recording')
                and not exists (select 1 from events where state = 'active') and not exists (select 1 from uploads)",
        );
        self.machine
            .run("systemctl stop sentrycam && umount /var/lib/sentrycam");
        let image: PathBuf = self.disk.path().join("data.img");
        self.machine.power_off();
        let home = dump(&image);
        self.seen.look(&home.copy().1);
        let verdict = verdict::compare(&self.cloud, &home, &self.seen).await;
        for note in &verdict.notes {
            println!("{note}");
        }
        println!("{}\n{verdict}", verdict.figures);
        assert_eq!(
            (verdict.lost, verdict.doubled, verdict.unplayable),
            (0, 0, 0)
        );
    }

    pub async fn command(&mut self, kind: &str, args: Value) -> Value {
        let devices = self
            .cloud
            .query("select edge_id from devices")
            .await
            .unwrap();
        let edge = devices[0]["edge_id"].as_str().unwrap().to_owned();
        let sent = self
            .cloud
            .send_command(&edge, Wanted::new(kind, args))
            .await
            .unwrap();
        let id = sent["id"].as_str().unwrap().parse().unwrap();
        let ended = self.cloud.wait_command(id, AT_MOST).await;
        ended.unwrap_or_else(|e| panic!("{e:?}\n{}", self.machine.journal()))
    }
}
