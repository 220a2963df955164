"""The optimizer as recipes describe it: AdamW for GRPO, for supervised training with Muon on request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from train.sft.muon import MuonWithAdamW
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
        return torch.optim.AdamW(self.groups(parameters), betas=(self.beta1, self.beta2))

    def groups(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> list[dict[str, Any]]:
        """Those that are trained, by rate and by whether they decay."""
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, parameter in parameters:
            if parameter.requires_grad:
                groups.setdefault((self.rate_of(name), parameter.ndim >= 2), []).append(parameter)
        return [
            {"params": members, "lr": rate, "weight_decay": self.weight_decay if matrices else 0.0}
            for (rate, matrices), members in groups.items()
        ]

    def clock(self, steps: int, limit_s: float) -> TimedCosine:
        return TimedCosine(steps, self.warmup_steps, self.final_lr_share, limit_s)


@dataclass(frozen=True)
class Optimizer(AdamW):
    """With ``projector_lr`` and ``embedding_lr``: peaks of the projector and of the (tied) embedding.

    ``muon_lr``: the matrices of the decoder's layers are trained by Muon with this peak; None for AdamW.
    """

    projector_lr: float | None = None
    embedding_lr: float | None = None
    muon_lr: float | None = None

    def rate_of(self, name: str) -> float:
        own = {"projector": self.projector_lr, "embed_tokens": self.embedding_lr}
        rate = next((rate for part, rate in own.items() if part in name), None)
        return self.lr if rate is None else rate

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        if self.muon_lr is None:
            return super().build(parameters)
        every = list(parameters)
        matrices = [p for name, p in every if p.requires_grad and p.ndim == 2 and ".layers." in name]
        taken = {id(p) for p in matrices}
        return MuonWithAdamW(
            [{"params": matrices, "lr": self.muon_lr, "weight_decay": self.weight_decay}],
            self.groups((name, p) for name, p in every if id(p) not in taken),
            betas=(self.beta1, self.beta2),
        )
