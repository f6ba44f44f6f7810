//! A day in the life of the installed package: owner by the button, motion, upload, commands, a restart by command, and
//! everything that goes wrong, one after the other in one machine; at the end SQLite, PostgreSQL and files are compared.
//! Prints the figures of `docs/reports/vm.md`.

use std::path::PathBuf;
use std::time::Duration;

use sentrycam::board::clock::Clock;
use sentrycam_cloud::command::Wanted;
use sentrycam_cloud::testing::Cloud;
use sentrycam_testcam::{Codec, Options, Picture, Scene, Source, TestCamera};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::machine::{Disk, HOST, Machine, dump, ext4};
use crate::verdict::{self, Seen};

const AT_MOST: Duration = Duration::from_secs(180);
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

struct Story {
    cloud: Cloud,
    cameras: Vec<TestCamera>,
    machine: Machine,
    disk: TempDir,
    clock: Clock,
    _payload: TempDir,
}

pub(super) fn camera(scene: Scene) -> TestCamera {
    let picture = Picture {
        width: 320,
        height: 180,
        fps: 10,
        gop: 10,
        scene,
        ..Picture::default()
    };
    let source = Source::Pattern(picture, Codec::H264);
    TestCamera::start(Options {
        source,
        ..Options::default()
    })
    .unwrap()
}

impl Story {
    async fn new() -> Story {
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
        let machine = Machine::boot(payload.path(), &Disk::Plain(&image));
        Story {
            cloud,
            cameras,
            machine,
            disk,
            clock: Clock::default(),
            _payload: payload,
        }
    }

    fn say(&self, what: &str) {
        println!("{:6.0} s  {what}", self.clock.mono().0 as f64 / 1e9);
    }

    fn status(&mut self) -> Value {
        let (_, text) = self.machine.try_run("sentrycam status --json 2>/dev/null");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Waits until the agent's status is so.
    fn wait_status(&mut self, what: &str, holds: impl Fn(&Value) -> bool) {
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

    /// A number that systemd has of the unit.
    fn unit(&mut self, property: &str) -> f64 {
        let script = format!("systemctl show sentrycam -P {property}");
        let text = self.machine.run(&script);
        text.parse()
            .unwrap_or_else(|_| panic!("{property}: {text}"))
    }

    /// Seconds of the machine's boot time.
    fn uptime(&mut self) -> f64 {
        let text = self.machine.run("cut -d ' ' -f 1 /proc/uptime");
        text.parse().unwrap()
    }

    fn sql(&mut self, sql: &str) -> String {
        self.machine.run(&format!(
            "runuser -u sentrycam -- sqlite3 -readonly {DB} \"{sql}\""
        ))
    }

    fn number(&mut self, sql: &str) -> i64 {
        self.sql(sql).parse().unwrap()
    }

    fn wait_number(&mut self, what: &str, sql: &str) {
        let script =
            format!("[ \"$(runuser -u sentrycam -- sqlite3 -readonly {DB} \"{sql}\")\" = 1 ]");
        self.machine.wait(AT_MOST, what, &script);
    }

    fn wait_ready(&mut self) {
        self.machine.wait(
            AT_MOST,
            "the agent is ready",
            "systemctl is-active sentrycam",
        );
    }

    fn wait_up(&mut self) {
        let up = |s: &Value, id: &str| s["cameras"][id]["state"] == "up";
        self.wait_status("both cameras are up", |s| up(s, "door") && up(s, "yard"));
    }

    async fn wait_cloud(&mut self, condition: &str) {
        if let Err(e) = self.cloud.wait_for(condition, AT_MOST).await {
            panic!("{e:#}\n{}", self.machine.journal());
        }
    }

    /// An event that begins from now on ends, and is in both databases.
    async fn event(&mut self, camera: &str) {
        let id = self.local_event(camera);
        self.wait_arrived(id).await;
    }

    async fn wait_arrived(&mut self, id: Uuid) {
        self.wait_cloud(&format!(
            "(select status = 'ended' from events where event_uid = '{id}')"
        ))
        .await;
    }

    /// An event that begins from now on and ends, on the device; its id.
    fn local_event(&mut self, camera: &str) -> Uuid {
        let before = self.number(&format!(
            "select count(*) from events where camera_id = '{camera}'"
        ));
        let of = format!("from events where camera_id = '{camera}' and state = 'ended'");
        let sql = format!("select count(*) > {before} {of}");
        // Something appears before the machine's own camera, and goes; again where detection was still learning the scene.
        let show = |on: u8| format!("v4l2-ctl -d {DOOR} -c show_square={on}; sleep 0.4;");
        let moves = match camera {
            "door" => (show(1) + &show(0)).repeat(4) + "sleep 8;",
            _ => String::new(),
        };
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

    fn light(&mut self) -> String {
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
    async fn claim(&mut self) {
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
    async fn finish(mut self) {
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
        let mut seen = Seen::default();
        seen.look(&home.copy().1);
        let verdict = verdict::compare(&self.cloud, &home, &seen).await;
        for note in &verdict.notes {
            println!("{note}");
        }
        println!("{}\n{verdict}", verdict.figures);
        assert_eq!(
            (verdict.lost, verdict.doubled, verdict.unplayable),
            (0, 0, 0)
        );
    }

    async fn command(&mut self, kind: &str, args: Value) -> Value {
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

    /// KiB that were written to the state's disk in so many seconds, as MiB an hour.
    fn written(&mut self, seconds: u32) -> f64 {
        let script = format!(
            "sync; a=$(awk '{{print $7}}' /sys/block/vdc/stat)
             sleep {seconds}; echo $(($(awk '{{print $7}}' /sys/block/vdc/stat) - a))"
        );
        let sectors: f64 = self.machine.run(&script).parse().unwrap();
        sectors * 512.0 / 1_048_576.0 * 3600.0 / f64::from(seconds)
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make vm-test"]
async fn the_installed_package_lives_through_a_day() {
    let mut s = Story::new().await;
    s.say("booted");
    s.wait_ready();
    s.wait_up();
    let ready =
        (s.unit("ActiveEnterTimestampMonotonic") - s.unit("ExecMainStartTimestampMonotonic")) / 1e6;
    s.say(&format!(
        "READY {ready:.1} s after the start, with two cameras"
    ));
    let exposure = s
        .machine
        .run("systemd-analyze security sentrycam --no-pager | tail -n 1");
    s.say(&exposure);
    s.machine
        .run("systemd-analyze security --threshold=15 sentrycam >/dev/null");
    assert_eq!(s.light(), "timer", "nobody owns it");

    s.claim().await;

    s.event("yard").await;
    s.event("door").await;
    let uploaded =
        "(select count(distinct camera_id) = 2 from recordings where status = 'available')";
    s.wait_cloud(uploaded).await;
    s.say("motion of both cameras is in the cloud, its clips in the storage");

    let args = json!({ "camera_id": "door", "snapshot_id": Uuid::now_v7(), "max_width": 320 });
    let end = s.command("snapshot", args).await;
    assert_eq!(end["status"], "succeeded", "{end}");
    let memory = s.unit("MemoryCurrent") / 1_048_576.0;
    let rss = s
        .machine
        .run("awk '/VmRSS/ {print $2}' /proc/$(systemctl show sentrycam -P MainPID)/status");
    s.say(&format!(
        "a snapshot by command; memory of the unit {memory:.0} MiB, RSS {rss} KiB"
    ));
    let busy = s.written(60);
    s.say(&format!("busy: {busy:.0} MiB an hour are written"));

    let before = s.machine.boot_id.clone();
    let devices = s.cloud.query("select edge_id from devices").await.unwrap();
    let edge = devices[0]["edge_id"].as_str().unwrap();
    let sent = s
        .cloud
        .send_command(edge, Wanted::new("reboot", json!({})))
        .await
        .unwrap();
    s.machine.wait_ready();
    assert_ne!(s.machine.boot_id, before);
    let end = s
        .cloud
        .wait_command(sent["id"].as_str().unwrap().parse().unwrap(), AT_MOST)
        .await
        .unwrap();
    assert_eq!(end["status"], "succeeded", "{end}");
    s.wait_ready();
    s.wait_up();
    s.say("restarted by command, proved by another boot");

    s.machine
        .run("echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind");
    s.wait_status("the camera is missed", |s| {
        s["cameras"]["door"]["state"] != "up"
    });
    s.event("yard").await;
    s.machine
        .run("echo vivid.0 >/sys/bus/platform/drivers/vivid/bind; sleep 1; v4l2-ctl -d /dev/v4l/by-path/platform-vivid.0-video-index0 -c osd_text_mode=2");
    s.wait_up();
    s.event("door").await;
    s.say("the camera was unplugged and is back");

    s.machine.network(false);
    let id = s.local_event("door");
    s.wait_status("it misses the cloud", |s| s["sync"]["state"] != "ok");
    s.machine.network(true);
    s.wait_arrived(id).await;
    s.wait_up();
    s.say("the network was gone and is back");

    s.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make vm-test"]
async fn the_installed_package_lives_through_a_bad_day() {
    let mut s = Story::new().await;
    s.wait_ready();
    s.wait_up();
    s.claim().await;

    s.machine
        .run("systemctl stop sentrycam; date -s '1970-01-01 00:10:00'; systemctl start sentrycam");
    s.wait_up();
    let id = s.local_event("door");
    let now = s
        .cloud
        .query("select extract(epoch from now())::bigint as now")
        .await
        .unwrap()[0]["now"]
        .clone();
    s.machine.run(&format!("date -s @{now}"));
    s.wait_arrived(id).await;
    let right = format!(
        "(select occurred_at > now() - interval '1 hour' from events where event_uid = '{id}')"
    );
    s.wait_cloud(&right).await;
    s.say("the clock was in 1970; what was recorded then has its right time");

    s.machine
        .run("fallocate -l $(($(df -B1 --output=avail /var/lib/sentrycam | tail -n 1) - 65536)) /var/lib/sentrycam/fill");
    s.wait_status("the disk is full", |s| s["storage"]["state"] == "full");
    s.event("door").await;
    s.machine.run("rm /var/lib/sentrycam/fill");
    s.wait_status("the disk has room", |s| s["storage"]["state"] == "ok");
    s.event("door").await;
    s.say("the disk was full: events went on");

    let restarts = s.unit("NRestarts");
    s.machine
        .run("kill -STOP $(systemctl show sentrycam -P MainPID)");
    let script = format!("[ $(systemctl show sentrycam -P NRestarts) -gt {restarts} ]");
    s.machine.wait(AT_MOST, "the watchdog restarts it", &script);
    s.machine
        .run("journalctl -u sentrycam | grep -q 'Watchdog timeout'");
    s.wait_ready();
    s.wait_up();
    s.say("it was stopped; the watchdog started it again");

    let killed = s.uptime();
    s.machine
        .run("kill -9 $(systemctl show sentrycam -P MainPID); sleep 1");
    s.wait_ready();
    let again = s.unit("ActiveEnterTimestampMonotonic") / 1e6 - killed;
    let start = s.unit("ExecMainStartTimestampMonotonic") / 1e6 - killed;
    s.wait_up();
    s.say(&format!(
        "killed: started again after {start:.1} s, READY after {again:.1} s"
    ));

    s.machine.run("install -m 640 -g sentrycam /payload/quiet.toml /etc/sentrycam/sentrycam.toml; systemctl restart sentrycam; sleep 30");
    s.wait_up();
    let idle = s.written(60);
    s.say(&format!("idle: {idle:.0} MiB an hour are written"));
    let size = s
        .machine
        .run("dpkg-query -W -f '${Installed-Size}' sentrycam");
    s.say(&format!("installed: {size} KiB"));

    s.finish().await;
}
