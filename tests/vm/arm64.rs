//! The image for a Raspberry Pi, as it is written to a card, in an emulated arm64 machine: its first start, an installer's files,
//! a claim by code, an event and its clip in the cloud, and all of it again after a restart. What this machine has not is the
//! boards' own: firmware, device tree, SD controller, Wi-Fi, light and CSI camera.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sentrycam::board::clock::Clock;
use sentrycam_cloud::testing::Cloud;
use sentrycam_testcam::Scene;
use serde_json::Value;

use super::machine::{HOST, Machine, tool};
use super::story::camera;
use crate::verdict::{self, Seen};

/// Two translated cores of another architecture, beside builds.
const AT_MOST: Duration = Duration::from_secs(900);
const ADDRESS: &str = "10.0.2.77";
const SSH_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFRmqi4TAv1ak7KHNc+jOX3452aBdPIMkb8KAK+Kzj6e installer@pc\r\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The newest that `make image` made.
fn image() -> PathBuf {
    let dir = root().join("target/image");
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|_| panic!("no image: make image"));
    entries
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "img"))
        .max_by_key(|p| std::fs::metadata(p).unwrap().modified().unwrap())
        .expect("no image: make image")
}

struct Device {
    machine: Machine,
    cloud: Cloud,
    clock: Clock,
}

impl Device {
    fn say(&self, what: &str) {
        println!("{:6.0} s  {what}", self.clock.mono().0 as f64 / 1e9);
    }

    /// What a shell line prints in the machine.
    fn is(&mut self, script: &str, wanted: &str) {
        assert_eq!(self.machine.run(script), wanted, "{script}");
    }

    fn wait_status(&mut self, what: &str, holds: impl Fn(&Value) -> bool) {
        let until = self.clock.mono() + AT_MOST;
        loop {
            let (_, text) = self.machine.try_run("sentrycam status --json 2>/dev/null");
            let status = serde_json::from_str(&text).unwrap_or_default();
            if holds(&status) {
                return;
            }
            let late = self.clock.mono() > until;
            assert!(!late, "not {what}: {status:#}\n{}", self.machine.journal());
        }
    }

    async fn wait_cloud(&mut self, condition: &str) {
        if let Err(e) = self.cloud.wait_for(condition, AT_MOST).await {
            panic!("{e:#}\n{}", self.machine.journal());
        }
    }

    /// Claimed, with its camera up; then one more event and one more clip are in the cloud.
    async fn works(&mut self) {
        self.wait_status("claimed, the camera up, the cloud reached", |s| {
            s["claim"]["state"] == "claimed"
                && s["cameras"]["yard"]["state"] == "up"
                && s["sync"]["state"] == "ok"
        });
        self.say("claimed, the camera is up, the cloud answers");
        let count = "select (select count(*) from events where status = 'ended') as events,
                            (select count(*) from recordings where status = 'available') as clips";
        let before = self.cloud.query(count).await.unwrap().remove(0);
        self.wait_cloud(&format!(
            "(select events > {} and clips > {} from ({count}) q)",
            before["events"], before["clips"]
        ))
        .await;
        self.say("another event is in PostgreSQL, its clip in the storage");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make vm-test-arm64"]
async fn a_flashed_card_becomes_a_claimed_recording_box() {
    let cloud = Cloud::builder().broker().storage().start().await.unwrap();
    let yard = camera(Scene {
        quiet: 12,
        motion: 2,
    });
    let code = cloud.create_claim_code(cloud.organization(), "box");
    let code = code.await.unwrap();

    let (files, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let put = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let config = format!(
        "[cloud]\napi_base = \"{}\"\nca_file = \"/etc/sentrycam/ca.pem\"\nheartbeat = \"5 s\"\nannounce = false\n\
         allow_private = [\"{HOST}/32\"]\n[spool]\nmin_free = \"64 MiB\"\n\
         [[camera]]\nid = \"yard\"\nurl = \"{}\"\n\
         [camera.recording]\npre_roll = \"2 s\"\npost_roll = \"2 s\"\nmax_event = \"10 s\"\n",
        cloud.api_base(),
        yard.url().replace("127.0.0.1", HOST),
    );
    put("boot/sentrycam.toml", &config.replace('\n', "\r\n"));
    put("boot/sentrycam-claim.txt", &format!("{code}\r\n"));
    let network = format!("address = {ADDRESS}/24\r\ngateway = {HOST}\r\ndns = 10.0.2.3\r\n");
    put("boot/sentrycam-network.txt", &network);
    put("boot/sentrycam-ssh.txt", SSH_KEY);
    // The cloud's certificate is for localhost, and its authority is private.
    put(
        "etc/hosts",
        &format!("{HOST} localhost\n127.0.1.1 sentrycam\n"),
    );
    put("etc/sentrycam/ca.pem", cloud.ca_pem());
    let mut prepare = Command::new(root().join("tests/vm/card.sh"));
    tool(prepare.args([&image(), dir.path(), files.path()]));
    let size = std::fs::metadata(dir.path().join("card.img"))
        .unwrap()
        .len();

    let mut it = Device {
        machine: Machine::boot_card(dir),
        cloud,
        clock: Clock::default(),
    };
    it.say("booted");
    let architecture = it.machine.run("dpkg --print-architecture; uname -r");
    it.say(&architecture.replace('\n', ", kernel "));

    let grown = it.machine.run("df -B1 --output=size / | tail -n 1");
    let grown: u64 = grown.trim().parse().unwrap();
    // All but the boot partition and what ext4 keeps for itself.
    assert!(grown > (size - (260 << 20)) * 94 / 100, "{grown} of {size}");
    it.say(&format!(
        "the root has {} MiB of a card of {} MiB",
        grown >> 20,
        size >> 20
    ));
    it.is(
        "test -e /var/lib/sentrycam-image/grown; systemctl show sentrycam-grow -P Result",
        "success",
    );

    it.machine.wait(
        AT_MOST,
        "the boot is over",
        "systemctl is-system-running | grep -vE 'starting|initializing'",
    );
    it.is("systemctl --failed --plain --no-legend", "");
    it.is(
        "cd /boot/firmware; ls sentrycam*.t* | tr '\\n' ' '",
        "sentrycam-network-result.txt sentrycam-readme.txt sentrycam-result.txt",
    );
    it.is(
        "cat /boot/firmware/*result.txt | grep -c 'taken over[.;]'",
        "4",
    );
    it.is(
        &format!("ip -o -4 address show eth0 | grep -c {ADDRESS}/24"),
        "1",
    );
    it.is("resolvectl dns eth0 | grep -c 10.0.2.3", "1");
    it.is("systemctl is-active ssh", "active");
    it.is(
        "sshd -T | grep -xE 'permitrootlogin .*|passwordauthentication .*' | sort",
        "passwordauthentication no\npermitrootlogin without-password",
    );
    it.is("passwd -S root | cut -d ' ' -f 2", "L");
    let own = it
        .machine
        .run("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub");
    assert_eq!(own.lines().next().unwrap().len(), 32, "{own}");
    it.say("an installer's files are taken over; machine id and host keys are its own");
    it.is(
        "findmnt -n -o FSTYPE /tmp; swapon --show; find /var/log/journal -type f",
        "tmpfs",
    );
    it.is("findmnt -n -o OPTIONS / | grep -c noatime.*commit=30", "1");

    it.works().await;
    let security = it
        .machine
        .run("systemd-analyze security sentrycam --no-pager | tail -n 1");
    it.say(&security);
    let memory = it.machine.run("systemctl show sentrycam -P MemoryCurrent");
    it.say(&format!(
        "memory of the unit {} MiB",
        memory.parse::<u64>().unwrap() >> 20
    ));

    let before = it.machine.boot_id.clone();
    it.machine.run("systemctl --no-block reboot");
    it.machine.wait_ready();
    assert_ne!(it.machine.boot_id, before);
    it.say("restarted");
    it.is(
        "cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub",
        &own,
    );
    it.is(
        "systemctl show sentrycam-grow sentrycam-network -P ConditionResult",
        "no\n\nno",
    );
    it.works().await;

    // No more motion; everything is sent; then both databases and the files agree.
    drop(yard);
    it.wait_status("everything is closed and sent", |s| {
        let yard = &s["cameras"]["yard"];
        let waits = (0..3).any(|class| s["backlog"]["rows"][class] != 0);
        yard["event_active"] == false && yard["recording"] == false && !waits
    });
    it.machine.run("systemctl stop sentrycam");
    let home = it.machine.card();
    let mut seen = Seen::default();
    seen.look(&home.copy().1);
    let verdict = verdict::compare(&it.cloud, &home, &seen).await;
    println!("{}\n{verdict}", verdict.figures);
    assert_eq!(
        (verdict.lost, verdict.doubled, verdict.unplayable),
        (0, 0, 0)
    );
}
