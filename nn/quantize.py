"""Quantization under its short name; the code is in nn/compression/quantize.py."""

