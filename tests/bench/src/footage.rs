//! The video that the cameras serve: made once, kept in `target/bench/footage`.
//!
//! Pedestrians filmed by a surveillance camera (PETS 2009, in Debian's package `opencv-doc`), scaled to 1080p, with
//! sensor noise: 10 s in which nothing moves, 12 s forwards, the same 12 s backwards, so that the end meets the
//! beginning. GOP 2 s, no B-frames, 4 Mbit/s. Where the package cannot be had, FFmpeg's test picture stands in, and
//! the figures say so.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Seconds until the footage repeats.
pub const LOOP_S: u32 = 34;
/// Times that it repeats in the file: a measurement ends before the file begins anew, since players stumble there.
const REPEATS: u32 = 4;
/// Loops that can be measured after the warm-up.
pub const MOST_LOOPS: u32 = REPEATS - 1;

/// Files of one camera.
#[derive(Debug, Clone)]
pub struct Footage {
    /// 1920x1080 at the asked rate.
    pub main: PathBuf,
    /// 640x360 at 15 frames a second.
    pub sub: PathBuf,
    /// What it shows.
    pub origin: &'static str,
}

/// What is encoded, and what it shows.
fn source(directory: &Path) -> (Option<PathBuf>, &'static str) {
    match pedestrians(directory) {
        Ok(path) => (Some(path), "pedestrians (opencv-doc, PETS 2009)"),
        Err(e) => {
            eprintln!("no pedestrians: {e:#}; a test picture instead");
            (None, "FFmpeg's test picture")
        }
    }
}

/// Makes what is missing.
pub fn make(directory: &Path, fps: u32) -> Result<Footage> {
    std::fs::create_dir_all(directory)?;
    let (source, origin) = source(directory);
    let kind = if source.is_some() { "people" } else { "test" };
    let main = directory.join(format!("{kind}-1080p{fps}.mp4"));
    let sub = directory.join(format!("{kind}-360p15.mp4"));
    encode(source.as_deref(), &main, (1920, 1080, fps), 4000, MIXED)?;
    encode(source.as_deref(), &sub, (640, 360, 15), 600, MIXED)?;
    Ok(Footage { main, sub, origin })
}

/// The same street at 30 frames a second in which nothing moves (`idle`) or always something, with a GOP of `gop`
/// seconds.
pub fn make_scene(directory: &Path, idle: bool, gop: u32) -> Result<Footage> {
    std::fs::create_dir_all(directory)?;
    let (source, origin) = source(directory);
    let (kind, scene) = if idle { ("idle", IDLE) } else { ("busy", BUSY) };
    let of = if source.is_some() { "people" } else { "test" };
    let main = directory.join(format!("{of}-{kind}-1080p30-gop{gop}.mp4"));
    let sub = directory.join(format!("{of}-{kind}-360p15-gop{gop}.mp4"));
    let scene = Scene { gop, ..scene };
    encode(source.as_deref(), &main, (1920, 1080, 30), 4000, scene)?;
    encode(source.as_deref(), &sub, (640, 360, 15), 600, scene)?;
    Ok(Footage { main, sub, origin })
}

/// What happens in the footage: seconds without motion; frames (15 a second) forwards and again backwards; seconds from
/// one key frame to the next.
#[derive(Debug, Clone, Copy)]
struct Scene {
    quiet: u32,
    moving: u32,
    gop: u32,
}

const MIXED: Scene = Scene {
    quiet: 10,
    moving: 180,
    gop: 2,
};
const IDLE: Scene = Scene {
    quiet: LOOP_S,
    moving: 0,
    gop: 2,
};
const BUSY: Scene = Scene {
    quiet: 0,
    moving: LOOP_S * 15 / 2,
    gop: 2,
};

fn pedestrians(directory: &Path) -> Result<PathBuf> {
    let video = directory.join("vtest.avi");
    if video.exists() {
        return Ok(video);
    }
    let package = |d: &Path| -> Option<PathBuf> {
        let mut entries = std::fs::read_dir(d).ok()?.flatten();
        let is = |p: &Path| p.to_string_lossy().contains("opencv-doc_");
        entries.find(|e| is(&e.path())).map(|e| e.path())
    };
    if package(directory).is_none() {
        run(Command::new("apt-get")
            .args(["download", "opencv-doc"])
            .current_dir(directory))?;
    }
    let package = package(directory).context("apt-get downloaded nothing")?;
    let unpacked = tempfile::tempdir_in(directory)?;
    run(Command::new("dpkg-deb")
        .arg("-x")
        .arg(&package)
        .arg(unpacked.path()))?;
    let examples = unpacked
        .path()
        .join("usr/share/doc/opencv-doc/examples/data");
    let packed = examples.join("vtest.avi.gz");
    if packed.exists() {
        run(Command::new("gunzip").arg(&packed))?;
    }
    std::fs::rename(examples.join("vtest.avi"), &video).context("no vtest.avi in the package")?;
    // 95 MB that are not needed again.
    std::fs::remove_file(&package)?;
    Ok(video)
}

fn encode(
    source: Option<&Path>,
    to: &Path,
    (width, height, fps): (u32, u32, u32),
    kbps: u32,
    scene: Scene,
) -> Result<()> {
    if to.exists() {
        return Ok(());
    }
    eprintln!("making {}", to.display());
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-y", "-r", "15"]);
    match source {
        Some(path) => ffmpeg.arg("-i").arg(path),
        None => ffmpeg.args(["-f", "lavfi", "-i", "testsrc2=size=768x576:rate=15"]),
    };
    let tall = width * 3 / 4;
    let (frames, still) = (scene.moving.max(1), (scene.quiet * 15).max(1));
    let parts = match (scene.quiet, scene.moving) {
        (_, 0) => "[q]null",
        (0, _) => "[q]nullsink;[f][r]concat=n=2:v=1",
        _ => "[q][f][r]concat=n=3:v=1",
    };
    let unused = if scene.moving == 0 {
        "[f]nullsink;[r]nullsink;"
    } else {
        ""
    };
    let filter = format!(
        "[0:v]trim=end_frame={frames},setpts=N/15/TB,split=3[f][r0][q0];[r0]reverse[r];\
         [q0]trim=end_frame=1,loop=loop={}:size=1:start=0,setpts=N/15/TB[q];{unused}\
         {parts},scale={width}:{tall}:flags=bicubic,crop={width}:{height},fps={fps},\
         noise=alls=4:allf=t",
        still - 1
    );
    let part = to.with_extension("part.mp4");
    let (rate, gop) = (format!("{kbps}k"), (scene.gop * fps).to_string());
    ffmpeg
        .args(["-filter_complex", &filter, "-c:v", "libx264"])
        .args(["-preset", "veryfast", "-profile:v", "high", "-bf", "0"])
        .args(["-g", &gop, "-keyint_min", &gop, "-sc_threshold", "0"])
        .args(["-b:v", &rate, "-maxrate", &rate, "-bufsize", &rate])
        .args(["-pix_fmt", "yuv420p", "-an"])
        .arg(&part);
    run(&mut ffmpeg)?;
    let whole = to.with_extension("whole.mp4");
    run(Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-y",
            "-stream_loop",
            &(REPEATS - 1).to_string(),
        ])
        .arg("-i")
        .arg(&part)
        .args(["-c", "copy"])
        .arg(&whole))?;
    std::fs::remove_file(&part)?;
    std::fs::rename(&whole, to)?;
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| name.clone())?;
    ensure!(status.success(), "{name}: {status}");
    Ok(())
}
