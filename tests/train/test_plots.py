import sys
import tracemalloc

import pytest

from train.plots import draw_confusion
from train.program import quietly
from train.report import bar
from train.tasks import Classify

LABELS = [*(f"label {n}" for n in range(397)), "x" * 200_000, "half \ud800 of it", "$\\frac{$"]


@pytest.mark.parametrize("count", [3, 400])
def test_the_picture_of_confusions_stays_small_whatever_the_labels_are(tmp_path, monkeypatch, count):
    pytest.importorskip("matplotlib")
    from matplotlib.axes import Axes

    ticks = []
    monkeypatch.setattr(Axes, "set_yticks", lambda axes, places, names, **how: ticks.extend(names))
    labels = tuple(LABELS[-count:])
    examples = [{"text": "t", "label": label} for label in labels]
    answers = [*labels[:-3], labels[-2], labels[-1], labels[-3]]  # the last three are taken for each other
    tracemalloc.start()
    assert draw_confusion(tmp_path / "confusion.png", Classify(labels), examples, answers)
    assert tracemalloc.get_traced_memory()[1] < 2**28
    tracemalloc.stop()
    assert (tmp_path / "confusion.png").stat().st_size < 10**6
    assert ticks[-3:] == ["x" * 24, "half ? of it", "$\\frac{$"] and len(ticks) == min(count, 30)


def test_a_bar_is_shown_in_a_terminal_or_a_notebook_and_nowhere_else(monkeypatch):
    shown = lambda: not bar(range(3), "counting").disable
    assert not shown()
    monkeypatch.setitem(sys.modules, "ipykernel", None)
    assert shown()
    assert quietly(shown) == 0 and shown()  # afterwards as before
    monkeypatch.delitem(sys.modules, "ipykernel")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert shown() and list(bar(range(3))) == [0, 1, 2]
