"""pytest at MPI's rank 0, while the others follow: mpiexec -n 3 python -m mpi4py -m tests.on_ranks FILE ...

Work that travels to the others takes along the code of the tests, so their assertions stay as they are written.
"""

import os
import sys

import pytest

from tinytensor import mpi
from tinytensor.workers import STARTED


def main() -> int:
    if mpi.world().rank:
        return mpi.follow()
    os.environ[STARTED] = str(mpi.world().size)
    status = pytest.main([*sys.argv[1:], "-q", "-n", "0", "--assert=plain", "-p", "no:cacheprovider"])
    mpi.dismiss(status)
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
