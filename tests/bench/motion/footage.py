"""A labelled set that anyone can make: bodies of known shape before real, public pictures (Debian's opencv-doc, PETS 2009).

footage.py PEDESTRIANS.mp4 DIR      PEDESTRIANS.mp4 from tests/footage.sh

street    the public clip itself: 14 s of stillness, 16 s of people; intervals
bodies    textured bodies cross a still street, with noise; a mask for each picture, and intervals
small     the same with bodies of 0.1 to 0.3 % of the picture
leaves    bodies before a part of the street that sways to and fro
The rest of the tables needs footage of your own or CDnet: DIR=.
"""

import json
import os
import sys

import cv2
import numpy as np

from video import Writer, read

WIDTH, HEIGHT, FPS, SECONDS = 320, 240, 10, 48
PASSES = ((12.0, 17.0), (24.0, 30.0), (38.0, 42.0))


def save(folder, name, value):
    with open(os.path.join(folder, name), "w") as out:
        json.dump(value, out, indent=1)


def synthetic(still, folder, name, share, sways):
    rng = np.random.default_rng(sum(map(ord, name)))
    os.makedirs(folder, exist_ok=True)
    high = int(np.sqrt(share * WIDTH * HEIGHT * 2.2))
    wide = max(3, high * 10 // 22)
    texture = cv2.GaussianBlur(rng.uniform(0, 255, (high, wide, 3)).astype(np.float32), (0, 0), 2)
    texture = np.clip((texture - texture.mean()) * 3 + rng.choice([60, 190]), 0, 255)
    shape = np.zeros((high, wide), np.uint8)
    cv2.ellipse(shape, (wide // 2, high // 2), (max(1, wide // 2 - 1), max(1, high // 2 - 1)), 0, 0, 360, 255, -1)
    frames = Writer(os.path.join(folder, "input.mkv"), (WIDTH, HEIGHT), FPS)
    masks = Writer(os.path.join(folder, "gt.mkv"), (WIDTH, HEIGHT), FPS, lossless=True)
    rows = np.arange(HEIGHT, dtype=np.float32)[:, None] * np.ones((1, WIDTH), np.float32)
    columns = np.arange(WIDTH, dtype=np.float32)[None] * np.ones((HEIGHT, 1), np.float32)
    for i in range(SECONDS * FPS):
        t = i / FPS
        picture, mask = still.astype(np.float32), np.zeros((HEIGHT, WIDTH), np.uint8)
        if sways:
            sway = 3.0 * np.sin(2 * np.pi * (t * 0.9 + rows / 60)) * (columns < WIDTH * 0.45)
            picture = cv2.remap(still, (columns + sway).astype(np.float32), rows, cv2.INTER_LINEAR).astype(np.float32)
        for k, (start, end) in enumerate(PASSES):
            if start <= t < end:
                x = int((t - start) / (end - start) * (WIDTH - wide))
                y = min(HEIGHT - high, int(HEIGHT * (0.35 + 0.15 * k) + 2 * np.sin(t * 7)))
                inside = shape > 0
                picture[y:y + high, x:x + wide][inside] = texture[inside]
                mask[y:y + high, x:x + wide][inside] = 255
                edge = cv2.dilate(mask, np.ones((3, 3), np.uint8)) - mask
                mask[edge > 0] = 170
        frames.add(np.clip(picture + rng.normal(0, 2.0, picture.shape), 0, 255).astype(np.uint8))
        masks.add(mask)
    frames.close()
    masks.close()
    save(folder, "meta.json", {"name": name, "file": "input.mkv", "width": WIDTH, "height": HEIGHT, "fps": FPS,
                               "score_range": [5 * FPS, SECONDS * FPS - 1]})
    save(folder, "events.json", {"duration": SECONDS, "events": [{"start": a, "end": b} for a, b in PASSES], "ignore": []})


def main(pedestrians, target):
    street = os.path.join(target, "street")
    os.makedirs(street, exist_ok=True)
    if not os.path.exists(os.path.join(street, "clip.mp4")):
        os.symlink(os.path.abspath(pedestrians), os.path.join(street, "clip.mp4"))
    save(street, "meta.json", {"name": "street", "file": "clip.mp4"})
    save(street, "events.json", {"duration": 30.0, "events": [{"start": 14.0, "end": 30.0}], "ignore": []})
    still = next(read(pedestrians, (WIDTH, HEIGHT), "bgr24")).copy()
    for name, share, sways in (("bodies", 0.02, False), ("small", 0.002, False), ("leaves", 0.02, True)):
        if not os.path.exists(os.path.join(target, name, "events.json")):
            print(f"making {name}", file=sys.stderr)
            synthetic(still, os.path.join(target, name), name, share, sways)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
