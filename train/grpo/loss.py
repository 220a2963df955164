"""GRPO's loss: group-relative advantages, clipped ratios, optional KL (paper section 4.2).

The log-probabilities of a whole trajectory come from one teacher-forced pass, in which only the positions
that the policy chose make logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from train.models.base import StreamModel
from train.rollout.rollout import padded, visual_of
from train.rollout.token_constraints import TokenConstraints
from train.rollout.trajectory import Trajectory

NO_VARIANCE = 1e-6
"""A group whose rewards spread less than this says nothing about what is better."""


@dataclass(frozen=True)
class PolicyLossSettings:
    """``clip_low``, ``clip_high``: ratios are clipped to [1 - low, 1 + high]. ``kl``: weight of the KL
    divergence to the model that training started from. ``aggregation``: "token" weighs all tokens of a batch
    alike, "sequence" all trajectories. ``epsilon`` keeps the advantage of a small spread finite.
    """

    clip_low: float = 0.2
    clip_high: float = 0.2
    kl: float = 0.0
    aggregation: Literal["token", "sequence"] = "token"
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        if not 0 < self.clip_low < 1 or self.clip_high <= 0:
            raise ValueError("clip_low must lie between 0 and 1 and clip_high above 0")
        if self.kl < 0 or self.epsilon < 0:
            raise ValueError("kl and epsilon must not be negative")


def group_advantages(rewards: Tensor, epsilon: float = 1e-6) -> Tensor:
    """``rewards`` [P, G] -> (reward - mean) / (std + epsilon) within each row, 0 in rows without variance."""
    rewards = rewards.double()
    mean, std = rewards.mean(1, keepdim=True), rewards.std(1, keepdim=True)
    return torch.where(std > NO_VARIANCE, (rewards - mean) / (std + epsilon), 0.0).float()


def policy_log_probs(
    model: StreamModel, constraints: TokenConstraints, trajectories: Sequence[Trajectory]
) -> Tensor:
    """Log-probabilities of all chosen tokens, trajectory by trajectory: float32 [M]. One padded batch."""
    device = next(model.parameters()).device
    visual, firsts = visual_of(model, [t.prompt for t in trajectories], device)
    frames = torch.cat(
        [first + torch.arange(len(t.prompt.timesteps)) for first, t in zip(firsts, trajectories, strict=True)]
    )
    ids, _ = padded([t.ids.tolist() for t in trajectories], constraints.encoder.silence_id, device)
    hidden = model.hidden(ids, visual.select(frames.to(device)), constraints.encoder.image_id)  # [B, T, D]
    rows = torch.cat([torch.full((len(t.sampled),), i) for i, t in enumerate(trajectories)])
    chosen = torch.cat([t.sampled for t in trajectories])
    logits = model.logits(hidden[rows.to(device), (chosen - 1).to(device)])  # [M, vocab]
    places = torch.cat([t.places for t in trajectories]).to(device)
    tokens = torch.cat([t.ids[t.sampled] for t in trajectories]).to(device)
    return constraints.log_probs(logits, places).gather(1, tokens[:, None])[:, 0]


@dataclass(frozen=True)
class LossParts:
    """``loss`` is what to differentiate. Sums over tokens of what is said about them, without gradient:
    ``clipped`` tokens whose gradient the clip stopped, ``kl`` to the start, ``entropy`` as -log p.
    """

    loss: Tensor
    tokens: int
    clipped: float
    kl: float
    entropy: float


def policy_loss(
    new: Tensor,
    old: Tensor,
    advantages: Tensor,
    weights: Tensor,
    settings: PolicyLossSettings,
    reference: Tensor | None = None,
) -> LossParts:
    """Clipped surrogate over tokens, plus ``settings.kl`` times the KL estimate k3. All tensors are [M].

    ``old``: log-probabilities under the policy that chose; ``weights``: share of each token in the batch, as
    :func:`token_weights` gives them; ``reference``: log-probabilities under the model of the start.
    """
    ratio = torch.exp(new - old)
    clipped = ratio.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    loss = -(torch.minimum(ratio * advantages, clipped * advantages) * weights).sum()
    kl = torch.zeros_like(new)
    if reference is not None:
        kl = torch.exp(reference - new) - (reference - new) - 1
        loss = loss + settings.kl * (kl * weights).sum()
    stopped = (ratio * advantages > clipped * advantages) & (advantages != 0)
    return LossParts(
        loss, len(new), float(stopped.sum()), float(kl.detach().sum()), -float(new.detach().sum())
    )


def token_weights(lengths: Sequence[int], totals: Tensor, settings: PolicyLossSettings) -> Tensor:
    """[M] weights of the tokens of trajectories with ``lengths`` chosen tokens each.

    ``totals``: tokens and trajectories of the whole batch, over all ranks; all weights of it sum to 1.
    """
    tokens, trajectories = totals.tolist()
    if settings.aggregation == "token":
        return torch.full((sum(lengths),), 1.0 / tokens)
    return torch.cat([torch.full((n,), 1.0 / (trajectories * n)) for n in lengths])
