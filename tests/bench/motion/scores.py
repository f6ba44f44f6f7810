"""The two protocols, as `sentrycam motion eval` has them (src/tuning/masks.rs, src/tuning/intervals.rs)."""

import numpy as np


class Pixels:
    """CDnet: 255 moves, 0 and 50 (shadow) do not, 85 and 170 do not count."""

    def __init__(self):
        self.hits = self.misses = self.false_hits = 0

    def add(self, truth, mask, region=None):
        h, w = truth.shape
        if mask.shape != truth.shape:
            rows, columns = np.arange(h) * mask.shape[0] // h, np.arange(w) * mask.shape[1] // w
            mask = mask[rows][:, columns]
        scored = (truth == 255) | (truth == 0) | (truth == 50)
        if region is not None:
            scored &= region
        moves, found = (truth == 255) & scored, (mask > 0) & scored
        self.hits += int((moves & found).sum())
        self.misses += int((moves & ~found).sum())
        self.false_hits += int((found & ~moves).sum())

    @property
    def f(self):
        of = 2 * self.hits + self.misses + self.false_hits
        return 2 * self.hits / of if of else 0.0

    @property
    def recall(self):
        return self.hits / max(1, self.hits + self.misses)

    @property
    def precision(self):
        return self.hits / max(1, self.hits + self.false_hits)


def detections(stamps, moving, gap=3.0, need=2):
    """Intervals in which at least `need` frames in a row move; closer than `gap` seconds is one."""
    found, run = [], 0
    for i, on in enumerate(moving):
        run = run + 1 if on else 0
        if run >= need:
            start = stamps[i - need + 1]
            if found and start - found[-1][1] <= gap:
                found[-1][1] = stamps[i]
            else:
                found.append([start, stamps[i]])
    return found


def overlap(a, b):
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0]))


def without(whole, cuts):
    left = [tuple(whole)]
    for c in cuts:
        left = [(x, y) for a, b in left for x, y in ((a, min(b, c[0])), (max(a, c[1]), b)) if y > x]
    return left


def intervals(labels, found, before=1.0, after=5.0, slack=0.2, warm_up=0.0):
    """found, false alarms, seconds of false alarm and how late each event was seen."""
    events = [(e["start"], e["end"]) for e in labels["events"]]
    unscored = [tuple(x) for x in labels.get("ignore", [])]
    found = [[max(a, warm_up), b] for a, b in found if b > warm_up]
    right = [(a - before, b + after) for a, b in events]
    out = {"events": len(events), "found": 0, "false_alarms": 0, "false_seconds": 0.0, "seconds": labels["duration"], "late": []}
    for event in events:
        wide = (event[0] - slack, event[1] + slack)
        hits = [max(d[0], event[0]) for d in found if overlap(d, wide) > 0 or wide[0] <= d[0] == d[1] <= wide[1]]
        if hits:
            out["found"] += 1
            out["late"].append(min(hits) - event[0])
    for d in found:
        wrong = sum(b - a for a, b in without(d, right + unscored))
        out["false_seconds"] += wrong
        touches = any(overlap(d, r) > 0 for r in right)
        inside = any(a <= d[0] and d[1] <= b for a, b in unscored)
        if not touches and (wrong > 0 or not inside):
            out["false_alarms"] += 1
    return out


def total(rows):
    out = {"events": 0, "found": 0, "false_alarms": 0, "false_seconds": 0.0, "seconds": 0.0, "late": []}
    for row in rows:
        for key in out:
            out[key] = out[key] + row[key]
    return out
