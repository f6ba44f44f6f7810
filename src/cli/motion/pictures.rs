//! What `motion replay` draws: one pass over a clip's pictures for the annotated video, the contact sheet, or both.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::replay::Judgement;
use super::settings::Settings;
use crate::cli::output;
use crate::media::clip_pictures::ClipPictures;
use crate::media::film::Film;
use crate::media::picture::png_of;
use crate::time::Pts;
use crate::tuning::draw::{
    Canvas, Curve, Look, MAX_CLIPS, Pick, Section, THUMB_WIDTH, annotate, caption, film_frame,
    film_height, picks, sheet,
};
use crate::tuning::replay::Judged;

/// Columns of the annotated video; a picture on the sheet has half of them.
const WIDTH: usize = 2 * THUMB_WIDTH;
/// Positions closer than this are the same picture.
const SAME: Duration = Duration::from_millis(1);

/// Refuses outputs that cannot be written, before anything is decoded.
pub fn check(clips: &[PathBuf], sheet: Option<&Path>, video: Option<&Path>) -> anyhow::Result<()> {
    for (path, extension, option) in [(sheet, "png", "--sheet"), (video, "mp4", "--video")] {
        let Some(path) = path else { continue };
        ensure!(
            path.extension()
                .is_some_and(|e| e.eq_ignore_ascii_case(extension)),
            "{option} {} must end in .{extension}",
            path.display()
        );
        let folder = match path.parent() {
            Some(p) if !p.as_os_str().is_empty() => p,
            _ => Path::new("."),
        };
        ensure!(
            folder.is_dir(),
            "{option} {}: the directory {} is not there",
            path.display(),
            folder.display()
        );
        ensure!(!path.is_dir(), "{option} {} is a directory", path.display());
        let own = path.canonicalize().ok();
        let same = |c: &PathBuf| own.is_some() && c.canonicalize().ok() == own;
        ensure!(
            !clips.iter().any(same),
            "{option} {} is one of the clips",
            path.display()
        );
    }
    ensure!(
        video.is_none() || clips.len() == 1,
        "--video shows one clip; name one, or use --sheet for several"
    );
    ensure!(
        sheet.is_none() || clips.len() <= MAX_CLIPS,
        "--sheet shows at most {MAX_CLIPS} clips"
    );
    Ok(())
}

/// Draws a clip: into `video` where that is wanted, and its section of the sheet where that is.
pub fn draw(
    one: &Judgement,
    settings: &Settings,
    video: Option<&Path>,
    wants_section: bool,
) -> anyhow::Result<Option<Section>> {
    let path = &one.played.path;
    let look = Look {
        include: &settings.motion.include,
        exclude: &settings.motion.exclude,
    };
    let length = Pts(u64::try_from(one.played.seen.as_nanos()).unwrap_or(u64::MAX));
    let curve = Curve::new(&one.judged, &one.events, length, WIDTH);
    let chosen = picks(&one.judged, &one.events);
    let mut wanted = chosen.iter().peekable();
    let mut shown: Vec<(Canvas, String)> = Vec::new();
    let mut film: Option<Film> = None;
    let bar = output::bar("drawing", one.played.seen.as_secs().max(1));
    let pictures = ClipPictures::open(path, WIDTH as u32)?;
    let fps = pictures.fps();
    for picture in pictures {
        // What is damaged has been told; all before it is drawn.
        let Ok(picture) = picture else { break };
        bar.set_position(picture.pts.0 / 1_000_000_000);
        let at = picture.pts;
        let canvas = Canvas::of_rgb(picture.width, picture.height, picture.rgb);
        let canvas = canvas.context("a picture of an odd size")?;
        if let Some(pick) = wanted.next_if(|p| at + SAME >= one.judged[p.frame].at) {
            shown.push(thumb(&canvas, one, look, *pick));
        }
        let Some(out) = video else {
            if wanted.peek().is_none() {
                break;
            }
            continue;
        };
        let film = match &mut film {
            Some(film) => film,
            None => {
                let size = (canvas.width(), film_height(canvas.height()));
                film.insert(Film::create(out, size, fps)?)
            }
        };
        let judged = newest(&one.judged, at + SAME);
        let in_event = one
            .events
            .iter()
            .any(|e| (e.started_at..=e.ended_at).contains(&at));
        let frame = film_frame(canvas, look, judged, in_event, &curve, at);
        film.push(frame.into_rgb(), at)?;
    }
    bar.finish_and_clear();
    if let Some(out) = video {
        film.with_context(|| format!("{}: no picture to show", out.display()))?
            .finish()?;
    }
    if !wants_section {
        return Ok(None);
    }
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy())
        .unwrap_or_default();
    Ok(Some(Section {
        title: format!(
            "{name}  {:.1} s  {} event(s)  sensitivity {}",
            one.played.seen.as_secs_f64(),
            one.events.len(),
            settings.motion.sensitivity
        ),
        curve: Curve::new(&one.judged, &one.events, length, Section::CURVE_WIDTH),
        pictures: shown,
    }))
}

/// Writes the sheet.
pub fn write_sheet(path: &Path, sections: &[Section]) -> anyhow::Result<()> {
    let canvas = sheet(sections);
    let (width, height) = (canvas.width(), canvas.height());
    let png = png_of(canvas.into_rgb(), width, height).context("the sheet cannot be encoded")?;
    std::fs::write(path, png).with_context(|| format!("cannot write {}", path.display()))
}

fn thumb(picture: &Canvas, one: &Judgement, look: Look<'_>, pick: Pick) -> (Canvas, String) {
    let judged = &one.judged[pick.frame];
    let mut small = picture.half();
    annotate(&mut small, look, Some(judged));
    (small, caption(judged, pick.event))
}

/// The newest judged frame at or before `at`.
fn newest(judged: &[Judged], at: Pts) -> Option<&Judged> {
    let after = judged.partition_point(|j| j.at <= at);
    judged.get(after.checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_refused_before_anything_is_decoded() {
        let dir = tempfile::tempdir().unwrap();
        let clip = dir.path().join("clip.mp4");
        std::fs::write(&clip, "x").unwrap();
        let clips = [clip.clone()];
        let fault = |sheet: Option<&Path>, video: Option<&Path>| {
            check(&clips, sheet, video).unwrap_err().to_string()
        };
        let there = |name: &str| dir.path().join(name);
        assert!(fault(Some(&there("a.jpg")), None).contains("must end in .png"));
        assert!(fault(None, Some(&there("none/a.mp4"))).contains("is not there"));
        assert!(fault(None, Some(&clip)).contains("is one of the clips"));
        assert!(check(&clips, Some(&there("a.PNG")), Some(Path::new("out.mp4"))).is_ok());
        let two = [clip.clone(), there("b.mp4")];
        let e = check(&two, None, Some(&there("c.mp4"))).unwrap_err();
        assert!(e.to_string().contains("one clip"), "{e}");
        let many = vec![clip; MAX_CLIPS + 1];
        let e = check(&many, Some(&there("a.png")), None).unwrap_err();
        assert!(e.to_string().contains("at most"), "{e}");
    }

    #[test]
    fn the_newest_judged_frame_is_shown() {
        let judged: Vec<Judged> = [10, 20, 30]
            .map(|at| Judged::of(Pts(at), &crate::motion::Verdict::Quiet))
            .into();
        let at = |n: u64| newest(&judged, Pts(n)).map(|j| j.at.0);
        assert_eq!(
            (at(9), at(10), at(29), at(99)),
            (None, Some(10), Some(20), Some(30))
        );
    }
}
