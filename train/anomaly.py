"""What is done when a loss or a gradient is no number any more."""

import math

import tinytensor as tt


def give_up(loop, step: int, lr: float, loss: float, norm: float) -> None:
    """Save what was learned before this step, find the op that went wrong, and end the run."""
    if step:
        loop.save()
    if loop.comm.rank:
        loop.comm.barrier()  # wait for the leader, whose error ends the others
    loop.recorded = None
    what = f"the loss became {loss}" if not math.isfinite(loss) else f"the gradient's norm became {norm}"
    try:  # the parameters are still those before the step: go through it again, looking at every op
        with tt.detect_anomaly():
            for rank in range(loop.readers):
                loop.gradient(step, rank)
    except FloatingPointError as error:
        what += f" ({error})"
    saved = f"the weights before that step are saved in {loop.trainer.run}; try a lower --lr or a longer --warmup"
    raise ValueError(f"{what} at step {step + 1}, learning rate {lr:.3g}; {saved}")
