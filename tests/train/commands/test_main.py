"""The command itself: its version, its name, and whose packages it finds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tinytensor
from train import __main__ as command

ROOT = Path(command.__file__).resolve().parents[1]


def called_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """python -m train in a folder, whose own files Python finds first."""
    where = dict(os.environ, PYTHONPATH=str(ROOT))
    return subprocess.run([sys.executable, "-m", *arguments], cwd=folder, env=where, capture_output=True, text=True)


def test_the_version_is_the_packages_own(capsys):
    with pytest.raises(SystemExit, match="0"):
        command.main(["--version"])
    assert capsys.readouterr().out == f"tinytensor {tinytensor.__version__}\n"


@pytest.mark.parametrize("program, usage", [("/bin/tinytensor", "tinytensor"), ("__main__.py", "python -m train")])
def test_usage_names_the_command_that_was_called(monkeypatch, capsys, program, usage):
    monkeypatch.setattr(sys, "argv", [program])
    with pytest.raises(SystemExit, match="2"):
        command.main(["score", "runs/x", "--no-such-option"])
    assert f"usage: {usage} score" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["nn.py", "models/__init__.py", "tinytensor.py"])
def test_a_file_of_the_users_that_hides_one_of_ours_is_named(tmp_path, file):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("print('the wrong one')\n")
    done = called_in(tmp_path, "train", "gpt")
    assert done.returncode == 2 and done.stdout == ""
    assert f"finds {tmp_path / file}, not our" in done.stderr and done.stderr.count("\n") == 1


def test_a_folder_without_code_that_has_the_name_of_one_of_ours_hides_nothing(tmp_path):
    (tmp_path / "models").mkdir()
    assert called_in(tmp_path, "train", "gpt", "--help").returncode == 0
