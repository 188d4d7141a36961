"""The weekend: which files a small `train gpt` and `sample` on a CPU really pass through, in the order to read them.

    python -m benchmarks.spine

A text is made, a GPT of two layers learns it for a few steps, in one process, and writes some tokens; whatever function
of the project is entered meanwhile puts its file on the list. So the list can't go stale. Files that are imported and
not entered (other families, other tokenizers) are not needed to follow the path.
"""

import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOUSE = ("tinytensor", "nn", "models", "train")  # from the foundation up
FIRST = {"tinytensor": ("tensor.py", "methods.py", "random.py", "ops", "backend")}  # what is best read first on a floor
FOREIGN = ("compression", "graph", "quantized")  # what has no business on the path
MOST_FILES, MOST_LINES = 45, 6500


def main() -> int:
    entered: set[str] = set()
    importing = 0  # how many modules are being imported, one inside another

    def see(frame, event: str, argument) -> None:
        nonlocal importing
        code = frame.f_code
        if code.co_name == "<module>":
            importing += {"call": 1, "return": -1}.get(event, 0)
        elif event == "call" and not importing and code.co_filename.startswith(f"{ROOT}{os.sep}"):
            entered.add(code.co_filename)

    from train.__main__ import main as command

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        text, run = Path(folder) / "text.txt", str(Path(folder) / "run")
        text.write_text("the cat sat on the mat. the dog sat on the log.\n" * 400)
        shape = ["--layers", "2", "--heads", "2", "--width", "16", "--context", "32"]
        small = [*shape, "--steps", "20", "--batch", "4", "--eval-every", "10", "--workers", "1"]
        sys.setprofile(see)
        try:
            status = command(["gpt", "--data", str(text), "--out", run, *small])
            status = status or command(["sample", run, "--prompt", "the cat", "--tokens", "20"])
        finally:
            sys.setprofile(None)
    if status:
        return status
    files = sorted((Path(name).relative_to(ROOT) for name in entered), key=place)
    return report([file for file in files if file.parts[0] in HOUSE])


def place(file: Path) -> tuple:
    """Where a file comes in the order of reading: floor by floor, and on the first floor the Tensor first."""
    floor = HOUSE.index(file.parts[0]) if file.parts[0] in HOUSE else len(HOUSE)
    first = FIRST.get(file.parts[0], ())
    return floor, first.index(file.parts[1]) if file.parts[1] in first else len(first), str(file)


def report(files: list[Path]) -> int:
    """The table; 1 where the path has become too long or passes through what it should not."""
    lines = {file: len((ROOT / file).read_text().splitlines()) for file in files}
    for file, count in lines.items():
        print(f"{count:6,}  {file}")
    total = sum(lines.values())
    print(f"{total:6,}  lines in {len(files)} files (at most {MOST_LINES:,} in {MOST_FILES})")
    foreign = [str(file) for file in files if any(word in file.parts or word == file.stem for word in FOREIGN)]
    if foreign:
        print(f"not needed to follow it: {', '.join(foreign)}")
    return int(len(files) > MOST_FILES or total > MOST_LINES or bool(foreign))


if __name__ == "__main__":
    sys.exit(main())
