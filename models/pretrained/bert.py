"""BERT, RoBERTa, DistilBERT and ALBERT as published: their config fields and the names of their weights.

A file may hold the body alone or with heads, with or without the body's prefix. Names are those `transformers` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from models.pretrained.family import Arrays, Family
from models.pretrained.names import Names


def _bert_body(prefix: str) -> dict:
    layer = f"{prefix}encoder.layer.*."
    return {
        **_embeddings(prefix, types=True),
        "blocks.*.attention.qkv": tuple(f"{layer}attention.self.{part}" for part in ("query", "key", "value")),
        "blocks.*.attention.out": f"{layer}attention.output.dense",
        "blocks.*.norm1": f"{layer}attention.output.LayerNorm",
        "blocks.*.feed_forward.into": f"{layer}intermediate.dense",
        "blocks.*.feed_forward.out": f"{layer}output.dense",
        "blocks.*.norm2": f"{layer}output.LayerNorm",
        "pooler": f"{prefix}pooler.dense",
    }


def _embeddings(prefix: str, types: bool) -> dict:
    names = {
        "embeddings.token": f"{prefix}embeddings.word_embeddings",
        "embeddings.position": f"{prefix}embeddings.position_embeddings",
        "embeddings.norm": f"{prefix}embeddings.LayerNorm",
    }
    return names | ({"embeddings.token_type": f"{prefix}embeddings.token_type_embeddings"} if types else {})


BUFFERS = ("*embeddings.position_ids", "*embeddings.token_type_ids")
TASK_HEADS = ("*classifier.*", "*qa_outputs.*")  # of fine-tuned models, whose bodies are welcome

NAMES = {
    "bert": Names(
        _bert_body("bert.")
        | {
            "mlm.dense": "cls.predictions.transform.dense",
            "mlm.norm": "cls.predictions.transform.LayerNorm",
            "mlm.bias": "cls.predictions.bias",
            "nsp": "cls.seq_relationship",
        },
        body="bert.",
        prefix="bert.",
        ignored=(*BUFFERS, *TASK_HEADS),
        tied={
            "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
            "cls.predictions.decoder.bias": "cls.predictions.bias",
        },
    ),
    "roberta": Names(
        _bert_body("roberta.")
        | {"mlm.dense": "lm_head.dense", "mlm.norm": "lm_head.layer_norm", "mlm.bias": "lm_head.bias"},
        body="bert.",
        prefix="roberta.",
        ignored=(*BUFFERS, *TASK_HEADS),
        tied={
            "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
            "lm_head.decoder.bias": "lm_head.bias",
        },
    ),
    "distilbert": Names(
        {
            **_embeddings("distilbert.", types=False),
            "blocks.*.attention.qkv": tuple(f"distilbert.transformer.layer.*.attention.{p}_lin" for p in "qkv"),
            "blocks.*.attention.out": "distilbert.transformer.layer.*.attention.out_lin",
            "blocks.*.norm1": "distilbert.transformer.layer.*.sa_layer_norm",
            "blocks.*.feed_forward.into": "distilbert.transformer.layer.*.ffn.lin1",
            "blocks.*.feed_forward.out": "distilbert.transformer.layer.*.ffn.lin2",
            "blocks.*.norm2": "distilbert.transformer.layer.*.output_layer_norm",
            "mlm.dense": "vocab_transform",
            "mlm.norm": "vocab_layer_norm",
            "mlm.bias": "vocab_projector.bias",
        },
        body="bert.",
        prefix="distilbert.",
        ignored=(*BUFFERS, *TASK_HEADS),
        tied={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
    ),
    "albert": Names(
        {
            **_embeddings("albert.", types=True),
            "widen": "albert.encoder.embedding_hidden_mapping_in",
            **{
                f"blocks.*.*.{ours}": f"albert.encoder.albert_layer_groups.*.albert_layers.*.{theirs}"
                for ours, theirs in (
                    ("attention.out", "attention.dense"),
                    ("norm1", "attention.LayerNorm"),
                    ("feed_forward.into", "ffn"),
                    ("feed_forward.out", "ffn_output"),
                    ("norm2", "full_layer_layer_norm"),
                )
            },
            "blocks.*.*.attention.qkv": tuple(
                f"albert.encoder.albert_layer_groups.*.albert_layers.*.attention.{part}"
                for part in ("query", "key", "value")
            ),
            "pooler": "albert.pooler",
            "mlm.dense": "predictions.dense",
            "mlm.norm": "predictions.LayerNorm",
            "mlm.bias": "predictions.bias",
            "nsp": "sop_classifier.classifier",
        },
        body="bert.",
        prefix="albert.",
        ignored=(*BUFFERS, *TASK_HEADS),
        tied={
            "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
            "predictions.decoder.bias": "predictions.bias",
        },
    ),
}

# our field: (the published one, its value where a file does not say)
BERT_FIELDS = {
    "vocab_size": ("vocab_size", 30522),
    "layers": ("num_hidden_layers", 12),
    "heads": ("num_attention_heads", 12),
    "width": ("hidden_size", 768),
    "hidden": ("intermediate_size", 3072),
    "context": ("max_position_embeddings", 512),
    "token_types": ("type_vocab_size", 2),
    "dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
    "norm_eps": ("layer_norm_eps", 1e-12),
    "init_std": ("initializer_range", 0.02),
    "pad_id": ("pad_token_id", 0),
}
FIELDS = {
    "bert": BERT_FIELDS,
    "roberta": BERT_FIELDS | {"vocab_size": ("vocab_size", 50265), "pad_id": ("pad_token_id", 1)},
    "distilbert": {
        "vocab_size": ("vocab_size", 30522),
        "layers": ("n_layers", 6),
        "heads": ("n_heads", 12),
        "width": ("dim", 768),
        "hidden": ("hidden_dim", 3072),
        "context": ("max_position_embeddings", 512),
        "dropout": ("dropout", 0.1),
        "attention_dropout": ("attention_dropout", 0.1),
        "init_std": ("initializer_range", 0.02),
        "pad_id": ("pad_token_id", 0),
    },
    "albert": BERT_FIELDS
    | {
        "vocab_size": ("vocab_size", 30000),
        "heads": ("num_attention_heads", 64),
        "width": ("hidden_size", 4096),
        "hidden": ("intermediate_size", 16384),
        "dropout": ("hidden_dropout_prob", 0.0),
        "attention_dropout": ("attention_probs_dropout_prob", 0.0),
        "embedding_width": ("embedding_size", 128),
        "groups": ("num_hidden_groups", 1),
        "inner": ("inner_group_num", 1),
    },
}
ACTIVATIONS = {
    "gelu": {"activation": "gelu"},
    "gelu_new": {"activation": "gelu_tanh"},
    "gelu_pytorch_tanh": {"activation": "gelu_tanh"},
    "relu": {"activation": "relu"},
    "silu": {"activation": "silu"},
    "swish": {"activation": "silu"},
}
# the field that names the activation, and its value where a file does not say
ACTIVATION = {
    "bert": ("hidden_act", "gelu"),
    "roberta": ("hidden_act", "gelu"),
    "distilbert": ("activation", "gelu"),
    "albert": ("hidden_act", "gelu_new"),
}
ABSOLUTE = ("absolute", "this model has absolute positions only")


def _first_position(kind: str, config: Mapping) -> int:
    """RoBERTa's position table begins with rows that no token gets."""
    return config["pad_id"] + 1 if kind == "roberta" else 0


def _read(kind: str, ours: dict, fields: Mapping, arrays: Arrays) -> Arrays:
    ours["context"] -= _first_position(kind, ours)
    ours["pooler"] = any("pooler" in name for name in arrays)
    return arrays


def _write(kind: str, fields: dict, config) -> None:
    fields[FIELDS[kind]["hidden"][0]] = config.hidden or 4 * config.width
    fields["max_position_embeddings"] += _first_position(kind, vars(config))


FAMILIES = {
    kind: Family(
        kind,
        names=lambda config, kind=kind: NAMES[kind],
        fields=fields,
        activation=ACTIVATION[kind],
        activations=ACTIVATIONS,
        # what transformers' DistilBERT has, but no field for
        fixed={"token_types": 0, "norm_eps": 1e-12} if kind == "distilbert" else {},
        demands={"position_embedding_type": ABSOLUTE},
        constants={"tie_word_embeddings": True},
        read=partial(_read, kind),
        write=partial(_write, kind),
    )
    for kind, fields in FIELDS.items()
}


def only(kind: str) -> dict[str, Family]:
    """The one kind that a class of models reads."""
    return {kind: FAMILIES[kind]}


def called(kind: str, heads: str) -> dict[str, list[str]]:
    """The published field with the class of `transformers` for a body ("Model") or a body with heads."""
    return {"architectures": [{"distilbert": "DistilBert"}.get(kind, kind.capitalize()) + heads]}
