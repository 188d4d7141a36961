"""BERT, RoBERTa, DistilBERT and ALBERT as published: their config fields and the names of their weights.

A file may hold the body alone or with heads, with or without the body's prefix. Names are those `transformers` writes.
"""

from collections.abc import Mapping
from functools import partial

from models.pretrained.layout import Arrays, Layout
from models.pretrained.names import Names

KINDS = ("bert", "roberta", "distilbert", "albert")
LAYERS = ("encoder.layer.*", "encoder.layer.*", "transformer.layer.*", "encoder.albert_layer_groups.*.albert_layers.*")
BLOCK = {  # our part of a layer: theirs in BERT and RoBERTa, in DistilBERT, in ALBERT
    "attention.qkv": (("attention.self.query", "attention.self.key", "attention.self.value"),
                      ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
                      ("attention.query", "attention.key", "attention.value")),
    "attention.out": ("attention.output.dense", "attention.out_lin", "attention.dense"),
    "norm1": ("attention.output.LayerNorm", "sa_layer_norm", "attention.LayerNorm"),
    "feed_forward.into": ("intermediate.dense", "ffn.lin1", "ffn"),
    "feed_forward.out": ("output.dense", "ffn.lin2", "ffn_output"),
    "norm2": ("output.LayerNorm", "output_layer_norm", "full_layer_layer_norm"),
}
EMBEDDINGS = {"token": "word_embeddings", "position": "position_embeddings", "norm": "LayerNorm",
              "token_type": "token_type_embeddings"}  # which DistilBERT does not have
PARTS = {  # the rest of the body, and the heads: theirs in each of KINDS
    "widen": (None, None, None, "albert.encoder.embedding_hidden_mapping_in"),
    "pooler": ("bert.pooler.dense", "roberta.pooler.dense", None, "albert.pooler"),
    "mlm.dense": ("cls.predictions.transform.dense", "lm_head.dense", "vocab_transform", "predictions.dense"),
    "mlm.norm": ("cls.predictions.transform.LayerNorm", "lm_head.layer_norm", "vocab_layer_norm",
                 "predictions.LayerNorm"),
    "mlm.bias": ("cls.predictions.bias", "lm_head.bias", "vocab_projector.bias", "predictions.bias"),
    "mlm.decoder": ("cls.predictions.decoder", "lm_head.decoder", "vocab_projector", "predictions.decoder"),
    "nsp": ("cls.seq_relationship", None, None, "sop_classifier.classifier"),
}
TIED = {"mlm.decoder.weight": "embeddings.token.weight", "mlm.decoder.bias": "mlm.bias"}
BUFFERS = ("*embeddings.position_ids", "*embeddings.token_type_ids")


def _names(kind: str) -> Names:
    column = KINDS.index(kind)
    body, layer = f"{kind}.", f"{kind}.{LAYERS[column]}."
    table = {f"embeddings.{ours}": f"{body}embeddings.{theirs}" for ours, theirs in EMBEDDINGS.items()}
    table |= {ours: theirs[column] for ours, theirs in PARTS.items() if theirs[column]}
    for ours, columns in BLOCK.items():
        theirs = columns[max(0, column - 1)]
        parts = layer + theirs if isinstance(theirs, str) else tuple(layer + part for part in theirs)
        table[f"blocks.*.*.{ours}" if kind == "albert" else f"blocks.*.{ours}"] = parts
    return Names(table, body, f"{body}embeddings.position_embeddings.weight", body="bert.", ignored=BUFFERS, tied=TIED)


NAMES = {kind: _names(kind) for kind in KINDS}

# our field: (the published one, its value where a file does not say)
BERT_FIELDS = {
    "vocab_size": ("vocab_size", 30522), "layers": ("num_hidden_layers", 12), "heads": ("num_attention_heads", 12),
    "width": ("hidden_size", 768), "hidden": ("intermediate_size", 3072), "context": ("max_position_embeddings", 512),
    "token_types": ("type_vocab_size", 2), "dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1), "activation": ("hidden_act", "gelu"),
    "norm_eps": ("layer_norm_eps", 1e-12), "init_std": ("initializer_range", 0.02), "pad_id": ("pad_token_id", 0),
}
FIELDS = {
    "bert": BERT_FIELDS,
    "roberta": BERT_FIELDS | {"vocab_size": ("vocab_size", 50265), "pad_id": ("pad_token_id", 1)},
    "distilbert": {
        "vocab_size": ("vocab_size", 30522), "layers": ("n_layers", 6), "heads": ("n_heads", 12),
        "width": ("dim", 768), "hidden": ("hidden_dim", 3072), "context": ("max_position_embeddings", 512),
        "dropout": ("dropout", 0.1), "attention_dropout": ("attention_dropout", 0.1),
        "activation": ("activation", "gelu"), "init_std": ("initializer_range", 0.02), "pad_id": ("pad_token_id", 0),
    },
    "albert": BERT_FIELDS | {
        "vocab_size": ("vocab_size", 30000), "heads": ("num_attention_heads", 64), "width": ("hidden_size", 4096),
        "hidden": ("intermediate_size", 16384), "dropout": ("hidden_dropout_prob", 0.0),
        "attention_dropout": ("attention_probs_dropout_prob", 0.0), "activation": ("hidden_act", "gelu_new"),
        "embedding_width": ("embedding_size", 128), "groups": ("num_hidden_groups", 1), "inner": ("inner_group_num", 1),
    },
}


def _read(kind: str, ours: dict, fields: Mapping, arrays: Arrays) -> Arrays:
    if kind == "roberta":
        ours["context"] -= ours["pad_id"] + 1  # its position table begins with rows that no token gets
    ours["pooler"] = any(name.startswith(f"{kind}.pooler.") for name in arrays)
    return arrays


def _write(kind: str, fields: dict, config) -> None:
    fields[FIELDS[kind]["hidden"][0]] = config.hidden or 4 * config.width
    if kind == "roberta":
        fields["max_position_embeddings"] += config.pad_id + 1


LAYOUTS = {
    kind: Layout(
        kind, names=lambda fields, kind=kind: NAMES[kind], fields=FIELDS[kind],
        # what transformers' DistilBERT has, but no field for
        fixed={"token_types": 0, "norm_eps": 1e-12} if kind == "distilbert" else {},
        demands={"position_embedding_type": ("absolute", "this model has absolute positions only"),
                 "is_decoder": (False, "this model reads both ways, and a decoder computes something else")},
        constants={"tie_word_embeddings": True}, read=partial(_read, kind), write=partial(_write, kind))
    for kind in KINDS
}


def called(kind: str, heads: str, config) -> dict[str, list[str]]:
    """The published field with the class of `transformers` for a body ("Model") or a body with heads."""
    if kind == "roberta" and heads != "Model" and config.activation != "gelu":
        raise ValueError(f"a published RoBERTa's head always has the activation gelu, not {config.activation}")
    return {"architectures": [{"distilbert": "DistilBert"}.get(kind, kind.capitalize()) + heads]}
