#!/usr/bin/env python3
"""Motion detection beside what a user would pick instead, on the same pictures, in one run.

compare.py --sentrycam BIN --footage DIR --work DIR --json OUT [--fast] [--motion none|plain|stress]

DIR holds labelled footage as `sentrycam motion eval` reads it (NAME/input.mkv, gt.mkv; NAME/clip.mp4, events.json).
Tables: pixels (CDnet protocol, each method raw and after a 5x5 median; the better counts), cost (ns per pixel, one thread,
thread time for OpenCV), events plain and under stress. An event method flags a frame where its filtered mask covers more than a
threshold; of many thresholds the best in hindsight is shown for OpenCV, the default for sentrycam. --fast leaves the slow
subtractors out. Debian's `motion` runs in real time; --motion stress multiplies that by six.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import cv2
import numpy as np

from debian_motion import detect as run_motion
from methods import METHODS, mask
from scores import Pixels, detections, intervals, total
from stress import KINDS, Stress
from video import Writer, probe, read

SLOW = ("GMG", "GSOC", "LSBP")
THRESHOLDS = (0.0005, 0.001, 0.0025, 0.005, 0.01)
WARM_UP = 1.0


def folders(root):
    """The root itself or what is in it."""
    if any(os.path.exists(os.path.join(root, f)) for f in ("gt.mkv", "events.json")):
        return [root]
    return sorted(f.path for f in os.scandir(root) if f.is_dir())


def load(path, default=None):
    try:
        with open(path) as file:
            return json.load(file)
    except FileNotFoundError:
        return default


def video_of(folder):
    meta = load(os.path.join(folder, "meta.json"), {})
    for name in (meta.get("file"), "clip.mp4", "input.mkv"):
        if name and os.path.exists(os.path.join(folder, os.path.basename(name))):
            return os.path.join(folder, os.path.basename(name))
    raise SystemExit(f"{folder} has events.json and no video")


def evaluate(binary, folder):
    """Runs the very detector that runs live."""
    answer = subprocess.run([binary, "motion", "eval", folder, "--json"], stdout=subprocess.PIPE, text=True)
    if answer.returncode != 0:
        raise SystemExit(f"{binary} motion eval {folder} failed")
    return json.loads(answer.stdout)


def progress(text):
    print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def small(path):
    """As the sampler has it: at most 320 wide, even."""
    width, height, _ = probe(path)
    if width <= 320:
        return width, height
    return 320, int(round(height * 320 / width / 2)) * 2


def pixel_table(binary, sequences, methods):
    rows = {}
    ours = {}
    for folder in sequences:
        progress(f"pixels: sentrycam, {os.path.basename(folder)}")
        ours.update(evaluate(binary, folder)["masks"]["sequences"])
    rows["sentrycam"] = {k: {"raw": v, "ns_per_pixel": v["ns_per_pixel"]} for k, v in ours.items()}
    for name in methods:
        rows[name] = {}
        for folder in sequences:
            key = os.path.basename(os.path.normpath(folder))
            progress(f"pixels: {name}, {key}")
            size = (ours[key]["width"], ours[key]["height"]) if key in ours else small(os.path.join(folder, "input.mkv"))
            rows[name][key] = one_sequence(METHODS[name](), folder, size)
    return rows


def one_sequence(method, folder, size):
    meta = load(os.path.join(folder, "meta.json"), {})
    first, last = meta.get("score_range", [0, 10**9])
    region = cv2.imread(os.path.join(folder, "roi.png"), 0) if os.path.exists(os.path.join(folder, "roi.png")) else None
    raw, median, spent, pixels = Pixels(), Pixels(), 0.0, 0
    pairs = zip(read(os.path.join(folder, "input.mkv"), size), read(os.path.join(folder, "gt.mkv")))
    for i, (frame, truth) in enumerate(pairs):
        begun = time.thread_time()
        found = mask(method, frame)
        spent += time.thread_time() - begun
        pixels += frame.size
        if first <= i <= last:
            inside = None
            if region is not None:
                inside = cv2.resize(region, truth.shape[::-1], interpolation=cv2.INTER_NEAREST) > 127
            raw.add(truth, found, inside)
            median.add(truth, cv2.medianBlur(found, 5), inside)
    sides = {k: {"f": p.f, "recall": p.recall, "precision": p.precision} for k, p in (("raw", raw), ("median", median))}
    return {**sides, "ns_per_pixel": 1e9 * spent / max(1, pixels)}


def means(rows):
    out = {}
    for name, per in rows.items():
        mean = {side: {k: float(np.mean([v[side][k] for v in per.values()])) for k in ("f", "recall", "precision")}
                for side in ("raw", "median") if all(side in v for v in per.values())}
        mean["ns_per_pixel"] = float(np.mean([v["ns_per_pixel"] for v in per.values()]))
        mean["f"] = max(s["f"] for k, s in mean.items() if isinstance(s, dict))
        out[name] = mean
    return out


def variant(folder, kind, work):
    """A folder with the stressed clip and the same labels; made once."""
    name = os.path.basename(os.path.normpath(folder))
    target = os.path.join(work, kind, name)
    labels = load(os.path.join(folder, "events.json"))
    clip = os.path.join(target, "clip.mp4")
    if not os.path.exists(clip):
        os.makedirs(target, exist_ok=True)
        source = video_of(folder)
        width, height, stamps = probe(source)
        width, height = width // 2 * 2, height // 2 * 2
        fps = (len(stamps) - 1) / max(0.001, stamps[-1] - stamps[0])
        stress, out = Stress(kind, width, height, fps), Writer(clip, (width, height), fps)
        for frame in read(source, (width, height), "bgr24"):
            out.add(stress(frame))
        out.close()
    with open(os.path.join(target, "events.json"), "w") as file:
        json.dump(labels, file)
    return target


def event_column(binary, clips, methods, motion, work):
    column = {}
    found = []
    for folder in clips:
        progress(f"events: sentrycam, {folder}")
        clip = next(iter(evaluate(binary, folder)["events"]["clips"].values()))
        clip["late"] = [] if clip["median_start_error_s"] is None else [clip["median_start_error_s"]]
        found.append(clip)
    column["sentrycam"] = {"default": total(found)}
    for name in methods:
        per = {t: [] for t in THRESHOLDS}
        for folder in clips:
            progress(f"events: {name}, {folder}")
            path, labels = video_of(folder), load(os.path.join(folder, "events.json"))
            stamps = probe(path)[2]
            method = METHODS[name]()
            areas = [float((cv2.medianBlur(mask(method, f), 5) > 0).mean()) for f in read(path, small(path))]
            for t in THRESHOLDS:
                per[t].append(intervals(labels, detections(stamps, [a > t for a in areas]), warm_up=WARM_UP))
        column[name] = {str(t): total(rows) for t, rows in per.items()}
    if motion:
        rows = []
        for folder in clips:
            progress(f"events: motion, {folder} (real time)")
            labels = load(os.path.join(folder, "events.json"))
            rows.append(intervals(labels, run_motion(video_of(folder), labels["duration"], work)))
        column["motion"] = {"default": total(rows)}
    return column


def best(settings):
    """In hindsight: most events, then least false time."""
    return max(settings.values(), key=lambda r: (r["found"], -r["false_seconds"], -r["false_alarms"]))


def cell(row):
    return f"{row['found']}/{row['events']} [{row['false_alarms']}; {row['false_seconds']:.1f} s]"


def print_table(title, heads, rows):
    print(f"\n## {title}\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentrycam", required=True)
    parser.add_argument("--footage", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--json", required=True)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--motion", choices=("none", "plain", "stress"), default="plain")
    args = parser.parse_args()
    methods = [m for m in METHODS if not (args.fast and m in SLOW)]
    found = folders(args.footage)
    sequences = [f for f in found if os.path.exists(os.path.join(f, "gt.mkv"))]
    clips = [f for f in found if os.path.exists(os.path.join(f, "events.json"))]
    if not sequences and not clips:
        raise SystemExit(f"{args.footage} holds nothing labelled (NAME/gt.mkv or NAME/events.json)")
    report = {"footage": args.footage}
    if sequences:
        rows = pixel_table(args.sentrycam, sequences, methods)
        mean = means(rows)
        progress("")
        report["pixels"] = {"sequences": rows, "mean": mean}
        lines = [[n, f"{m['f']:.3f}", f"{m['raw']['f']:.3f}", f"{m['raw']['recall']:.2f} / {m['raw']['precision']:.2f}",
                  f"{m['ns_per_pixel']:.1f}"] for n, m in sorted(mean.items(), key=lambda i: -i[1]["f"])]
        print_table(f"Pixels: mean of {len(sequences)} sequences", ["method", "F, the better", "F, raw", "recall / precision, raw", "ns per pixel"], lines)
        cheap = mean["sentrycam"]["ns_per_pixel"] / mean["MOG2"]["ns_per_pixel"]
        print(f"\ncost against MOG2: {cheap:.3f} (goal 0.200, {'reached' if cheap <= 0.2 else 'missed'})")
        report["pixels"]["cost_against_mog2"] = cheap
    if clips:
        event_methods = [m for m in methods if m not in SLOW]
        columns = {}
        for kind in ("plain", *KINDS):
            folder = clips if kind == "plain" else [variant(c, kind, args.work) for c in clips]
            motion = args.motion == "stress" or (args.motion == "plain" and kind == "plain")
            columns[kind] = event_column(args.sentrycam, folder, event_methods, motion, args.work)
        progress("")
        report["events"] = columns
        names = list(dict.fromkeys(n for c in columns.values() for n in c))
        lines = [[n, *(cell(best(columns[k][n])) if n in columns[k] else "–" for k in columns)] for n in names]
        print_table("Events: found [false alarms; their seconds]; of OpenCV the best threshold in hindsight, a column each",
                    ["method", *columns], lines)
        late = [x for x in columns["plain"]["sentrycam"]["default"]["late"]]
        if late:
            print(f"\nan event begins late by {float(np.median(late)):.2f} s (median of the clips' medians; goal 0.3)")
    beside = os.path.dirname(os.path.abspath(args.json))
    os.makedirs(beside, exist_ok=True)
    # What the parts of `make bench-motion` before this one have measured.
    for part in ("demand", "recall"):
        report[part] = load(os.path.join(beside, part + ".json"))
    with open(args.json, "w") as file:
        json.dump(report, file, indent=1)
    print(f"\n{args.json}")


if __name__ == "__main__":
    main()
