"""Switch Transformer: a T5 in which some networks are mixtures of experts (Fedus et al. 2021, arXiv:2101.03961).

Nothing else differs from T5 (models/t5.py), and what happens to a token among experts stands in nn/experts.py: it goes
to one of them, and what that one makes of it counts by the router's probability. So Switch-C has 1.57 trillion
parameters, of which a token meets one network in 2048 in each block.

GShard (Lepikhin et al. 2020, arXiv:2006.16668) came before, to translate: each token goes to two experts. Its preset
has the paper's stacks, with T5's vocabulary and positions, as the paper's are not published.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from models import pretrained
from models.config import option
from models.pretrained import switch as published
from models.schema import Few
from models.t5 import T5, T5Config
from models.tokenizers import Tokenizer

BASE = dict(layers=12, width=768, hidden=3072, heads=12, capacity=64)
PRESETS: dict[str, dict] = {
    **{f"switch-base-{experts}": dict(BASE, experts=experts) for experts in (8, 16, 32, 64, 128, 256)},
    "switch-large-128": dict(layers=24, width=1024, hidden=4096, heads=16, experts=128, capacity=64),
    "switch-c-2048": dict(layers=15, width=2080, hidden=6144, heads=32, experts=2048, every=1),
    "gshard-600b": dict(layers=18, width=1024, hidden=8192, heads=16, head_width=128, experts=2048, top=2),
}


@dataclass(frozen=True, kw_only=True)
class SwitchConfig(T5Config):
    """The shape of a Switch Transformer: a T5's, with experts."""

    presets: ClassVar[dict[str, dict]] = PRESETS

    experts: Few = option(8, "E, the networks in a mixture, in place of one")


class SwitchTransformer(T5):
    """(ids (B, S), decoder ids (B, T)) -> logits (B, T, V), as a T5."""

    config_class, kinds = SwitchConfig, ("switch_transformers",)

    def save_pretrained(self, folder: str | Path, tokenizer: Tokenizer | None = None) -> None:
        """Write a folder that `transformers` opens as SwitchTransformersForConditionalGeneration; see pretrained.save.

        ValueError for what it does not have: two experts to a token, or seats reckoned by a factor.
        """
        pretrained.save(self, published.LAYOUT, folder, {}, tokenizer)
