"""CUDA graphs: record the hundreds of launches that make up a step once, and from then on start them all with one call.

The kernels of a small model take less time than Python takes to start them. A CUDA graph is a list of launches with all
their arguments; starting it again costs microseconds. But it does again exactly what was recorded, at the same
addresses and with the same numbers. So

- what changes from step to step is read from memory: the step's inputs and the seeds of dropout have places of their
  own on the GPU, which are filled anew before each repetition;
- nothing in the step may wait for the GPU, or depend on what it computed there; an array made on the CPU is allowed
  only if it is the same in every step (an array with a memory of its own that may not be written to), and lies on the
  GPU from the first call on;
- the memory in between comes from a pool of the graph's own, and is given to nobody else.

Matrix products go straight to cuBLAS (cublas.py), which CuPy refuses to call while a graph is being recorded; they do
so in the calls before that too, so that whatever is loaded at first use is there in time.
"""

import contextlib
from collections.abc import Callable

import numpy as np

from tinytensor.backend.gpu import cublas
from tinytensor.backend.gpu.launch import capture

WARM_UP = 2  # calls that just run: they compile and load what is needed
MOST_SEEDS = 4096


class Recorded:
    """work(inputs) -> array, recorded at the third call and started as a whole from then on.

    It is called with inputs by name, arrays on the CPU of the same shapes and types in every call; `work` is given the
    same on the GPU, in the same places each time. Whatever else `work` reads must stay where it is, and it may draw
    random numbers from `rng` for seeds only. The answer is always the same array, until the next call.
    """

    def __init__(self, work: Callable):
        import cupy

        self.work, self.calls = work, 0
        self.stream = cupy.cuda.Stream(non_blocking=True)  # CUDA records no others
        self.pool = cupy.cuda.MemoryPool(self._more_memory)
        self.graph = self.result = None
        self.places: dict[str, object] = {}  # of the inputs, on the GPU
        self.constants: dict[int, tuple] = {}  # address -> (an array that stays as it is, its place)
        self.seeds: list[int] = []
        self.places_of_seeds = None

    def __call__(self, inputs: dict[str, np.ndarray], rng=None):
        self._fill({name: np.asarray(array, order="C") for name, array in inputs.items()})
        self.calls += 1
        if self.calls <= WARM_UP:
            return self._run(lambda: self.work(dict(self.places)))
        if self.graph is None:
            self._record()
        else:
            self._fill_seeds([int(rng.integers(1 << 63)) for _ in self.seeds])
        self.graph.launch()
        return self.result

    def constant(self, array: np.ndarray):
        """The place on the GPU of an array from the CPU that stays as it is."""
        import cupy

        fixed = not array.flags.writeable and array.flags.owndata
        if capture.recording:
            _, place = self.constants.get(array.ctypes.data, (None, None))
            if place is None or not fixed or place.nbytes != array.nbytes or not array.flags.c_contiguous:
                raise ValueError("it makes arrays on the CPU on its way")
            return place.reshape(array.shape)
        place = cupy.asarray(array)
        if fixed:
            self.constants[array.ctypes.data] = array, place
        return place

    def _more_memory(self, size: int):
        """For the pool, from CUDA. While a step is recorded, its lack is no reason for the pool to give back, and try
        again: what nobody holds any more is where recorded kernels will write."""
        import cupy

        try:
            return cupy.cuda.MemoryPointer(cupy.cuda.Memory(size), 0)
        except cupy.cuda.runtime.CUDARuntimeError as error:
            if not capture.recording:
                raise
            raise cupy.cuda.memory.OutOfMemoryError(size, self.pool.total_bytes()) from error

    def place_of_seed(self, seed: int):
        if seed not in self.seeds:  # it is, if a part is computed again in backward
            if len(self.seeds) == MOST_SEEDS:
                raise ValueError(f"it draws more than {MOST_SEEDS} masks")
            self.seeds.append(seed)
        index = self.seeds.index(seed)
        return self.places_of_seeds[index : index + 1]

    def _fill(self, inputs: dict[str, np.ndarray]) -> None:
        """Put the inputs into their places."""
        import cupy

        if not self.places:
            self.places = {name: cupy.asarray(array) for name, array in inputs.items()}
            return
        known, given = ({name: (a.shape, a.dtype) for name, a in arrays.items()} for arrays in (self.places, inputs))
        if known != given:
            name = next(name for name in known | given if known.get(name) != given.get(name))
            was, now = known.get(name), given.get(name)
            raise ValueError(f"a CUDA graph repeats one step, whose {name} {was} is {now} this time; leave out --graph")
        for name, array in inputs.items():
            self.places[name][...] = cupy.asarray(array)  # .set() would wait for the GPU

    def _run(self, function: Callable):
        """function() on our stream and from our pool, when all that was started before is done."""
        import cupy

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

    def _record(self) -> None:
        import cupy

        self.places_of_seeds = cupy.zeros(MOST_SEEDS, np.uint64)

        graph = None

        def record():
            nonlocal graph
            self.stream.begin_capture()
            capture.recording = True
            try:
                self.result = self.work(dict(self.places))
            except MemoryError:
                raise
            except Exception as error:
                raise ValueError(f"this step cannot be recorded in a CUDA graph: {error}; leave out --graph") from error
            finally:
                capture.recording = False
                with contextlib.suppress(Exception):  # of what went wrong, the first error says more
                    graph = self.stream.end_capture()

        self._run(record)
        if graph is None:
            raise ValueError("this step cannot be recorded in a CUDA graph; leave out --graph")
        self.graph = graph  # a whole one
        self._fill_seeds(self.seeds)

    def _fill_seeds(self, seeds: list[int]) -> None:
        import cupy

        if seeds:
            self.places_of_seeds[: len(seeds)] = cupy.asarray(np.array(seeds, np.uint64))
