"""AdamW as recipes describe it, for supervised training and for GRPO."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from train.sft.schedule import TimedCosine


@dataclass(frozen=True)
class AdamW:
    """A linear warm-up to ``lr`` and a cosine to ``final_lr_share`` of it; matrices decay, vectors do not."""

    lr: float = 2e-3
    warmup_steps: int = 100
    final_lr_share: float = 0.02
    weight_decay: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.98
    grad_clip: float = 1.0

    def rate_of(self, name: str) -> float:
        """Peak rate of the parameter ``name``."""
        return self.lr

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """An optimizer of those that are trained."""
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, parameter in parameters:
            if parameter.requires_grad:
                groups.setdefault((self.rate_of(name), parameter.ndim >= 2), []).append(parameter)
        return torch.optim.AdamW(
            [
                {"params": members, "lr": rate, "weight_decay": self.weight_decay if matrices else 0.0}
                for (rate, matrices), members in groups.items()
            ],
            betas=(self.beta1, self.beta2),
        )

    def clock(self, steps: int, limit_s: float) -> TimedCosine:
        return TimedCosine(steps, self.warmup_steps, self.final_lr_share, limit_s)


@dataclass(frozen=True)
class Optimizer(AdamW):
    """With ``projector_lr`` and ``embedding_lr``: peaks of the projector and of the (tied) embedding."""

    projector_lr: float | None = None
    embedding_lr: float | None = None

    def rate_of(self, name: str) -> float:
        own = {"projector": self.projector_lr, "embed_tokens": self.embedding_lr}
        rate = next((rate for part, rate in own.items() if part in name), None)
        return self.lr if rate is None else rate
