"""Every notebook runs from its first cell to its last, and the answers to its exercises hold (extra: notebooks).

A minute of fresh interpreters: left out unless asked for with -m slow.
"""

from pathlib import Path

import pytest

from tests.notebooks.answers import ANSWERS, SMALL

nbformat = pytest.importorskip("nbformat", reason="needs the extra: notebooks")
nbclient = pytest.importorskip("nbclient", reason="needs the extra: notebooks")
pytestmark = pytest.mark.slow
FOLDER = Path(__file__).parents[2] / "notebooks"
BOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_every_notebook_has_answers_and_small_settings():
    assert [book.stem for book in BOOKS] == sorted(ANSWERS) == sorted(SMALL)


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.stem)
def test_a_notebook_runs_and_its_exercises_have_answers(book, tmp_path):
    notebook = nbformat.read(book, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not kept"
    settings = [cell for cell in notebook.cells if "settings" in cell.metadata.get("tags", [])]
    assert len(settings) == 1 and len(settings[0].source.splitlines()) == 1
    assert settings[0].source.split("=")[0] == SMALL[book.stem].split("=")[0]
    settings[0].source = SMALL[book.stem]
    *_, exercises, place = notebook.cells
    assert exercises.source.startswith("## Exercises") and "\n1. " in exercises.source and "\n2. " in exercises.source
    assert place.source.count("def ") == place.source.count("...") == 2
    names = [line.split("(")[0] for line in place.source.splitlines() if line.startswith("def ")]
    assert all(f"{name}(" in ANSWERS[book.stem] for name in names)
    notebook.cells.append(nbformat.v4.new_code_cell(ANSWERS[book.stem]))
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
