import json

import numpy as np
import pytest

import tinytensor as tt
from models import GPT, GPTConfig
from models.files import write_safetensors
from models.pretrained import read_weights
from models.pretrained.gpt import LAYOUTS, NAMES
from models.tokenizers import ByteLevelBPE
from models.tokenizers import load as load_tokenizer
from tests.helpers import assert_close
from tests.models.test_gpt import randomized, some_ids
from train.__main__ import main

SMALL = dict(vocab_size=31, context=12, layers=3, heads=2, width=8)
CONFIGS = {
    "gpt2": GPTConfig(**SMALL),
    "openai-gpt": GPTConfig(**SMALL, post_norm=True),
    "gpt2 with its own output table": GPTConfig(**SMALL, tied=False, hidden=20, activation="gelu", norm_eps=1e-3),
    "openai-gpt with relu": GPTConfig(**SMALL, post_norm=True, activation="relu"),
    "without biases": GPTConfig(**SMALL, bias=False),
}


def logits(model, ids, mask=None) -> np.ndarray:
    with tt.no_grad():
        return model(ids, mask).data


# ---- an independent GPT over the published names


def reference_logits(weights: dict, fields: dict, ids: np.ndarray) -> np.ndarray:
    """GPT-1 and GPT-2 as their published code has them, in float64, from the arrays of a file."""
    w = {name.removeprefix("transformer."): array.astype(np.float64) for name, array in weights.items()}
    first, eps = fields["model_type"] == "openai-gpt", fields["layer_norm_epsilon"]

    def norm(name, x):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def conv(name, x):
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    def attend(name, x):
        y = []
        fused = np.split(conv(f"{name}.c_attn", x), 3, axis=-1)
        for q, k, v in zip(*(np.split(part, fields["n_head"], axis=-1) for part in fused)):
            scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
            p = np.exp(scores - scores.max(-1, keepdims=True)) * np.tri(ids.shape[1])
            y.append(p / p.sum(-1, keepdims=True) @ v)
        return conv(f"{name}.c_proj", np.concatenate(y, axis=-1))

    def gelu(x):
        return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    tokens, positions = ("tokens_embed", "positions_embed") if first else ("wte", "wpe")
    x = w[f"{tokens}.weight"][ids] + w[f"{positions}.weight"][: ids.shape[1]]
    for n in range(fields["n_layer"]):
        mlp = lambda x: conv(f"h.{n}.mlp.c_proj", gelu(conv(f"h.{n}.mlp.c_fc", x)))  # noqa: B023
        if first:
            x = norm(f"h.{n}.ln_1", x + attend(f"h.{n}.attn", x))
            x = norm(f"h.{n}.ln_2", x + mlp(x))
        else:
            x = x + attend(f"h.{n}.attn", norm(f"h.{n}.ln_1", x))
            x = x + mlp(norm(f"h.{n}.ln_2", x))
    return (x if first else norm("ln_f", x)) @ w[f"{tokens}.weight"].T


@pytest.mark.parametrize("kind", ["gpt2", "openai-gpt"])
def test_what_is_written_under_the_published_names_computes_the_published_function(tmp_path, kind):
    model = randomized(CONFIGS[kind]).eval()
    model.save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    assert fields["model_type"] == kind
    ids = some_ids(model.config)
    expected = reference_logits(read_weights(tmp_path), fields, ids)
    assert_close(logits(model, ids), expected, 1e-4)  # float32 against float64, logits of about 5


@pytest.mark.parametrize("name", CONFIGS)
def test_a_written_folder_gives_the_same_model_back(tmp_path, name):
    model = randomized(CONFIGS[name]).eval()
    model.save_pretrained(tmp_path)
    again = GPT.from_pretrained(tmp_path)
    assert not again.training
    ids = some_ids(model.config)
    np.testing.assert_array_equal(logits(again, ids), logits(model, ids))
    if name != "without biases":
        assert again.config == model.config
        for (ours, a), (theirs, b) in zip(model.named_parameters(), again.named_parameters()):
            assert ours == theirs
            np.testing.assert_array_equal(a.data, b.data)


def test_a_loaded_model_can_be_trained_and_does_not_touch_the_file(tmp_path):
    model = randomized(CONFIGS["gpt2"])
    model.save_pretrained(tmp_path)
    before = read_weights(tmp_path)
    again = GPT.from_pretrained(tmp_path, dropout=0.1).train()
    assert again.config.dropout == 0.1 and again.blocks[0].attention.dropout == 0.1
    ids = some_ids(model.config)
    again.loss({"ids": ids, "targets": ids}).backward()
    for parameter in again.parameters():
        assert parameter.data.flags.forc and parameter.grad.shape == parameter.shape
        parameter.data -= parameter.grad
    after = read_weights(tmp_path)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_hub_files_without_prefix_with_masks_and_a_tied_head_are_read(tmp_path):
    model = randomized(CONFIGS["gpt2"]).eval()
    model.save_pretrained(tmp_path)
    weights = {name.removeprefix("transformer."): array for name, array in read_weights(tmp_path).items()}
    weights |= {f"h.{n}.attn.bias": np.tri(12, dtype=np.float32)[None, None] for n in range(3)}
    weights |= {f"h.{n}.attn.masked_bias": np.float32(-1e4) for n in range(3)}
    weights["lm_head.weight"] = weights["wte.weight"]
    state = NAMES["gpt2"].read(weights, model.state_dict())
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(state[name], array)


def test_the_tokenizer_travels_along(tmp_path):
    tokenizer = ByteLevelBPE.train("the cat and the hat, the end", 270, special_tokens=["<|endoftext|>"])
    model = GPT(GPTConfig(vocab_size=270, context=8, layers=1, heads=1, width=4))
    model.save_pretrained(tmp_path, tokenizer)
    assert load_tokenizer(tmp_path).encode("the hat") == tokenizer.encode("the hat")
    fields = json.loads((tmp_path / "config.json").read_text())
    assert fields["eos_token_id"] == tokenizer.special["<|endoftext|>"].id


def test_a_command_names_the_head_that_it_passes_over(tmp_path, capsys):
    tokenizer = ByteLevelBPE.train("the cat and the hat, the end", 270, special_tokens=["<|endoftext|>"])
    model = GPT(GPTConfig(vocab_size=270, context=8, layers=1, heads=1, width=4))
    model.save_pretrained(tmp_path, tokenizer)
    path = tmp_path / "model.safetensors"
    write_safetensors(path, read_weights(tmp_path) | {"score.weight": np.ones((2, 4), np.float32)})
    assert main(["sample", str(tmp_path), "--prompt", "the", "--tokens", "2"]) == 0
    said = "note: in the checkpoint, but no part of the model, and passed over: score.weight\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    "kind, published, message",
    [("gpt2", dict(activation_function="mish"), "f: activation_function must be one of gelu, gelu_new"),
     ("gpt2", dict(scale_attn_by_inverse_layer_idx=True), "scales its attention by layer or not at all"),
     ("gpt2", dict(scale_attn_weights=False), "scales its attention by layer or not at all")],
)  # fmt: skip
def test_published_models_that_compute_something_else_are_refused(kind, published, message):
    with pytest.raises(ValueError, match=message):
        LAYOUTS[kind].check(published, GPTConfig, "f")
        LAYOUTS[kind].our_fields(published, {})


@pytest.mark.parametrize(
    "changes, message",
    [(dict(window=4), "a published gpt2 always has window 0, not 4"),
     (dict(post_norm=True, hidden=20), "of 4 x width, not hidden 20"),
     (dict(post_norm=True, activation="gelu"), "openai-gpt has the activations gelu_tanh, relu, silu, not gelu")],
)  # fmt: skip
def test_models_that_transformers_does_not_have_are_not_written(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        GPT(GPTConfig(**SMALL, **changes)).save_pretrained(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_fields_left_out_have_the_published_defaults():
    assert GPTConfig(**LAYOUTS["gpt2"].our_fields({}, {})[0]) == GPTConfig.preset("gpt2", dropout=0.1)
    assert GPTConfig(**LAYOUTS["openai-gpt"].our_fields({}, {})[0]) == GPTConfig.preset("gpt", dropout=0.1)
    assert LAYOUTS["gpt2"].published_fields(GPTConfig.preset("gpt2"))["eos_token_id"] == 50256


# ---- transformers


def theirs_and_folder(kind: str, folder, config: GPTConfig):
    """A model of transformers with large random weights, saved in its folder."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    sizes = dict(vocab_size=config.vocab_size, n_positions=config.context, n_embd=config.width, n_layer=config.layers,
                 n_head=config.heads)  # fmt: skip
    torch.manual_seed(0)
    if kind == "gpt2":
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=None, eos_token_id=None))
    else:
        model = transformers.OpenAIGPTLMHeadModel(transformers.OpenAIGPTConfig(**sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


BIGGER = dict(vocab_size=97, context=24, layers=3, heads=4, width=32)


@pytest.mark.parity
@pytest.mark.parametrize("layout", ["safetensors", "shards", "bin", "old bin", "half"])
@pytest.mark.parametrize("kind", ["gpt2", "openai-gpt"])
def test_folders_of_transformers_give_its_logits(tmp_path, kind, layout):
    model = theirs_and_folder(kind, tmp_path, GPTConfig(**BIGGER))
    import torch

    if layout == "half":
        model = model.half()
    model.save_pretrained(tmp_path, max_shard_size="20KB" if layout == "shards" else "5GB")
    if layout == "shards":
        assert len(list(tmp_path.glob("*.safetensors"))) > 1
    if layout.endswith("bin"):
        (tmp_path / "model.safetensors").unlink()
        zipped = layout == "bin"
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    ours = GPT.from_pretrained(tmp_path)
    ids = some_ids(ours.config)
    with torch.no_grad():
        expected = model.float()(torch.tensor(ids)).logits.numpy()
    assert abs(logits(ours, ids) - expected).max() < 1e-4


@pytest.mark.parity
@pytest.mark.parametrize("name", CONFIGS)
def test_transformers_reads_our_folders_and_gives_our_logits(tmp_path, name):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    ours = randomized(CONFIGS[name]).eval()
    ours.save_pretrained(tmp_path)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    ids = some_ids(ours.config)
    with torch.no_grad():
        expected = theirs.eval()(torch.tensor(ids)).logits.numpy()
    assert abs(logits(ours, ids) - expected).max() < 1e-4


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["gpt2", "openai-gpt"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_batches_give_the_logits_of_transformers(tmp_path, kind, side):
    model = theirs_and_folder(kind, tmp_path, GPTConfig(**BIGGER))
    import torch

    model.save_pretrained(tmp_path)
    ours = GPT.from_pretrained(tmp_path)
    ids, lengths = some_ids(ours.config, 4, 20), np.array([20, 13, 1, 7])
    mask = np.arange(20) < lengths[:, None]
    mask = mask[:, ::-1] if side == "left" else mask
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    with torch.no_grad():
        expected = model(
            torch.tensor(ids), attention_mask=torch.tensor(mask.astype(int)), position_ids=torch.tensor(positions)
        ).logits.numpy()
    assert abs(logits(ours, ids, mask) - expected)[mask].max() < 1e-4


@pytest.mark.parity
def test_transformers_tokenizes_with_our_folder_as_we_do(tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = ByteLevelBPE.train("the cat and the hat, the end " * 3, 280, special_tokens=["<|endoftext|>"])
    GPT(GPTConfig(vocab_size=280, context=8, layers=1, heads=1, width=4)).save_pretrained(tmp_path, tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("the cat's hat", " and  the\nend", "ünknown"):
        assert theirs.encode(text) == tokenizer.encode(text)
