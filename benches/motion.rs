//! What the motion detector costs: nanoseconds per pixel of a 320×180 frame, for a quiet scene, a noisy one, a scene
//! with moving bodies, and one whose exposure pumps.
//!
//! `cargo bench --bench motion` prints a table and writes `target/bench/motion_stages.json`; the stages are timed on the scene with moving bodies.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use sentrycam::config::MotionConfig;
use sentrycam::motion::stages::{STAGES, Stages};
use sentrycam::motion::{CellDetector, Detector, GrayFrame};
use sentrycam::time::Pts;

const WIDTH: usize = 320;
const HEIGHT: usize = 180;
const FRAMES: usize = 64;
const GROUP: &str = "motion_320x180";
const SCENES: [&str; 4] = ["quiet", "noise", "moving", "exposure"];

/// Pseudo-random numbers (xorshift), the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// About normal, standard deviation `sigma`.
    fn normal(&mut self, sigma: f32) -> f32 {
        let sum: u64 = (0..4).map(|i| self.next() >> (i * 8) & 0xff).sum();
        (sum as f32 - 510.0) / 147.8 * sigma
    }
}

fn frames(scene: &str) -> Vec<Vec<u8>> {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let sigma = if scene == "noise" { 8.0 } else { 1.5 };
    (0..FRAMES)
        .map(|i| {
            let gain = match scene {
                "exposure" => 0.8 + 0.2 * (i as f32 / 5.0).sin(),
                _ => 1.0,
            };
            (0..WIDTH * HEIGHT)
                .map(|p| {
                    let (x, y) = (p % WIDTH, p / WIDTH);
                    let mut v = 60.0 + (x / 16 * 37 + y / 12 * 53) as f32 % 120.0;
                    let body = |n: usize| (x + 2 * WIDTH - i * 4 - n * 90) % WIDTH < 14;
                    if scene == "moving" && y % 60 > 20 && body(y / 60) {
                        v = 230.0 - v / 2.0;
                    }
                    (v * gain + noise.normal(sigma)).clamp(0.0, 255.0) as u8
                })
                .collect()
        })
        .collect()
}

fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(GROUP);
    group.throughput(Throughput::Elements((WIDTH * HEIGHT) as u64));
    for scene in SCENES {
        let frames = frames(scene);
        let mut detector = CellDetector::new(&MotionConfig {
            enabled: true,
            sensitivity: 5,
            fps: 5.0,
            decode: Default::default(),
            pictures: true,
            severity: sentrycam::model::Severity::Warning,
            include: Vec::new(),
            exclude: Vec::new(),
        });
        let mut index = 0;
        group.bench_function(BenchmarkId::from_parameter(scene), |b| {
            b.iter(|| {
                let frame = GrayFrame {
                    luma: &frames[index % FRAMES],
                    width: WIDTH,
                    height: HEIGHT,
                    stride: WIDTH,
                    pts: Pts(index as u64 * 200_000_000),
                };
                index += 1;
                black_box(detector.observe(&frame))
            });
        });
    }
    let pictures = frames("moving");
    let frame = |i: usize| GrayFrame {
        luma: &pictures[i % FRAMES],
        width: WIDTH,
        height: HEIGHT,
        stride: WIDTH,
        pts: Pts(i as u64 * 200_000_000),
    };
    let mut stages = Stages::new(&frame(0));
    for i in 1..FRAMES {
        for stage in STAGES {
            stages.run(stage, &frame(i));
        }
    }
    assert!(stages.groups() > 0, "the scene moves");
    for stage in STAGES {
        let mut index = 0;
        group.bench_function(BenchmarkId::from_parameter(stage), |b| {
            b.iter(|| {
                index += 1;
                stages.run(stage, black_box(&frame(index)));
            });
        });
    }
    group.finish();
}

/// The mean of a scene's last run in nanoseconds a frame, from criterion's own record.
fn mean_ns(target: &Path, scene: &str) -> Option<f64> {
    let path = target.join("criterion").join(GROUP).join(scene);
    let text = std::fs::read(path.join("new/estimates.json")).ok()?;
    let record: serde_json::Value = serde_json::from_slice(&text).ok()?;
    record["mean"]["point_estimate"].as_f64()
}

fn main() -> std::io::Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target"),
        PathBuf::from,
    );
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .output_directory(&target.join("criterion"))
        .configure_from_args();
    measure(&mut criterion);
    criterion.final_summary();

    let pixels = (WIDTH * HEIGHT) as f64;
    let measured: Vec<(&str, f64)> = SCENES
        .iter()
        .chain(&STAGES)
        .filter_map(|s| Some((*s, mean_ns(&target, s)? / pixels)))
        .collect();
    if measured.len() < SCENES.len() + STAGES.len() {
        return Ok(());
    }
    println!("| scene or stage | ns a pixel | µs a frame |\n|---|---|---|");
    for (scene, ns) in &measured {
        println!("| {scene} | {ns:.3} | {:.1} |", ns * pixels / 1000.0);
    }
    let (scenes, stages) = measured.split_at(SCENES.len());
    let document = |rows: &[(&str, f64)]| -> serde_json::Map<String, serde_json::Value> {
        rows.iter()
            .map(|(s, ns)| (s.to_string(), (*ns).into()))
            .collect()
    };
    let worst = scenes.iter().map(|(_, ns)| *ns).fold(0.0, f64::max);
    let report = serde_json::json!({
        "width": WIDTH,
        "height": HEIGHT,
        "ns_per_pixel": measured[0].1,
        "worst_ns_per_pixel": worst,
        "scenes": document(scenes),
        "stages": document(stages),
    });
    std::fs::create_dir_all(target.join("bench"))?;
    std::fs::write(
        target.join("bench/motion_stages.json"),
        serde_json::to_vec_pretty(&report)?,
    )
}
