"""What a user would pick instead: OpenCV's background subtractors, one thread, and two lines of tutorial code."""

import cv2
import numpy as np

cv2.setNumThreads(1)


class FrameDifference:
    """Differs by more than 25 from the frame before, blurred and dilated: the first tutorial."""

    def __init__(self):
        self.before = None

    def apply(self, frame):
        frame = cv2.GaussianBlur(frame, (5, 5), 0)
        before = frame if self.before is None else self.before
        self.before = frame
        mask = cv2.threshold(cv2.absdiff(frame, before), 25, 255, cv2.THRESH_BINARY)[1]
        return cv2.dilate(mask, np.ones((3, 3), np.uint8), iterations=2)


class WithoutShadows:
    def __init__(self, inner):
        self.inner = inner

    def apply(self, frame):
        return cv2.threshold(self.inner.apply(frame), 200, 255, cv2.THRESH_BINARY)[1]


class Coloured:
    """GSOC and LSBP want three channels."""

    def __init__(self, inner):
        self.inner = inner

    def apply(self, frame):
        return self.inner.apply(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))


def _known():
    known = {
        "frame difference": FrameDifference,
        "MOG2": lambda: WithoutShadows(cv2.createBackgroundSubtractorMOG2()),
        "MOG2, shadow counted": lambda: cv2.createBackgroundSubtractorMOG2(detectShadows=False),
        "KNN": lambda: WithoutShadows(cv2.createBackgroundSubtractorKNN()),
    }
    extra = getattr(cv2, "bgsegm", None)
    if extra is not None:
        known.update({
            "MOG": extra.createBackgroundSubtractorMOG,
            "CNT": extra.createBackgroundSubtractorCNT,
            "GMG": extra.createBackgroundSubtractorGMG,
            "GSOC": lambda: Coloured(extra.createBackgroundSubtractorGSOC()),
            "LSBP": lambda: Coloured(extra.createBackgroundSubtractorLSBP()),
        })
    return known


METHODS = _known()


def mask(method, frame):
    found = method.apply(frame)
    return np.zeros_like(frame) if found is None else found
