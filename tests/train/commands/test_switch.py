"""python -m train switch, and experts in a GPT and a T5."""


import numpy as np
import pytest

from nn.experts import ExpertBlock
from train import checkpoint
from train.__main__ import main

SMALL = ["--stories", "20000", "--layers", "2", "--heads", "2", "--width", "16", "--hidden", "32", "--steps", "4",
         "--batch", "4", "--eval-batches", "1", "--workers", "1", "--vocab-size", "320"]  # fmt: skip
WAYS = {
    "gpt": ["--experts", "3", "--top", "2", "--every", "1", "--capacity-factor", "1"],
    "t5": ["--experts", "3", "--head-width", "8", "--context", "24"],
    "switch": ["--experts", "3", "--head-width", "8", "--context", "24", "--every", "2"],
}


@pytest.mark.parametrize("name", WAYS)
def test_a_run_with_experts_goes_on_and_is_what_it_says(name, tmp_path, capsys):
    run = tmp_path / "run"
    assert main([name, "--out", str(run), *SMALL, *WAYS[name]]) == 0
    _, config = checkpoint.load_config(run)
    assert config.experts == 3 and config.top == (2 if name == "gpt" else 1)
    model, _ = checkpoint.load_model(run)
    mixtures = [module for module in model.modules() if isinstance(module, ExpertBlock)]
    assert len(mixtures) == 2
    before = mixtures[0].feed_forward.router.weight.data.copy()
    assert main([name, "--resume", str(run), "--steps", "6"]) == 0
    after = next(module for module in checkpoint.load_model(run)[0].modules() if isinstance(module, ExpertBlock))
    assert np.abs(after.feed_forward.router.weight.data - before).max() > 0


def test_what_makes_no_sense_is_told_before_any_work(tmp_path, capsys):
    for flags, said in ((["--top", "3"], "--top: it must be one of 1, 2, not 3"),
                        (["--experts", "-1"], "--experts: it must be at least"),
                        (["--capacity-factor", "0"], "--capacity-factor: it must be more than 0"),
                        (["--preset", "switch-base-9"], "unknown preset 'switch-base-9'; choose from switch-base-8")):
        assert main(["switch", "--out", str(tmp_path / "run"), *flags]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "run").exists()
