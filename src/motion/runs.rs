//! What belongs together: connected groups of labelled pixels, found by their runs.
//!
//! Runs join over a gap of [`GAP`] pixels, so that a body whose middle has the background's brightness stays whole. A
//! group without a sure pixel is noise. At most [`MAX_RUNS`] runs are looked at; a picture with more of them has changed
//! as a whole. No allocation once the buffers have grown.

use super::blobs::Blob;
use super::plane::Plane;
use super::vote;

/// Pixels between runs that still join, in both directions.
const GAP: usize = 2;
/// Runs of a picture.
pub const MAX_RUNS: usize = 16_384;

/// Labelled pixels `from..to` of row `y`.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Row.
    pub y: u16,
    /// First pixel.
    pub from: u16,
    /// One after the last pixel.
    pub to: u16,
    group: u32,
}

/// Sums over a group.
#[derive(Debug, Clone, Copy, Default)]
pub struct Group {
    /// First and last column.
    pub x: (u16, u16),
    /// First and last row.
    pub y: (u16, u16),
    /// Pixels.
    pub area: u32,
    /// Pixels, each by what it weighs.
    pub mass: f32,
    /// Sure pixels.
    pub sure: u32,
    /// Pixels that changed lately.
    pub lively: u32,
    votes: u32,
    sum: (u64, u64),
    /// Gradients along its outline in the picture and in the background.
    pub edges: (u32, u32),
}

/// Finds groups; owns the buffers.
#[derive(Debug, Clone, Default)]
pub struct Finder {
    runs: Vec<Run>,
    rows: Vec<usize>,
    parents: Vec<u32>,
    groups: Vec<Group>,
}

/// The planes that a group is described by.
#[derive(Clone, Copy)]
pub struct Planes<'a> {
    /// Of [`vote::Ballot`].
    pub labels: &'a Plane,
    /// Clearness, 0..=4.
    pub votes: &'a Plane,
    /// 1 where the picture changed.
    pub lively: &'a Plane,
}

impl Finder {
    /// Groups the labelled pixels.
    pub fn find(&mut self, planes: Planes<'_>, weight: impl Fn(usize, usize) -> f32) {
        self.collect(planes.labels);
        self.join();
        self.groups.clear();
        // Roots come before their members, so that one pass numbers the groups.
        for i in 0..self.runs.len() {
            let root = root(&mut self.parents, i as u32) as usize;
            if root == i {
                self.runs[i].group = self.groups.len() as u32;
                self.groups.push(Group {
                    x: (u16::MAX, 0),
                    y: (u16::MAX, 0),
                    ..Group::default()
                });
            } else {
                self.runs[i].group = self.runs[root].group;
            }
            let run = self.runs[i];
            let middle = usize::from(run.from + run.to) / 2;
            let weight = weight(middle, usize::from(run.y));
            self.groups[run.group as usize].add(run, planes, weight);
        }
    }

    /// All runs with the group that they belong to.
    pub fn runs(&self) -> impl Iterator<Item = (Run, usize)> {
        self.runs.iter().map(|r| (*r, r.group as usize))
    }

    /// The groups.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Measures the outline of the groups for which `wanted` holds in the picture and the background.
    pub fn measure_edges<'b>(
        &mut self,
        wanted: impl Fn(&Group) -> bool,
        picture: &Plane,
        background: impl Fn(usize) -> &'b [u8],
    ) {
        for run in &self.runs {
            let group = &mut self.groups[run.group as usize];
            if wanted(group) {
                let y = usize::from(run.y);
                for end in [run.from, run.to] {
                    let at = usize::from(end) + super::plane::PAD;
                    group.edges.0 += steepest(picture.row(y), at);
                    group.edges.1 += steepest(background(y), at);
                }
            }
        }
    }

    fn collect(&mut self, labels: &Plane) {
        self.runs.clear();
        self.rows.clear();
        let (w, h) = labels.size();
        for y in 0..h {
            self.rows.push(self.runs.len());
            let line = labels.line(y);
            let mut x = 0;
            while x < w && self.runs.len() < MAX_RUNS {
                if let Some(block) = line.get(x..x + 16)
                    && block.iter().fold(0, |a, b| a | b) == 0
                {
                    x += 16;
                    continue;
                }
                if line[x] == 0 {
                    x += 1;
                    continue;
                }
                let from = x;
                while x < w && line[x] != 0 {
                    x += 1;
                }
                self.runs.push(Run {
                    y: y as u16,
                    from: from as u16,
                    to: x as u16,
                    group: 0,
                });
            }
        }
        self.rows.push(self.runs.len());
    }

    fn join(&mut self) {
        self.parents.clear();
        self.parents.extend(0..self.runs.len() as u32);
        let rows = self.rows.len() - 1;
        for y in 0..rows {
            for i in self.rows[y] + 1..self.rows[y + 1] {
                if usize::from(self.runs[i].from - self.runs[i - 1].to) <= GAP {
                    unite(&mut self.parents, i - 1, i);
                }
            }
            for above in y.saturating_sub(1 + GAP)..y {
                let (mut a, mut b) = (self.rows[above], self.rows[y]);
                let (a_end, b_end) = (self.rows[above + 1], self.rows[y + 1]);
                while a < a_end && b < b_end {
                    let (p, q) = (self.runs[a], self.runs[b]);
                    let gap = GAP as u16;
                    if p.to + gap >= q.from && q.to + gap >= p.from {
                        unite(&mut self.parents, a, b);
                    }
                    if p.to < q.to { a += 1 } else { b += 1 }
                }
            }
        }
    }
}

impl Group {
    fn add(&mut self, run: Run, planes: Planes<'_>, weight: f32) {
        let (y, from, to) = (
            usize::from(run.y),
            usize::from(run.from),
            usize::from(run.to),
        );
        let n = (to - from) as u32;
        self.x = (self.x.0.min(run.from), self.x.1.max(run.to - 1));
        self.y = (self.y.0.min(run.y), self.y.1.max(run.y));
        self.area += n;
        self.mass += n as f32 * weight;
        self.sum.0 += u64::from(n) * (from + to - 1) as u64;
        self.sum.1 += u64::from(n) * y as u64;
        let total = |p: &Plane| {
            p.line(y)[from..to]
                .iter()
                .map(|v| u32::from(*v))
                .sum::<u32>()
        };
        self.sure += planes.labels.line(y)[from..to]
            .iter()
            .filter(|l| **l & vote::SURE != 0)
            .count() as u32;
        self.votes += total(planes.votes);
        self.lively += total(planes.lively);
    }

    /// Whether its outline is in the background rather than in the picture: something has gone from here.
    pub fn is_ghost(&self) -> bool {
        let (now, known) = self.edges;
        self.rests() && now * 100 < (now + known) * 45
    }

    /// Whether hardly anything changed inside.
    pub fn rests(&self) -> bool {
        self.lively * 20 < self.area
    }

    /// As a blob.
    pub fn blob(&self, zones: u64) -> Blob {
        let area = self.area.max(1) as f32;
        Blob {
            x: self.x,
            y: self.y,
            mass: self.mass,
            centre: (self.sum.0 as f32 / 2.0 / area, self.sum.1 as f32 / area),
            strength: 1.0 + self.votes as f32 / area,
            lively: self.lively as f32 / area,
            zones,
        }
    }
}

fn root(parents: &mut [u32], mut i: u32) -> u32 {
    while parents[i as usize] != i {
        parents[i as usize] = parents[parents[i as usize] as usize];
        i = parents[i as usize];
    }
    i
}

/// The earlier root wins.
fn unite(parents: &mut [u32], a: usize, b: usize) {
    let (a, b) = (root(parents, a as u32), root(parents, b as u32));
    parents[a.max(b) as usize] = a.min(b);
}

/// The steepest step within three pixels of `at`.
fn steepest(row: &[u8], at: usize) -> u32 {
    let near = &row[at - 5..at + 5];
    near.iter()
        .zip(&near[2..])
        .map(|(a, b)| u32::from(a.abs_diff(*b)))
        .max()
        .unwrap_or(0)
}
