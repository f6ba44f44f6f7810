"""Debian's `motion` on one file, at its defaults but for what a file needs; in real time, as it paces itself."""

import os
import re
import subprocess
import tempfile
import threading
import time

from video import probe

GAP = 5
FPS = 15
CONFIG = """daemon off
setup_mode off
log_level 8
netcam_url file://{path}
netcam_keepalive off
width {width}
height {height}
framerate {fps}
minimum_motion_frames 1
event_gap {gap}
picture_output off
movie_output off
text_left
text_right
target_dir {work}
webcontrol_port 0
stream_port 0
"""


def detect(path, seconds, work):
    """Intervals of motion in seconds."""
    width, height, _ = probe(path)
    os.makedirs(work, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        config = os.path.join(folder, "motion.conf")
        with open(config, "w") as file:
            file.write(CONFIG.format(path=os.path.realpath(path), width=width // 8 * 8, height=height // 8 * 8, fps=FPS, gap=GAP, work=folder))
        process = subprocess.Popen(["motion", "-n", "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        lines = []
        connected = threading.Event()

        def listen():
            for line in process.stderr:
                lines.append((time.monotonic(), line))
                if re.search(r"Camera source is|connected", line):
                    connected.set()

        reader = threading.Thread(target=listen, daemon=True)
        reader.start()
        try:
            if not connected.wait(20) or process.poll() is not None:
                raise SystemExit("motion does not read the clip:\n" + "".join(line for _, line in lines[-10:]))
            begun = time.monotonic()
            # It reads a file a little faster than the frame rate that it is given.
            rate = (FPS + 1) / FPS
            time.sleep(seconds / rate)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        reader.join(2)
    found, start = [], None
    for at, line in lines:
        if "starting event" in line or "Starting event" in line:
            start = at - begun
        elif "End of event" in line and start is not None:
            found.append([start * rate, max(start + 0.1, at - begun - GAP) * rate])
            start = None
    if start is not None:
        found.append([start * rate, seconds])
    return [[max(0.0, a), min(b, seconds)] for a, b in found if a < seconds]
