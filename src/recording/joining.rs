//! Which parts of which clips show a span of time: sorted, nothing twice, gaps named.
//!
//! Clips of one camera may overlap (an event's pre-roll shows the end of the clip before it; a recording on command lies
//! over both). Where two show the same moment the later one is taken from its first frame on, and the earlier is cut
//! there: so every piece begins with a key frame of its own.

use crate::time::Wall;

/// A gap that is not told: frames are not spaced more closely than this.
const SEAM_US: i64 = 300_000;

/// A clip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source<K> {
    /// Whatever the caller knows it by.
    pub key: K,
    /// Its first frame.
    pub start: Wall,
    /// The end of its last one.
    pub end: Wall,
}

/// What is taken of a clip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece<K> {
    /// Of which.
    pub key: K,
    /// Its first frame: where its own time begins.
    pub start: Wall,
    /// Wanted from here on; it begins with the key frame at or before.
    pub from: Wall,
    /// Taken before this.
    pub until: Wall,
}

/// Time that nothing shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Begins.
    pub from: Wall,
    /// Ends.
    pub until: Wall,
}

/// Plans what shows `from..until`.
pub fn plan<K: Clone>(
    mut clips: Vec<Source<K>>,
    from: Wall,
    until: Wall,
) -> (Vec<Piece<K>>, Vec<Gap>) {
    clips.retain(|c| c.start < until && c.end > from && c.end > c.start);
    // Of two that begin together the longer one comes first; the other lies within it.
    clips.sort_by_key(|c| (c.start, std::cmp::Reverse(c.end)));
    let mut pieces: Vec<Piece<K>> = Vec::new();
    let mut gaps = Vec::new();
    let mut covered = from;
    for clip in clips {
        if clip.end <= covered {
            continue;
        }
        if clip.start.since_us(covered) > SEAM_US {
            gaps.push(Gap {
                from: covered,
                until: clip.start,
            });
        }
        // What is wanted begins within this clip: the clips before it are cut where it begins.
        while let Some(last) = pieces.last_mut() {
            last.until = last.until.min(clip.start);
            if last.until > last.from {
                break;
            }
            pieces.pop();
        }
        covered = clip.end;
        pieces.push(Piece {
            key: clip.key,
            start: clip.start,
            from: clip.start.max(from),
            until: clip.end.min(until),
        });
    }
    if until.since_us(covered) > SEAM_US {
        gaps.push(Gap {
            from: covered,
            until,
        });
    }
    (pieces, gaps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(s: i64) -> Wall {
        Wall(s * 1_000_000)
    }

    fn clips(spans: &[(i64, i64)]) -> Vec<Source<usize>> {
        let source = |(key, (start, end)): (usize, &(i64, i64))| Source {
            key,
            start: at(*start),
            end: at(*end),
        };
        spans.iter().enumerate().map(source).collect()
    }

    /// Pieces as (clip, from, until) and gaps as (from, until), in seconds.
    type Seconds = (Vec<(usize, i64, i64)>, Vec<(i64, i64)>);

    fn planned(spans: &[(i64, i64)], from: i64, until: i64) -> Seconds {
        let s = |w: Wall| w.0 / 1_000_000;
        let (pieces, gaps) = plan(clips(spans), at(from), at(until));
        (
            pieces
                .iter()
                .map(|p| (p.key, s(p.from), s(p.until)))
                .collect(),
            gaps.iter().map(|g| (s(g.from), s(g.until))).collect(),
        )
    }

    #[test]
    fn segments_join_overlaps_are_cut_and_gaps_are_told() {
        assert_eq!(
            planned(&[(0, 10), (10, 20)], 5, 15),
            (vec![(0, 5, 10), (1, 10, 15)], vec![])
        );
        assert_eq!(
            planned(&[(0, 10), (8, 20)], 0, 20),
            (vec![(0, 0, 8), (1, 8, 20)], vec![])
        );
        assert_eq!(
            planned(&[(0, 30), (8, 20)], 0, 30),
            (vec![(0, 0, 30)], vec![]),
            "one lies within"
        );
        assert_eq!(
            planned(&[(0, 5), (9, 12)], 0, 20),
            (vec![(0, 0, 5), (1, 9, 12)], vec![(5, 9), (12, 20)])
        );
        assert_eq!(planned(&[], 0, 20), (vec![], vec![(0, 20)]));
        assert_eq!(planned(&[(0, 5)], 6, 20).0, []);
        assert_eq!(
            planned(&[(2, 9), (3, 20)], 5, 20).0,
            [(1, 5, 20)],
            "the later one shows all that is wanted"
        );
    }

    proptest! {
        #[test]
        fn nothing_is_shown_twice_and_what_some_clip_shows_is_shown(
            spans in prop::collection::vec((0i64..60, 1i64..30), 0..12),
            from in 0i64..60, length in 1i64..60,
        ) {
            let spans: Vec<_> = spans.into_iter().map(|(s, l)| (s, s + l)).collect();
            let (pieces, gaps) = planned(&spans, from, from + length);
            for pair in pieces.windows(2) {
                prop_assert!(pair[0].2 <= pair[1].1, "{:?}", pieces);
            }
            for second in from..from + length {
                let shown = pieces.iter().filter(|(_, a, b)| (*a..*b).contains(&second)).count();
                let there = spans.iter().any(|(a, b)| (*a..*b).contains(&second));
                let gap = gaps.iter().any(|(a, b)| (*a..*b).contains(&second));
                prop_assert_eq!((shown, gap), (usize::from(there), !there), "{} {:?} {:?}", second, pieces, gaps);
            }
            for (key, a, b) in &pieces {
                prop_assert!(spans[*key].0 <= *a && *b <= spans[*key].1 && a < b);
            }
        }
    }
}
