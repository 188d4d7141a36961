import json

import numpy as np
import pytest

from models.bfloat16 import widen
from models.pretrained import read_config, read_weights, write_folder

ARRAYS = {
    "a.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b.weight": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3).T,
    "c": np.array(0.5),
    "steps": np.array([1, 2, 3]),
}  # fmt: skip


def assert_same(read: dict, expected: dict) -> None:
    assert read.keys() == expected.keys()
    for name in expected:
        assert read[name].dtype == (np.float32 if expected[name].dtype.kind == "f" else expected[name].dtype)
        np.testing.assert_array_equal(read[name], expected[name])


def test_one_file_gives_back_what_was_written(tmp_path):
    write_folder(tmp_path / "new", {"model_type": "gpt2"}, ARRAYS)
    assert_same(read_weights(tmp_path / "new"), ARRAYS)
    assert read_config(tmp_path / "new") == {"model_type": "gpt2"}
    assert sorted(f.name for f in (tmp_path / "new").iterdir()) == ["config.json", "model.safetensors"]


def test_shards_give_back_what_was_written_and_replace_older_files(tmp_path):
    write_folder(tmp_path, {}, ARRAYS)
    write_folder(tmp_path, {}, ARRAYS, shard_bytes=60)
    files = sorted(f.name for f in tmp_path.iterdir())
    assert files == ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                     "model.safetensors.index.json"]  # fmt: skip
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 48 + 24 + 8 + 24
    assert index["weight_map"]["a.weight"] == files[1] and index["weight_map"]["steps"] == files[2]
    assert_same(read_weights(tmp_path), ARRAYS)
    write_folder(tmp_path, {}, ARRAYS)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_floats_of_every_precision_become_float32(tmp_path):
    values = np.array([[1.5, -2.0], [0.25, 3.0]])  # exact in all of them
    bits = (values.astype(np.float32).view(np.uint32) >> 16).astype("<u2")
    data = values.astype("<f2").tobytes() + bits.tobytes() + values.astype("<f8").tobytes()
    header = {
        "half": {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]},
        "brief": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [8, 16]},
        "double": {"dtype": "F64", "shape": [2, 2], "data_offsets": [16, 48]},
        "__metadata__": {"format": "pt"},
    }
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    read = read_weights(tmp_path)
    for name in ("half", "brief", "double"):
        assert read[name].dtype == np.float32
        np.testing.assert_array_equal(read[name], values)


def test_bfloat16_is_the_upper_half_of_float32():
    bits = np.array([0x0000, 0x3F80, 0xC000, 0x7F80, 0x0001], np.uint16)
    np.testing.assert_array_equal(widen(bits), np.array([0, 1, -2, np.inf, 2.0**-133], np.float32))


@pytest.mark.parametrize(
    "content, message",
    [({}, "has no config.json"), ({"config.json": "[]"}, "does not hold the settings of a published model"),
     ({"config.json": "{"}, "not complete")],
)  # fmt: skip
def test_a_bad_config_is_named(tmp_path, content, message):
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_config(tmp_path)


def test_a_missing_folder_and_another_kind_of_model_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"is not a folder"):
        read_config(tmp_path / "none")


def test_missing_and_damaged_weights_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"has no weights; expected model.safetensors"):
        read_weights(tmp_path)
    write_folder(tmp_path, {}, ARRAYS, shard_bytes=60)
    shard = tmp_path / "model-00002-of-00002.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-5])
    with pytest.raises(ValueError, match=r"model-00002-of-00002.safetensors is truncated or damaged"):
        read_weights(tmp_path)
    shard.unlink()
    with pytest.raises(ValueError, match=r"has no model-00002-of-00002.safetensors, which model.safetensors"):
        read_weights(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    with pytest.raises(ValueError, match=r"names the file '../elsewhere.safetensors', which is not beside it"):
        read_weights(tmp_path)
    index.write_text(json.dumps({"weight_map": {"z": "model-00001-of-00002.safetensors"}}))
    with pytest.raises(ValueError, match=r"has no z, which model.safetensors.index.json says is there"):
        read_weights(tmp_path)


@pytest.mark.parity
def test_files_of_transformers_libraries_are_read(tmp_path):
    torch, save = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch").save_file
    x = torch.randn(5, 3)
    kinds = {"f": torch.float32, "h": torch.float16, "b": torch.bfloat16, "d": torch.float64, "i": torch.int64}
    arrays = {name: (10 * x).to(kind) for name, kind in kinds.items()}
    save(arrays, tmp_path / "model.safetensors")
    read = read_weights(tmp_path)
    for name, tensor in arrays.items():
        np.testing.assert_array_equal(read[name], tensor.numpy() if name == "i" else tensor.float().numpy())
