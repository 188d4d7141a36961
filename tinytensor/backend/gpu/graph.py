"""CUDA graphs: record the hundreds of launches that make up a step once, and from then on start them all with one call.

The kernels of a small model take less time than Python takes to start them. A CUDA graph is a list of launches with all
their arguments; starting it again costs microseconds. But it does again exactly what was recorded, at the same
addresses and with the same numbers. So

- what changes from step to step is read from memory: the step's inputs, which begin as arrays on the CPU, and the seeds
  of dropout have places of their own on the GPU, which are filled anew before each repetition;
- nothing in the step may wait for the GPU, or depend on what it computed there or on what is in the inputs; an array
  made on the CPU is allowed only if it is the same in every step (an array with a memory of its own that may not be
  written to), and lies on the GPU from the first call on;
- the memory in between comes from a pool of the graph's own, and is given to nobody else.

Matrix products go straight to cuBLAS (cublas.py), which CuPy refuses to call while a graph is being recorded; they do
so in the calls before that too, so that whatever is loaded at first use is there in time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import numpy as np

WARM_UP = 2                                                # calls that just run: they compile and load what is needed
MOST_SEEDS = 4096


class Capture(threading.local):
    """What is being recorded in this thread, if anything: asked by whoever passes numbers to a kernel."""

    def __init__(self):
        self.recorder: Recorded | None = None              # whose step it is, in the calls before the recording too
        self.recording = False

    @property
    def direct(self) -> bool:
        """Whether products go straight to cuBLAS."""
        return self.recorder is not None

    def seed(self, seed: int):
        """The place on the GPU where each repetition will find what is now `seed`."""
        return self.recorder.place_of_seed(seed)


capture = Capture()


class Recorded:
    """work(inputs) -> array, recorded at the third call and started as a whole from then on.

    inputs: name -> array on the CPU, of the same shapes and types in every call.
    Whatever else `work` reads must stay where it is, and it may draw random numbers from `rng` for seeds only. The
    answer is always the same array, until the next call.
    """

    def __init__(self, work: Callable):
        import cupy

        self.work, self.calls = work, 0
        self.stream = cupy.cuda.Stream(non_blocking=True)  # CUDA records no others
        self.pool = cupy.cuda.MemoryPool()
        self.graph = self.result = self.known = None
        self.places: dict[str, object] = {}                # of the inputs
        self.by_address: dict[int, object] = {}            # of what was on the CPU there while recording
        self.constants: dict[int, tuple] = {}              # address -> (an array that stays as it is, its place)
        self.seeds: list[int] = []
        self.places_of_seeds = None

    def __call__(self, inputs: dict[str, np.ndarray], rng=None):
        inputs = {name: np.asarray(array, order="C") for name, array in inputs.items()}
        self._check({name: (array.shape, array.dtype) for name, array in inputs.items()})
        self.calls += 1
        if self.calls <= WARM_UP:
            return self._run(lambda: self.work(inputs))
        if self.graph is None:
            self._record(inputs)
        else:
            for name, array in inputs.items():
                self.places[name].set(array)
            self._fill_seeds([int(rng.integers(1 << 63)) for _ in self.seeds])
        self.graph.launch()
        return self.result

    def moved(self, array: np.ndarray):
        """The place on the GPU of an input (or a view of all of it), or of a constant, that `work` wants there."""
        import cupy

        constant = not array.flags.writeable and array.flags.owndata
        if not capture.recording:
            place = cupy.asarray(array)
            if constant:
                self.constants[array.ctypes.data] = array, place
            return place
        if constant:
            _, place = self.constants.get(array.ctypes.data, (None, None))
        else:
            place = self.by_address.get(array.ctypes.data)
        if place is None or place.nbytes != array.nbytes or not array.flags.c_contiguous:
            raise ValueError("it makes arrays on the CPU on its way")
        return place.reshape(array.shape)

    def place_of_seed(self, seed: int):
        if seed not in self.seeds:                         # it is, if a part is computed again in backward
            if len(self.seeds) == MOST_SEEDS:
                raise ValueError(f"it draws more than {MOST_SEEDS} masks")
            self.seeds.append(seed)
        index = self.seeds.index(seed)
        return self.places_of_seeds[index : index + 1]

    def _check(self, shapes: dict) -> None:
        self.known = self.known or shapes
        if self.known != shapes:
            name = next(name for name in self.known | shapes if self.known.get(name) != shapes.get(name))
            was, now = self.known.get(name), shapes.get(name)
            raise ValueError(f"a CUDA graph repeats one step, whose {was} is {now} this time; leave out --graph")

    def _run(self, function: Callable):
        """function() on our stream and from our pool, when all that was started before is done."""
        import cupy

        from . import cublas

        cupy.cuda.get_current_stream().synchronize()
        with cupy.cuda.using_allocator(self.pool.malloc), self.stream:
            cublas.use(self.stream)
            capture.recorder = self
            try:
                result = function()
            finally:
                capture.recorder = None
        self.stream.synchronize()
        return result

    def _record(self, inputs: dict[str, np.ndarray]) -> None:
        import cupy

        self.places = {name: cupy.asarray(array) for name, array in inputs.items()}
        self.by_address = {array.ctypes.data: self.places[name] for name, array in inputs.items()}
        self.places_of_seeds = cupy.zeros(MOST_SEEDS, np.uint64)

        def record():
            self.stream.begin_capture()
            capture.recording = True
            try:
                self.result = self.work(inputs)
            except MemoryError:
                raise
            except Exception as error:
                raise ValueError(f"this step cannot be recorded in a CUDA graph: {error}; leave out --graph") from error
            finally:
                capture.recording = False
                with contextlib.suppress(Exception):       # of what went wrong, the first error says more
                    self.graph = self.stream.end_capture()

        self._run(record)
        if self.graph is None:
            raise ValueError("this step cannot be recorded in a CUDA graph; leave out --graph")
        self._fill_seeds(self.seeds)

    def _fill_seeds(self, seeds: list[int]) -> None:
        if seeds:
            self.places_of_seeds[: len(seeds)].set(np.array(seeds, np.uint64))


def moved(array: np.ndarray):
    """An array from the CPU on the GPU; while a graph is being recorded, the place that its inputs have there."""
    import cupy

    return capture.recorder.moved(array) if capture.recorder else cupy.asarray(array)
