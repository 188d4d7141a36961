"""The plan of the house, held by the code: which way imports point, who asks what a thing is, how long the spine is."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FLOORS = ("tinytensor", "nn", "models", "train")  # from the ground up
FILES = [path for floor in FLOORS for path in ROOT.glob(f"{floor}/**/*.py")]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): tree for path, tree in TREES.items()}


def imported(tree: ast.Module) -> set[str]:
    """The project's modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import of {node.module}"
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {part if part in MODULES else node.module for part in parts}
    return found & MODULES.keys()


def test_imports_point_down():
    floor = {name: FLOORS.index(name.partition(".")[0]) for name in MODULES}
    up = [(name, other) for name, tree in MODULES.items() for other in imported(tree) if floor[other] > floor[name]]
    assert up == []


def test_imports_make_no_circle():
    """But for packages, whose __init__ only gathers what stands below it."""
    files = {module_of(path): tree for path, tree in TREES.items() if path.name != "__init__.py"}
    below = {name: imported(tree) & files.keys() for name, tree in files.items()}
    while leaves := {name for name, others in below.items() if not others & below.keys()}:
        for name in leaves:
            del below[name]
    assert sorted(below) == []


def test_nobody_looks_for_attributes_to_find_out_what_it_was_given():
    calls = [node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.Call)]
    asked = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("hasattr", "getattr")]
    assert len(asked) <= 15


def test_help_is_printed_without_numpy_or_any_command():
    code = """
import sys
from train.__main__ import main
try:
    main(["--help"])
except SystemExit as end:
    assert end.code == 0
loaded = [name for name in sys.modules if name.partition(".")[0] in ("numpy", "tinytensor") or "train.commands" in name]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "lottery" in done.stdout


def test_the_spine_is_read_in_a_weekend():
    done = subprocess.run([sys.executable, "-m", "benchmarks.spine"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
