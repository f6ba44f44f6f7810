//! A clip disk that fails: full, read-only, gone, out of inodes, slow. The agent neither dies nor hangs, somebody is told,
//! and recording resumes by itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sentrycam::board::clock::Clock;
use sentrycam_testcam::{Scene, TestCamera};
use serde_json::Value;

use crate::agent::{EXCLUDE_COUNTER, kept, pattern};
use crate::fixture::{ffprobe, wait_until};
use crate::notified::Systemd;
use crate::running::Running;

/// A small file system in memory, unmounted at the end.
pub struct Tmpfs {
    _dir: tempfile::TempDir,
    point: PathBuf,
}

impl Tmpfs {
    /// `None` where this process may not mount; says so.
    pub fn mount(options: &str) -> Option<Tmpfs> {
        // On the disk of the root file system, so that a mount makes a difference.
        let dir = tempfile::Builder::new()
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let point = dir.path().join("disk");
        std::fs::create_dir(&point).unwrap();
        let disk = Tmpfs { _dir: dir, point };
        if disk.again(options) {
            return Some(disk);
        }
        println!("SKIPPED: mount is not permitted here (not root, or without CAP_SYS_ADMIN)");
        None
    }

    pub fn again(&self, options: &str) -> bool {
        Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&self.point)
            .status()
            .is_ok_and(|s| s.success())
    }

    fn remount(&self, options: &str) -> bool {
        let options = format!("remount,{options}");
        let out = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.point)
            .output();
        out.is_ok_and(|o| o.status.success())
    }

    /// Shows the same files at another place, or no more.
    fn bind(&self, at: &Path, there: bool) {
        let mut command = Command::new(if there { "mount" } else { "umount" });
        match there {
            true => command.arg("--bind").args([self.path(), at]),
            false => command.arg("-l").arg(at),
        };
        assert!(command.status().unwrap().success());
    }

    fn pull(&self) {
        let out = Command::new("umount").arg("-l").arg(&self.point).status();
        assert!(out.unwrap().success());
    }

    pub fn path(&self) -> &Path {
        &self.point
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.point).output();
    }
}

fn camera(scene: Scene) -> TestCamera {
    TestCamera::start(pattern(scene)).unwrap()
}

fn still() -> TestCamera {
    camera(Scene {
        quiet: 60,
        motion: 1,
    })
}

fn segments(camera: &TestCamera, disk: &Path, spool: &str) -> String {
    format!(
        "[spool]\ndir = \"{}\"\nmin_free = \"2 MiB\"\n{spool}\n[retention]\nquota = \"off\"\n[[camera]]\nid = \"a\"\nurl = \"{}\"\n\
         [camera.recording]\nmode = \"continuous\"\nsegment = \"5 s\"\n[camera.motion]\nenabled = false\n",
        disk.display(),
        camera.url()
    )
}

fn state(agent: &Running, seconds: u64, word: &str) {
    let is = |s: &Value| (s["storage"]["state"] == word).then_some(());
    agent.wait(seconds, &["status"], &format!("the disk is {word}"), is);
}

/// How often somebody was told that the disk is so.
fn told(agent: &Running, word: &str) -> usize {
    let records = agent.ask(&["outbox", "ls", "-n", "5000"]);
    let health = |r: &&Value| {
        r["kind"] == "agent.health.v1" && r["body"]["data"]["storage"]["state"] == word
    };
    records
        .as_array()
        .map_or(0, |l| l.iter().filter(health).count())
}

fn clips_kept(agent: &Running) -> usize {
    kept(&agent.ask(&["clips", "-n", "1000"])).len()
}

fn more_clips(agent: &Running, than: usize) {
    agent.wait(40, &["clips", "-n", "1000"], "recording goes on", |c| {
        (kept(c).len() > than).then_some(())
    });
}

fn all_play(agent: &Running, disk: &Path) {
    for clip in kept(&agent.ask(&["clips", "-n", "1000"])) {
        let path = disk.join(clip["path"].as_str().unwrap());
        if path.exists() {
            let probe = ffprobe(&path);
            assert!(
                probe.frames > 0 && probe.complaints.is_empty(),
                "{clip}: {probe:?}"
            );
        }
    }
}

#[test]
fn a_disk_that_somebody_else_fills_stops_clips_and_not_the_agent() {
    let Some(disk) = Tmpfs::mount("size=24m") else {
        return;
    };
    let camera = still();
    let mut agent = Running::start(&segments(&camera, disk.path(), ""));
    more_clips(&agent, 0);
    for round in 0..2 {
        let filler = disk.path().join("somebody-else");
        // To the last byte: the clip that is being written meets it.
        let full = Command::new("dd")
            .args(["if=/dev/zero", "bs=64k", "status=none"])
            .arg(format!("of={}", filler.display()))
            .output()
            .unwrap();
        assert!(!full.status.success(), "the disk is full");
        state(&agent, 20, "full");
        wait_until(30, "somebody is told", || told(&agent, "full") == round + 1);
        let status = agent.ask(&["status"]);
        assert_eq!(
            status["storage"]["unmet"],
            serde_json::json!(["space"]),
            "{status}"
        );
        assert_eq!(status["cameras"]["a"]["state"], "up");
        let rows = agent
            .ask(&["clips", "-n", "1000"])
            .as_array()
            .unwrap()
            .len();
        // It stays full for a while; no rows are made in vain.
        wait_until(30, "time passes", {
            let since = agent.ask(&["status"])["uptime_s"].as_u64().unwrap();
            let agent = &agent;
            move || agent.ask(&["status"])["uptime_s"].as_u64() >= Some(since + 12)
        });
        let now = agent
            .ask(&["clips", "-n", "1000"])
            .as_array()
            .unwrap()
            .len();
        assert!(now <= rows + 1, "{rows} rows became {now}");
        let before = clips_kept(&agent);
        std::fs::remove_file(&filler).unwrap();
        state(&agent, 20, "ok");
        more_clips(&agent, before);
    }
    assert!(agent.runs());
    all_play(&agent, disk.path());
    assert_eq!(agent.stop(), Some(0));
    assert!(!agent.log().contains("panicked"), "{}", agent.log());
}

#[test]
fn a_state_disk_that_somebody_else_fills_holds_events_and_keeps_the_watchdog_fed() {
    // Too small for a ballast: as where somebody else took the room of that, too.
    let Some(disk) = Tmpfs::mount("size=24m") else {
        return;
    };
    let camera = camera(Scene {
        quiet: 7,
        motion: 2,
    });
    let spool = tempfile::tempdir().unwrap();
    let mut agent = Running::prepare(&format!(
        "[spool]\ndir = \"{}\"\nmin_free = \"1 MiB\"\n[[camera]]\nid = \"a\"\nurl = \"{}\"\n[camera.recording]\n\
         pre_roll = \"1 s\"\npost_roll = \"1 s\"\n[camera.motion]\n{EXCLUDE_COUNTER}",
        spool.path().display(),
        camera.url()
    ));
    disk.bind(&agent.state_dir(), true);
    let socket = spool.path().join("notify");
    let watchdog = Systemd::at(&socket).watch();
    let limit = Duration::from_secs(9);
    agent.launch(&[
        ("NOTIFY_SOCKET", socket.to_str().unwrap()),
        ("WATCHDOG_USEC", &limit.as_micros().to_string()),
    ]);
    let ended = |e: &Value| {
        let ended = e.as_array()?.iter().filter(|e| e["state"] == "ended");
        Some(ended.count()).filter(|n| *n > 0)
    };
    agent.wait(60, &["events"], "an event is over", ended);

    let filler = disk.path().join("somebody-else");
    fill(&filler);
    let now = |agent: &Running| -> jiff::Timestamp {
        let status = agent.ask(&["status"]);
        status["now"].as_str().unwrap().parse().unwrap()
    };
    let waits = |s: &Value| s["waits_for_room"].as_bool();
    agent.wait(30, &["status"], "events are held", |s| {
        waits(s)?.then_some(())
    });
    let from = now(&agent);
    let clock = Clock::default();
    let began = clock.mono();
    watchdog.try_iter().for_each(drop);
    while clock.mono().since(began) < 5 * limit {
        let fed = watchdog.recv_timeout(limit);
        assert!(fed.is_ok(), "not fed in time:\n{}", agent.log());
    }
    let until = now(&agent);
    std::fs::remove_file(&filler).unwrap();
    agent.wait(30, &["status"], "they are held no more", |s| {
        (!waits(s)?).then_some(())
    });
    let meanwhile = |e: &Value| {
        let at = |e: &Value| e["started_at"].as_str()?.parse::<jiff::Timestamp>().ok();
        let events = e.as_array()?.iter().filter(|e| e["state"] == "ended");
        let held = events
            .filter_map(at)
            .filter(|at| (from..until).contains(at));
        Some(held.count()).filter(|n| *n > 2)
    };
    let held = agent.wait(30, &["events"], "what was held is there", meanwhile);
    println!("{held} events happened in {} of no room", until - from);
    assert_eq!(agent.stop(), Some(0));
    let log = agent.log();
    assert!(!log.contains("no progress"), "{log}");
    disk.bind(&agent.state_dir(), false);
}

#[test]
fn a_disk_without_inodes_takes_clips_again_when_it_has_some() {
    let Some(disk) = Tmpfs::mount("size=24m,nr_inodes=64") else {
        return;
    };
    let camera = still();
    let mut agent = Running::start(&segments(&camera, disk.path(), ""));
    more_clips(&agent, 0);
    let name = |n: usize| disk.path().join(format!("small-{n}"));
    let made = (0..1000)
        .take_while(|n| std::fs::write(name(*n), b"").is_ok())
        .count();
    state(&agent, 20, "no_inodes");
    wait_until(30, "somebody is told", || told(&agent, "no_inodes") == 1);
    let before = clips_kept(&agent);
    for n in 0..made {
        std::fs::remove_file(name(n)).unwrap();
    }
    state(&agent, 20, "ok");
    more_clips(&agent, before);
    all_play(&agent, disk.path());
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn a_disk_that_becomes_read_only_is_noticed_and_used_again() {
    let Some(disk) = Tmpfs::mount("size=24m") else {
        return;
    };
    let camera = camera(Scene {
        quiet: 7,
        motion: 2,
    });
    let mut agent = Running::start(&format!(
        "[spool]\ndir = \"{}\"\nmin_free = \"2 MiB\"\n[[camera]]\nid = \"a\"\nurl = \"{}\"\n[camera.recording]\n\
         pre_roll = \"1 s\"\npost_roll = \"1 s\"\n[camera.motion]\n{EXCLUDE_COUNTER}",
        disk.path().display(),
        camera.url()
    ));
    more_clips(&agent, 0);
    // Only between two clips: a file that is open for writing holds it.
    wait_until(30, "it is read-only", || disk.remount("ro"));
    state(&agent, 20, "read_only");
    wait_until(30, "somebody is told", || told(&agent, "read_only") == 1);
    let events = |a: &Running| a.ask(&["events"]).as_array().map_or(0, Vec::len);
    let before = (events(&agent), clips_kept(&agent));
    wait_until(30, "events go on without clips", || {
        events(&agent) > before.0 + 1
    });
    assert!(clips_kept(&agent) <= before.1);
    assert!(disk.remount("rw"));
    state(&agent, 20, "ok");
    more_clips(&agent, before.1);
    all_play(&agent, disk.path());
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn a_disk_that_is_pulled_and_plugged_in_again_costs_what_was_on_it() {
    let Some(disk) = Tmpfs::mount("size=24m") else {
        return;
    };
    let camera = still();
    let mut agent = Running::start(&segments(&camera, disk.path(), "require_mount = true"));
    more_clips(&agent, 0);
    disk.pull();
    state(&agent, 20, "missing");
    wait_until(30, "somebody is told", || told(&agent, "missing") == 1);
    let since = agent.ask(&["status"])["uptime_s"].as_u64().unwrap();
    wait_until(30, "time passes", || {
        agent.ask(&["status"])["uptime_s"].as_u64() >= Some(since + 6)
    });
    let below = std::fs::read_dir(disk.path()).unwrap().count();
    assert_eq!(below, 0, "nothing was written under the mount point");
    let deleted = agent.ask(&["clips", "-n", "1000"]);
    assert!(
        deleted
            .as_array()
            .unwrap()
            .iter()
            .all(|c| c["state"] != "deleted")
    );
    let before = clips_kept(&agent);
    assert!(disk.again("size=24m"));
    state(&agent, 20, "ok");
    more_clips(&agent, before);
    assert_eq!(agent.stop(), Some(0));
    let check = agent.command(&["db", "check", "--json"]);
    assert_eq!(
        check.status.code(),
        Some(1),
        "what was on the other disk is missed"
    );
    let repaired = agent.command(&["db", "check", "--repair"]);
    assert!(repaired.status.success(), "{repaired:?}");
    all_play(&agent, disk.path());
}

#[test]
fn a_disk_that_is_mounted_late_brings_back_the_clip_that_a_kill_cut_short() {
    let Some(disk) = Tmpfs::mount("size=24m") else {
        return;
    };
    let point = tempfile::Builder::new()
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap();
    disk.bind(point.path(), true);
    let camera = still();
    let config = segments(&camera, point.path(), "require_mount = true");
    let mut agent = Running::prepare(&config);
    agent.launch(&[]);
    more_clips(&agent, 0);
    let open = agent.wait(20, &["clips"], "another clip grows", |c| {
        let clip = c.as_array()?.iter().find(|c| c["state"] == "recording")?;
        let part = point
            .path()
            .join(format!("{}.part", clip["path"].as_str()?));
        let grown = std::fs::metadata(part).ok()?.len() > 100_000;
        grown.then(|| clip["id"].clone())
    });
    agent.kill();
    disk.bind(point.path(), false);
    agent.launch(&[]);
    state(&agent, 20, "missing");
    let state_of = |c: &Value, word: &str| {
        let clip = c.as_array()?.iter().find(|c| c["id"] == open)?;
        (clip["state"] == word).then(|| clip.clone())
    };
    agent.wait(20, &["clips"], "it seems lost", |c| state_of(c, "lost"));
    disk.bind(point.path(), true);
    let found = agent.wait(40, &["clips"], "it is found again", |c| state_of(c, "kept"));
    assert_eq!(found["truncated"], true);
    let before = clips_kept(&agent);
    more_clips(&agent, before);
    all_play(&agent, point.path());
    assert_eq!(agent.stop(), Some(0));
    disk.bind(point.path(), false);
}

/// Somebody else takes all the room there is.
fn fill(file: &Path) {
    let dd = Command::new("dd")
        .args(["if=/dev/zero", "bs=4k", "status=none"])
        .arg(format!("of={}", file.display()))
        .output()
        .unwrap();
    assert!(!dd.status.success(), "the disk is full");
}

#[test]
fn a_start_on_a_full_disk_uses_the_room_held_back_or_says_what_is_missing() {
    let Some(disk) = Tmpfs::mount("size=100m") else {
        return;
    };
    let (camera, spool) = (still(), tempfile::tempdir().unwrap());
    let mut agent = Running::prepare(&segments(&camera, spool.path(), ""));
    disk.bind(&agent.state_dir(), true);
    let up = |s: &Value| (s["cameras"]["a"]["state"] == "up").then_some(());
    let ballast = disk.path().join("sentrycam.ballast");
    agent.launch(&[]);
    agent.wait(60, &["status"], "the camera is up", up);
    wait_until(30, "room is held back", || ballast.exists());
    assert_eq!(agent.stop(), Some(0));

    let filler = disk.path().join("somebody-else");
    fill(&filler);
    agent.launch(&[]);
    agent.wait(60, &["status"], "it starts in the room held back", up);
    assert!(!ballast.exists());
    assert_eq!(agent.stop(), Some(0));

    fill(&disk.path().join("somebody-else-again"));
    agent.launch(&[]);
    wait_until(30, "it ends", || !agent.runs());
    assert!(agent.log().contains("make room"), "{}", agent.log());
    std::fs::remove_file(&filler).unwrap();
    agent.launch(&[]);
    agent.wait(60, &["status"], "there is room again", up);
}

/// Makes every flush of the agent take three seconds.
const SLOW_SYNC: &str = "
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
int fsync(int fd) { int (*f)(int) = dlsym(RTLD_NEXT, \"fsync\"); sleep(3); return f(fd); }
int fdatasync(int fd) { int (*f)(int) = dlsym(RTLD_NEXT, \"fdatasync\"); sleep(3); return f(fd); }
";

#[test]
fn a_disk_that_takes_three_seconds_to_flush_costs_no_frame() {
    let dir = tempfile::tempdir().unwrap();
    let (source, shim) = (dir.path().join("slow.c"), dir.path().join("slow.so"));
    std::fs::write(&source, SLOW_SYNC).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&shim, &source])
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(built.success());
    let camera = still();
    let mut agent = Running::prepare(&segments(&camera, &dir.path().join("clips"), ""));
    agent.launch(&[("LD_PRELOAD", shim.to_str().unwrap())]);
    agent.wait(120, &["clips"], "three segments are kept", |c| {
        (kept(c).len() >= 3).then_some(())
    });
    state(&agent, 20, "slow");
    let a = agent.ask(&["status"])["cameras"]["a"].clone();
    assert_eq!(
        (&a["state"], &a["reconnects"], &a["dropped"]),
        (&"up".into(), &0.into(), &0.into())
    );
    let mut shown = Vec::new();
    for clip in kept(&agent.ask(&["clips"])) {
        let path = dir
            .path()
            .join("clips")
            .join(clip["path"].as_str().unwrap());
        shown.extend(crate::agent::counters(&path));
    }
    let hole = shown.windows(2).find(|w| w[1] != w[0] + 1);
    assert_eq!(hole, None, "frames are missing");
    assert!(agent.runs());
}
