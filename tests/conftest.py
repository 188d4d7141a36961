"""What all tests share: hypothesis draws the same examples each time, and every test starts from the same stream."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # pytest-xdist runs a process per core already; more threads would only fight
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import pytest
from hypothesis import settings

import tinytensor as tt

settings.register_profile("house", derandomize=True, deadline=None, max_examples=25, database=None)
settings.load_profile("house")


@pytest.fixture(autouse=True)
def same_stream_for_every_test():
    tt.manual_seed(0)
