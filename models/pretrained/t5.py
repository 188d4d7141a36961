"""T5's published checkpoints (also mT5's, ByT5's and Flan-T5's): names and config, in both directions.

The one trap is the output table. v1.0 shares it with the embedding and scales the final vectors by 1/sqrt(C); v1.1 has
one of its own and does not scale. Files say which by `tie_word_embeddings`, or since transformers 5, which writes true
there whatever the model, by `scale_decoder_outputs`; and the file may leave out a table that equals the embedding.
"""

from collections.abc import Mapping

import numpy as np

from models.pretrained.layout import ACTIVATIONS as WORDS
from models.pretrained.layout import Arrays, Layout
from models.pretrained.names import Names
from models.schema import Whole


def _stack(name: str, last: int) -> dict:
    """What encoder and decoder have in common; the feed-forward network is a block's layer number `last`."""
    ours, theirs = f"{name}.blocks.*", f"{name}.block.*"
    attention, dense = f"{theirs}.layer.0.SelfAttention", f"{theirs}.layer.{last}.DenseReluDense"
    return {
        f"{name}.positions.weight": f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        f"{ours}.norm1": f"{theirs}.layer.0.layer_norm",
        f"{ours}.attention.qkv": (f"{attention}.q", f"{attention}.k", f"{attention}.v"),
        f"{ours}.attention.out": f"{attention}.o",
        f"{ours}.norm2": f"{theirs}.layer.{last}.layer_norm",
        f"{ours}.feed_forward.gate": f"{dense}.wi_0",  # the name stayed when the ReLU went
        f"{ours}.feed_forward.into": f"{dense}.wi_1",
        f"{ours}.feed_forward.out": f"{dense}.wo",
        f"{name}.norm": f"{name}.final_layer_norm",
    }


CROSS = "decoder.block.*.layer.1"
TABLE = {
    "embedding": "shared",
    **_stack("encoder", 1),
    **_stack("decoder", 2),
    "decoder.blocks.*.cross_norm": f"{CROSS}.layer_norm",
    "decoder.blocks.*.cross.q": f"{CROSS}.EncDecAttention.q",
    "decoder.blocks.*.cross.kv": (f"{CROSS}.EncDecAttention.k", f"{CROSS}.EncDecAttention.v"),
    "decoder.blocks.*.cross.out": f"{CROSS}.EncDecAttention.o",
    "head": "lm_head",
    "encoder.embedding": "encoder.embed_tokens",
    "decoder.embedding": "decoder.embed_tokens",
}
ONE_PROJECTION = {
    f"{stack}.blocks.*.feed_forward.into": f"{stack}.block.*.layer.{last}.DenseReluDense.wi"
    for stack, last in (("encoder", 1), ("decoder", 2))
}
IGNORED = ["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"]  # unused, in v1.0's files
TIED = {f"{stack}.embedding.weight": "embedding.weight" for stack in ("encoder", "decoder")}

FIELDS = {"vocab_size": ("vocab_size", 32128), "layers": ("num_layers", 6),
          "decoder_layers": ("num_decoder_layers", None), "heads": ("num_heads", 8), "head_width": ("d_kv", 64),
          "width": ("d_model", 512), "hidden": ("d_ff", 2048), "buckets": ("relative_attention_num_buckets", 32),
          "max_distance": ("relative_attention_max_distance", 128), "activation": ("feed_forward_proj", "relu"),
          "dropout": ("dropout_rate", 0.1), "norm_eps": ("layer_norm_epsilon", 1e-6), "pad_id": ("pad_token_id", 0),
          "eos_id": ("eos_token_id", 1)}
ACTIVATIONS = WORDS | {"gated-gelu": "gated gelu_tanh"} | {  # so the published code reads this one
    f"gated-{word}": f"gated {ours}" for word, ours in WORDS.items() if word != "gelu"}


def names(gated: bool) -> Names:
    """The table of names. Only gated networks, v1.1's, have two projections, wi_0 and wi_1."""
    return Names(TABLE if gated else TABLE | ONE_PROJECTION, anchor="encoder.final_layer_norm.weight", ignored=IGNORED,
                 tied=TIED)


def read(ours: dict, fields: Mapping, arrays: Arrays) -> Arrays:
    """Says whether the output table is the embedding; answers the arrays with the lm_head to use if it is not."""
    gated, _, ours["activation"] = ours["activation"].rpartition(" ")
    ours["gated"] = bool(gated)
    if ours.get("decoder_layers") == ours["layers"]:
        ours["decoder_layers"] = 0
    start = fields.get("decoder_start_token_id", ours["pad_id"])
    if start not in (None, ours["pad_id"]):
        raise ValueError(f"the config's decoder_start_token_id is {start}; T5 starts from padding, {ours['pad_id']}")
    scaled = fields.get("scale_decoder_outputs", fields.get("tie_word_embeddings", True))
    tables = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    shared = next((arrays[name] for name in tables if name in arrays), None)
    if shared is None:
        raise ValueError("the checkpoint has no shared.weight, T5's embedding")
    head = arrays.get("lm_head.weight", shared)
    rest = {name: array for name, array in arrays.items() if name != "lm_head.weight"}
    ours["tied"] = bool(scaled) and np.array_equal(head, shared)
    if ours["tied"]:
        return rest
    return rest | {"lm_head.weight": head * np.float32(shared.shape[1] ** -0.5) if scaled else head}


def write(fields: dict, config) -> None:
    fields |= {"num_decoder_layers": config.decoder_layers or config.layers, "tie_word_embeddings": config.tied,
               "scale_decoder_outputs": config.tied, "decoder_start_token_id": config.pad_id}


LAYOUT = Layout(
    "t5", names=lambda fields: names("gated" in (fields.get("feed_forward_proj") or "")), fields=FIELDS,
    activations=ACTIVATIONS,
    activation_of=lambda config: f"gated {config.activation}" if config.gated else config.activation,
    others={"decoder_start_token_id": Whole, "scale_decoder_outputs": bool, "tie_word_embeddings": bool},
    fixed={"experts": 0}, constants={"is_encoder_decoder": True, "architectures": ["T5ForConditionalGeneration"]},
    by_head=("*.positions.weight",), read=read, write=write)
LAYOUTS = {"t5": LAYOUT, "mt5": LAYOUT}  # of one form; what is written is called t5
