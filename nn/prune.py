"""Pruning under its short name; the code is in nn/compression/prune.py."""

from nn.compression.prune import apply_masks, prune, shrink, sparsity

__all__ = ["apply_masks", "prune", "shrink", "sparsity"]
