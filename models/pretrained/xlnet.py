"""XLNet as published: its config fields and the names of its weights.

`transformers` keeps a projection as (C, heads, head width), summed over C on the way in and over the other two on the
way out; ours are matrices, (out, in). Its config has no token for what is masked; the published vocabularies' is 6.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from models.pretrained.layout import Arrays, Layout
from models.pretrained.names import Names

ATTENTION, NETWORK = "transformer.layer.*.rel_attn", "transformer.layer.*.ff"
TABLE = {
    "embedding": "transformer.word_embedding",
    "unknown": "transformer.mask_emb",
    "blocks.*.attention.q.weight": f"{ATTENTION}.q",
    "blocks.*.attention.kv.weight": (f"{ATTENTION}.k", f"{ATTENTION}.v"),
    "blocks.*.attention.out.weight": f"{ATTENTION}.o",
    "blocks.*.attention.far.weight": f"{ATTENTION}.r",
    "blocks.*.attention.content": f"{ATTENTION}.r_w_bias",
    "blocks.*.attention.position": f"{ATTENTION}.r_r_bias",
    "blocks.*.attention.segment": f"{ATTENTION}.r_s_bias",
    "blocks.*.attention.segments": f"{ATTENTION}.seg_embed",
    "blocks.*.norm1": f"{ATTENTION}.layer_norm",
    "blocks.*.feed_forward.into": f"{NETWORK}.layer_1",
    "blocks.*.feed_forward.out": f"{NETWORK}.layer_2",
    "blocks.*.norm2": f"{NETWORK}.layer_norm",
    "head": "lm_loss",
    "output_bias": "lm_loss.bias",
}
INWARD, OUTWARD, MASKED = "*.rel_attn.[qkvr]", "*.rel_attn.o", "*mask_emb"
FIELDS = {"vocab_size": ("vocab_size", 32000), "layers": ("n_layer", 24), "heads": ("n_head", 16),
          "width": ("d_model", 1024), "hidden": ("d_inner", 4096), "dropout": ("dropout", 0.1),
          "activation": ("ff_activation", "gelu"), "memory": ("mem_len", 0), "reuse": ("reuse_len", 0),
          "norm_eps": ("layer_norm_eps", 1e-12), "init_std": ("initializer_range", 0.02), "pad_id": ("pad_token_id", 5)}


@dataclass(frozen=True)
class HeadNames(Names):
    """Names whose matrices are written with an axis for the heads."""

    head_count: int = 1

    def write(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: self._in_heads(name, array) for name, array in super().write(state).items()}

    def _in_heads(self, name: str, array: np.ndarray) -> np.ndarray:
        if fnmatchcase(name, MASKED):
            return array[None, None]
        if fnmatchcase(name, INWARD) or fnmatchcase(name, OUTWARD):
            array = array if fnmatchcase(name, OUTWARD) else array.T
            return array.reshape(len(array), self.head_count, -1)
        return array


def _read(ours: dict, fields: Mapping, arrays: Arrays) -> Arrays:
    if (farthest := fields.get("clamp_len") or 0) > 0:
        ours["farthest"] = farthest
    if (width := fields.get("d_head")) not in (None, ours["width"] // ours["heads"]):
        raise ValueError(f"the config's d_head is {width}; only heads of d_model / n_head are read")
    return {name: _matrix(name, array) for name, array in arrays.items()}


def _matrix(name: str, array: np.ndarray) -> np.ndarray:
    if fnmatchcase(name, MASKED):
        return array.reshape(-1)
    if array.ndim == 3 and (fnmatchcase(name, INWARD) or fnmatchcase(name, OUTWARD)):
        array = array.reshape(len(array), -1)
        return array if fnmatchcase(name, OUTWARD) else array.T
    return array


def _write(fields: dict, config) -> None:
    fields |= {"d_inner": config.hidden or 4 * config.width, "d_head": config.width // config.heads,
               "clamp_len": config.farthest or -1, "mem_len": config.memory or None, "reuse_len": config.reuse or None}


LAYOUT = Layout(
    "xlnet", fields=FIELDS, fixed={"mask_id": 6}, read=_read, write=_write,
    names=lambda fields: HeadNames(TABLE, "transformer.", "transformer.word_embedding.weight",
                                   tied={"head.weight": "embedding.weight"}, head_count=fields.get("n_head") or 16),
    others={"clamp_len": int, "d_head": int},
    demands={"attn_type": ("bi", "that is a Transformer-XL, whose tokens see the past only"),
             "bi_data": (False, "half of such a model's every batch is read backwards"),
             "same_length": (False, "here all tokens see the whole memory"),
             "untie_r": (True, "here every layer has biases of its own"),
             "summary_type": ("last", "the last token stands for a text here"),
             "summary_use_proj": (True, "here a layer stands between a summary and a task's own"),
             "summary_activation": ("tanh", "that layer is followed by tanh here")},
    constants={"tie_word_embeddings": True, "architectures": ["XLNetLMHeadModel"], "attn_type": "bi"})  # fmt: skip
LAYOUTS = {"xlnet": LAYOUT}
