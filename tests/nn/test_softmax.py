"""The output layers over large vocabularies: full, sampled and adaptive."""

import numpy as np
import pytest

import tinytensor as tt
from nn import AdaptiveSoftmax, FullSoftmax, SampledSoftmax
from nn.softmax import draw_zipf, expected_counts
from tests.helpers import assert_close, tensor
from tinytensor import Tensor

TARGETS = np.array([3, 0, -100, 11, 7, 19, 3])


def vectors(seed=0) -> Tensor:
    return Tensor(tensor(7, 8, seed=seed).data.astype(np.float32), requires_grad=True)


def full_losses(layer, x):
    """-log p of every class for every row, in float64."""
    logits = x.data.astype(np.float64) @ layer.weight.data.T + layer.bias.data
    return np.log(np.exp(logits).sum(-1, keepdims=True)) - logits


def test_the_full_softmax_sums_the_losses_of_the_rows_that_count():
    layer, x = FullSoftmax(8, 20), vectors()
    layer.bias.data[...] = np.linspace(-1, 1, 20)
    rows = np.flatnonzero(TARGETS != -100)
    assert_close(layer.loss(x, TARGETS).item(), full_losses(layer, x)[rows, TARGETS[rows]].sum(), 1e-5)


def test_draws_are_different_classes_as_often_as_expected():
    """Frequencies over 400 samples, to 5 standard errors of at most 0.025."""
    classes, count, rounds = 50, 10, 400
    seen, expected = np.zeros(classes), np.zeros(classes)
    for _ in range(rounds):
        sample, tries = draw_zipf(classes, count)
        assert len(set(sample.tolist())) == count and tries >= count and 0 <= sample.min() and sample.max() < classes
        seen[sample] += 1
        expected += expected_counts(np.arange(classes), classes, tries)
    assert np.abs(seen - expected).max() / rounds < 0.125
    assert seen[0] / rounds > 0.9 and seen[-5:].mean() / rounds < 0.15


def test_probabilities_of_all_classes_add_up_to_one():
    assert_close(expected_counts(np.arange(1000), 1000, 1).sum(), 1.0, 1e-12)


def test_the_sampled_loss_is_a_cross_entropy_among_target_and_sample_with_expected_counts_taken_off():
    layer, x = SampledSoftmax(8, 20, 6), vectors()
    layer.bias.data[...] = np.linspace(-1, 1, 20)
    with tt.random.seeded(4):
        value = layer.loss(x, TARGETS).item()
    with tt.random.seeded(4):
        sample, tries = draw_zipf(20, 6)
    logits = x.data.astype(np.float64) @ layer.weight.data.T + layer.bias.data
    logits -= np.log(expected_counts(np.arange(20), 20, tries))
    expected = 0
    for row, target in enumerate(TARGETS):
        if target != -100:
            others = [k for k in sample if k != target]
            expected += np.log(np.exp(logits[row, [target, *others]]).sum()) - logits[row, target]
    assert_close(value, expected, 1e-5)


def test_the_sampled_gradient_is_on_average_about_that_of_the_full_softmax():
    """The bias of sampling is small where half of the classes are drawn; 300 samples bring the noise below it."""
    layer, x = SampledSoftmax(8, 20, 10), vectors()
    layer.eval().loss(x, TARGETS).backward()
    full = x.grad.copy()
    layer.train()
    total = 0
    for _ in range(300):
        x.grad = None
        layer.loss(x, TARGETS).backward()
        total = total + x.grad / 300
    cosine = (total * full).sum() / np.sqrt((total**2).sum() * (full**2).sum())
    assert cosine > 0.95


def test_in_evaluation_the_sampled_softmax_is_full():
    layer, x = SampledSoftmax(8, 20, 6).eval(), vectors()
    rows = np.flatnonzero(TARGETS != -100)
    assert_close(layer.loss(x, TARGETS).item(), full_losses(layer, x)[rows, TARGETS[rows]].sum(), 1e-5)


def test_the_adaptive_softmax_is_a_probability_over_all_classes():
    layer, x = AdaptiveSoftmax(8, 20, [4, 10]), vectors()
    p = np.array([[np.exp(-layer.loss(x[n : n + 1], np.array([k])).item()) for k in range(20)] for n in range(3)])
    assert_close(p.sum(axis=1), np.ones(3), 1e-5)


def test_the_adaptive_softmax_leaves_out_ignored_rows():
    layer, x = AdaptiveSoftmax(8, 20, [4, 10]), vectors()
    rows = np.flatnonzero(TARGETS != -100)
    assert_close(layer.loss(x, TARGETS).item(), layer.loss(x[rows], TARGETS[rows]).item(), 1e-6)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"cutoffs \[10, 4\] must rise from above 0 to below the 20 classes"):
        AdaptiveSoftmax(8, 20, [10, 4])
    with pytest.raises(ValueError, match=r"cutoffs \[\] must rise"):
        AdaptiveSoftmax(8, 20, [])
    with pytest.raises(ValueError, match="a sample of 20 must be at least 1 and fewer than the 20 classes"):
        SampledSoftmax(8, 20, 20)


@pytest.mark.parity
def test_the_adaptive_softmax_is_torchs():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4, 10], div_value=2.0)
    ours, x = AdaptiveSoftmax(8, 20, [4, 10], shrink=2.0), vectors()
    ours.load_state_dict({name: p.detach().numpy() for name, p in theirs.named_parameters()})
    rows = np.flatnonzero(TARGETS != -100)
    twin = torch.tensor(x.data, requires_grad=True)
    value = ours.loss(x, TARGETS)
    expected = theirs(twin[rows], torch.tensor(TARGETS[rows])).loss * len(rows)
    assert_close(value.item(), expected.item(), 1e-5)
    value.backward()
    expected.backward()
    assert_close(x.grad, twin.grad.numpy(), 1e-5)
    own = dict(ours.named_parameters())
    for name, p in theirs.named_parameters():
        assert_close(own[name].grad, p.grad.numpy(), 1e-5)
