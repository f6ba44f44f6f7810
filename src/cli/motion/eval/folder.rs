//! Finds labelled footage in a folder. Two layouts of pixel labels and one of intervals:
//!
//! ```text
//! NAME/input.mkv  gt.mkv  meta.json {"score_range":[20,100],"fps":25}  [roi.png]
//! NAME/input/in000001.jpg…  groundtruth/gt000001.png…  [temporalROI.txt]  [ROI.bmp]      as CDnet is published
//! NAME/events.json {"duration":30.2,"events":[{"start":4.2,"end":8.5}],"ignore":[[8.5,9.6]]}  clip.mp4 or meta.json {"file":…}
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::tuning::intervals::{Interval, Labels};

/// Labels and tables are small.
const MOST_BYTES: u64 = 4 << 20;
/// Images of a sequence.
const MOST_IMAGES: usize = 100_000;
/// Folders are looked into this deep (dataset, category, sequence).
const DEPTH: usize = 2;
/// Of image folders, which do not say.
const FPS: f64 = 25.0;

/// Where pictures come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Pictures {
    /// One file.
    Video(PathBuf),
    /// One file a picture, in order, this many a second.
    Images(Vec<PathBuf>, f64),
}

/// Pictures with a mask each.
#[derive(Debug)]
pub struct Sequence {
    /// Of its folder, unlike all others.
    pub name: String,
    dir: PathBuf,
    /// What the detector sees.
    pub input: Pictures,
    /// What is right.
    pub truth: Pictures,
    /// First and last picture that counts, from 0.
    pub scored: (usize, usize),
    /// Light where it counts.
    pub region: Option<PathBuf>,
}

/// A clip with labelled intervals.
#[derive(Debug)]
pub struct Clip {
    /// Of its folder, unlike all others.
    pub name: String,
    dir: PathBuf,
    /// The video.
    pub video: PathBuf,
    /// What is right.
    pub labels: Labels,
}

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Footage {
    /// Labelled pixel by pixel.
    pub sequences: Vec<Sequence>,
    /// Labelled by intervals.
    pub clips: Vec<Clip>,
}

/// Reads what is labelled in `dir` and the folders in it.
pub fn read(dir: &Path) -> anyhow::Result<Footage> {
    let mut footage = Footage::default();
    look(dir, DEPTH, &mut footage)?;
    let dirs = |paths: &[PathBuf]| named(dir, paths);
    let sequences: Vec<PathBuf> = footage.sequences.iter().map(|s| s.dir.clone()).collect();
    for (s, name) in footage.sequences.iter_mut().zip(dirs(&sequences)) {
        s.name = name;
    }
    let clips: Vec<PathBuf> = footage.clips.iter().map(|c| c.dir.clone()).collect();
    for (c, name) in footage.clips.iter_mut().zip(dirs(&clips)) {
        c.name = name;
    }
    if footage.sequences.is_empty() && footage.clips.is_empty() {
        bail!(
            "{} holds nothing labelled: looked for input.mkv + gt.mkv, input/ + groundtruth/, or a clip with events.json, there and in its folders",
            dir.display()
        );
    }
    Ok(footage)
}

/// A name for each folder: its own, or its path under `root` where two of them have the same.
fn named(root: &Path, folders: &[PathBuf]) -> Vec<String> {
    let own = |dir: &PathBuf| {
        let whole = dir.canonicalize().unwrap_or_else(|_| dir.clone());
        let name = whole.file_name().unwrap_or(whole.as_os_str());
        name.to_string_lossy().into_owned()
    };
    let names: Vec<String> = folders.iter().map(own).collect();
    let unique = |name: &String| names.iter().filter(|n| *n == name).count() == 1;
    let path = |dir: &PathBuf| {
        let below = dir.strip_prefix(root).unwrap_or(dir);
        below.to_string_lossy().into_owned()
    };
    let pairs = names.iter().zip(folders);
    pairs
        .map(|(name, dir)| {
            if unique(name) {
                name.clone()
            } else {
                path(dir)
            }
        })
        .collect()
}

fn look(dir: &Path, deeper: usize, footage: &mut Footage) -> anyhow::Result<()> {
    let mut labelled = false;
    if dir.join("gt.mkv").is_file() {
        footage.sequences.push(video_sequence(dir)?);
        labelled = true;
    } else if dir.join("groundtruth").is_dir() && dir.join("input").is_dir() {
        footage.sequences.push(image_sequence(dir)?);
        labelled = true;
    }
    if dir.join("events.json").is_file() {
        footage.clips.push(clip(dir)?);
        labelled = true;
    }
    if !labelled && deeper > 0 {
        let entries =
            std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
        let mut folders: Vec<PathBuf> = entries
            .filter_map(|e| Some(e.ok()?.path()))
            .filter(|p| p.is_dir())
            .collect();
        folders.sort();
        for folder in folders {
            look(&folder, deeper - 1, footage)?;
        }
    }
    Ok(())
}

fn video_sequence(dir: &Path) -> anyhow::Result<Sequence> {
    let meta = json(&dir.join("meta.json"))?;
    let bound = |i: usize| {
        meta["score_range"][i]
            .as_u64()
            .and_then(|v| usize::try_from(v).ok())
    };
    Ok(Sequence {
        name: String::new(),
        dir: dir.to_owned(),
        input: Pictures::Video(dir.join("input.mkv")),
        truth: Pictures::Video(dir.join("gt.mkv")),
        scored: (bound(0).unwrap_or(0), bound(1).unwrap_or(usize::MAX)),
        region: Some(dir.join("roi.png")).filter(|p| p.is_file()),
    })
}

fn image_sequence(dir: &Path) -> anyhow::Result<Sequence> {
    let scored = match text(&dir.join("temporalROI.txt")) {
        Ok(text) => span(&text).with_context(|| {
            format!(
                "{}/temporalROI.txt: expected two frame numbers",
                dir.display()
            )
        })?,
        Err(_) => (0, usize::MAX),
    };
    let region = ["ROI.bmp", "ROI.png", "ROI.jpg"].map(|n| dir.join(n));
    Ok(Sequence {
        name: String::new(),
        dir: dir.to_owned(),
        input: Pictures::Images(images(&dir.join("input"))?, FPS),
        truth: Pictures::Images(images(&dir.join("groundtruth"))?, FPS),
        scored,
        region: region.into_iter().find(|p| p.is_file()),
    })
}

/// CDnet counts frames from 1.
fn span(text: &str) -> Option<(usize, usize)> {
    let mut numbers = text.split_whitespace().map(str::parse::<usize>);
    let (from, to) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (from >= 1 && to >= from).then(|| (from - 1, to - 1))
}

fn images(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let known = |p: &PathBuf| {
        let end = p
            .extension()
            .and_then(|e| e.to_str())
            .map(str::to_ascii_lowercase);
        matches!(end.as_deref(), Some("jpg" | "jpeg" | "png" | "bmp"))
    };
    let entries =
        std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(known)
        .take(MOST_IMAGES)
        .collect();
    files.sort();
    if files.is_empty() {
        bail!("{} holds no pictures (jpg, png, bmp)", dir.display());
    }
    Ok(files)
}

fn clip(dir: &Path) -> anyhow::Result<Clip> {
    let path = dir.join("events.json");
    let labels = labels(&json(&path)?).with_context(|| {
        format!(
            "{}: expected duration, and events with start and end in seconds",
            path.display()
        )
    })?;
    let named = json(&dir.join("meta.json")).ok().and_then(|m| {
        // A name in this folder, whatever the file says.
        let file = Path::new(m["file"].as_str()?).file_name()?.to_owned();
        Some(dir.join(file))
    });
    let video = named
        .into_iter()
        .chain([dir.join("clip.mp4"), dir.join("input.mkv")])
        .find(|p| p.is_file());
    let video =
        video.with_context(|| format!("{} has events.json and no clip.mp4", dir.display()))?;
    Ok(Clip {
        name: String::new(),
        dir: dir.to_owned(),
        video,
        labels,
    })
}

fn labels(v: &Value) -> Option<Labels> {
    let pair = |a: &Value, b: &Value| -> Option<Interval> {
        let (a, b) = (a.as_f64()?, b.as_f64()?);
        (b >= a).then_some((a, b))
    };
    let events: Option<Vec<Interval>> = v["events"]
        .as_array()?
        .iter()
        .map(|e| pair(&e["start"], &e["end"]))
        .collect();
    let open: Option<Vec<Interval>> = match v["ignore"].as_array() {
        Some(list) => list.iter().map(|e| pair(&e[0], &e[1])).collect(),
        None => Some(Vec::new()),
    };
    Some(Labels {
        seconds: v["duration"].as_f64()?,
        events: events?,
        open: open?,
    })
}

fn json(path: &Path) -> anyhow::Result<Value> {
    serde_json::from_str(&text(path)?).with_context(|| format!("{} is no JSON", path.display()))
}

fn text(path: &Path) -> anyhow::Result<String> {
    let size = std::fs::metadata(path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .len();
    if size > MOST_BYTES {
        bail!("{} is too large for labels: {size} bytes", path.display());
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cdnet_folders_are_found_a_category_deep() {
        let dir = tempfile::tempdir().unwrap();
        let seq = dir.path().join("baseline/office");
        for (folder, file) in [("input", "in000001.jpg"), ("groundtruth", "gt000001.png")] {
            std::fs::create_dir_all(seq.join(folder)).unwrap();
            std::fs::write(seq.join(folder).join(file), b"x").unwrap();
        }
        std::fs::write(seq.join("temporalROI.txt"), "570 2050\n").unwrap();
        std::fs::write(seq.join("ROI.bmp"), b"x").unwrap();
        let found = read(dir.path()).unwrap();
        assert_eq!(found.sequences.len(), 1);
        let s = &found.sequences[0];
        assert_eq!((s.name.as_str(), s.scored), ("office", (569, 2049)));
        assert!(s.region.is_some());
    }

    #[test]
    fn folders_of_the_same_name_are_told_apart_by_their_paths() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["day/gate", "night/gate", "night/road"] {
            let folder = dir.path().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("clip.mp4"), b"x").unwrap();
            std::fs::write(folder.join("events.json"), r#"{"duration":1,"events":[]}"#).unwrap();
        }
        let found = read(dir.path()).unwrap();
        let names: Vec<&str> = found.clips.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["day/gate", "night/gate", "road"]);
    }

    #[test]
    fn labels_are_checked_and_an_empty_folder_says_what_was_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let error = read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("groundtruth"), "{error}");
        let good =
            json!({ "duration": 9.0, "events": [{ "start": 1, "end": 2.5 }], "ignore": [[3, 4]] });
        let found = labels(&good).unwrap();
        assert_eq!(
            (found.events, found.open),
            (vec![(1.0, 2.5)], vec![(3.0, 4.0)])
        );
        for bad in [
            json!({}),
            json!({ "duration": 9, "events": [{ "start": 3, "end": 2 }] }),
            json!([]),
        ] {
            assert!(labels(&bad).is_none(), "{bad}");
        }
    }
}
