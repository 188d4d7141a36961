"""GPT-1 ("openai-gpt") and GPT-2 ("gpt2") as published: their config fields and the names of their weights.

Both store the matrices of a block as (in, out) and start every name with "transformer.", which the files on the hub
leave out; both use the token table as the output table, so lm_head.weight may be absent.
"""

from __future__ import annotations

from models.pretrained.names import Names, Transposed

BLOCK = {
    "blocks.*.attention.qkv": Transposed("transformer.h.*.attn.c_attn"),
    "blocks.*.attention.out": Transposed("transformer.h.*.attn.c_proj"),
    "blocks.*.norm1": "transformer.h.*.ln_1",
    "blocks.*.norm2": "transformer.h.*.ln_2",
    "blocks.*.feed_forward.into": Transposed("transformer.h.*.mlp.c_fc"),
    "blocks.*.feed_forward.out": Transposed("transformer.h.*.mlp.c_proj"),
    "head": "lm_head",
}
MASKS = ("*.attn.bias", "*.attn.masked_bias")  # old files kept the causal mask
NAMES = {
    "openai-gpt": Names(
        BLOCK | {
            "token_embedding": "transformer.tokens_embed",
            "position_embedding": "transformer.positions_embed",
        },
        prefix="transformer.",
        ignored=(*MASKS, "transformer.position_ids"),
        tied={"lm_head.weight": "transformer.tokens_embed.weight"},
    ),
    "gpt2": Names(
        BLOCK | {
            "token_embedding": "transformer.wte",
            "position_embedding": "transformer.wpe",
            "norm": "transformer.ln_f",
        },
        prefix="transformer.",
        ignored=MASKS,
        tied={"lm_head.weight": "transformer.wte.weight"},
    ),
}  # fmt: skip
# GPT-1's "gelu" is the tanh form in the published code, and in transformers.
ACTIVATIONS = {
    "openai-gpt": {"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"},
    "gpt2": {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu", "silu": "silu"},
}
SIZES = {
    "vocab_size": ("vocab_size", {"openai-gpt": 40478, "gpt2": 50257}),
    "context": ("n_positions", {"openai-gpt": 512, "gpt2": 1024}),
    "width": ("n_embd", {"openai-gpt": 768, "gpt2": 768}),
    "layers": ("n_layer", {"openai-gpt": 12, "gpt2": 12}),
    "heads": ("n_head", {"openai-gpt": 12, "gpt2": 12}),
}


def read_fields(kind: str, published: dict) -> dict:
    """The fields of our GPTConfig from those of a config.json; what is left out there has the published default."""
    if published.get("scale_attn_by_inverse_layer_idx") or not published.get("scale_attn_weights", True):
        raise ValueError("this GPT-2 scales its attention by layer or not at all, which GPT here does not compute")
    spelled = published.get("afn", "gelu") if kind == "openai-gpt" else published.get("activation_function", "gelu_new")
    if spelled not in ACTIVATIONS[kind]:
        raise ValueError(f"unknown activation {spelled!r}; {kind} is read with {', '.join(ACTIVATIONS[kind])}")
    fields = {ours: published.get(name, defaults[kind]) for ours, (name, defaults) in SIZES.items()}
    return fields | {
        "hidden": published.get("n_inner") or 0,
        "dropout": published.get("resid_pdrop", 0.1),
        "tied": published.get("tie_word_embeddings", True),
        "activation": ACTIVATIONS[kind][spelled],
        "norm_eps": published.get("layer_norm_epsilon", 1e-5),
        "init_std": published.get("initializer_range", 0.02),
        "post_norm": kind == "openai-gpt",
    }


def write_fields(config, end: int | None = None) -> dict:
    """config.json for a GPTConfig: openai-gpt if it normalizes after each branch, else gpt2.

    end: the token that stands between texts, if there is one; GPT-2's is its last.
    """
    kind = "openai-gpt" if config.post_norm else "gpt2"
    if config.window:
        raise ValueError("transformers' GPT-2 has no banded layers; a model with a window stays in its run's format")
    if config.post_norm and config.hidden not in (0, 4 * config.width):
        raise ValueError(f"transformers' GPT-1 has feed-forward networks of 4 x width, not hidden {config.hidden}")
    spelled: dict[str, str] = {}
    for name, ours in ACTIVATIONS[kind].items():
        spelled.setdefault(ours, name)  # the first spelling counts
    if config.activation not in spelled:
        raise ValueError(f"transformers' {kind} knows the activations {', '.join(spelled)}, not {config.activation}")
    fields = {name: getattr(config, ours) for ours, (name, _) in SIZES.items()}
    fields |= {f"{place}_pdrop": config.dropout for place in ("embd", "attn", "resid")}
    fields |= {
        "model_type": kind,
        "architectures": ["OpenAIGPTLMHeadModel" if config.post_norm else "GPT2LMHeadModel"],
        "n_ctx": config.context,
        "layer_norm_epsilon": config.norm_eps,
        "initializer_range": config.init_std,
        "tie_word_embeddings": config.tied,
        "torch_dtype": "float32",
        ("afn" if config.post_norm else "activation_function"): spelled[config.activation],
    }
    if kind == "gpt2":
        end = 50256 if end is None and config.vocab_size == 50257 else end
        fields |= {"n_inner": config.hidden or None, "bos_token_id": end, "eos_token_id": end}
    return fields
