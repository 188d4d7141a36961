"""Quantization under its short name; the code is in nn/compression/quantize.py."""

from nn.compression.quantize import is_quantized, quantize

__all__ = ["is_quantized", "quantize"]
