//! Decode on demand, for real: a camera that is quiet and then moves, and decoders that hang.

use std::time::Duration;

use gstreamer as gst;
use sentrycam::agent::camera::detection::Detection;
use sentrycam::agent::time::TimeKeeper;
use sentrycam::board::clock::Clock;
use sentrycam::config::Config;
use sentrycam::demand::Decoders;
use sentrycam::time::Pts;
use sentrycam_testcam::{Codec, Options, Picture, Scene, Source, TestCamera};
use serde_json::Value;

use crate::agent::{EXCLUDE_COUNTER, FPS, counters, kept};
use crate::fixture::{Recipe, caps, video};
use crate::running::Running;

const SCENE: Scene = Scene {
    quiet: 26,
    motion: 4,
};

fn decoded(status: &Value) -> Option<(f64, f64)> {
    let d = &status["cameras"]["a"]["decoding"];
    Some((d["decoded"].as_f64()?, d["packets"].as_f64()?))
}

#[test]
fn a_quiet_camera_is_decoded_at_its_key_frames_and_an_event_begins_where_it_began() {
    let camera = TestCamera::start(Options {
        source: Source::Pattern(
            Picture {
                fps: FPS,
                gop: 2 * FPS,
                scene: SCENE,
                ..Picture::default()
            },
            Codec::H264,
        ),
        ..Options::default()
    })
    .unwrap();
    let mut agent = Running::start(&format!(
        "[[camera]]\nid = \"a\"\nurl = \"{}\"\n[camera.recording]\npre_roll = \"3 s\"\npost_roll = \"2 s\"\n\
         [camera.motion]\n{EXCLUDE_COUNTER}",
        camera.url()
    ));
    let mode = |s: &Value, mode: &str| s["cameras"]["a"]["decoding"]["mode"] == mode;
    let begin = agent.wait(40, &["status"], "key frames alone are decoded", |s| {
        mode(s, "key frames").then(|| decoded(s)).flatten()
    });
    let table = agent.command(&["status"]).stdout;
    let table = String::from_utf8_lossy(&table).into_owned();
    assert!(table.contains("key frames"), "{table}");
    let quiet = agent.wait(40, &["status"], "6 s more of it", |s| {
        assert!(mode(s, "key frames"), "{s}");
        decoded(s).filter(|d| d.1 >= begin.1 + 6.0 * f64::from(FPS))
    });
    let share = (quiet.0 - begin.0) / (quiet.1 - begin.1);
    // One picture of 30, and one more where the window begins or ends.
    assert!((0.01..=0.08).contains(&share), "{share}");
    let clip = agent.wait(90, &["clips"], "a clip is kept", |c| {
        kept(c).first().cloned()
    });
    let event = agent.wait(10, &["events"], "its event ended", |e| {
        let ended = |e: &&Value| e["id"] == clip["event"] && e["state"] == "ended";
        e.as_array()?.iter().find(ended).cloned()
    });
    let shown = counters(&agent.clip_path(&clip));
    let moving: Vec<usize> = (0..shown.len())
        .filter(|i| SCENE.moving(shown[*i], FPS))
        .collect();
    assert_eq!(
        moving.len() as u32,
        SCENE.motion * FPS,
        "the whole motion is in the clip: {shown:?}"
    );
    let at = |v: &Value| v.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let into = at(&event["started_at"]).duration_since(at(&clip["started_at"]));
    let error = into.as_secs_f64() - moving[0] as f64 / f64::from(FPS);
    assert!(
        error.abs() <= 0.3,
        "the start is wrong by {error} s: {event} {clip} {} of {shown:?}\n{}",
        moving[0],
        agent.log()
    );
    // Up to one GOP more to the key frame.
    let before = moving[0] as u32;
    assert!((3 * FPS - 5..=5 * FPS + 5).contains(&before), "{before}");
    agent.wait(40, &["status"], "key frames alone again", |s| {
        mode(s, "key frames").then_some(())
    });
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn a_camera_with_long_gops_is_decoded_as_a_whole_and_says_so() {
    let camera = TestCamera::start(Options {
        source: Source::Pattern(
            Picture {
                fps: FPS,
                gop: 5 * FPS,
                scene: SCENE,
                ..Picture::default()
            },
            Codec::H264,
        ),
        ..Options::default()
    })
    .unwrap();
    let mut agent = Running::start(&format!(
        "[[camera]]\nid = \"a\"\nurl = \"{}\"\n[camera.motion]\n{EXCLUDE_COUNTER}",
        camera.url()
    ));
    let (done, all) = agent.wait(60, &["status"], "20 s of it", |s| {
        decoded(s).filter(|d| d.1 >= 20.0 * f64::from(FPS))
    });
    let status = agent.ask(&["status"]);
    let mode = &status["cameras"]["a"]["decoding"]["mode"];
    assert_eq!(mode, "all: key frames too far apart");
    // Of each GOP what follows its last chosen picture is spared, as ever.
    assert!(done / all > 0.8, "{done} of {all}");
    assert_eq!(agent.stop(), Some(0));
}

mod hanging {
    //! A decoder that takes everything and puts nothing out.

    use gstreamer as gst;
    use gstreamer::glib;
    use gstreamer::prelude::*;
    use gstreamer::subclass::prelude::*;

    pub struct Imp {
        sink: gst::Pad,
        src: gst::Pad,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Imp {
        const NAME: &'static str = "SentrycamHanging";
        type Type = Hanging;
        type ParentType = gst::Element;

        fn with_class(class: &Self::Class) -> Self {
            let template = class.pad_template("sink").unwrap();
            let sink = gst::Pad::builder_from_template(&template)
                .chain_function(|_, _, _| Ok(gst::FlowSuccess::Ok))
                .event_function(|_, _, _| true)
                .build();
            let src = gst::Pad::from_template(&class.pad_template("src").unwrap());
            Imp { sink, src }
        }
    }

    impl ObjectImpl for Imp {
        fn constructed(&self) {
            self.parent_constructed();
            self.obj().add_pad(&self.sink).unwrap();
            self.obj().add_pad(&self.src).unwrap();
        }
    }

    impl GstObjectImpl for Imp {}

    impl ElementImpl for Imp {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static TEXT: std::sync::OnceLock<gst::subclass::ElementMetadata> =
                std::sync::OnceLock::new();
            let text = || gst::subclass::ElementMetadata::new("Hangs", "Decoder", "Hangs", "tests");
            Some(TEXT.get_or_init(text))
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static ALL: std::sync::OnceLock<Vec<gst::PadTemplate>> = std::sync::OnceLock::new();
            ALL.get_or_init(|| {
                let pad = |name, direction| {
                    let caps = gst::Caps::new_any();
                    gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).unwrap()
                };
                vec![
                    pad("sink", gst::PadDirection::Sink),
                    pad("src", gst::PadDirection::Src),
                ]
            })
        }
    }

    glib::wrapper! {
        pub struct Hanging(ObjectSubclass<Imp>) @extends gst::Element, gst::Object;
    }
}

#[tokio::test]
async fn a_decoder_that_hangs_is_left_and_what_it_owed_is_decoded_by_software() {
    let (video, packets) = video(Recipe::default());
    let kind = <hanging::Hanging as gst::prelude::StaticType>::static_type();
    gst::Element::register(None, "v4l2hanging", gst::Rank::NONE, kind).unwrap();
    let text = "state_dir = \"/nonexistent\"\n[[camera]]\nid = \"a\"\nurl = \"rtsp://a\"\n";
    let config = Config::parse(text, &|_| Err(String::new())).unwrap();
    let clock = Clock::default();
    let time = TimeKeeper::new(clock.clone(), clock.build_time());
    let mut detection = Detection::new(config.cameras[0].motion.clone(), time);
    detection.stream(Some(&caps(&video, None)), true);
    detection.decode_with(Decoders::new("avdec_h264", vec!["v4l2hanging".into()]));
    let mut seen: Vec<Pts> = Vec::new();
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    let mut names = Vec::new();
    // 5 s of video, a little slower than the camera.
    let mut coming = packets.iter();
    for _ in 0..600 {
        tokio::select! {
            picture = detection.next() => if let Some(picture) = picture {
                seen.push(picture.pts);
                detection.observe(&picture);
            },
            _ = beat.tick() => {
                if let Some(packet) = coming.next() {
                    detection.push(packet);
                }
                detection.tick();
            }
        }
        let name = detection.decoding().map(|d| d.decoder);
        if names.last() != Some(&name) {
            names.push(name);
        }
        if seen.len() > 15 {
            break;
        }
    }
    let hang = Some("v4l2hanging".to_owned());
    assert!(names.contains(&hang), "{names:?}");
    assert_eq!(names.last(), Some(&Some("avdec_h264".to_owned())));
    assert_eq!(seen.first(), Some(&packets[0].pts), "nothing was lost");
    assert!(seen.is_sorted() && seen.len() > 15, "{seen:?}");
}
