//! Clips: exactness, crashes, slow and full disks, leaks.

use std::fs;
use std::path::{Path, PathBuf};

use gstreamer as gst;
use sentrycam::media::clip::{ClipError, ClipFile, ClipWriter, Pushed};
use sentrycam::media::{Packet, Track};
use sentrycam::model::Sha256;
use sentrycam::spool::mp4::{self, Stage};
use sentrycam::spool::part_of;
use sentrycam::spool::salvage::{Outcome, salvage};

use crate::fixture::{Recipe, audio, caps, ffprobe, interleave, video, wait_until};

fn clip_path(dir: &Path) -> PathBuf {
    dir.join(format!("{}.mp4", uuid::Uuid::now_v7()))
}

fn write(path: &Path, caps: &sentrycam::media::TrackCaps, packets: &[Packet]) -> ClipFile {
    let mut w = ClipWriter::open(path, caps, true).unwrap();
    for p in packets {
        w.push(p).unwrap();
    }
    w.finish().unwrap()
}

fn stage(path: &Path) -> mp4::Survey {
    mp4::survey(&mut fs::File::open(path).unwrap()).unwrap()
}

fn exact(r: Recipe) {
    let tmp = tempfile::tempdir().unwrap();
    let (v, packets) = video(r);
    let path = clip_path(tmp.path());
    // Begins in the middle of the session, and not at a key frame.
    let keys: Vec<usize> = (0..packets.len()).filter(|i| packets[*i].key).collect();
    let key = keys[1];
    let clip = write(&path, &caps(&v, None), &packets[keys[0] + 5..]);
    // Leading pictures of an open GOP cannot be decoded without the one before.
    let first = packets[key].pts;
    let expected = packets[key..].iter().filter(|p| p.pts >= first).count() as u64;
    assert!(expected >= u64::from(r.frames - r.gop) - 3);
    let p = ffprobe(&path);
    assert_eq!(p.complaints, "", "{r:?}");
    assert_eq!((p.frames, clip.frames), (expected, expected), "{r:?}");
    assert!(p.first_is_key && p.start.abs() < 0.001, "{r:?} {p:?}");
    let seconds = expected as f64 / f64::from(r.fps);
    // The decoding times of left-out leading pictures stay as a longer first sample.
    let left_out = (packets.len() - key) as f64 - expected as f64;
    let tolerance = 0.01 + left_out / f64::from(r.fps);
    assert!((p.duration - seconds).abs() < tolerance, "{r:?} {p:?}");
    assert!((clip.duration.as_secs_f64() - seconds).abs() < 0.01);
    assert_eq!(clip.first_pts, first);
    assert_eq!(Some(clip.last_pts), packets.iter().map(|p| p.pts).max());
    let s = stage(&path);
    assert_eq!(
        (s.stage, s.fragments),
        (Stage::Finalised, 0),
        "seekable: one index, no fragments"
    );
    assert_eq!(s.video().unwrap().samples, expected);
    let (digest, size) = Sha256::of_reader(fs::File::open(&path).unwrap()).unwrap();
    assert_eq!((digest, size), (clip.sha256, clip.size_bytes));
    assert!(!clip.truncated && !part_of(&path).exists());
}

#[test]
fn a_clip_holds_exactly_the_frames_from_its_key_frame_on() {
    exact(Recipe::default());
}

#[test]
fn b_frames_keep_their_times() {
    exact(Recipe {
        bframes: 3,
        ..Recipe::default()
    });
}

#[test]
fn h265_keeps_its_times_with_and_without_b_frames() {
    exact(Recipe {
        h265: true,
        ..Recipe::default()
    });
    exact(Recipe {
        h265: true,
        bframes: 2,
        ..Recipe::default()
    });
}

#[test]
fn audio_lies_beside_the_video() {
    let tmp = tempfile::tempdir().unwrap();
    let (v, pictures) = video(Recipe::default());
    let (a, sound) = audio(5);
    let path = clip_path(tmp.path());
    write(&path, &caps(&v, Some(&a)), &interleave(pictures, sound));
    let p = ffprobe(&path);
    assert_eq!((p.frames, p.complaints.as_str()), (150, ""));
    assert!(p.audio_packets > 220 && p.start.abs() < 0.001, "{p:?}");
}

#[test]
fn announced_audio_that_never_comes_does_not_stop_the_clip() {
    let tmp = tempfile::tempdir().unwrap();
    let (v, pictures) = video(Recipe::default());
    let (a, _) = audio(1);
    let path = clip_path(tmp.path());
    let mut w = ClipWriter::open(&path, &caps(&v, Some(&a)), true).unwrap();
    for p in &pictures {
        w.push(p).unwrap();
    }
    // Fragments reach the disk although the other track is silent.
    wait_until(30, "fragments of a clip without audio", || {
        stage(&part_of(&path)).fragments >= 1
    });
    w.finish().unwrap();
    let p = ffprobe(&path);
    assert_eq!((p.frames, p.complaints.as_str()), (150, ""), "{p:?}");
}

#[test]
fn audio_that_stops_and_comes_back_is_kept() {
    let tmp = tempfile::tempdir().unwrap();
    let (v, pictures) = video(Recipe {
        frames: 300,
        ..Recipe::default()
    });
    let (a, sound) = audio(10);
    let gone = 2_000_000_000..6_000_000_000;
    let sound: Vec<Packet> = sound
        .into_iter()
        .filter(|p| !gone.contains(&p.pts.0))
        .collect();
    let path = clip_path(tmp.path());
    write(&path, &caps(&v, Some(&a)), &interleave(pictures, sound));
    let p = ffprobe(&path);
    assert_eq!((p.frames, p.complaints.as_str()), (300, ""), "{p:?}");
    assert!(p.audio_packets > 250, "{p:?}");
}

#[test]
fn a_clip_without_a_key_frame_leaves_nothing() {
    let tmp = tempfile::tempdir().unwrap();
    let (v, packets) = video(Recipe::default());
    for some in [&packets[..0], &packets[1..20]] {
        let path = clip_path(tmp.path());
        let mut w = ClipWriter::open(&path, &caps(&v, None), false).unwrap();
        for p in some {
            assert_eq!(w.push(p).unwrap(), Pushed::Skipped);
        }
        assert!(matches!(w.finish(), Err(ClipError::Empty(_))));
    }
    assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0);
}

/// kill -9 leaves what was written: a copy of the part at any moment must be salvaged with no more than the unfinished
/// fragment missing.
#[test]
fn a_part_cut_at_any_byte_is_salvaged_but_for_its_last_second() {
    let recipe = Recipe {
        frames: 300,
        bframes: 2,
        ..Recipe::default()
    };
    let (v, packets) = video(recipe);
    cut_anywhere(&caps(&v, None), &packets);
    let (a, sound) = audio(10);
    cut_anywhere(&caps(&v, Some(&a)), &interleave(packets, sound));
}

fn cut_anywhere(caps: &sentrycam::media::TrackCaps, packets: &[Packet]) {
    let tmp = tempfile::tempdir().unwrap();
    let path = clip_path(tmp.path());
    let mut w = ClipWriter::open(&path, caps, true).unwrap();
    for p in packets {
        w.push(p).unwrap();
    }
    let part = part_of(&path);
    wait_until(30, "eight fragments", || stage(&part).fragments >= 8);
    let whole = fs::read(&part).unwrap();
    drop(w);
    // Ends of the fragments and the samples up to there, as an unhurried reader sees them.
    let mut marks = vec![(0usize, 0u64)];
    for cut in (0..=whole.len()).step_by(whole.len() / 400) {
        let s = mp4::survey(&mut std::io::Cursor::new(&whole[..cut])).unwrap();
        let known = (s.playable_end as usize, s.video().map_or(0, |v| v.samples));
        if marks.last() != Some(&known) {
            marks.push(known);
        }
    }
    assert!(
        marks.windows(2).all(|m| m[1].1 - m[0].1 <= 32),
        "a fragment is at most a second: {marks:?}"
    );
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    for n in 0..25u64 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let cut = (seed >> 33) as usize % whole.len();
        let torn = tmp.path().join(format!("{n}.mp4.part"));
        fs::write(&torn, &whole[..cut]).unwrap();
        let expected = marks
            .iter()
            .filter(|m| m.0 <= cut)
            .map(|m| m.1)
            .max()
            .unwrap_or(0);
        match salvage(&torn).unwrap() {
            Outcome::Nothing { .. } => assert_eq!(expected, 0, "cut at {cut}"),
            Outcome::Salvaged(s) => {
                assert!(s.truncated && s.frames >= expected, "cut at {cut}: {s:?}");
                let p = ffprobe(&s.path);
                assert_eq!(
                    (p.frames, p.complaints.as_str()),
                    (s.frames, ""),
                    "cut at {cut}"
                );
                assert!(
                    (p.duration - s.duration.as_secs_f64()).abs() < 0.1,
                    "{p:?} {s:?}"
                );
            }
        }
        assert!(!torn.exists());
    }
}

#[test]
fn a_finalised_part_needs_only_its_name() {
    let tmp = tempfile::tempdir().unwrap();
    let (v, packets) = video(Recipe::default());
    let path = clip_path(tmp.path());
    let clip = write(&path, &caps(&v, None), &packets);
    fs::rename(&path, part_of(&path)).unwrap();
    let Outcome::Salvaged(s) = salvage(&part_of(&path)).unwrap() else {
        panic!("nothing salvaged")
    };
    assert_eq!(
        (s.truncated, s.frames, s.sha256, s.cut_bytes),
        (false, 150, clip.sha256, 0)
    );
    // A cut while the index was being appended: the growing file's index comes back.
    let whole = fs::read(&path).unwrap();
    for lost in [1, 400, 1_200] {
        let torn = tmp.path().join(format!("lost-{lost}.mp4.part"));
        fs::write(&torn, &whole[..whole.len() - lost]).unwrap();
        let Outcome::Salvaged(s) = salvage(&torn).unwrap() else {
            panic!("nothing salvaged with {lost} bytes lost")
        };
        let p = ffprobe(&s.path);
        assert_eq!((p.frames, p.complaints.as_str()), (s.frames, ""), "{lost}");
        assert!(s.truncated && s.frames >= 120, "{lost} {s:?}");
    }
}

/// The process died between the rename and the row: the row still says `recording`, the part is gone.
#[test]
fn a_closed_file_without_its_row_is_kept() {
    let tmp = tempfile::tempdir().unwrap();
    let (v, packets) = video(Recipe::default());
    let path = clip_path(tmp.path());
    let clip = write(&path, &caps(&v, None), &packets);
    let Outcome::Salvaged(s) = salvage(&part_of(&path)).unwrap() else {
        panic!("nothing salvaged")
    };
    assert_eq!(
        (s.truncated, s.frames, s.sha256, s.path),
        (false, 150, clip.sha256, path.clone())
    );
    // Salvaged once, and killed again before its row: it still says that its end is missing.
    let whole = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(part_of(&path), &whole[..whole.len() - 1]).unwrap();
    for _ in 0..2 {
        let Outcome::Salvaged(s) = salvage(&part_of(&path)).unwrap() else {
            panic!("nothing salvaged")
        };
        assert!(s.truncated && s.frames >= 120, "{s:?}");
    }
    // Both there is nothing that a crash leaves: neither is touched.
    fs::write(part_of(&path), b"x").unwrap();
    assert!(salvage(&part_of(&path)).is_err());
}

#[test]
fn mutated_real_files_are_answered() {
    let tmp = tempfile::tempdir().unwrap();
    let (v, packets) = video(Recipe {
        frames: 90,
        ..Recipe::default()
    });
    let (a, sound) = audio(3);
    let path = clip_path(tmp.path());
    write(&path, &caps(&v, Some(&a)), &interleave(packets, sound));
    let original = fs::read(&path).unwrap();
    let index = original.windows(4).rposition(|w| w == b"moov").unwrap();
    let mut seed = 7u64;
    let mut next = |n: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % n
    };
    for _ in 0..3_000 {
        let mut b = original.clone();
        for _ in 0..=next(8) {
            let at = index + next(original.len() - index);
            b[at] = next(256) as u8;
        }
        b.truncate(original.len() - next(3) * next(2_000));
        let s = mp4::survey(&mut std::io::Cursor::new(&b)).unwrap();
        assert!(s.playable_end <= b.len() as u64);
    }
}

#[test]
fn a_full_disk_ends_the_clip_and_leaves_what_plays() {
    let (v, packets) = video(Recipe {
        frames: 300,
        width: 640,
        height: 480,
        ..Recipe::default()
    });
    let half = packets.iter().map(Packet::size).sum::<usize>() / 2;
    let tmp = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={half}"), "tmpfs"])
        .arg(tmp.path())
        .status()
        .is_ok_and(|s| s.success());
    assert!(mounted, "this test mounts a small tmpfs: run it as root");
    let path = clip_path(tmp.path());
    let mut w = ClipWriter::open(&path, &caps(&v, None), false).unwrap();
    let mut failure = packets.iter().find_map(|p| w.push(p).err());
    let unwanted = Packet {
        track: Track::Audio,
        ..packets[0].clone()
    };
    wait_until(30, "the disk to be full", || {
        failure = failure.take().or_else(|| w.push(&unwanted).err());
        failure.is_some()
    });
    let full = failure.unwrap();
    assert!(matches!(full, ClipError::DiskFull(_)), "{full:?}");
    drop(w);
    let salvaged = salvage(&part_of(&path));
    let plays = match &salvaged {
        Ok(Outcome::Salvaged(s)) => ffprobe(&s.path).frames == s.frames && s.frames >= 30,
        _ => false,
    };
    wait_until(30, "the mount to be free", || {
        std::process::Command::new("umount")
            .arg(tmp.path())
            .status()
            .unwrap()
            .success()
    });
    assert!(plays, "{salvaged:?}");
}

#[test]
fn four_writers_at_once_do_not_disturb_each_other() {
    let tmp = tempfile::tempdir().unwrap();
    let (v, packets) = video(Recipe::default());
    let c = caps(&v, None);
    let mut writers: Vec<_> = (0..4)
        .map(|_| ClipWriter::open(&clip_path(tmp.path()), &c, false).unwrap())
        .collect();
    for p in &packets {
        for w in &mut writers {
            assert_eq!(w.push(p).unwrap(), Pushed::Taken);
        }
    }
    let closing: Vec<_> = writers
        .into_iter()
        .map(|w| std::thread::spawn(|| w.finish().unwrap()))
        .collect();
    for clip in closing {
        let clip = clip.join().unwrap();
        assert_eq!(ffprobe(&clip.path).frames, 150);
    }
}

#[test]
fn twenty_clips_leave_no_thread_and_no_descriptor() {
    let tmp = tempfile::tempdir().unwrap();
    let (v, packets) = video(Recipe {
        frames: 60,
        ..Recipe::default()
    });
    let (a, sound) = audio(2);
    let c = caps(&v, Some(&a));
    let packets = interleave(packets, sound);
    let ours = |name: &str| {
        let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
        tasks
            .filter_map(|t| fs::read_to_string(t.path().join("comm")).ok())
            .filter(|c| c.starts_with(name))
            .count()
    };
    let open = |dir: &Path| {
        let fds = fs::read_dir("/proc/self/fd").unwrap().flatten();
        fds.filter(|f| fs::read_link(f.path()).is_ok_and(|t| t.starts_with(dir)))
            .count()
    };
    for n in 0..20 {
        let path = clip_path(tmp.path());
        if n % 4 == 3 {
            // Given up without closing.
            let mut w = ClipWriter::open(&path, &c, true).unwrap();
            for p in &packets {
                w.push(p).unwrap();
            }
        } else {
            write(&path, &c, &packets);
        }
    }
    wait_until(30, "descriptors of all clips to be closed", || {
        open(tmp.path()) == 0
    });
    // Other tests run beside this one, so the bound is what twenty leaked clips would exceed.
    wait_until(30, "threads of all clips to end", || {
        ours("clip-sync") + ours("gst-stop") < 15
    });
}

#[test]
fn packets_are_shared_not_copied() {
    let (_, packets) = video(Recipe {
        frames: 2,
        ..Recipe::default()
    });
    let copy = packets[0].buffer.copy();
    let place = |b: &gst::Buffer| b.map_readable().unwrap().as_ptr();
    assert_eq!(place(&copy), place(&packets[0].buffer));
    assert_eq!(packets[0].track, Track::Video);
}
