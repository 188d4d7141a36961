"""BERT, RoBERTa, DistilBERT and ALBERT: their published names and configs, and loading and saving for all four.

A file may hold the body alone or with heads, with or without the body's prefix. Names are those `transformers` writes.
"""

from __future__ import annotations

from pathlib import Path

from models.pretrained.names import Names
from models.pretrained.weights import check_kind, read_config, read_weights, write_folder
from nn import shapes_only
from tinytensor import backend

ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu",
               "silu": "silu", "swish": "silu"}  # fmt: skip


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
    "activation": ("hidden_act", "gelu"),
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
        "activation": ("activation", "gelu"),
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
        "activation": ("hidden_act", "gelu_new"),
        "embedding_width": ("embedding_size", 128),
        "groups": ("num_hidden_groups", 1),
        "inner": ("inner_group_num", 1),
    },
}
HEADS = ("mlm.", "nsp.")
ARCHITECTURES = {"bert": "Bert", "roberta": "Roberta", "distilbert": "DistilBert", "albert": "Albert"}


def load(cls, folder: str | Path):
    """An instance of `cls`, a body or a body with heads (its `bert`), from a folder of its family."""
    fields, published = read_config(folder), read_weights(folder)
    with_heads = hasattr(cls, "body_class")
    body_class = cls.body_class if with_heads else cls
    family = check_kind(fields, body_class.family)
    pooler = any("pooler" in name for name in published) or (with_heads and cls.sentence_head)
    config = body_class.config_class(**our_config(family, fields), pooler=pooler)
    with shapes_only():
        model = cls(config)
    wanted = {name.removeprefix("bert."): parameter.shape for name, parameter in model.named_parameters()}
    found = NAMES[family].read(published, wanted, ("mlm.*", "nsp.*", "pooler.*") if with_heads else ())
    full = {name if not with_heads or name.startswith(HEADS) else f"bert.{name}": a for name, a in found.items()}
    if absent := wanted.keys() - found.keys():
        full = cls(config).state_dict() | full
    model.load_state_dict(full, assign=True)
    model.untrained = tuple(sorted({name.partition(".")[0] for name in absent}))
    return model.eval()


def save(model, folder: str | Path) -> None:
    """Write a model as `transformers` would."""
    body = model.bert if hasattr(model, "bert") else model
    state = {name.removeprefix("bert."): backend.to_numpy(array) for name, array in model.state_dict().items()}
    kind = "Model" if body is model else "ForPreTraining" if model.sentence_head else "ForMaskedLM"
    config = published_config(body.family, body.config) | {"architectures": [ARCHITECTURES[body.family] + kind]}
    write_folder(folder, config, NAMES[body.family].write(state))


def our_config(family: str, fields: dict) -> dict:
    """Our config's fields, but for the pooler, from a published config.json."""
    ours = {name: fields.get(theirs, default) for name, (theirs, default) in FIELDS[family].items()}
    if ours["activation"] not in ACTIVATIONS:
        raise ValueError(f"the config's activation is {ours['activation']!r}; known are {', '.join(ACTIVATIONS)}")
    kind = fields.get("position_embedding_type", "absolute")
    if kind != "absolute":
        raise ValueError(f"the config's position_embedding_type is {kind!r}; this model has absolute positions only")
    if family == "roberta":
        ours["context"] -= ours["pad_id"] + 1  # its position table begins with rows that no token gets
    return ours | {"activation": ACTIVATIONS[ours["activation"]]}


def published_config(family: str, config) -> dict:
    """The published fields of one of our configs."""
    fields = {theirs: getattr(config, ours) for ours, (theirs, _) in FIELDS[family].items()}
    names = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    for key in ("hidden_act", "activation"):
        if key in fields:
            fields[key] = names[fields[key]]
    if family == "roberta":
        fields["max_position_embeddings"] += config.pad_id + 1
    for key in ("intermediate_size", "hidden_dim"):
        if key in fields:
            fields[key] = fields[key] or 4 * config.width
    return fields | {"model_type": family, "tie_word_embeddings": True}
