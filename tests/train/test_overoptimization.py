"""The best of n reckoned for all n at once, and Gao's curves fitted, against ways to know them otherwise."""

import itertools

import numpy as np
import pytest

from benchmarks.overoptimization import best_of_all, fitted


def test_the_best_of_n_is_the_mean_over_all_choices_of_n_replies():
    draw = np.random.default_rng(0)
    gold, proxy = draw.normal(size=(3, 8)), draw.normal(size=(3, 8))
    found = best_of_all(gold, proxy)
    assert sorted(found) == [1, 2, 4, 8]
    for n, (best_gold, best_proxy) in found.items():
        chosen = [list(some) for some in itertools.combinations(range(8), n)]
        best = [[some[int(np.argmax(proxy[row, some]))] for some in chosen] for row in range(3)]
        assert best_gold == pytest.approx(np.mean([gold[row, best[row]].mean() for row in range(3)]), abs=1e-12)
        assert best_proxy == pytest.approx(np.mean([proxy[row, best[row]].mean() for row in range(3)]), abs=1e-12)


@pytest.mark.parametrize("bend", [lambda d: d, np.log])
def test_what_is_fitted_to_points_on_the_curve_is_the_curve(bend):
    d = np.linspace(0.1, 4.0, 20)
    points = [(x, x * (1.3 - 0.4 * bend(x))) for x in d]
    assert fitted(points, bend) == pytest.approx((1.3, 0.4), abs=1e-9)
