"""Quantization under its short name; the code is in nn/compression/quantize.py."""

from nn.compression.quantize import *  # noqa: F403
