"""Stress versions of a clip; the labels stay right because nothing is added that moves by itself. The same in every run.

noise   sensor noise, sigma 4
night   a quarter of the light, noise that grows with it, sigma about 4 to 7
rain    semi-transparent falling streaks, anew in every frame, and noise of sigma 2
light   exposure changes by up to a third every 4 to 9 s, within 0.3 to 1.5 s
jitter  the camera trembles by 1 to 3 pixels of a picture 320 wide, by fractions of a pixel too
"""

import cv2
import numpy as np

KINDS = ("noise", "night", "rain", "light", "jitter")


class Stress:
    def __init__(self, kind, width, height, fps, seed=1):
        self.kind, self.w, self.h, self.fps = kind, width, height, fps
        self.rng = np.random.default_rng([seed, KINDS.index(kind)])
        self.grain = [self.rng.standard_normal((height + 48, width + 48), np.float32) for _ in range(3)]
        self.where, self.speed = np.zeros(2), np.zeros(2)
        self.gain, self.target, self.slope, self.change_at = 1.0, 1.0, 0.0, 5.0
        self.count = 0

    def noise(self):
        grain = self.grain[self.rng.integers(3)]
        y, x = self.rng.integers(48, size=2)
        return grain[y:y + self.h, x:x + self.w, None] * (1.0 if self.rng.random() < 0.5 else -1.0)

    def __call__(self, frame):
        self.count += 1
        out = getattr(self, "_" + self.kind)(frame)
        return np.clip(out, 0, 255).astype(np.uint8)

    def _noise(self, frame):
        return frame + 4.0 * self.noise()

    def _night(self, frame):
        dark = np.power(frame.astype(np.float32) / 255, 1.6) * 70 + 8
        return dark + self.noise() * (3.5 + 0.045 * dark)

    def _rain(self, frame):
        drops = np.zeros((self.h, self.w), np.uint8)
        length = max(4, self.h // 24)
        for _ in range(6 + self.w * self.h // 5000):
            x, y = int(self.rng.integers(self.w)), int(self.rng.integers(-length, self.h))
            n = int(length * self.rng.uniform(0.6, 1.5))
            cv2.line(drops, (x, y), (x + n // 6, y + n), int(self.rng.integers(120, 230)), 1, cv2.LINE_AA)
        drops = cv2.GaussianBlur(drops, (3, 3), 0)[..., None].astype(np.float32)
        return frame + 0.35 * drops + 2.0 * self.noise()

    def _light(self, frame):
        now = self.count / self.fps
        if now >= self.change_at:
            self.target = float(self.rng.choice([0.65, 0.8, 1.0, 1.15, 1.3]))
            self.slope = (self.target - self.gain) / (self.fps * self.rng.uniform(0.3, 1.5))
            self.change_at = now + self.rng.uniform(4, 9)
        left = self.target - self.gain
        self.gain = self.target if abs(left) <= abs(self.slope) else self.gain + self.slope
        return frame.astype(np.float32) * self.gain

    def _jitter(self, frame):
        self.speed = 0.6 * self.speed + self.rng.normal(0, 0.55, 2)
        self.where = 0.85 * self.where + self.speed
        dx, dy = self.where * self.w / 320 * 0.55
        move = np.float32([[1, 0, dx], [0, 1, dy]])
        return cv2.warpAffine(frame, move, (self.w, self.h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
