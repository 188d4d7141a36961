"""What a run on a GPU has more than one on a CPU: narrower numbers, recorded steps, and memory that runs out.

In mixed precision (Micikevicius et al. 2018, arXiv:1710.03740) the model computes with a rounded copy of its
parameters. float16 holds nothing below 6e-8, and many gradients are smaller. So the loss is multiplied by a large
number before backward, and the gradients divided by it before the update (section 3.2). The number is as large as it
can be: an overflow halves it and skips that update, and long success doubles it. bfloat16 has float32's range and needs
none of this.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.contract import StaticBatch
from nn import Attention, LayerNorm, Module, Parameter, RMSNorm
from tinytensor import random
from tinytensor.backend.gpu.attention import check_head_width
from tinytensor.backend.gpu.graph import Recorded
from tinytensor.backend.gpu.layers import check_row_length

COUNT = "count of "  # begins the names of counts among a recorded step's inputs


def compute_dtype(name: str) -> np.dtype:
    """The NumPy type of that name; bfloat16 comes from ml_dtypes."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise ValueError("dtype bfloat16 needs ml_dtypes; in the checkout: pip install -e '.[gpu]'") from None
    return np.dtype(ml_dtypes.bfloat16)


def to_gpu(model: Module, name: str) -> np.dtype:
    """Move a model to the GPU; the dtype of that name, which it will compute in.

    ValueError, before any work, where its layers are too wide for the kernels of this GPU.
    """
    dtype = compute_dtype(name)
    for module in model.to("cuda").modules():
        if isinstance(module, Attention):
            check_head_width(module.head_width, dtype)
        elif isinstance(module, (LayerNorm, RMSNorm)):
            check_row_length(module.weight.size)
    return dtype


class RoundedCopy:
    """The trained parameters in a narrower dtype, which the model computes with; flat.data and gradients stay as wide.

    Updates are far smaller than the parameters they change; added to 16 bits they would vanish. Parameters that are not
    trained (`frozen`) are rounded too, or they could not be multiplied with those that are.   flat: a FlatParameters.
    """

    def __init__(self, flat, frozen: list[Parameter], dtype):
        self.flat, self.frozen, self.data = flat, frozen, flat.data.astype(dtype)
        self.use()

    def use(self) -> None:
        """Round anew, and let the model compute with that."""
        self.data[...] = self.flat.data
        self.flat.place_parameters(self.data)
        self.whole = [parameter.data for parameter in self.frozen]
        for parameter in self.frozen:
            parameter.data = parameter.data.astype(self.data.dtype)

    def put_aside(self) -> None:
        """Give the model its unrounded parameters."""
        self.flat.place_parameters(self.flat.data)
        for parameter, whole in zip(self.frozen, self.whole):
            parameter.data = whole


class LossScale:
    """What the loss is multiplied by before backward: as much as float16 gradients can take."""

    PATIENCE = 1000  # good updates before the scale is tried at twice its size
    LARGEST = 2.0**24

    def __init__(self, value: float = 2.0**15):
        self.value, self.good = value, 0

    def overflowed(self) -> bool:
        """Note that gradients were not finite. Whether a smaller scale may help, so that the update is just skipped."""
        self.good = 0
        if self.value <= 1:
            return False
        self.value /= 2
        return True

    def succeeded(self) -> None:
        self.good += 1
        if self.good == self.PATIENCE:
            self.value = min(2 * self.value, self.LARGEST)
            self.good = 0


class RecordedGradient:
    """add_gradient(batch, counts, scale) -> loss of a Loop (train/trainer.py) as a CUDA graph.

    A graph reads what changes from step to step in places of its own: the batch, the counts and the scale go there as
    one dict of arrays, and the state that the model carries on is copied there and back.
    """

    def __init__(self, add_gradient: Callable, flat, parameters: list[Parameter]):
        self.add_gradient, self.flat, self.parameters = add_gradient, flat, parameters
        self.recorded = Recorded(self._work)
        self.state: dict = {}
        self.arrived: list[bool] = []  # at which parameters a gradient

    def __call__(self, batch: dict, state: dict, counts: dict[str, int], scale: np.ndarray):
        self.state = self.state or {name: array.copy() for name, array in state.items()}
        for name, array in state.items():
            self.state[name][...] = array
        inputs = {COUNT + part: np.asarray(n, np.float32) for part, n in counts.items()}
        loss = self.recorded(batch | inputs | {"loss_scale": scale}, random.generator())
        for name, array in state.items():
            array[...] = self.state[name]
        for parameter, arrived in zip(self.parameters, self.arrived):  # in a repetition no Python runs that says so
            parameter.grad = parameter.gradient_place if arrived else None
        return loss

    def _work(self, inputs: dict):
        counts = {name.removeprefix(COUNT): n for name, n in inputs.items() if name.startswith(COUNT)}
        batch = {name: array for name, array in inputs.items() if not name.startswith(COUNT)}
        scale = batch.pop("loss_scale")
        loss = self.add_gradient(StaticBatch(batch), self.state, counts, scale)
        self.arrived = self.flat.complete_gradients(self.parameters)
        return loss


def peak_bytes(recorded: Recorded | None = None) -> int:
    """The most bytes that the arrays on the GPU have taken together (CuPy's pool never shrinks).

    recorded: a CUDA graph, which has a pool of its own.
    """
    import cupy

    pools = [cupy.get_default_memory_pool(), *([recorded.pool] if recorded else [])]
    return sum(pool.total_bytes() for pool in pools)


def lack_of_memory(error: MemoryError) -> str:
    """CuPy's OutOfMemoryError in a sentence: what was asked for, what was there, and what to turn down."""
    import cupy

    pool = cupy.get_default_memory_pool()
    free, total = cupy.cuda.runtime.memGetInfo()
    in_use, megabytes = pool.used_bytes(), lambda n: f"{n / 2**20:,.0f} MB"
    return (
        f"the GPU ran out of memory ({str(error).rstrip('.')}): {megabytes(in_use)} are in use by this run and "
        f"{megabytes(free + pool.total_bytes() - in_use)} of {megabytes(total)} are free; turn down --batch (and "
        "turn up --accumulate), --context, --width, --samples or --beams, or take --dtype bfloat16"
    )
