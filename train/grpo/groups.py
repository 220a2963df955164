"""The groups of a step: those without variance are replaced by others (dynamic sampling)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from train.rewards.weighted_sum import Score
from train.rollout.trajectory import Trajectory


@dataclass(frozen=True)
class DrawnGroups:
    """Trajectories group by group, their rewards, and ``advantages`` [P, G]. ``refills``: how many of the P
    groups were drawn to replace one without variance.
    """

    trajectories: list[Trajectory]
    rewards: list[Score]
    advantages: Tensor
    refills: int = 0


def draw_groups(wanted: int, refills: int, draw: Callable[[int, int], DrawnGroups]) -> DrawnGroups:
    """Groups of which ``wanted`` have variance, or all that were drawn when the bound is reached.

    ``draw`` gets the number of the turn and how many groups to draw. After the first turn up to ``refills``
    more follow, each for as many groups as still lack variance.
    """
    drawn: list[DrawnGroups] = []
    missing = wanted
    for turn in range(1 + refills):
        drawn.append(draw(turn, missing))
        missing -= int((drawn[-1].advantages != 0).any(1).sum())
        if missing == 0:
            break
    return _joined(drawn)


def _joined(drawn: Sequence[DrawnGroups]) -> DrawnGroups:
    return DrawnGroups(
        [trajectory for part in drawn for trajectory in part.trajectories],
        [reward for part in drawn for reward in part.rewards],
        torch.cat([part.advantages for part in drawn]),
        sum(len(part.advantages) for part in drawn[1:]),
    )
