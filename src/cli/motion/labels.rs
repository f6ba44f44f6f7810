//! Clips with labels, as the command line gives them: `--wanted CLIP`, `CLIP=wanted`, or a directory with the folders
//! `wanted` and `unwanted`; each clip perhaps with a span, `CLIP@12.5-20`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::time::Pts;
use crate::tuning::suggest::Label;

/// Clips that are looked at together.
const MOST: usize = 500;
/// What counts as a clip in a directory.
const EXTENSIONS: [&str; 6] = ["mp4", "mkv", "mov", "m4v", "avi", "webm"];

/// A clip and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// Where it is.
    pub path: PathBuf,
    /// What is known of it.
    pub label: Label,
}

/// Reads all three forms. Wanted clips come first.
pub fn read(
    free: &[String],
    wanted: &[String],
    unwanted: &[String],
) -> anyhow::Result<Vec<Labelled>> {
    let mut all = Vec::new();
    for text in wanted {
        add(text, true, &mut all)?;
    }
    for text in unwanted {
        add(text, false, &mut all)?;
    }
    for text in free {
        match text.rsplit_once('=') {
            Some((clip, "wanted")) => add(clip, true, &mut all)?,
            Some((clip, "unwanted")) => add(clip, false, &mut all)?,
            _ => sorted(Path::new(text), &mut all)?,
        }
    }
    all.sort_by_key(|l| !l.label.wanted);
    for (which, wanted) in [("wanted", true), ("unwanted", false)] {
        ensure!(
            all.iter().any(|l| l.label.wanted == wanted),
            "no clip is labelled {which}: a proposal weighs what must be found against what must not; \
             give --{which} CLIP, CLIP={which}, or a directory with a folder {which}"
        );
    }
    ensure!(
        all.len() <= MOST,
        "{} clips are more than the {MOST} that are weighed together",
        all.len()
    );
    Ok(all)
}

/// A directory that sorts its clips into `wanted` and `unwanted`.
fn sorted(path: &Path, all: &mut Vec<Labelled>) -> anyhow::Result<()> {
    let mut found = false;
    for (folder, wanted) in [("wanted", true), ("unwanted", false)] {
        let folder = path.join(folder);
        if folder.is_dir() {
            found = true;
            directory(&folder, wanted, None, all)?;
        }
    }
    if !found {
        bail!(
            "{}: is it wanted or unwanted? Write {0}=wanted, {0}=unwanted, or name a directory with the folders wanted and unwanted",
            path.display()
        );
    }
    Ok(())
}

fn add(text: &str, wanted: bool, all: &mut Vec<Labelled>) -> anyhow::Result<()> {
    let (path, span) = span(text)?;
    if path.is_dir() {
        return directory(&path, wanted, span, all);
    }
    let label = Label { wanted, span };
    all.push(Labelled { path, label });
    Ok(())
}

/// The clips in a directory, by name.
fn directory(
    path: &Path,
    wanted: bool,
    span: Option<(Pts, Pts)>,
    all: &mut Vec<Labelled>,
) -> anyhow::Result<()> {
    ensure!(
        span.is_none(),
        "{}: a directory has no span",
        path.display()
    );
    let entries =
        std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut clips: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| {
            let extension = p.extension().and_then(|e| e.to_str()).unwrap_or_default();
            EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str())
        })
        .collect();
    ensure!(
        !clips.is_empty(),
        "{} holds no clip ({})",
        path.display(),
        EXTENSIONS.join(", ")
    );
    clips.sort();
    let label = Label { wanted, span: None };
    all.extend(clips.into_iter().map(|path| Labelled { path, label }));
    Ok(())
}

/// Takes `@FROM-TO` (seconds) off a clip's name, unless a file has that very name.
fn span(text: &str) -> anyhow::Result<(PathBuf, Option<(Pts, Pts)>)> {
    let whole = PathBuf::from(text);
    let Some((path, span)) = text.rsplit_once('@').filter(|_| !whole.exists()) else {
        return Ok((whole, None));
    };
    let seconds = |s: &str| {
        let seconds: f64 = s.parse().ok()?;
        let duration = Duration::try_from_secs_f64(seconds).ok()?;
        Some(Pts(u64::try_from(duration.as_nanos()).ok()?))
    };
    let parsed = span
        .split_once('-')
        .and_then(|(from, to)| Some((seconds(from)?, seconds(to)?)));
    match parsed {
        Some((from, to)) if from < to => Ok((path.into(), Some((from, to)))),
        _ => bail!("{text}: a span is written CLIP@FROM-TO in seconds, such as {path}@12.5-20"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(all: &[&str]) -> Vec<String> {
        all.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn all_three_forms_are_read() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "wanted/b.mp4",
            "wanted/a.MKV",
            "wanted/notes.txt",
            "unwanted/c.mp4",
        ] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let root = dir.path().display().to_string();
        let all = read(
            &[root, "d.mp4=unwanted".into(), "odd=name.mp4=wanted".into()],
            &texts(&["e.mp4@1.5-4"]),
            &texts(&["f.mp4"]),
        )
        .unwrap();
        let name = |l: &Labelled| {
            let name = l.path.file_name().unwrap().to_string_lossy().into_owned();
            (name, l.label.wanted)
        };
        let names: Vec<(String, bool)> = all.iter().map(name).collect();
        let expected = [
            ("e.mp4", true),
            ("a.MKV", true),
            ("b.mp4", true),
            ("odd=name.mp4", true),
            ("f.mp4", false),
            ("c.mp4", false),
            ("d.mp4", false),
        ];
        assert_eq!(names, expected.map(|(n, w)| (n.to_owned(), w)));
        assert_eq!(
            all[0].label.span,
            Some((Pts(1_500_000_000), Pts(4_000_000_000)))
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        let fault = |free: &[&str], wanted: &[&str], unwanted: &[&str]| {
            let e = read(&texts(free), &texts(wanted), &texts(unwanted)).unwrap_err();
            e.to_string()
        };
        assert!(fault(&["a.mp4"], &[], &[]).contains("a.mp4=wanted"));
        assert!(fault(&[], &["a.mp4"], &[]).contains("--unwanted CLIP"));
        assert!(fault(&["a.mp4=unwanted"], &[], &[]).contains("--wanted CLIP"));
        for bad in [
            "a.mp4@5",
            "a.mp4@5-3",
            "a.mp4@x-y",
            "a.mp4@-1-3",
            "a.mp4@1-inf",
        ] {
            assert!(
                fault(&[], &[bad], &["b.mp4"]).contains("CLIP@FROM-TO"),
                "{bad}"
            );
        }
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().display().to_string();
        assert!(fault(&[], &[&empty], &["b.mp4"]).contains("holds no clip"));
    }
}
