//! Labelled clips, encoded anew as a camera would send them, with their pictures.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sentrycam::time::Pts;
use serde_json::Value;

/// Widest picture, as in the agent.
const WIDTH: usize = 320;

/// One access unit and its picture.
pub struct Shot {
    /// When.
    pub at: Pts,
    /// A decoder can begin with it.
    pub key: bool,
    /// Its size as it was encoded.
    pub bytes: usize,
    /// The picture, a byte a pixel, rows without gaps.
    pub luma: Vec<u8>,
}

/// A labelled clip; times in seconds.
pub struct Clip {
    /// Name of its folder.
    pub name: String,
    /// The film.
    pub video: PathBuf,
    /// Begin and end of what is to be found.
    pub events: Vec<(f64, f64)>,
    /// Where an alarm is neither right nor wrong.
    pub ignore: Vec<(f64, f64)>,
}

/// The clips in the folders of `dir` whose names hold `only`.
pub fn clips(dir: &Path, only: &str) -> Result<Vec<Clip>> {
    let mut clips = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("{}", dir.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let video = ["clip.mp4", "input.mkv"]
            .map(|f| path.join(f))
            .into_iter()
            .find(|f| f.exists());
        let (Some(video), Ok(text)) = (video, std::fs::read_to_string(path.join("events.json")))
        else {
            continue;
        };
        if !name.contains(only) {
            continue;
        }
        let labels: Value =
            serde_json::from_str(&text).with_context(|| format!("{name}/events.json"))?;
        let pair = |a: &Value, b: &Value| Some((a.as_f64()?, b.as_f64()?));
        let list = |key: &str| labels[key].as_array().cloned().unwrap_or_default();
        clips.push(Clip {
            name,
            video,
            events: list("events")
                .iter()
                .filter_map(|e| pair(&e["start"], &e["end"]))
                .collect(),
            ignore: list("ignore")
                .iter()
                .filter_map(|e| pair(&e[0], &e[1]))
                .collect(),
        });
    }
    ensure!(
        !clips.is_empty(),
        "no clips in {}: expected NAME/clip.mp4 with NAME/events.json",
        dir.display()
    );
    clips.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(clips)
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| name.clone())?;
    ensure!(
        out.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(out.stdout)
}

fn probe(video: &Path, entries: &str) -> Result<Value> {
    let args = [
        "-v",
        "error",
        "-select_streams",
        "v:0",
        "-of",
        "json",
        "-show_entries",
    ];
    let out = output(Command::new("ffprobe").args(args).arg(entries).arg(video))?;
    Ok(serde_json::from_slice(&out)?)
}

/// Width and height.
pub type Size = (usize, usize);

/// Encodes, and reads back what a camera would have sent.
pub fn encode(
    video: &Path,
    work: &Path,
    gop: f64,
    rate: &str,
    phase: u32,
    phases: u32,
) -> Result<(Size, Vec<Shot>)> {
    let stream = probe(video, "stream=width,height,r_frame_rate")?["streams"][0].clone();
    let number = |key: &str| stream[key].as_u64().with_context(|| format!("no {key}"));
    let (w, h) = (number("width")? as usize, number("height")? as usize);
    let fps = stream["r_frame_rate"]
        .as_str()
        .and_then(|r| r.split_once('/'));
    let fps = fps.and_then(|(n, d)| Some(n.parse::<f64>().ok()? / d.parse::<f64>().ok()?));
    let fps = fps
        .filter(|f| f.is_finite() && *f > 0.0)
        .context("no frame rate")?;
    let every = (gop * fps).round().max(1.0);
    let first = (every * f64::from(phase) / f64::from(phases)).floor();
    // A first short GOP, then one every so often.
    let keys = format!("expr:eq(mod(n+{},{every}),0)", every - first);
    let file = work.join("a.mp4");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-y", "-i"]).arg(video);
    ffmpeg.args([
        "-an",
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-bf",
        "0",
        "-sc_threshold",
        "0",
    ]);
    ffmpeg.args([
        "-g",
        "100000",
        "-pix_fmt",
        "yuv420p",
        "-force_key_frames",
        &keys,
    ]);
    match rate {
        "cbr" => {
            // 0.1 bit a pixel: a camera of 1080p30 with 6 Mbit/s.
            let bits = format!("{}", (0.1 * (w * h) as f64 * fps) as u64);
            ffmpeg.args(["-b:v", &bits, "-maxrate", &bits, "-bufsize", &bits])
        }
        _ => ffmpeg.args(["-crf", "26"]),
    };
    output(ffmpeg.arg(&file))?;
    let width = w.min(WIDTH);
    let height = (h * width).div_ceil(w).max(1);
    let packets = probe(&file, "packet=pts_time,size,flags")?;
    let filter = format!("scale={width}:{height}:flags=area,format=gray");
    let mut decode = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(&file)
        .args([
            "-fps_mode",
            "passthrough",
            "-vf",
            &filter,
            "-f",
            "rawvideo",
            "-",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut pictures = decode.stdout.take().context("no pictures")?;
    let mut shots = Vec::new();
    for packet in packets["packets"].as_array().context("no packets")? {
        let text = |key: &str| {
            packet[key]
                .as_str()
                .with_context(|| format!("a packet without {key}"))
        };
        let mut luma = vec![0; width * height];
        if pictures.read_exact(&mut luma).is_err() {
            break;
        }
        shots.push(Shot {
            at: Pts::from_duration(Duration::from_secs_f64(
                text("pts_time")?.parse::<f64>()?.max(0.0),
            )),
            key: text("flags")?.contains('K'),
            bytes: text("size")?.parse()?,
            luma,
        });
    }
    drop(pictures);
    ensure!(
        decode.wait()?.success(),
        "ffmpeg cannot decode what it encoded"
    );
    if shots.is_empty() {
        bail!("no pictures");
    }
    Ok(((width, height), shots))
}
