//! prototype glue
use super::align::Aligner;
use super::plane::{Layer, Plane};
use super::runs::{Finder, Planes};
use super::samples::{Rates, SAMPLES, Samples};
use super::vote;
use super::GrayFrame;
pub fn par(name: &str, d: f32) -> f32 { std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(d) }
pub struct Pixels { w: usize, h: usize, al: Aligner, layer: Layer, cur: Plane, model: Samples, labels: Plane, mask: Plane, sums: Vec<u8>, find: Finder, settled: Plane, age: Plane, lively: Plane, frames: usize, last: f32, clock: f32,
  weak: u8, seed: u8, tau: f32, diff: f32, minarea: u32, minsure: u32, ghost: f32, gage: u8, init: usize, tol: u8, trace: bool }
impl Pixels {
    pub fn new(w: usize, h: usize) -> Pixels {
        let p = || Plane::new(w, h, 0);
        let mut model = Samples::new(w, h); model.set_least(par("RMIN", 8.0) as u8);
        Pixels { w, h, al: Aligner::new(w, h), layer: Layer::new(w), cur: p(), model, labels: p(), mask: p(), sums: vec![], find: Finder::default(), settled: p(), age: p(), lively: p(), frames: 0, last: 0.0, clock: 0.0,
            weak: par("WEAK", 37.0) as u8, seed: par("SEED", 37.0) as u8, tau: par("TAU", 10.0), diff: par("DIFF", 0.5), minarea: par("MINA", 0.0) as u32, minsure: par("MINS", 1.0) as u32, ghost: par("GHOST", 0.35), gage: par("GAGE", 4.0) as u8, init: par("INIT", 8.0) as usize, tol: par("TOL", 12.0) as u8, trace: par("TRACE", 0.0) > 0.0 }
    }
    pub fn at(&self, x: usize, y: usize) -> bool {
        let (dx, dy) = self.al.state.shift; let (x, y) = (x as isize - dx.round() as isize, y as isize - dy.round() as isize);
        x >= 0 && y >= 0 && (x as usize) < self.w && (y as usize) < self.h && self.mask.line(y as usize)[x as usize] != 0 }
    pub fn observe(&mut self, f: &[u8], stride: usize, t: f32) {
        let dt = (t - self.last).clamp(0.01, 1.0); self.last = t;
        let fr = GrayFrame { luma: f, width: self.w, height: self.h, stride, pts: crate::time::Pts(0) };
        self.al.load(&fr);
        if self.frames == 0 { self.al.assign(); } else { self.al.follow(); self.al.learn((dt / 4.0).max(1.0 / (1 + self.frames) as f32)); }
        self.layer.lay(&fr, self.al.state, &mut self.cur);
        if self.frames == 0 { self.model.assign(&self.cur, false); }
        self.model.compare(&self.cur, 0);
        vote::label(&self.model.votes, self.weak, self.seed, &mut self.labels, &mut self.sums);
        // stillness
        self.clock += dt * 4.0; let ticks = self.clock.floor(); self.clock -= ticks; let ticks = ticks as u8;
        for y in 0..self.h {
            let (c, l) = (self.cur.line(y), self.labels.line(y));
            let (s, a, v) = (self.settled.line_mut(y), self.age.line_mut(y), self.lively.line_mut(y));
            for i in 0..c.len() {
                let moved = c[i].abs_diff(s[i]) > self.tol; let free = l[i] == 0;
                v[i] = u8::from(moved & !free);
                a[i] = if free | moved { 0 } else { a[i].saturating_add(ticks) };
                s[i] = if free | moved { c[i] } else { s[i] };
            }
        }
        self.find.find(Planes { labels: &self.labels, votes: &self.model.votes, lively: &self.lively });
        let m = &self.model;
        if self.ghost > 0.0 { self.find.measure_edges(|g| g.area > 20, &self.cur, |y| m.background(y)); }
        if self.trace { for g in self.find.groups() { if g.area > 60 { eprintln!("{t:.2} {:?} {:?} area {} sure {} lively {:.2} edges {:?} {:.2}", g.x, g.y, g.area, g.sure, g.lively as f32 / g.area as f32, g.edges, g.edges.0 as f32 / (g.edges.0 + g.edges.1).max(1) as f32); } } }
        self.mask.fill(0);
        for (r, g) in self.find.runs() {
            let g = &self.find.groups()[g];
            if g.area >= self.minarea && g.sure >= self.minsure {
                let (y, a, b) = (r.y as usize, r.from as usize, r.to as usize);
                self.mask.line_mut(y)[a..b].fill(255);
                let still = g.lively * 20 < g.area;
                if self.ghost > 0.0 && g.area > 20 && still && (g.edges.0 as f32) < self.ghost * (g.edges.0 + g.edges.1) as f32 && self.age.line(y)[(a + b) / 2] >= self.gage { self.model.absorb(&self.cur, y, a.saturating_sub(2), (b + 2).min(self.w)); }
            }
        }
        if self.frames < self.init { self.model.put(&self.cur, self.frames); }
        let own = SAMPLES as f32 * dt / self.tau * 256.0;
        let boot = self.frames < self.init;
        self.model.learn(&self.cur, &self.labels, if boot { Rates::default() } else { Rates { own: own.clamp(1.0, 255.0) as u8, neighbour: (own * self.diff).clamp(1.0, 255.0) as u8 } });
        self.frames += 1;
    }
}
