"""What this thread records as a CUDA graph, if anything (graph.py): asked by whoever passes numbers to a kernel."""

from __future__ import annotations

import threading

import numpy as np


class Capture(threading.local):
    """recorder: the Recorded whose step runs, also in the calls before.   recording: whether it is being recorded."""

    recorder = None
    recording = False


capture = Capture()


def moved(array: np.ndarray):
    """An array from the CPU on the GPU; in a step that will be repeated only a constant's place there."""
    import cupy

    return capture.recorder.constant(array) if capture.recorder else cupy.asarray(array)
