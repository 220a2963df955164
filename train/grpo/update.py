"""One GRPO step's optimisation: from trajectories with advantages to new weights, over all ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch import distributed as dist

from train.errors import TrainingError
from train.grpo.loss import LossParts, PolicyLossSettings, policy_log_probs, policy_loss, token_weights
from train.models.base import StreamModel
from train.rollout.token_constraints import TokenConstraints
from train.rollout.trajectory import Trajectory


@dataclass(frozen=True)
class PolicySample:
    """A trajectory with its advantage; ``reference``: log-probabilities [M] under the model of the start."""

    trajectory: Trajectory
    advantage: float
    reference: Tensor | None = None


@dataclass
class UpdateStats:
    """What an update did, over all ranks: ``loss``, ``grad_norm`` and ``steps`` of the optimizer; per token:
    share of ``clipped`` ones, ``kl`` to the start, ``entropy``.
    """

    loss: float = 0.0
    grad_norm: float = 0.0
    steps: int = 0
    clipped: float = 0.0
    kl: float = 0.0
    entropy: float = 0.0
    _sums: list[float] = field(default_factory=lambda: [0.0] * 5)

    def add(self, parts: LossParts) -> None:
        new = (float(parts.loss.detach()), parts.tokens, parts.clipped, parts.kl, parts.entropy)
        self._sums = [a + b for a, b in zip(self._sums, new, strict=True)]

    def close(self, device: torch.device) -> UpdateStats:
        """Sum over ranks and divide by the tokens."""
        sums = sum_over_ranks(torch.tensor(self._sums, dtype=torch.float64, device=device)).tolist()
        loss, tokens, clipped, kl, entropy = sums
        self.loss = loss / max(1, self.steps)
        self.clipped, self.kl, self.entropy = (v / max(1.0, tokens) for v in (clipped, kl, entropy))
        return self


class PolicyUpdate:
    """Optimizer steps on samples. ``autocast`` gives a context for each forward pass."""

    def __init__(
        self,
        model: StreamModel,
        optimizer: torch.optim.Optimizer,
        constraints: TokenConstraints,
        settings: PolicyLossSettings,
        *,
        micro_batch_size: int,
        grad_clip: float,
        autocast: Callable[[], AbstractContextManager[object]],
        reference: StreamModel | None = None,
    ) -> None:
        self._model, self._optimizer, self._constraints, self._settings = (
            model,
            optimizer,
            constraints,
            settings,
        )
        self._micro_batch_size, self._grad_clip, self._autocast = micro_batch_size, grad_clip, autocast
        self._reference = reference
        self._device = next(model.parameters()).device

    def __call__(
        self, samples: Sequence[PolicySample], *, epochs: int, minibatches: int, generator: torch.Generator
    ) -> UpdateStats:
        """``epochs`` passes over this rank's ``samples`` in ``minibatches`` optimizer steps each.

        A batch without a token to learn from, over all ranks, is no step at all. Raises TrainingError when
        loss or gradients are not finite; the weights are then those of before the failing step.
        """
        samples = self._with_reference(samples)
        stats = UpdateStats()
        for _ in range(epochs):
            order = torch.randperm(len(samples), generator=generator).tolist()
            for i in range(minibatches):
                self._step([samples[j] for j in order[i::minibatches]], stats)
        return stats.close(self._device)

    def _with_reference(self, samples: Sequence[PolicySample]) -> list[PolicySample]:
        if self._reference is None:
            return list(samples)
        found = []
        for batch in self._micro_batches(samples):
            with torch.no_grad(), self._autocast():
                values = policy_log_probs(self._reference, self._constraints, [b.trajectory for b in batch])
            parts = values.split([len(b.trajectory.sampled) for b in batch])
            found += [PolicySample(b.trajectory, b.advantage, p) for b, p in zip(batch, parts, strict=True)]
        return found

    def _step(self, samples: Sequence[PolicySample], stats: UpdateStats) -> None:
        tokens = sum(len(sample.trajectory.sampled) for sample in samples)
        totals = sum_over_ranks(
            torch.tensor([tokens, len(samples)], dtype=torch.float64, device=self._device)
        )
        if totals[0] == 0:
            return
        self._optimizer.zero_grad(set_to_none=True)
        for batch in self._micro_batches(samples):
            with self._autocast():
                parts = self._loss(batch, totals)
            if not torch.isfinite(parts.loss):
                raise TrainingError(f"the loss is {float(parts.loss)} on the batch {_names(batch)}")
            parts.loss.backward()
            stats.add(parts)
        parameters = [p for p in self._model.parameters() if p.requires_grad]
        _sum_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self._grad_clip)
        if not torch.isfinite(norm):
            raise TrainingError(f"the gradient is {float(norm)} on the batch {_names(samples)}")
        self._optimizer.step()
        stats.grad_norm = max(stats.grad_norm, float(norm))
        stats.steps += 1

    def _loss(self, batch: Sequence[PolicySample], totals: Tensor) -> LossParts:
        trajectories = [sample.trajectory for sample in batch]
        lengths = [len(t.sampled) for t in trajectories]
        advantages = torch.cat([torch.full((n,), b.advantage) for n, b in zip(lengths, batch, strict=True)])
        references = [sample.reference for sample in batch if sample.reference is not None]
        return policy_loss(
            policy_log_probs(self._model, self._constraints, trajectories),
            torch.cat([t.log_probs for t in trajectories]).to(self._device),
            advantages.to(self._device),
            token_weights(lengths, totals, self._settings).to(self._device),
            self._settings,
            torch.cat(references) if references else None,
        )

    def _micro_batches(self, samples: Sequence[PolicySample]) -> list[list[PolicySample]]:
        """Samples of like length together, so that little is padded."""
        ordered = sorted(samples, key=lambda sample: len(sample.trajectory.ids))
        size = self._micro_batch_size
        return [ordered[i : i + size] for i in range(0, len(ordered), size)]


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of every rank's ``values``; they alone when there is one rank."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
    return values


def _sum_gradients(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Gradients summed over ranks, in one message. A rank without samples brings zeros."""
    if not (dist.is_available() and dist.is_initialized()):
        return
    flat = torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).flatten().float() for p in parameters]
    )
    dist.all_reduce(flat)
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter).to(parameter.dtype)


def _names(samples: Sequence[PolicySample]) -> str:
    return ", ".join(dict.fromkeys(sample.trajectory.prompt.annotation.id for sample in samples))
