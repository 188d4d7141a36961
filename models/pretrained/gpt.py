"""GPT-1 ("openai-gpt") and GPT-2 ("gpt2") as published: their config fields and the names of their weights.

Both store the matrices of a block as (in, out) and start every name with "transformer.", which the files on the hub
leave out; both use the token table as the output table, so lm_head.weight may be absent.
"""

from models.pretrained.layout import Layout
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


def _names(table: dict, *ignored: str) -> Names:
    ignored = (*ignored, "*.attn.bias", "*.attn.masked_bias")  # old files kept the causal mask
    return Names(BLOCK | table, prefix="transformer.", anchor=table["position_embedding"] + ".weight", ignored=ignored,
                 tied={"head.weight": "token_embedding.weight"})


NAMES = {
    "openai-gpt": _names({"token_embedding": "transformer.tokens_embed",
                          "position_embedding": "transformer.positions_embed"}, "transformer.position_ids"),
    "gpt2": _names({"token_embedding": "transformer.wte", "position_embedding": "transformer.wpe",
                    "norm": "transformer.ln_f"}),
}
FIELDS = {"vocab_size": ("vocab_size", 50257), "context": ("n_positions", 1024), "width": ("n_embd", 768),
          "layers": ("n_layer", 12), "heads": ("n_head", 12), "hidden": ("n_inner", None),
          "dropout": ("resid_pdrop", 0.1), "tied": ("tie_word_embeddings", True),
          "activation": ("activation_function", "gelu_new"), "norm_eps": ("layer_norm_epsilon", 1e-5),
          "init_std": ("initializer_range", 0.02)}
GPT1_FIELDS = {name: field for name, field in FIELDS.items() if name != "hidden"} | {
    "vocab_size": ("vocab_size", 40478), "context": ("n_positions", 512), "activation": ("afn", "gelu"),
}


def _write(fields: dict, config) -> None:
    fields |= {"n_ctx": config.context, "embd_pdrop": config.dropout, "attn_pdrop": config.dropout}
    if not config.post_norm:
        end = 50256 if config.vocab_size == 50257 else None  # the token between texts is GPT-2's last
        fields |= {"n_inner": config.hidden or None, "bos_token_id": end, "eos_token_id": end}
    elif config.hidden not in (0, 4 * config.width):
        raise ValueError(f"transformers' GPT-1 has feed-forward networks of 4 x width, not hidden {config.hidden}")


SCALES = "this GPT-2 scales its attention by layer or not at all, which GPT here does not compute"
LAYOUTS = {
    "openai-gpt": Layout(
        "openai-gpt", names=lambda fields: NAMES["openai-gpt"], fields=GPT1_FIELDS,
        # its "gelu" is the tanh form in the published code, and in transformers
        activations={"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"},
        fixed={"post_norm": True, "window": 0, "experts": 0, "rotary": 0.0}, always={"bias": True}, write=_write,
        constants={"architectures": ["OpenAIGPTLMHeadModel"], "torch_dtype": "float32"}),
    "gpt2": Layout(
        "gpt2", names=lambda fields: NAMES["gpt2"], fields=FIELDS,
        fixed={"post_norm": False, "window": 0, "experts": 0, "rotary": 0.0}, always={"bias": True}, write=_write,
        demands={"scale_attn_by_inverse_layer_idx": (False, SCALES), "scale_attn_weights": (True, SCALES)},
        constants={"architectures": ["GPT2LMHeadModel"], "torch_dtype": "float32"}),
}
