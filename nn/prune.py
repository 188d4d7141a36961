"""Pruning under its short name; the code is in nn/compression/prune.py."""

