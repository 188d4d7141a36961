"""A training on MPI's ranks: `--ranks N` starts them on this machine; one that mpiexec or srun started notices it.

    python -m train gpt --ranks 4                           N ranks on this machine
    mpiexec -n 4 python -m mpi4py -m train gpt              the same, or on as many machines as mpiexec knows of
    srun --mpi=pmi2 python -m mpi4py -m train gpt           in a job of Slurm's

Rank 0 runs the command; the others wait for their part of its training (tinytensor/mpi.py). Whether all went well is
not told by mpiexec's exit status, which is 0 also where a rank has gone without a word: rank 0 notes down how the
command ended, as the last thing that it does.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from tinytensor.processes import end_with_parent
from tinytensor.workers import STARTED

STARTER = "TINYTENSOR_STARTER"  # the process that has started mpiexec
NOTE = "TINYTENSOR_NOTE"  # the file in which rank 0 says who it is and, at last, how the command ended
INSTALL = "pip install -e '.[mpi]'"
# Of Open MPI, as it is (4 and 5): it may run in a container, more ranks than cores, and is not to talk about UCX.
OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_osc": "^ucx",
    "OMPI_MCA_rmaps_base_oversubscribe": "1", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none", "OMPI_MCA_hwloc_base_binding_policy": "none",
}  # fmt: skip


def launched(environ: Mapping[str, str]) -> tuple[int, int] | None:
    """(rank, size) by a launcher's variables, without MPI: mpiexec's of Open MPI, of MPICH and Intel, srun's.

    Slurm also sets SLURM_PROCID in a script of sbatch, which is no rank of anything: only a step has a number.
    """
    for rank, size in (("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE")):
        if rank in environ and int(environ.get(size, 1)) > 1:
            return int(environ[rank]), int(environ[size])
    if {"SLURM_PROCID", "SLURM_STEP_ID"} <= environ.keys() and int(environ.get("SLURM_NTASKS", 1)) > 1:
        return int(environ["SLURM_PROCID"]), int(environ["SLURM_NTASKS"])
    return None


def begin(main: Callable[[list[str]], int], words: list[str]) -> int:
    """Be one of the ranks, or start them. The exit status of the command main(words)."""
    place = launched(os.environ)
    try:
        asked = asked_for(words)
        if place is None:
            return _start(asked, words) if asked else main(words)
        if asked not in (None, place[1]):
            raise ValueError(f"--ranks {asked} does not fit: {place[1]} were started; leave it out")
        _check_words(words)
        try:
            from tinytensor import mpi
        except ImportError as error:
            raise ValueError(f"{place[1]} ranks need mpi4py ({error}); in the checkout: {INSTALL}") from None
        mpi.check_world(place[1])
    except ValueError as error:
        if place is None or place[0] == 0:
            print(f"error: {error}", file=sys.stderr)
        return 2
    return mpi.follow() if place[0] else _lead(main, words, mpi)


def asked_for(words: list[str]) -> int | None:
    """The number behind --ranks."""
    given = [word.removeprefix("--ranks=") for word in words if word.startswith("--ranks=")]
    given += [after for word, after in zip(words, [*words[1:], "nothing"]) if word == "--ranks"]
    if given and not (given[-1].isdecimal() and 1 <= int(given[-1]) <= 1024):
        raise ValueError(f"--ranks must be a whole number from 1 to 1024, not {given[-1] or 'nothing'}")
    if given:
        _check_words(words)
    return int(given[-1]) if given else None


def _check_words(words: list[str]) -> None:
    for flag in ("--workers", "--worker-kind"):
        if any(word.partition("=")[0] == flag for word in words):
            raise ValueError(f"MPI's ranks are the workers; leave out {flag}")


def _lead(main: Callable[[list[str]], int], words: list[str], mpi) -> int:
    """Run the command at rank 0, and send the others home."""
    note = Path(os.environ.get(NOTE, os.devnull))
    os.environ[STARTED] = str(mpi.world().size)
    note.write_text(f"{os.getpid()}")
    if STARTER in os.environ:
        threading.Thread(target=_end_without, args=[int(os.environ[STARTER])], daemon=True).start()
    try:
        status = main(words)
    except SystemExit as end:  # argparse's
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    note.write_text(f"{os.getpid()} {status}")
    mpi.dismiss(status)
    return 0 if NOTE in os.environ else status  # mpiexec makes a long story of any other


def _end_without(starter: int) -> None:
    """End this process in good order when another one is gone, as some mpiexecs would go on."""
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.kill(starter, 0)
            time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _start(ranks: int, words: list[str]) -> int:
    """Start the ranks with the mpiexec that belongs to this Python's MPI, wait, and say how it ended."""
    beside = Path(sys.executable).parent / "mpiexec"
    program = [str(beside) if beside.exists() else "mpiexec", "-n", str(ranks)]
    ours = ["-m", "train"] if Path(sys.argv[0]).stem == "__main__" else [sys.argv[0]]  # or the installed command
    program += [sys.executable, "-m", "mpi4py", *ours, *words]
    here = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}  # on this machine
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "note"
        environ = OPEN_MPI | here | {NOTE: str(note), STARTER: str(os.getpid())}
        how = dict(env=environ, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            process = subprocess.Popen(program, preexec_fn=end_with_parent, **how)
        except FileNotFoundError:
            raise ValueError(f"--ranks needs mpiexec and mpi4py; in the checkout: {INSTALL}") from None

        def pass_on(number: int, frame) -> None:
            """To rank 0, which saves and ends in order; mpiexec would end all at once."""
            said = _read(note)
            os.kill(int(said[0]) if said else process.pid, number if said else signal.SIGTERM)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup, as in Trainer
                signal.signal(number, pass_on)
        status, said = process.wait(), _read(note)
    if len(said) == 2:
        return int(said[1])
    if not said:
        print(f"error: no rank has begun (mpiexec ended with status {status})", file=sys.stderr)
    else:
        then = "go on from the last checkpoint, if there is one, with --resume"
        print(f"error: a rank died before the command was done; {then}", file=sys.stderr)
    return 2


def _read(note: Path) -> list[str]:
    """[process id of rank 0, exit status of the command], as far as it has come."""
    return note.read_text().split() if note.exists() else []
