//! Runs the motion detector over raw grey frames and prints the moving intervals as JSON.
//!
//! `motion_eval 320x180@5 [sensitivity] [--trace] < frames.gray`, for example behind
//! `ffmpeg -i clip.mp4 -vf fps=5,scale=320:180:flags=area,format=gray -f rawvideo -`.

use std::io::{Read, Write};
use std::time::Duration;

use sentrycam::config::MotionConfig;
use sentrycam::motion::{CellDetector, Detector, GrayFrame, Verdict};
use sentrycam::time::Pts;

/// Movements closer than this are one interval.
const JOIN: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let trace = args.iter().any(|a| a == "--trace");
    let mut plain = args.iter().filter(|a| !a.starts_with("--"));
    let (width, height, fps) = plain
        .next()
        .and_then(|s| shape(s))
        .ok_or("expected WxH@fps, for example 320x180@5")?;
    let sensitivity = plain.next().map_or(Ok(5), |s| s.parse())?;
    let mut detector = CellDetector::new(&MotionConfig {
        enabled: true,
        sensitivity,
        fps,
        pictures: true,
        severity: sentrycam::model::Severity::Warning,
        include: Vec::new(),
        exclude: Vec::new(),
    });
    let mut input = std::io::stdin().lock();
    let mut luma = vec![0; width * height];
    let mut intervals: Vec<(Pts, Pts)> = Vec::new();
    let mut index = 0u32;
    while input.read_exact(&mut luma).is_ok() {
        let pts = Pts::from_duration(Duration::from_secs_f64(f64::from(index) / f64::from(fps)));
        index += 1;
        let verdict = detector.observe(&GrayFrame {
            luma: &luma,
            width,
            height,
            stride: width,
            pts,
        });
        if trace {
            let at = pts.0 as f64 / 1e9;
            writeln!(std::io::stderr(), "{at:.2} {verdict:?}")?;
        }
        if let Verdict::Motion(activity) = verdict {
            match intervals.last_mut() {
                Some(last) if activity.since.since(last.1) <= JOIN => last.1 = pts,
                _ => intervals.push((activity.since, pts)),
            }
        }
    }
    let seconds = |p: Pts| p.0 as f64 / 1e9;
    let events: Vec<String> = intervals
        .iter()
        .map(|(a, b)| {
            format!(
                "{{\"start\":{:.3},\"end\":{:.3}}}",
                seconds(*a),
                seconds(*b)
            )
        })
        .collect();
    writeln!(std::io::stdout(), "{{\"events\":[{}]}}", events.join(","))?;
    Ok(())
}

fn shape(text: &str) -> Option<(usize, usize, f32)> {
    let (size, fps) = text.split_once('@')?;
    let (w, h) = size.split_once('x')?;
    let (w, h, fps) = (w.parse().ok()?, h.parse().ok()?, fps.parse().ok()?);
    (w > 0 && h > 0 && fps > 0.0).then_some((w, h, fps))
}
