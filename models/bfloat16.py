"""bfloat16, the upper half of a float32, which NumPy does not know: read as float32."""

import json
from pathlib import Path

import numpy as np


def read_bfloat16(path: Path, name: str) -> np.ndarray:
    """One array of a safetensors file: 8 bytes with the length of a JSON header, it, the data that its offsets mean."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))[name]
        begin, end = header["data_offsets"]
        file.seek(8 + length + begin)
        return widen(np.frombuffer(file.read(end - begin), "<u2")).reshape(header["shape"])


def widen(bits: np.ndarray) -> np.ndarray:
    """bfloat16, given as uint16, to float32: the upper half of its bits, the lower half zero."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
