"""Reading and writing video with the ffmpeg program: frames as numpy arrays, none dropped, none doubled."""

import json
import os
import subprocess

import numpy as np


def probe(path):
    """Width, height and the time stamps of all frames in seconds."""
    text = subprocess.check_output(
        ["ffprobe", "-v", "error", "-select_streams", "v:0", "-of", "json",
         "-show_entries", "stream=width,height:frame=best_effort_timestamp_time", path])
    found = json.loads(text)
    stream = found["streams"][0]
    stamps = [float(f["best_effort_timestamp_time"]) for f in found["frames"] if "best_effort_timestamp_time" in f]
    return stream["width"], stream["height"], stamps


def read(path, size=None, pixels="gray"):
    """Frames as H x W (gray) or H x W x 3 (bgr24) bytes, scaled by area to `size` (width, height)."""
    width, height = size or probe(path)[:2]
    scale = ["-vf", f"scale={width}:{height}:flags=area"] if size else []
    command = ["ffmpeg", "-v", "fatal", "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough", *scale,
               "-f", "rawvideo", "-pix_fmt", pixels, "-"]
    depth = 3 if pixels == "bgr24" else 1
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        while True:
            data = process.stdout.read(width * height * depth)
            if len(data) < width * height * depth:
                break
            frame = np.frombuffer(data, np.uint8)
            yield frame.reshape(height, width, 3) if depth == 3 else frame.reshape(height, width)
    finally:
        process.stdout.close()
        process.terminate()
        process.wait()


class Writer:
    """Writes BGR (or, lossless, grey) frames to a file."""

    def __init__(self, path, size, fps, lossless=False):
        codec = ["-c:v", "ffv1"] if lossless else ["-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-pix_fmt", "yuv420p", "-g", "50"]
        pixels = "gray" if lossless else "bgr24"
        self.final, self.part = path, path + ".part" + os.path.splitext(path)[1]
        self.process = subprocess.Popen(
            ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", pixels, "-s", f"{size[0]}x{size[1]}",
             "-r", f"{fps:.5f}", "-i", "-", *codec, self.part], stdin=subprocess.PIPE)

    def add(self, frame):
        self.process.stdin.write(np.ascontiguousarray(frame).tobytes())

    def close(self):
        self.process.stdin.close()
        if self.process.wait() != 0:
            raise SystemExit(f"ffmpeg cannot write {self.final}")
        os.replace(self.part, self.final)
