//! What the detector makes of one frame, for drawings: `motion_picture 320x240@10 INDEX < frames.gray > dump`.
//!
//! Reads raw grey frames and writes, of frame INDEX, the picture as it is compared, the votes (0..=4) and the mask (0, 1),
//! each one byte a pixel. `tests/bench/motion/picture.py` draws them.

use std::io::{Read, Write};
use std::time::Duration;

use sentrycam::config::MotionConfig;
use sentrycam::motion::{CellDetector, Detector, GrayFrame};
use sentrycam::time::Pts;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [shape, index] = args.as_slice() else {
        return Err("expected WxH@fps INDEX, for example 320x240@10 150".into());
    };
    let (width, height, fps) = parse(shape).ok_or("expected WxH@fps, for example 320x240@10")?;
    let mut detector = CellDetector::new(&MotionConfig {
        enabled: true,
        sensitivity: 5,
        fps,
        decode: Default::default(),
        pictures: false,
        severity: sentrycam::model::Severity::Warning,
        include: Vec::new(),
        exclude: Vec::new(),
    });
    let mut input = std::io::stdin().lock();
    let mut luma = vec![0; width * height];
    for i in 0..=index.parse::<u32>()? {
        input.read_exact(&mut luma)?;
        let pts = Pts::from_duration(Duration::from_secs_f64(f64::from(i) / f64::from(fps)));
        detector.observe(&GrayFrame {
            luma: &luma,
            width,
            height,
            stride: width,
            pts,
        });
    }
    let mut out = std::io::stdout().lock();
    for layer in detector.layers().into_iter().flatten() {
        out.write_all(&layer)?;
    }
    Ok(())
}

fn parse(text: &str) -> Option<(usize, usize, f32)> {
    let (size, fps) = text.split_once('@')?;
    let (w, h) = size.split_once('x')?;
    let (w, h, fps) = (w.parse().ok()?, h.parse().ok()?, fps.parse().ok()?);
    (w > 0 && h > 0 && fps > 0.0).then_some((w, h, fps))
}
