//! Real power cuts: the machine records RTSP cameras and syncs to the reference cloud, loses its power at a random moment, and
//! starts again with a disk that holds what was flushed and a random part of the rest (`cut`); at the end SQLite, PostgreSQL
//! and files are compared (`verdict`).
//!
//! `make powercut ROUNDS=30 [SEED=7]`; the last line is `rounds N lost L doubled D unplayable U`. What counts as promised is what
//! a reader of the database saw in the machine before the power went.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sentrycam::board::clock::Clock;
use sentrycam::db::{self, Connection};
use sentrycam_cloud::testing::Cloud;
use sentrycam_testcam::{Scene, TestCamera};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use super::cut::{self, Log};
use super::machine::{Disk, HOST, Machine, dump, ext4, tool};
use crate::agent::{serve, small};
use crate::dice::Dice;
use crate::process::Home;
use crate::verdict::{self, Seen, Verdict};

const DISK_MIB: u32 = 512;
/// Without a new frame for so long the continuous recording has nothing to lose; the agent counts once a second.
const NO_FRAMES: f64 = 3.0;
/// Crash images of a round that are looked at beside the one that the machine goes on with.
const IMAGES: usize = 5;
const DB: &str = "/var/lib/sentrycam/sentrycam.db";

const SETUP: &str = "set -eu
printf '10.0.2.2 localhost\\n127.0.0.1 vm\\n' >/etc/hosts
install -m 640 -g sentrycam /payload/sentrycam.toml /etc/sentrycam/sentrycam.toml
install -m 644 /payload/ca.pem /etc/sentrycam/ca.pem
install -m 600 -o sentrycam /payload/edge.json /run/edge.json
";

/// What the agent says of itself, in a line; its own program would take seconds to start where software emulates.
const STATUS: &str = "perl -MIO::Socket::UNIX -e 'print <$s>
    if $s = IO::Socket::UNIX->new(\"/var/lib/sentrycam/status.sock\")' 2>/dev/null";

/// For the control: nothing that the agent writes is ever synced, which is `synchronous=OFF` and worse.
const UNSAFE: &str = "mkdir -p /run/systemd/system/sentrycam.service.d
printf '[Service]\\nEnvironment=LD_PRELOAD=libeatmydata.so\\n' >/run/systemd/system/sentrycam.service.d/control.conf
systemctl daemon-reload
";

/// A look into the running machine's database: what was promised when the log was so long.
struct Promise {
    log: usize,
    ids: BTreeSet<Uuid>,
}

/// A life of the machine.
struct Life {
    boot: Uuid,
    /// Seconds of the machine's CLOCK_BOOTTIME when the power went, to some 0.1 s.
    ended: f64,
    /// The same of the agent's start.
    agent: Option<f64>,
    /// The same of the newest frame of the continuous recording that the agent said it has.
    frame: Option<f64>,
    /// Flushes of the disk by now, and the milliseconds that they took.
    flushes: (u32, u32),
    /// Milliseconds that a flush took on the average between two looks, at most.
    slowest: u32,
    promises: Vec<Promise>,
}

impl Life {
    fn flushed(&mut self, now: (u32, u32)) {
        let (n, ms) = (now.0 - self.flushes.0, now.1 - self.flushes.1);
        self.slowest = self.slowest.max(ms / n.max(1));
        self.flushes = now;
    }
}

struct Field {
    cloud: Cloud,
    cameras: Vec<TestCamera>,
    payload: TempDir,
    disk: TempDir,
    seen: Seen,
    clock: Clock,
    lives: u32,
}

fn camera(quiet: u32, motion: u32) -> TestCamera {
    serve(small(Scene { quiet, motion }))
}

/// What a line of [`STATUS`] says of the continuous recording.
fn status(line: &str) -> Option<Value> {
    let status: Value = serde_json::from_str(line).ok()?;
    Some(status.get("cameras")?.get("all-day")?.clone())
}

fn ids(text: &str, kind: char) -> BTreeSet<Uuid> {
    let of_kind = text.lines().filter_map(|line| line.strip_prefix(kind));
    of_kind.map(|id| id.trim().parse().unwrap()).collect()
}

impl Field {
    async fn new(extra_setup: &str) -> Field {
        let cloud = Cloud::start().await.unwrap();
        let (payload, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| payload.path().join(name);
        cloud
            .write_credentials("box", &at("edge.json"))
            .await
            .unwrap();
        std::fs::write(at("ca.pem"), cloud.ca_pem()).unwrap();
        std::fs::write(at("setup.sh"), format!("{SETUP}{extra_setup}")).unwrap();
        let cameras = vec![camera(2, 2), camera(3, 1)];
        let mut config = String::from(
            "[spool]\nmin_free = \"1 MiB\"\n[cloud]\ncredentials_file = \"/run/edge.json\"\n\
             ca_file = \"/etc/sentrycam/ca.pem\"\nheartbeat = \"5 s\"\nannounce = false\n",
        );
        let urls: Vec<_> = cameras
            .iter()
            .map(|c| c.url().replace("127.0.0.1", HOST))
            .collect();
        for (n, url) in urls.iter().enumerate() {
            config.push_str(&format!(
                "[[camera]]\nid = \"cam-{n}\"\nurl = \"{url}\"\n[camera.recording]\npre_roll = \"1 s\"\n\
                 post_roll = \"1 s\"\nmax_event = \"10 s\"\n[camera.motion]\nfps = 5\n"
            ));
        }
        // The first one once more: a clip is always being written, so that what a cut costs can be measured.
        config.push_str(&format!(
            "[[camera]]\nid = \"all-day\"\nurl = \"{}\"\n[camera.recording]\nmode = \"continuous\"\n\
             segment = \"10 s\"\n[camera.motion]\nenabled = false\n",
            urls[0]
        ));
        std::fs::write(at("sentrycam.toml"), config).unwrap();
        let field = Field {
            cloud,
            cameras,
            payload,
            disk,
            seen: Seen::default(),
            clock: Clock::default(),
            lives: 0,
        };
        ext4(&field.image(), None, DISK_MIB);
        field
    }

    fn image(&self) -> PathBuf {
        self.disk.path().join("data.img")
    }

    fn before(&self) -> PathBuf {
        self.disk.path().join("before.img")
    }

    fn log(&self) -> PathBuf {
        self.disk.path().join("log.img")
    }

    fn boot(&self) -> Machine {
        cut::copy(&self.image(), &self.before());
        File::create(self.log()).unwrap().set_len(8 << 30).unwrap();
        let (image, log) = (&self.image(), &self.log());
        Machine::boot(self.payload.path(), &Disk::Logged { image, log })
    }

    /// Keeps what was seen of a life, for whom its figures make wonder.
    fn keep(&mut self, story: &str) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/vm/powercut");
        std::fs::create_dir_all(&dir).unwrap();
        self.lives += 1;
        std::fs::write(dir.join(format!("life-{}.txt", self.lives)), story).unwrap();
    }

    /// Boots, and cuts the power so long after the agent's start, or after it was ready.
    fn live(&mut self, from_ready: bool, length: Duration) -> Life {
        let mut machine = self.boot();
        let mut until = None;
        let mut life = Life {
            boot: machine.boot_id.parse().unwrap(),
            ended: 0.0,
            agent: None,
            frame: None,
            flushes: (0, 0),
            slowest: 0,
            promises: Vec::new(),
        };
        let look = format!(
            "sleep 0.3; systemctl show sentrycam -P ExecMainStartTimestampMonotonic; systemctl is-active sentrycam
             runuser -u sentrycam -- sqlite3 -readonly {DB} \"select 'e'||hex(id) from events union all
                select 'c'||hex(id) from recordings union all select 'r'||hex(id) from outbox where class < 3\"
             rc=$?; {STATUS}; echo; ls -ln --time-style=+%s.%N /var/lib/sentrycam/clips/all-day | tail -n 2
             awk '{{print \"flushes\", $16, $17}}' /sys/block/vdc/stat; cat /proc/uptime; exit $rc"
        );
        let mut story = String::new();
        let mut seen_at;
        loop {
            // A database that is not there yet has promised nothing.
            let (rc, text) = machine.try_run(&look);
            seen_at = self.clock.mono();
            let mut lines = text.lines();
            let number = |line: Option<&str>| line?.split(' ').next()?.parse::<f64>().ok();
            life.agent = number(lines.next())
                .filter(|us| *us > 0.0)
                .map(|us| us / 1e6);
            life.ended = number(text.lines().last()).unwrap();
            let flushes = text.lines().find_map(|l| l.strip_prefix("flushes "));
            if let Some((n, ms)) = flushes.and_then(|f| f.split_once(' ')) {
                life.flushed((n.parse().unwrap(), ms.parse().unwrap()));
            }
            if let Some(status) = text.lines().find_map(status) {
                let age = status["last_frame_age_s"].as_f64();
                life.frame = age.map(|age| life.ended - age).or(life.frame);
                let files = text.lines().filter(|l| l.contains(".mp4"));
                let files: Vec<&str> = files.collect();
                story += &format!("{:.1} {status} {}\n", life.ended, files.join(" "));
            }
            let ready = lines.next() == Some("active");
            if ready || (!from_ready && life.agent.is_some()) {
                until = until.or(Some(seen_at + length));
            }
            if rc == 0 {
                let (events, clips) = (ids(&text, 'e'), ids(&text, 'c'));
                self.seen.records.extend(ids(&text, 'r'));
                life.promises.push(Promise {
                    log: cut::length(&self.log()).unwrap(),
                    ids: events.union(&clips).copied().collect(),
                });
                self.seen.events.extend(events);
                self.seen.clips.extend(clips);
            }
            if until.is_some_and(|until| self.clock.mono() >= until) {
                break;
            }
        }
        life.ended += self.clock.mono().since(seen_at).as_secs_f64();
        story += &machine.console();
        machine.cut();
        self.keep(&story);
        life
    }

    /// What the disk holds when the power goes behind the first `count` entries of the log.
    fn crash(&self, log: &Log, count: usize, dice: &mut Dice, image: &Path) {
        cut::crash(&self.before(), log, count, dice, image);
    }

    /// How much of what was promised is missing in crash images of the last life, cut anywhere; says what is wrong.
    fn look_at_images(&self, life: &Life, count: usize, dice: &mut Dice) -> Vec<String> {
        let log = Log::open(&self.log()).unwrap();
        let image = self.disk.path().join("look.img");
        let mut faults = Vec::new();
        for _ in 0..count {
            // Not while the file system is being mounted, which is the kernel's own matter.
            let cut = log.len() / 10 + dice.below(log.len() as u64 * 9 / 10) as usize;
            self.crash(&log, cut, dice, &image);
            let promised = life.promises.iter().rev().find(|p| p.log <= cut);
            match database(&image) {
                Err(why) => faults.push(format!("cut at {cut}: {why}")),
                Ok(has) => {
                    let missing = promised.map_or(0, |p| p.ids.difference(&has).count());
                    if missing > 0 {
                        faults.push(format!("cut at {cut}: {missing} promised rows are missing"));
                    }
                }
            }
        }
        faults
    }

    /// Lets the agent finish: a kept clip more, then no more cameras, then nothing waits; then an orderly end.
    fn finish(&mut self) -> Home {
        let mut machine = self.boot();
        let wait = |machine: &mut Machine, what: &str, sql: &str| {
            let script =
                format!("[ \"$(runuser -u sentrycam -- sqlite3 -readonly {DB} \"{sql}\")\" = 1 ]");
            machine.wait(Duration::from_secs(240), what, &script);
        };
        let done = "select count(*) > 0 from events e join recordings r on r.event_id = e.id
            where e.end_reason <> 'crash' and r.state = 'kept'";
        wait(
            &mut machine,
            "an event has ended and its clip is kept",
            done,
        );
        self.cameras.clear();
        let drained = "select not exists (select 1 from outbox where class < 3)
            and not exists (select 1 from recordings where state = 'recording')
            and not exists (select 1 from events where state = 'active')";
        wait(&mut machine, "everything is closed and sent", drained);
        machine.run("systemctl stop sentrycam && umount /var/lib/sentrycam");
        machine.power_off();
        let home = dump(&self.image());
        let (_aside, conn) = home.copy();
        self.seen.look(&conn);
        home
    }
}

/// Events and recordings in the database of an image, after a check of the file system and of the database.
fn database(image: &Path) -> Result<BTreeSet<Uuid>, String> {
    let check = Command::new("e2fsck")
        .arg("-fy")
        .arg(image)
        .output()
        .unwrap();
    // 1: the journal was replayed, or an orphan removed.
    if !matches!(check.status.code(), Some(0 | 1)) {
        return Err(format!(
            "e2fsck: {}",
            String::from_utf8_lossy(&check.stdout)
        ));
    }
    let dir = tempfile::tempdir().unwrap();
    for suffix in ["", "-wal"] {
        let name = format!("{}{suffix}", db::FILE_NAME);
        let dump = format!("dump /{name} {}", dir.path().join(&name).display());
        tool(Command::new("debugfs").arg("-R").arg(dump).arg(image));
    }
    let path = dir.path().join(db::FILE_NAME);
    if !path.exists() {
        return Ok(BTreeSet::new());
    }
    let conn = Connection::open(path).map_err(|e| e.to_string())?;
    let sound: String = conn
        .query_row("pragma integrity_check", [], |r| r.get(0))
        .map_err(|e| e.to_string())?;
    if sound != "ok" {
        return Err(sound);
    }
    let mut found = verdict::ids(&conn, "select id from events");
    found.extend(verdict::ids(&conn, "select id from recordings"));
    Ok(found.into_iter().collect())
}

/// What a life of the machine says of the continuous recording, in seconds.
struct Figures {
    /// What the cut took: from the end of what is on disk to the cut.
    taken: f64,
    /// Of it the time in which no frame had come to the agent any more, where that was long: no video was there to keep.
    without: f64,
    /// From the agent's start to the first frame.
    again: Option<f64>,
}

fn figures(home: &Home, lives: &[Life]) -> Vec<Figures> {
    let (_aside, conn) = home.copy();
    let sql = "select min(r.started_ns) / 1e9, max(r.started_ns / 1e9 + r.duration_ms / 1e3) from recordings r
        join boots b on b.id = r.boot where b.boot_id = ?1 and r.camera_id = 'all-day' and r.state = 'kept'";
    let mut all = Vec::new();
    for (n, life) in lives.iter().enumerate() {
        let span = conn.query_row(sql, [life.boot], |r| Ok((r.get(0)?, r.get(1)?)));
        let (Some(first), Some(last)): (Option<f64>, Option<f64>) = span.unwrap() else {
            continue;
        };
        let figures = Figures {
            taken: (life.ended - last).max(0.0),
            without: life
                .frame
                .map(|at| life.ended - at.max(last))
                .filter(|s| *s > NO_FRAMES)
                .unwrap_or(0.0),
            again: life.agent.map(|start| first - start),
        };
        println!(
            "life {}: recorded from {first:.1} to {last:.1}, cut at {:.1}, newest frame at {:.1}; a flush took {} ms, {} at most",
            n + 1,
            life.ended,
            life.frame.unwrap_or(f64::NAN),
            life.flushes.1 / life.flushes.0.max(1),
            life.slowest
        );
        all.push(figures);
    }
    all
}

fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => "none".into(),
        all => format!(
            "median {:.1} most {:.1} of {}",
            all[all.len() / 2],
            all[all.len() - 1],
            all.len()
        ),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make powercut"]
async fn power_cuts_at_random_moments_lose_double_and_break_nothing() {
    let rounds = number("ROUNDS").unwrap_or(3);
    let seed = number("SEED").unwrap_or_else(|| Uuid::now_v7().as_u128() as u64);
    println!("SEED={seed} ROUNDS={rounds}");
    let mut dice = Dice(seed);
    let mut field = Field::new("").await;
    let (mut lives, mut faults, mut written) = (Vec::new(), Vec::new(), 0);
    for round in 1..=rounds {
        // One in four dies while it starts, or repairs what the last cut left.
        let ready = !dice.percent(25);
        let length = dice.below(if ready { 20_000 } else { 10_000 });
        let life = field.live(ready, Duration::from_millis(length));
        let found = field.look_at_images(&life, IMAGES, &mut dice);
        let log = Log::open(&field.log()).unwrap();
        field.crash(&log, log.len(), &mut dice, &field.image());
        let (bytes, flushes) = log.volume();
        written += bytes;
        println!(
            "round {round}: cut {:.1} s after the kernel's start, {} writes, {flushes} flushes, {} KiB; {} events seen",
            life.ended,
            log.len(),
            bytes >> 10,
            field.seen.events.len()
        );
        faults.extend(found);
        lives.push(life);
    }
    let home = field.finish();
    let mut verdict = verdict::compare(&field.cloud, &home, &field.seen).await;
    let unsound = faults.len();
    verdict.lost += unsound;
    verdict.notes.extend(faults);
    for note in &verdict.notes {
        println!("{note}");
    }
    let figures = figures(&home, &lives);
    let taken: Vec<f64> = figures.iter().map(|f| f.taken).collect();
    println!("{}; {} MiB written", verdict.figures, written >> 20);
    println!(
        "crash images checked beside: {}, with faults {unsound}",
        rounds as usize * IMAGES
    );
    println!(
        "seconds of video that a cut took: {}",
        spread(taken.clone())
    );
    println!(
        "seconds at its end without a new frame at the agent: {}",
        spread(figures.iter().map(|f| f.without).collect())
    );
    println!(
        "seconds from the agent's start to recording again: {}",
        spread(figures.iter().filter_map(|f| f.again).collect())
    );
    println!("rounds {rounds} {verdict}");
    let Verdict {
        lost,
        doubled,
        unplayable,
        ..
    } = verdict;
    assert_eq!((lost, doubled, unplayable), (0, 0, 0));
    let lost: Vec<f64> = figures.iter().map(|f| f.taken - f.without).collect();
    assert!(
        lost.iter().all(|s| *s <= 10.0),
        "a cut took more than 10 s of video: {lost:?}"
    );
}

/// The same harness sees the loss where nothing is synced. Its name comes first, so that the rounds have the last line.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make powercut"]
async fn control_without_syncs_promised_rows_are_lost() {
    let seed = number("SEED").unwrap_or(1);
    let mut field = Field::new(UNSAFE).await;
    let life = field.live(true, Duration::from_secs(40));
    let promised = life.promises.last().map_or(0, |p| p.ids.len());
    assert!(promised > 0, "nothing was recorded");
    let faults = field.look_at_images(&life, 10, &mut Dice(seed));
    for fault in &faults {
        println!("{fault}");
    }
    println!(
        "control: {promised} rows promised, {} of 10 crash images lost some",
        faults.len()
    );
    assert!(!faults.is_empty(), "the harness sees no loss without syncs");
}
