"""ELMo: the whole model against an independent one, its files, its states, its loss, and the scalar mix."""

import numpy as np
import pytest

from models import ELMo
from tests.helpers import assert_close
from tests.models.published_elmo import PublishedELMo, make_files

BATCHES = [
    [["The", "cat", "sat", "on", "the", "mat", "."], ["naïve", "Ünïcödé"], ["x" * 60 + "é"]],
    [["a"], ["b", "c", "d"]],
    [["The", "cat"], ["b", "c"], ["sat"], ["a", "new", "row"]],
]
TINY = dict(
    vocab_size=30, width=6, hidden=10, char_width=3, filters="1x4,2x5", highways=1, dropout=0.0, softmax="full"
)


def compare(elmo, published, tolerance, stateful):
    for sentences in BATCHES:
        layers, mask = elmo(sentences, stateful=stateful)
        if not stateful:
            published.states.clear()
        for row, expected in enumerate(published(sentences)):
            T = expected.shape[1]
            assert mask[row].sum() == T and mask[row, :T].all()
            for layer, values in zip(layers, expected):
                assert_close(layer.data[row, :T], values, tolerance)
                assert not layer.data[row, T:].any()


@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(skip=False),
        dict(highways=1, layers=3),
        dict(highways=0),
        dict(project=False),
        dict(cell_clip=None, proj_clip=None),
        dict(hidden=6),  # as many cells as outputs: no projection
    ],
    ids=str,
)
def test_files_of_the_published_format_give_what_the_independent_implementation_gives(tmp_path, options):
    pytest.importorskip("h5py")
    files = make_files(tmp_path, **options)
    elmo, published = ELMo.from_pretrained(*files), PublishedELMo(*files)
    compare(elmo, published, 1e-5, stateful=True)
    compare(elmo, published, 1e-5, stateful=False)
    elmo.reset()
    published.states.clear()
    compare(elmo, published, 1e-5, stateful=True)


def test_in_float64_it_agrees_to_rounding(tmp_path):
    pytest.importorskip("h5py")
    files = make_files(tmp_path)
    elmo = ELMo.from_pretrained(*files)
    for parameter in elmo.parameters():
        parameter.data = parameter.data.astype(np.float64)
    compare(elmo, PublishedELMo(*files), 1e-6, stateful=True)  # the forget bias plus 1 was rounded to float32
