"""Pruning under its short name; the code is in nn/compression/prune.py."""

from nn.compression.prune import *  # noqa: F403
