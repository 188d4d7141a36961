import dataclasses

import numpy as np
import pytest

from models.pretrained import Names, Transposed

TABLE = Names(
    {
        "words": "bert.embeddings.words",
        "blocks.*.qkv": ("bert.layer.*.query", "bert.layer.*.key", "bert.layer.*.value"),
        "blocks.*.out": Transposed("bert.layer.*.out"),
        "groups.*.inner.*.norm": "bert.group.*.inner.*.LayerNorm",
        "head.bias": "cls.bias",
        "head.table": "cls.decoder",
        "other": "cls.other",
    },
    prefix="bert.",
    anchor="bert.embeddings.words.weight",
    ignored=["*.position_ids"],
    tied={"head.table.weight": "words.weight"},
)


def ours() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    shapes = {
        "words.weight": (7, 2),
        "blocks.0.qkv.weight": (6, 2), "blocks.0.qkv.bias": (6,),
        "blocks.11.qkv.weight": (6, 2), "blocks.11.qkv.bias": (6,),
        "blocks.0.out.weight": (2, 3), "blocks.0.out.bias": (2,),
        "groups.1.inner.2.norm.weight": (2,), "head.bias": (7,),
    }  # fmt: skip
    return {name: draw.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_writing_splits_transposes_and_numbers_as_the_table_says():
    state = ours()
    published = TABLE.write(state)
    assert sorted(published) == sorted([
        "bert.embeddings.words.weight", "bert.layer.0.query.weight", "bert.layer.0.key.weight",
        "bert.layer.0.value.weight", "bert.layer.0.query.bias", "bert.layer.0.key.bias", "bert.layer.0.value.bias",
        "bert.layer.11.query.weight", "bert.layer.11.key.weight", "bert.layer.11.value.weight",
        "bert.layer.11.query.bias", "bert.layer.11.key.bias", "bert.layer.11.value.bias", "bert.layer.0.out.weight",
        "bert.layer.0.out.bias", "bert.group.1.inner.2.LayerNorm.weight", "cls.bias",
    ])  # fmt: skip
    assert np.array_equal(published["bert.layer.11.key.weight"], state["blocks.11.qkv.weight"][2:4])
    assert np.array_equal(published["bert.layer.0.value.bias"], state["blocks.0.qkv.bias"][4:])
    assert np.array_equal(published["bert.layer.0.out.weight"], state["blocks.0.out.weight"].T)
    assert np.array_equal(published["bert.layer.0.out.bias"], state["blocks.0.out.bias"])


def test_reading_gives_back_what_was_written():
    state = ours()
    assert same(TABLE.read(TABLE.write(state), state), state)


def test_files_of_a_bare_body_lack_the_prefix():
    state = ours()
    bare = {name.removeprefix("bert."): array for name, array in TABLE.write(state).items()}
    assert "layer.0.query.bias" in bare and "cls.bias" in bare
    assert same(TABLE.read(bare, state), state)


def test_old_words_for_the_parts_of_a_layer_norm_are_understood():
    state = ours()
    published = TABLE.write(state)
    published["bert.group.1.inner.2.LayerNorm.gamma"] = published.pop("bert.group.1.inner.2.LayerNorm.weight")
    assert same(TABLE.read(published, state), state)


def test_ignored_buffers_and_equal_ties_are_passed_over():
    state = ours()
    published = TABLE.write(state)
    published["embeddings.position_ids"] = np.arange(5)
    published["cls.decoder.weight"] = published["bert.embeddings.words.weight"]
    assert same(TABLE.read(published, state), state)


def test_a_tie_that_is_none_is_named():
    published = TABLE.write(ours())
    published["cls.decoder.weight"] = published["bert.embeddings.words.weight"] + 1
    with pytest.raises(ValueError, match=r"cls.decoder.weight differs from its bert.embeddings.words.weight"):
        TABLE.read(published, ours())


def test_a_head_that_the_model_lacks_is_passed_over_and_one_that_the_file_lacks_may_be():
    state = ours()
    published = TABLE.write(state)
    body = {name: array for name, array in state.items() if name != "head.bias"}
    assert same(TABLE.read(published, body), body)
    del published["cls.bias"]
    assert same(TABLE.read(published, state, optional=["head.*"]), body)
    with pytest.raises(ValueError, match=r"the checkpoint has no cls.bias, which makes up the parameter head.bias"):
        TABLE.read(published, state)


@pytest.mark.parametrize("extra", ["bert.adapter.weight", "bert.layer.12.query.weight", "cls.decoder.scale"])
def test_weights_without_a_place_are_named(extra):
    with pytest.raises(ValueError, match=f"{extra}, for which this model has no place"):
        TABLE.read(TABLE.write(ours()) | {extra: np.zeros(2)}, ours())


def test_weights_outside_of_the_body_are_passed_over_and_named():
    published = TABLE.write(ours()) | {"fc.weight": np.zeros(2), "adapter.bias": np.zeros(2), "cls.other": np.zeros(2)}
    with pytest.warns(UserWarning, match=r"and passed over: adapter.bias, fc.weight$"):
        assert same(TABLE.read(published, ours()), ours())
    bare = {name.removeprefix("bert."): array for name, array in published.items()}
    with pytest.raises(ValueError, match=r"bert\.(adapter.bias|fc.weight), for which this model has no place"):
        TABLE.read(bare, ours())  # where nothing tells them from the body's own


@pytest.mark.parametrize(
    "renamed",
    [lambda name: f"module.{name}", lambda name: f"_orig_mod.module.{name}", lambda name: f"model.{name}",
     lambda name: f"net.encoder.{name}", lambda name: name.replace("bert.layer.0.", "bert.layer.0._orig_mod."),
     lambda name: f"net.{name.removeprefix('bert.')}"],
)  # fmt: skip
def test_a_model_is_found_inside_of_wrappers_and_of_larger_models(renamed):
    published = {renamed(name): array for name, array in TABLE.write(ours()).items()}
    assert same(TABLE.read(published, ours()), ours())


def test_two_models_in_one_file_are_refused():
    two = {f"{side}.{name}": array for name, array in TABLE.write(ours()).items() for side in ("ask", "find")}
    with pytest.raises(ValueError, match=r"holds 2 models of this kind, at ask.bert. and find.bert.; write one"):
        TABLE.read(two, ours())
    twice = {f"{wrapper}{name}": array for name, array in TABLE.write(ours()).items() for wrapper in ("", "module.")}
    with pytest.raises(ValueError, match=r"has a parameter twice, with and without the names of PyTorch's wrappers"):
        TABLE.read(twice, ours())


def test_an_array_may_stand_under_the_name_of_its_tie_alone():
    published = TABLE.write(ours())
    published["cls.decoder.weight"] = published.pop("bert.embeddings.words.weight")
    table = dataclasses.replace(TABLE, anchor="bert.layer.0.out.weight")
    assert same(table.read(published, ours()), ours())


def test_a_head_with_a_table_of_its_own_is_passed_over_by_a_body_and_named_by_a_model():
    state, body = ours(), {name: array for name, array in ours().items() if name != "head.bias"}
    published = TABLE.write(state)
    published["cls.decoder.weight"] = published["bert.embeddings.words.weight"] + 1
    assert same(TABLE.read(published, body), body)
    with pytest.warns(UserWarning, match=r"cls.decoder.weight differs from its bert.embeddings.words.weight, .*; its"):
        assert same(TABLE.read(published, state, optional=["head.*"]), body)


def test_half_a_head_is_refused():
    state = ours() | {"head.table.weight": np.ones((7, 2), np.float32)}  # an own table, so no tie
    published = TABLE.write(state)
    assert same(TABLE.read(published, state, optional=["head.*"]), state)
    del published["cls.bias"]
    with pytest.raises(ValueError, match=r"the checkpoint has no cls.bias, which makes up the parameter head.bias"):
        TABLE.read(published, state, optional=["head.*"])


def test_integers_are_no_weights():
    published = TABLE.write(ours())
    published["bert.layer.0.out.weight"] = np.ones((3, 2), np.int8)
    with pytest.raises(ValueError, match=r"the checkpoint's bert.layer.0.out.weight holds int8 numbers, as quantized"):
        TABLE.read(published, ours())


def test_a_parameter_without_a_published_name_is_named():
    with pytest.raises(ValueError, match=r"no published name is known for our parameter blocks.0.gate.weight"):
        TABLE.write({"blocks.0.gate.weight": np.zeros(3)})
