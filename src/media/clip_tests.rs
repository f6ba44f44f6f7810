use super::*;

/// A disk that takes nothing for a while: the camera is not held up, the clip ends early and says so.
#[test]
fn a_stuck_disk_ends_the_clip_and_never_blocks() {
    gst::init().unwrap();
    let tmp = tempfile::tempdir().unwrap();
    let caps = TrackCaps {
        video: gst::Caps::builder("video/x-h264")
            .field("stream-format", "avc")
            .field("alignment", "au")
            .field("width", 64)
            .field("height", 64)
            .field("framerate", gst::Fraction::new(25, 1))
            .field(
                "codec_data",
                gst::Buffer::from_slice([1u8, 66, 0, 10, 255, 224, 0]),
            )
            .build(),
        audio: None,
    };
    let mut w = ClipWriter::open(&tmp.path().join("a.mp4"), &caps, false).unwrap();
    w.queue_bytes = 100_000;
    let sink = w.pipeline.iterate_sinks().next().unwrap().unwrap();
    let pad = sink.static_pad("sink").unwrap();
    let stuck = pad
        .add_probe(
            gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER,
            |_, _| gst::PadProbeReturn::Ok,
        )
        .unwrap();
    let packet = |n: u64| {
        let mut buffer = gst::Buffer::from_slice(vec![0u8; 1_000]);
        let b = buffer.get_mut().unwrap();
        b.set_pts(gst::ClockTime::from_mseconds(n * 40));
        b.set_dts(gst::ClockTime::from_mseconds(n * 40));
        b.set_duration(gst::ClockTime::from_mseconds(40));
        Packet {
            track: Track::Video,
            pts: Pts(n * 40_000_000),
            key: n.is_multiple_of(25),
            buffer,
        }
    };
    let outcomes: Vec<_> = (0..400).map(|n| w.push(&packet(n)).unwrap()).collect();
    let taken = outcomes.iter().filter(|o| **o == Pushed::Taken).count();
    assert!((100..150).contains(&taken), "{taken}");
    assert!(outcomes[taken..].iter().all(|o| *o == Pushed::Dropped));
    pad.remove_probe(stuck);
    let clip = w.finish().unwrap();
    assert_eq!(
        (clip.frames, clip.dropped),
        (taken as u64, 400 - taken as u64)
    );
    assert!(clip.truncated);
}
