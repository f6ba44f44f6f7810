#!/usr/bin/env python3
"""docs/motion.png: a picture, its votes, and what moves.  picture.py DUMP OUT.png

DUMP is made by `cargo run --release --example motion_picture -- FRAMES.gray WxH@FPS INDEX`: the laid picture, the votes (0..4)
and the mask of frame INDEX, one after the other.
"""

import sys

import cv2
import numpy as np


def main(dump, size, out):
    w, h = map(int, size.split("x"))
    picture, votes, mask = np.fromfile(dump, np.uint8).reshape(3, h, w)
    shades = cv2.applyColorMap((votes * 60).astype(np.uint8), cv2.COLORMAP_INFERNO)
    left = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    right = (left * 0.45).astype(np.uint8)
    right[mask > 0] = (90, 200, 255)
    count, _, boxes, _ = cv2.connectedComponentsWithStats(cv2.dilate(mask, np.ones((5, 5), np.uint8)))
    for x, y, bw, bh, area in boxes[1:count]:
        if area > 40:
            cv2.rectangle(right, (x - 2, y - 2), (x + bw + 1, y + bh + 1), (80, 255, 80), 1)
    gap = np.full((h, 6, 3), 255, np.uint8)
    cv2.imwrite(out, cv2.resize(np.hstack([left, gap, shades, gap, right]), None, fx=1.0, fy=1.0))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
