"""docs/lecture.md leads to commands that take these flags, and to files that are there."""

import argparse
import importlib
import re
from pathlib import Path

import pytest

import tinytensor
from train.program import COMMANDS

ROOT = Path(__file__).parents[3]
SPANS = re.findall(r"`([^`]+)`", (ROOT / "docs" / "lecture.md").read_text(encoding="utf-8"))
CALLS = [span.removeprefix("python -m train ").split() for span in SPANS if span.startswith("python -m train ")]


def test_the_files_are_there():
    paths = [span for span in SPANS if re.fullmatch(r"(tinytensor|nn|models|train|docs|notebooks)/[\w/]*(\.py)?", span)]
    assert len(paths) > 35 and [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_the_commands_are_there_and_take_these_flags(words):
    assert words[0] in COMMANDS
    parser = argparse.ArgumentParser()
    importlib.import_module(f"train.commands.{words[0].replace('-', '_')}").add_arguments(parser)
    if words[0] == "tour":
        parser = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices[words[1]]
    assert [flag for flag in words if flag.startswith("--") and flag not in parser._option_string_actions] == []


def test_every_stop_of_the_tour_is_on_the_map():
    parser = argparse.ArgumentParser()
    importlib.import_module("train.commands.tour").add_arguments(parser)
    stops = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    assert {words[1] for words in CALLS if words[0] == "tour"} == set(stops)


def test_packages_say_that_they_are_typed():
    assert all((ROOT / package / "py.typed").exists() for package in ("tinytensor", "nn", "models", "train"))
    assert "* = py.typed" in (ROOT / "setup.cfg").read_text()


def test_the_version_that_is_cited_and_the_newest_of_the_changelog_are_this_one():
    assert f"\nversion: {tinytensor.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[1] == tinytensor.__version__
