"""Losses over supervised tokens: cross-entropy, Streamo's focal loss, CB-Stream Loss.

All take ``logits`` [M, vocab] and ``targets`` [M] of the supervised positions of one micro-batch and
return the *sum* of its weighted terms divided by ``counts.total``, the supervised tokens of the whole
optimizer batch (over accumulation steps and ranks). Summing over micro-batches then gives the loss of the
optimizer batch, and its gradient, however the batch was split.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy as nll

from train.data.encode import IGNORE


@dataclass(frozen=True)
class Counts:
    """Supervised tokens of an optimizer batch: both decision classes and all of them."""

    silence: float
    response: float
    total: float


@dataclass(frozen=True)
class DecisionIds:
    """Token ids of the decision tokens, the set S of the paper."""

    silence: int
    response: int


Loss = Callable[[Tensor, Tensor, Counts], Tensor]


def count_tokens(labels: Tensor, ids: DecisionIds) -> Tensor:
    """[3] float64: silence, response and all supervised tokens of ``labels`` [B, T]."""
    labels = labels[:, 1:]  # nothing predicts the first position
    found = [labels == ids.silence, labels == ids.response, labels != IGNORE]
    return torch.stack([mask.sum() for mask in found]).double()


def cross_entropy(logits: Tensor, targets: Tensor, counts: Counts) -> Tensor:
    """(1/N) sum_i -log p_i: every supervised token weighs the same (table 5's first baseline)."""
    return nll(logits.float(), targets, reduction="sum") / counts.total


def focal(logits: Tensor, targets: Tensor, counts: Counts, *, ids: DecisionIds, gamma: float = 2.0) -> Tensor:
    """Streamo's loss (table 5's second baseline): decisions weigh alpha_c (1 - p_t)^gamma, text weighs 1.

    alpha_c = N / (n_c C) with N decision tokens in all, n_c of class c, C classes present. Streamo counts
    in each micro-batch; here the counts are those of the optimizer batch, so that the split changes nothing.
    """
    terms = nll(logits.float(), targets, reduction="none")
    present = [n for n in (counts.silence, counts.response) if n > 0]
    alpha = torch.zeros_like(terms)
    for token, n in ((ids.silence, counts.silence), (ids.response, counts.response)):
        if n > 0:
            alpha = torch.where(targets == token, sum(present) / (n * len(present)), alpha)
    modulation = (1.0 - torch.exp(-terms)).clamp_min(0.0) ** gamma
    weights = torch.where(alpha > 0, alpha * modulation, torch.ones_like(terms))
    return (weights * terms).sum() / counts.total


def cb_stream(
    logits: Tensor,
    targets: Tensor,
    counts: Counts,
    *,
    ids: DecisionIds,
    beta: float = 0.9999,
    lambda_text: float = 2.0,
) -> Tensor:
    """CB-Stream Loss (section 4.1): (1/N) sum_i w_i (-log p_i).

    w_i is the class weight for decision tokens and ``lambda_text`` for language tokens.
    """
    terms = nll(logits.float(), targets, reduction="none")
    silence, response = class_weights(counts, beta)
    weights = torch.full_like(terms, lambda_text)
    weights = torch.where(targets == ids.silence, silence, weights)
    weights = torch.where(targets == ids.response, response, weights)
    return (weights * terms).sum() / counts.total


def class_weights(counts: Counts, beta: float) -> tuple[float, float]:
    """Weights (silence, response) by effective numbers of samples (section 4.1).

    E_k = (1 - beta^n_k) / (1 - beta), w_k = |S| (1/E_k) / sum_j (1/E_j). The paper does not say what happens
    to a class absent from the batch: it is left out of S, so that a class on its own has weight 1.
    """
    numbers = (counts.silence, counts.response)
    inverse = [(1.0 - beta) / (1.0 - beta**n) if n > 0 else 0.0 for n in numbers]
    size, total = sum(n > 0 for n in numbers), sum(inverse)
    silence, response = (size * value / total if value else 0.0 for value in inverse)
    return silence, response
