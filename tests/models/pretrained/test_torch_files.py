"""A writer of torch.save's two layouts, in plain pickle, stands in for PyTorch in most of these tests."""

import collections
import io
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import types
import zipfile
from unittest import mock

import numpy as np
import pytest

from models.pretrained.torch_files import MAGIC, read_torch

# ---- what torch.save writes, without torch


class FloatStorage:
    pass


class HalfStorage:
    pass


class BFloat16Storage:
    pass


class LongStorage:
    pass


def _rebuild_tensor_v2(*arguments):
    raise AssertionError("never called")


def _rebuild_parameter(*arguments):
    raise AssertionError("never called")


KINDS = {"<f4": FloatStorage, "<f2": HalfStorage, "<u2": BFloat16Storage, "<i8": LongStorage}
STANDS_IN = [*((kind, "torch") for kind in KINDS.values()), (_rebuild_tensor_v2, "torch._utils"),
             (_rebuild_parameter, "torch._utils")]  # fmt: skip


class Tensor:
    """Pickles itself as a torch tensor of a storage does."""

    def __init__(self, flat: np.ndarray, shape, strides, offset=0, key="0", parameter=False):
        self.flat, self.shape, self.strides, self.offset, self.key = flat, shape, strides, offset, key
        self.parameter = parameter

    def __reduce__(self):
        if self.parameter:
            plain = Tensor(self.flat, self.shape, self.strides, self.offset, self.key)
            return _rebuild_parameter, (plain, True, collections.OrderedDict())
        storage = Storage(self.flat, self.key)
        return _rebuild_tensor_v2, (storage, self.offset, self.shape, self.strides, False, collections.OrderedDict())


class Storage:
    def __init__(self, flat, key):
        self.flat, self.key = flat, key


def pickled(value, sixth: bool = False, protocol: int = 2) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if isinstance(item, Storage):
                kind = KINDS[item.flat.dtype.str]
                return ("storage", kind, item.key, "cpu", len(item.flat)) + ((None,) if sixth else ())

    modules = {name: types.ModuleType(name) for name in ("torch", "torch._utils")}
    with mock.patch.dict(sys.modules, modules):
        for item, module in STANDS_IN:
            item.__module__ = module
            setattr(modules[module], item.__name__, item)
        try:
            file = io.BytesIO()
            Pickler(file, protocol).dump(value)
        finally:
            for item, _ in STANDS_IN:
                item.__module__ = __name__
    return file.getvalue()


def archive(path, data: bytes, storages: dict[str, np.ndarray], **more) -> None:
    with zipfile.ZipFile(path, "w", more.pop("compression", zipfile.ZIP_STORED)) as file:
        file.writestr("archive/data.pkl", data)
        for key, flat in storages.items():
            file.writestr(f"archive/data/{key}", flat.tobytes())
        for name, content in more.items():
            file.writestr(f"archive/{name}", content)


def sequence(path, value, storages: dict[str, np.ndarray]) -> None:
    parts = [pickle.dumps(part, 2) for part in (MAGIC, 1001, {"little_endian": True, "type_sizes": {"int": 4}})]
    parts += [pickled(value, sixth=True), pickle.dumps(list(storages), 2)]
    parts += [struct.pack("<q", len(flat)) + flat.tobytes() for flat in storages.values()]
    path.write_bytes(b"".join(parts))


FLAT = np.arange(24, dtype="<f4")
HALF = np.array([1.5, -2, 0.25], "<f2")
BRIEF = np.array([0x3F80, 0xC000], "<u2")
LONG = np.arange(3, dtype="<i8")


def state() -> collections.OrderedDict:
    return collections.OrderedDict(
        a=Tensor(FLAT, (2, 3), (3, 1)),
        turned=Tensor(FLAT, (3, 2), (1, 3), offset=6),
        parameter=Tensor(FLAT, (2, 2, 3), (6, 3, 1), offset=12, parameter=True),
        empty=Tensor(FLAT, (0, 3), (3, 1)),
        scalar=Tensor(FLAT, (), (), offset=23),
        half=Tensor(HALF, (3,), (1,), key="1"),
        brief=Tensor(BRIEF, (2,), (1,), key="2"),
        steps=Tensor(LONG, (3,), (1,), key="3"),
    )


STORAGES = {"0": FLAT, "1": HALF, "2": BRIEF, "3": LONG}
EXPECTED = {
    "a": FLAT[:6].reshape(2, 3), "turned": FLAT[6:12].reshape(2, 3).T, "parameter": FLAT[12:].reshape(2, 2, 3),
    "empty": np.zeros((0, 3)), "scalar": np.float32(23), "half": [1.5, -2, 0.25], "brief": [1, -2], "steps": [0, 1, 2],
}  # fmt: skip


@pytest.mark.parametrize("layout", ["archive", "archive, protocol 4", "sequence"])
def test_tensors_of_both_layouts_are_read(tmp_path, layout):
    path = tmp_path / "pytorch_model.bin"
    if layout == "sequence":
        sequence(path, state(), STORAGES)
    else:
        archive(path, pickled(state(), protocol=4 if "4" in layout else 2), STORAGES, byteorder="little", version="3")
    read = read_torch(path)
    assert list(read) == list(EXPECTED)
    for name, expected in EXPECTED.items():
        np.testing.assert_array_equal(read[name], expected)
        assert read[name].shape == np.shape(expected)
    assert read["steps"].dtype == np.int64 and read["brief"].dtype == np.float32


def test_versions_kept_as_attributes_of_the_table_are_passed_over(tmp_path):
    table = state()
    table._metadata = collections.OrderedDict(version=1)
    archive(tmp_path / "x.bin", pickled(table), STORAGES)
    assert list(read_torch(tmp_path / "x.bin")) == list(EXPECTED)


# ---- what must not be opened


class Evil:
    """Pickles itself as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def touching(path) -> dict[str, object]:
    """Things that would leave a file behind if they were executed."""
    return {
        "os.system": Evil(os.system, f"touch {path}"),
        "subprocess": Evil(subprocess.call, ["touch", str(path)]),
        "eval": Evil(eval, f"open({str(path)!r}, 'w')"),
        "exec": Evil(exec, f"open({str(path)!r}, 'w')"),
        "open": Evil(open, str(path), "w"),
        "__import__": Evil(__import__, "antigravity"),
        "getattr": Evil(getattr, "x", "upper"),
    }


@pytest.mark.parametrize("how", ["os.system", "subprocess", "eval", "exec", "open", "__import__", "getattr"])
@pytest.mark.parametrize("place", ["instead", "beside", "inside a list", "as attributes", "legacy", "legacy header"])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, how, place):
    touched, path = tmp_path / "touched", tmp_path / "pytorch_model.bin"
    evil = touching(touched)[how]
    table = state()
    if place == "instead":
        table = evil
    elif place == "beside":
        table["evil"] = evil
    elif place == "inside a list":
        table["evil"] = [[evil]]
    elif place == "as attributes":
        table._metadata = evil
    if place == "legacy header":
        path.write_bytes(pickle.dumps(MAGIC, 2) + pickle.dumps(1001, 2) + pickle.dumps(evil, 2))
    elif place == "legacy":
        sequence(path, collections.OrderedDict(evil=evil), {})
    else:
        archive(path, pickled(table), STORAGES)
    with pytest.raises(ValueError, match=r"is refused: its pickle names \S+\. Weights need nothing but tensors"):
        read_torch(path)
    assert not touched.exists()


RAW = {
    # protocol 0 names a function in plain text, INST and OBJ call without REDUCE, EXT looks one up by number
    "GLOBAL": (b"cos\nsystem\n(U\x04truetR.", "names os.system"),
    "INST": (b"(U\x04trueios\nsystem\n.", "has the instruction INST"),
    "OBJ": (b"\x80\x02(cos\nsystem\nU\x04trueo.", "names os.system"),
    "NEWOBJ": (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "has the instruction NEWOBJ"),
    "EXT1": (b"\x80\x02\x82\x01.", "has the instruction EXT1"),
    "a name with dots": (b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93.", "names torch.os.system"),
    "a function of ours in a module of another": (b"\x80\x02cos\n_rebuild_tensor_v2\n.", "names os._rebuild_tensor_v2"),
    "calling a storage type": (b"\x80\x02ctorch\nFloatStorage\n)R.", "calls FloatStorage in an unknown way"),
    "calling a string": (b"\x80\x02U\x01x)R.", "calls something that is no function"),
    "a table with items": (b"\x80\x02ccollections\nOrderedDict\n]\x85R.", "calls OrderedDict in an unknown way"),
    "attributes of a function": (b"\x80\x02ccollections\nOrderedDict\n}b.", "changes a Global as if it were a dict"),
    "a reference that is no storage": (b"\x80\x02U\x01xQ.", "refers to something that is no storage"),
    "a list at the top": (b"\x80\x02].", "holds a list instead of a table of tensors"),
    "numbers in the table": (b"\x80\x02}U\x01aK\x01s.", "under 'a' it holds a int, which is no tensor"),
    "a table inside": (b"\x80\x02}U\x01a}s.", "under 'a' it holds a dict, which is no tensor"),
    "a bytearray": (b"\x80\x05\x96\x01\x00\x00\x00\x00\x00\x00\x00x.", "has the instruction BYTEARRAY8"),
}


@pytest.mark.parametrize("name", RAW)
def test_other_tricks_are_refused(tmp_path, name):
    program, message = RAW[name]
    archive(tmp_path / "x.bin", program, {})
    with pytest.raises(ValueError, match=f"is refused: (its pickle|it|under) ?.*{message.split(' ', 1)[1]}"):
        read_torch(tmp_path / "x.bin")


@pytest.mark.parametrize(
    "tensor, message",
    [
        (Tensor(FLAT, (5, 5), (5, 1)), "reaches outside its storage of 24 numbers"),
        (Tensor(FLAT, (2,), (1,), offset=23), "reaches outside"),
        (Tensor(FLAT, (2,), (1 << 40,)), "reaches outside"),
        (Tensor(FLAT, (2,), (-1,), offset=3), "something else than a storage and whole numbers"),
        (Tensor(FLAT, (1 << 40,), (0,)), "repeat their numbers too often"),
        (Tensor(FLAT, (2, 2), (1,)), "has 1 strides"),
        (Tensor(FLAT, (2.0,), (1,)), "whole numbers"),
        (Tensor(FLAT, [2], [1]), "whole numbers"),
    ],
)
def test_a_tensor_cannot_look_beyond_its_storage(tmp_path, tensor, message):
    archive(tmp_path / "x.bin", pickled(collections.OrderedDict(a=tensor)), STORAGES)
    with pytest.raises(ValueError, match=message):
        read_torch(tmp_path / "x.bin")


def test_compressed_and_big_endian_archives_are_refused(tmp_path):
    archive(tmp_path / "x.bin", pickled(state()), STORAGES, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"its entries are compressed"):
        read_torch(tmp_path / "x.bin")
    archive(tmp_path / "x.bin", pickled(state()), STORAGES, byteorder="big")
    with pytest.raises(ValueError, match=r"its numbers are not little-endian"):
        read_torch(tmp_path / "x.bin")


@pytest.mark.parametrize("layout", ["archive", "sequence"])
def test_files_cut_anywhere_are_damaged(tmp_path, layout):
    path = tmp_path / "x.bin"
    if layout == "archive":
        archive(path, pickled(state()), STORAGES)
    else:
        sequence(path, state(), STORAGES)
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"is truncated or damaged"):
            read_torch(path)


def test_a_storage_that_is_missing_or_short_is_damage(tmp_path):
    for storages in ({**STORAGES, "0": FLAT[:-1]}, {key: STORAGES[key] for key in "123"}):
        archive(tmp_path / "x.bin", pickled(state()), storages)
        with pytest.raises(ValueError, match=r"is truncated or damaged"):
            read_torch(tmp_path / "x.bin")


def test_an_old_file_whose_list_of_storages_lacks_one_is_damage(tmp_path):
    sequence(tmp_path / "x.bin", state(), {key: STORAGES[key] for key in "012"})
    with pytest.raises(ValueError, match=r"is truncated or damaged: .*the file lacks 1 of the storages"):
        read_torch(tmp_path / "x.bin")


# ---- PyTorch itself


def nested(levels: int, open: bytes, close: bytes) -> bytes:
    return b"\x80\x02" + open * levels + b")" + close * levels + b"."


HARMFUL = {  # a program, and what is said of it
    "tuples in tuples": (nested(100_000, b"", b"\x85"), "tuples longer or deeper"),
    "tuples doubled from the memo": (b"\x80\x02)q\x00" + b"h\x00h\x00\x86q\x00" * 30 + b".", "tuples longer or deeper"),
    "a long tuple": (b"\x80\x02(" + b"K\x01" * 65 + b"t.", "tuples longer or deeper"),
    "lists in lists": (b"\x80\x02" + b"]" * 1000 + b"a" * 999 + b".", "lists into lists"),
    "a tuple as a name": (b"\x80\x02})K\x01s.", "names that are no names"),
    "many instructions": (b"\x80\x02" + b"K\x01" * 1_000_001 + b".", "more than 1,000,000 instructions"),
    "a storage larger than the file": (pickled({"a": Tensor(FLAT, (1,), (1,))}).replace(b"K\x18", b"J\xff\xff\xff\x7f"),
                                       "more numbers than the file has"),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_programs_that_would_take_all_time_memory_or_stack_are_refused(tmp_path, name):
    program, message = HARMFUL[name]
    archive(tmp_path / "x.bin", program, STORAGES)
    with pytest.raises(ValueError, match=f"is refused: .*{message}"):
        read_torch(tmp_path / "x.bin")


def test_compressed_entries_are_refused_before_they_are_read(tmp_path):
    archive(tmp_path / "x.bin", b"", {}, compression=zipfile.ZIP_DEFLATED, byteorder="l" * 2**27)
    tracemalloc.start()
    with pytest.raises(ValueError, match="its entries are compressed"):
        read_torch(tmp_path / "x.bin")
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_huge_strides_of_single_elements_mean_nothing(tmp_path):
    archive(tmp_path / "x.bin", pickled({"a": Tensor(FLAT, (1, 2), (2**60, 1))}), {"0": FLAT})
    np.testing.assert_array_equal(read_torch(tmp_path / "x.bin")["a"], [[0, 1]])


@pytest.mark.parity
@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves_is_what_we_read(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(4, 3)
    x = torch.randn(6, 5)
    saved = layer.state_dict()
    saved |= {
        "turned": x.T, "part": x[2:, 1:3], "shared": x, "half": x.half(), "brief": x.bfloat16(), "double": x.double(),
        "negative": torch._neg_view(x), "negative brief": torch._neg_view(x.bfloat16()), "row": x[:1].expand(3, 5),
        "number": torch.tensor(3).expand(1, 7), "long": torch.arange(5),
        "bool": x > 0, "scalar": torch.tensor(2.5), "parameter": torch.nn.Parameter(x.clone()),
    }  # fmt: skip
    torch.save(saved, tmp_path / "x.bin", _use_new_zipfile_serialization=zipped)
    read = read_torch(tmp_path / "x.bin")
    assert list(read) == list(saved)
    for name, tensor in saved.items():
        expected = tensor.detach().resolve_neg()
        np.testing.assert_array_equal(read[name], (expected.float() if "brief" in name else expected).numpy())


@pytest.mark.parity
@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_module_is_refused(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"is refused: its pickle names torch.nn.modules.linear.Linear"):
        read_torch(tmp_path / "x.bin")
