"""Losses against numbers worked out by hand, and their independence of how a batch is split."""

import functools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.sft.losses import Counts, DecisionIds, cb_stream, class_weights, count_tokens, cross_entropy, focal

IDS = DecisionIds(silence=0, response=1)
TARGETS = torch.tensor([0, 0, 0, 1, 2, 3])
COUNTS = Counts(silence=3, response=1, total=6)


@pytest.fixture
def logits():
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(3))


def minus_log_p(logits):
    return [-math.log(row.softmax(-1)[t].item()) for row, t in zip(logits, TARGETS, strict=True)]


def test_class_weights_by_hand():
    # beta 0.9: E = (1 - 0.9^3) / 0.1 = 2.71 for three and 1 for one; 1/E = 0.369004 and 1;
    # w = 2 (1/E) / 1.369004
    assert class_weights(COUNTS, beta=0.9) == pytest.approx((0.539084, 1.460916), abs=1e-6)


def test_class_weights_as_a_training_step_meets_them():
    # 400 silences, 20 responses: E = 392.1 and 19.98, so a response weighs almost 20 times a silence
    silence, response = class_weights(Counts(400, 20, 500), beta=0.9999)
    assert response / silence == pytest.approx(392.1 / 19.98, rel=1e-3)


@pytest.mark.parametrize(("counts", "weights"), [((5, 0), (1, 0)), ((0, 5), (0, 1)), ((0, 0), (0, 0))])
def test_an_absent_class_is_left_out(counts, weights):
    assert class_weights(Counts(*counts, total=9), beta=0.9999) == pytest.approx(weights)


@given(silence=st.integers(1, 100_000), response=st.integers(1, 100_000))
def test_weights_sum_to_the_number_of_classes_and_favour_the_rare(silence, response):
    w_silence, w_response = class_weights(Counts(silence, response, 1), beta=0.9999)
    assert w_silence + w_response == pytest.approx(2)
    assert (w_silence <= w_response + 1e-12) == (silence >= response)


def test_cross_entropy_by_hand(logits):
    assert cross_entropy(logits, TARGETS, COUNTS).item() == pytest.approx(
        sum(minus_log_p(logits)) / 6, rel=1e-5
    )


def test_cb_stream_by_hand(logits):
    weights = [0.539084] * 3 + [1.460916] + [2.0] * 2
    expected = sum(w * term for w, term in zip(weights, minus_log_p(logits), strict=True)) / 6
    found = cb_stream(logits, TARGETS, COUNTS, ids=IDS, beta=0.9, lambda_text=2.0)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_focal_by_hand(logits):
    # alpha: 4 / (3 * 2) for silence, 4 / (1 * 2) for response
    terms = minus_log_p(logits)
    weights = [a * (1 - math.exp(-t)) ** 2 for a, t in zip([2 / 3] * 3 + [2.0], terms, strict=False)] + [
        1.0,
        1.0,
    ]
    expected = sum(w * t for w, t in zip(weights, terms, strict=True)) / 6
    assert focal(logits, TARGETS, COUNTS, ids=IDS).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "loss", [cross_entropy, functools.partial(focal, ids=IDS), functools.partial(cb_stream, ids=IDS)]
)
def test_parts_sum_to_the_whole_with_the_same_gradient(loss, logits):
    whole, parts = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    total = loss(whole, TARGETS, COUNTS)
    total.backward()
    split = [loss(parts[i:j], TARGETS[i:j], COUNTS) for i, j in ((0, 1), (1, 5), (5, 6), (6, 6))]
    sum(split).backward()
    assert sum(split).item() == pytest.approx(total.item(), rel=1e-6)
    torch.testing.assert_close(parts.grad, whole.grad)


def test_counts_leave_out_the_first_position_and_the_unsupervised():
    labels = torch.tensor([[0, 0, -100, 1, 7], [-100, 0, 7, 7, -100]])
    assert count_tokens(labels, IDS).tolist() == [2, 1, 6]
