//! The pictures of events: the right frame, its boxes, nothing where it is switched off, and a word where there is none.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use gstreamer as gst;
use sentrycam::agent::camera::ClipStore;
use sentrycam::agent::journal::{Fact, journal};
use sentrycam::agent::pictures::{Strongest, pictures};
use sentrycam::agent::time::TimeKeeper;
use sentrycam::board::clock::Clock;
use sentrycam::config::Config;
use sentrycam::db::events::EventFacts;
use sentrycam::db::{FILE_NAME, IdSource, open, query, schema};
use sentrycam::media::picture::{PictureError, frame_of, jpeg_of, jpeg_size};
use sentrycam::media::{Caps, Packet};
use sentrycam::model::{BootId, EventId, Region};
use sentrycam::outbox::quota::Quotas;
use sentrycam::spool::Spool;
use sentrycam::supervise::{Phase, Supervisor, failpoint};
use sentrycam::time::{Anchor, Mono, Pts};
use sentrycam_testcam::{Scene, TestCamera, read_counter};
use serde_json::Value;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::agent::{EXCLUDE_COUNTER, FPS, WIDTH, pattern};
use crate::db_check::{check, findings};
use crate::fixture::{Recipe, video, wait_until};
use crate::running::Running;

const SCENE: Scene = Scene {
    quiet: 8,
    motion: 4,
};

fn config(camera: &TestCamera, motion: &str) -> String {
    format!(
        "[spool]\nmin_free = \"1 MiB\"\n[[camera]]\nid = \"a\"\nurl = \"{}\"\n[camera.recording]\npost_roll = \"2 s\"\n\
         [camera.motion]\nfps = 15\n{motion}{EXCLUDE_COUNTER}",
        camera.url()
    )
}

fn ended(events: &Value) -> Option<&Value> {
    events.as_array()?.iter().find(|e| e["state"] == "ended")
}

/// Luma of a JPEG, decoded by another program.
fn luma(path: &Path) -> Vec<u8> {
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-pix_fmt", "gray", "-f", "rawvideo", "-"])
        .output()
        .unwrap();
    assert!(
        out.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    out.stdout
}

fn jpegs(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    let paths = entries.map(|e| e.unwrap().path());
    paths
        .filter(|p| p.extension().is_some_and(|e| e == "jpg"))
        .collect()
}

fn taken(agent: &Running) -> Vec<Value> {
    let all = agent.ask(&["outbox", "ls", "-n", "1000"]);
    let all = all.as_array().unwrap().iter();
    all.filter(|r| r["kind"] == "snapshot.taken.v1")
        .map(|r| r["body"]["data"].clone())
        .collect()
}

#[test]
fn an_event_has_its_strongest_frame_plain_and_with_a_box_around_what_moved() {
    let camera = TestCamera::start(pattern(SCENE)).unwrap();
    let mut agent = Running::start(&config(&camera, ""));
    let event = agent.wait(60, &["events"], "an event has its picture", |e| {
        ended(e).filter(|e| e["annotated"].is_string()).cloned()
    });
    assert_eq!(agent.stop(), Some(0));
    let spool = agent.state_dir().join("clips");
    let path = |name: &str| spool.join(event[name].as_str().unwrap());
    let (plain, boxed) = (luma(&path("thumbnail")), luma(&path("annotated")));
    let n = read_counter(&plain, WIDTH, WIDTH).expect("the counter is legible");
    assert_eq!(read_counter(&boxed, WIDTH, WIDTH), Some(n));
    assert!(SCENE.moving(n, FPS), "frame {n} shows the event");
    assert_eq!(event["no_picture"], Value::Null);

    // Where the box of the scene is in this frame, and where the two pictures differ.
    let height = plain.len() / WIDTH;
    let into = (n % (12 * FPS) - 8 * FPS) as f32 / (4 * FPS) as f32;
    let (bw, bh) = (WIDTH / 6, height / 3);
    let (left, top) = ((into * (WIDTH - bw) as f32) as usize, height / 2 - bh / 3);
    let differ = |at: &usize| plain[*at].abs_diff(boxed[*at]) > 12;
    let points: Vec<(usize, usize)> = (0..plain.len())
        .filter(differ)
        .map(|at| (at % WIDTH, at / WIDTH))
        .collect();
    let span = |of: fn(&(usize, usize)) -> usize| {
        let all: BTreeSet<usize> = points.iter().map(of).collect();
        (*all.first().unwrap(), *all.last().unwrap())
    };
    let ((x0, x1), (y0, y1)) = (span(|p| p.0), span(|p| p.1));
    let near = |a: usize, b: usize| a.abs_diff(b) <= 60;
    assert!(
        near(x0, left) && near(x1, left + bw) && near(y0, top) && near(y1, top + bh),
        "{x0}..{x1} × {y0}..{y1}, the box is at {left},{top} + {bw}×{bh}"
    );
    // Nothing but the line: JPEG blurs it within its blocks of 8.
    let inside = |p: &(usize, usize)| {
        (x0 + 16..x1.saturating_sub(15)).contains(&p.0)
            && (y0 + 16..y1.saturating_sub(15)).contains(&p.1)
    };
    assert_eq!(points.iter().find(|p| inside(p)), None);
    assert!(points.len() > x1 - x0, "{} pixels differ", points.len());

    // The cloud hears of both, with the event that they show.
    let told = taken(&agent);
    let kinds: BTreeSet<&str> = told.iter().map(|t| t["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["annotated", "thumbnail"].into());
    let of_event: Vec<&Value> = told
        .iter()
        .filter(|t| t["event_id"] == event["id"])
        .collect();
    assert_eq!(of_event.len(), 2);
    for t in of_event {
        let file = spool.join(t["path_name"].as_str().unwrap());
        assert_eq!((&t["width"], &t["command_id"]), (&640.into(), &Value::Null));
        assert_eq!(t["size_bytes"], file.metadata().unwrap().len());
        let name = t["kind"].as_str().unwrap();
        assert_eq!(file, path(name));
    }
    let text = String::from_utf8(agent.command(&["events"]).stdout).unwrap();
    assert!(
        text.contains(event["annotated"].as_str().unwrap()),
        "{text}"
    );
    assert_eq!(check(&agent, &[]).0, 0);
}

#[test]
fn a_sub_stream_finds_it_and_the_main_stream_shows_it() {
    let options = pattern(SCENE);
    let camera = TestCamera::start(options.clone()).unwrap();
    let sub = TestCamera::start(options).unwrap();
    let text = config(&camera, "").replace(
        "[camera.recording]",
        &format!("sub_url = \"{}\"\n[camera.recording]", sub.url()),
    );
    let mut agent = Running::start(&text);
    let event = agent.wait(60, &["events"], "an event has its picture", |e| {
        ended(e).filter(|e| e["thumbnail"].is_string()).cloned()
    });
    let file = agent
        .state_dir()
        .join("clips")
        .join(event["thumbnail"].as_str().unwrap());
    let n = read_counter(&luma(&file), WIDTH, WIDTH).unwrap();
    // The cameras were started one after the other, by some frames.
    assert!(
        (n.saturating_sub(FPS)..n + FPS).any(|n| SCENE.moving(n, FPS)),
        "frame {n}"
    );
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn without_pictures_in_the_configuration_there_are_none() {
    let camera = TestCamera::start(pattern(SCENE)).unwrap();
    let mut agent = Running::start(&config(&camera, "pictures = false\n"));
    let clip = agent.wait(60, &["clips"], "the event's clip is kept", |c| {
        crate::agent::kept(c).first().cloned()
    });
    assert_eq!(agent.stop(), Some(0));
    let events = agent.ask(&["events"]);
    let event = ended(&events).unwrap();
    assert_eq!(event["clip"], clip["path"]);
    for name in ["thumbnail", "annotated", "no_picture"] {
        assert_eq!(event[name], Value::Null, "{event}");
    }
    assert_eq!(
        jpegs(&agent.state_dir().join("clips/a")),
        [] as [PathBuf; 0]
    );
    assert_eq!(taken(&agent), [] as [Value; 0]);
}

#[test]
fn a_kill_between_file_and_row_leaves_a_file_that_repair_knows() {
    let camera = TestCamera::start(pattern(SCENE)).unwrap();
    let mut agent = Running::prepare(&config(&camera, ""));
    agent.launch(&[(failpoint::VARIABLE, "picture.written")]);
    wait_until(60, "it is killed in the middle", || !agent.runs());
    let event = ended(&agent.ask(&["events"])).cloned().unwrap();
    assert_eq!(
        (&event["thumbnail"], &event["annotated"]),
        (&Value::Null, &Value::Null)
    );
    let files = jpegs(&agent.state_dir().join("clips/a"));
    assert_eq!(files.len(), 2);
    drop(camera);
    agent.launch(&[]);
    agent.wait(20, &["status"], "it runs again", |s| {
        s["pid"].as_u64().map(|_| ())
    });
    assert_eq!(agent.stop(), Some(0));
    let (code, report) = check(&agent, &[]);
    assert_eq!(
        (code, findings(&report)),
        (1, vec!["file_without_row"; 2]),
        "{report}"
    );
    check(&agent, &["--repair"]);
    assert_eq!(check(&agent, &[]).0, 0);
    assert!(files.iter().all(|f| f.exists()));
}

#[test]
fn each_frame_of_a_gop_can_be_had_and_no_other() {
    for (h265, ten_bit, bframes) in [(false, false, 0), (false, false, 2), (true, true, 2)] {
        let (caps, packets) = video(Recipe {
            h265,
            ten_bit,
            bframes,
            frames: 24,
            gop: 24,
            ..Recipe::default()
        });
        let mut seen = Vec::new();
        for packet in packets.iter().step_by(3) {
            let (picture, at) = frame_of(&packets, &caps, packet.pts, 160).unwrap();
            assert_eq!(at, packet.pts);
            assert_eq!((picture.width, picture.height), (160, 120));
            // Of video range the decoder's own, of full range a JPEG's: black is 0, white 255.
            let (least, most) = (picture.luma.iter().min(), picture.luma.iter().max());
            assert!(least < Some(&8) && most > Some(&247), "{least:?} {most:?}");
            let jpeg = jpeg_of(&picture, 85).unwrap();
            assert_eq!(jpeg_size(&jpeg), Some((160, 120)));
            seen.push(picture);
        }
        let all = seen.len();
        seen.dedup();
        assert_eq!(seen.len(), all, "the ball moves from frame to frame");
        let between = Pts(packets[0].pts.0 + 1_000_000);
        assert_eq!(
            frame_of(&packets, &caps, between, 160).unwrap().1,
            packets[0].pts
        );
        let headless = frame_of(&packets[1..], &caps, packets[3].pts, 160);
        assert!(matches!(headless, Err(PictureError::NotKey)));
    }
}

/// What became of an event whose strongest frame is in `packets`.
async fn made_of(packets: Vec<Packet>, caps: Caps) -> query::EventLine {
    let home = tempfile::tempdir().unwrap();
    let text = format!("state_dir = \"{}\"", home.path().display());
    let config = Config::parse(&text, &|_| Err(String::new())).unwrap();
    let clock = Clock::default();
    let time = TimeKeeper::new(clock.clone(), clock.build_time());
    let ids: IdSource = Arc::new(Uuid::now_v7);
    let options = open::Options {
        dir: home.path().to_owned(),
        boot: BootId(Uuid::now_v7()),
        clock: time.boot_clock(),
        now: time.wall(),
        quotas: Quotas::default(),
        ids: ids.clone(),
    };
    let (db, closer, _) = open::open(options, tokio::runtime::Handle::current()).unwrap();
    let mut supervisor = Supervisor::default();
    let (journal, journal_task) = journal(db.clone(), Arc::new(Notify::new()));
    supervisor.spawn(Phase::Journal, "journal", journal_task.run());
    let store = ClipStore {
        spool: Spool::new(&config.spool),
        min_free: sentrycam::units::ByteSize(0),
        disk: Default::default(),
        time,
    };
    let (pictures, task) = pictures(store, journal.clone(), ids);
    let stop = supervisor.stop_token(Phase::Intake);
    supervisor.spawn(Phase::Intake, "pictures", task.run(stop));

    let (event, camera) = (EventId(Uuid::now_v7()), "a".parse().unwrap());
    let facts = EventFacts {
        id: event,
        peak_score: 0.5,
        zones: Vec::new(),
        rev: 1,
    };
    let started = Fact::EventStarted {
        camera,
        at: Mono(1),
        facts: facts.clone(),
        clip: None,
    };
    journal.write(started, Vec::new()).await;
    let ended = Fact::EventEnded {
        facts,
        at: Mono(2),
        reason: "quiet",
    };
    journal.write(ended, Vec::new()).await;
    let frame = Strongest {
        at: packets[0].pts,
        packets,
        caps,
        anchor: Anchor { zero: Mono(5) },
        regions: vec![Region::default()],
    };
    pictures.make(&"a".parse().unwrap(), event, Ok(frame)).await;
    drop((pictures, journal, db));
    supervisor.shut_down(async {}).await;
    tokio::task::spawn_blocking(move || closer.close())
        .await
        .unwrap()
        .unwrap();
    let conn = schema::open_reader(&home.path().join(FILE_NAME)).unwrap();
    let filter = query::Filter {
        limit: 9,
        ..query::Filter::default()
    };
    query::events(&conn, &filter).unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_picture_cannot_be_decoded_ends_without_one_and_says_so() {
    let (caps, packets) = video(Recipe {
        frames: 3,
        ..Recipe::default()
    });
    let good = made_of(packets[..1].to_vec(), caps.clone()).await;
    assert!(good.thumbnail.is_some() && good.annotated.is_some() && good.no_picture.is_none());
    let mut broken = packets[0].clone();
    broken.buffer = gst::Buffer::from_slice(vec![0u8; 500]);
    let bad = made_of(vec![broken], caps).await;
    assert_eq!((bad.state.as_str(), bad.thumbnail), ("ended", None));
    let why = bad.no_picture.unwrap();
    assert!(why.contains("cannot decode the picture"), "{why}");
}

/// What one event's pictures cost: the figures of docs/decisions/0008.
#[test]
fn the_pictures_of_an_event_cost_a_decoded_gop_at_most() {
    let (caps, packets) = video(Recipe {
        frames: 30,
        fps: 15,
        width: 1920,
        height: 1080,
        ..Recipe::default()
    });
    let cpu = || {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
    };
    let before = cpu();
    let (mut picture, _) = frame_of(&packets, &caps, packets[29].pts, 640).unwrap();
    let decoded = cpu() - before;
    let plain = jpeg_of(&picture, 85).unwrap();
    picture.outline(&Region {
        x: 0.1,
        y: 0.1,
        w: 0.3,
        h: 0.3,
        ..Region::default()
    });
    let boxed = jpeg_of(&picture, 85).unwrap();
    let all = cpu() - before;
    println!("decoded 30 frames of 1080p in {decoded:?}, two pictures in {all:?} of a core");
    assert!(plain != boxed && plain.len() < 200_000);
    assert!(all < Duration::from_secs(20), "{all:?}");
}
