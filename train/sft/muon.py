"""Muon for the matrices of the decoder's layers and AdamW for everything else, as one optimizer.

Muon makes a matrix's update orthogonal, which a small decoder learns from in fewer steps. torch's own
implementation of each is used; this only shares one list of groups and one state between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class MuonWithAdamW(torch.optim.Optimizer):
    """``matrices``: groups of two-dimensional weights for Muon; ``others``: groups for AdamW.

    A rate means the same for both: Muon's updates are scaled to the root mean square that AdamW's have.
    """

    def __init__(
        self,
        matrices: list[dict[str, Any]],
        others: list[dict[str, Any]],
        *,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
    ) -> None:
        self._muon = torch.optim.Muon(matrices, momentum=momentum, adjust_lr_fn="match_rms_adamw")
        self._adamw = torch.optim.AdamW(others, betas=betas)
        super().__init__([*self._muon.param_groups, *self._adamw.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Tensor | float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        first = len(self._muon.param_groups)
        parts = ((self._muon, self.param_groups[:first]), (self._adamw, self.param_groups[first:]))
        for part, groups in parts:  # anew each step: a state that is loaded replaces both
            part.param_groups, part.state = groups, self.state
            part.step()
        return loss
