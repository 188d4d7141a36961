"""Switch Transformers' published checkpoints: T5's names, but for the networks, and a config that counts the mixtures.

The file does not say which blocks have one. Of n blocks with k mixtures it is every (n // k)th, from number 1 on, or
all if that is 1; so the other way round a k must be found that gives the blocks we have. Seats are a fixed number in
each sequence, padding takes them too, and the loads of all blocks of a stack are balanced together.
"""

from collections.abc import Mapping

from models.pretrained import t5
from models.pretrained.layout import ACTIVATIONS, Arrays, Layout
from models.pretrained.names import Names
from models.schema import FewOrNone, Whole

FIELDS = t5.FIELDS | {
    "layers": ("num_layers", 12), "decoder_layers": ("num_decoder_layers", 12), "heads": ("num_heads", 12),
    "width": ("d_model", 768), "activation": ("dense_act_fn", "relu"), "experts": ("num_experts", 8),
    "capacity": ("expert_capacity", 64), "jitter": ("router_jitter_noise", 0.01),
    "balance": ("router_aux_loss_coef", 0.001), "z_loss": ("router_z_loss_coef", 0.001),
}  # fmt: skip
COUNTS = {"encoder": "num_sparse_encoder_layers", "decoder": "num_sparse_decoder_layers"}


def names(experts: int) -> Names:
    """The table of names, for so many experts."""
    table = dict(t5.TABLE)
    for stack, last in (("encoder", 1), ("decoder", 2)):
        ours, mlp = f"{stack}.blocks.*.feed_forward", f"{stack}.block.*.layer.{last}.mlp"
        each = [f"{mlp}.experts.expert_{number}" for number in range(experts)]
        del table[f"{ours}.gate"]
        table |= {f"{ours}.into": f"{mlp}.wi", f"{ours}.out": f"{mlp}.wo", f"{ours}.router": f"{mlp}.router.classifier",
                  f"{ours}.networks.into": tuple(f"{one}.wi" for one in each),
                  f"{ours}.networks.out": tuple(f"{one}.wo" for one in each)}  # fmt: skip
    return Names(table, anchor="encoder.final_layer_norm.weight", ignored=t5.IGNORED, tied=t5.TIED)


def mixed(layers: int, step: int) -> list[int]:
    """The numbers of the blocks with a mixture."""
    return [layer for layer in range(layers) if layer % step == 1 % step]


def _read(ours: dict, fields: Mapping, arrays: Arrays) -> Arrays:
    layers = {"encoder": ours["layers"], "decoder": ours["decoder_layers"]}
    steps = {stack: n // (fields.get(COUNTS[stack], 3) or 1) or n for stack, n in layers.items()}
    blocks = [mixed(n, max(1, steps[stack])) for stack, n in layers.items()]
    every = next((step for step in steps.values() if [mixed(n, step) for n in layers.values()] == blocks), None)
    if every is None:
        steps = f"every {steps['encoder']} blocks, and in the decoder every {steps['decoder']}"
        raise ValueError(f"the config has mixtures of experts in the encoder {steps}; both must be the same here")
    ours |= {"every": every, "balance_over": "stack", "expert_dropout": ours["dropout"]}
    return t5.read(ours, fields, arrays)


def _write(fields: dict, config) -> None:
    if not config.capacity:
        raise ValueError("a published switch_transformers has a fixed number of seats for each expert, and this model "
                         "reckons them by a factor; make it with --capacity N, or capacity=N")
    t5.write(fields, config)
    for stack, n in (("encoder", config.layers), ("decoder", fields["num_decoder_layers"])):
        blocks = mixed(n, config.every)
        fields[COUNTS[stack]] = next((k for k in range(1, n + 1) if mixed(n, n // k) == blocks), 0)
        if not blocks or not fields[COUNTS[stack]]:
            raise ValueError(f"a published switch_transformers cannot have mixtures of experts in {len(blocks)} of {n} "
                             f"blocks, as every={config.every} makes them; try 1 or 2")


LAYOUT = Layout(
    "switch_transformers", names=lambda fields: names(fields.get("num_experts") or 8), fields=FIELDS,
    fixed={"top": 1, "gated": False, "tied": True}, activations=ACTIVATIONS,
    others={"decoder_start_token_id": Whole, "tie_word_embeddings": bool} | dict.fromkeys(COUNTS.values(), FewOrNone),
    demands={"router_bias": (False, "a router with a bias is not read"),
             "router_dtype": ("float32", "a router computes in float32 here")},
    constants={"is_encoder_decoder": True, "architectures": ["SwitchTransformersForConditionalGeneration"]},
    by_head=("*.positions.weight",), read=_read, write=_write)  # fmt: skip
LAYOUTS = {"switch_transformers": LAYOUT}
