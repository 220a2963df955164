"""What people and TensorBoard see of a GRPO step."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter

from train.grpo.groups import DrawnGroups
from train.grpo.update import UpdateStats, sum_over_ranks
from train.run_log import RunLog


@dataclass(frozen=True)
class StepReport:
    """Means over the step's trajectories, over all ranks.

    ``reward``, and ``parts``, the rewards it is the sum of, by name; ``responses`` per trajectory;
    ``idle_groups``: share of groups without variance, which teach nothing; ``refills``: share of groups that
    were drawn to replace one of these; ``clipped``: share of tokens whose
    gradient the clip stopped; ``kl`` to the start and ``entropy`` (-log p) per token.
    """

    reward: float
    reward_std: float
    parts: dict[str, float]
    responses: float
    idle_groups: float
    refills: float
    loss: float
    clipped: float
    kl: float
    entropy: float
    grad_norm: float
    lr: float
    rollout_s: float
    update_s: float
    tokens_per_s: float

    def to_dict(self) -> dict[str, float]:
        """One figure a name: each reward has its own."""
        figures: dict[str, float] = {}
        for name, value in asdict(self).items():
            figures |= value if name == "parts" else {name: value}
        return figures


def step_report(
    drawn: DrawnGroups,
    stats: UpdateStats,
    rate: float,
    rollout_s: float,
    seconds: float,
    device: torch.device,
) -> StepReport:
    """Of a step that took ``seconds``, over all ranks; ``rate``: of learning."""
    trajectories, rewards, advantages = drawn.trajectories, drawn.rewards, drawn.advantages
    n = len(rewards)
    sums = [float(n), sum(r.total for r in rewards), sum(r.total**2 for r in rewards)]
    sums += [float(sum(len(t.responses) for t in trajectories))]
    sums += [float((advantages == 0).all(1).sum()), float(drawn.refills), float(len(advantages))]
    sums += [float(sum(len(t.ids) for t in trajectories))]
    names = list(rewards[0].parts)
    sums += [sum(r.parts[name] for r in rewards) for name in names]
    n_all, total, squares, responses, idle, refills, groups, tokens, *parts = sum_over_ranks(
        torch.tensor(sums, dtype=torch.float64, device=device)
    ).tolist()
    mean = total / n_all
    return StepReport(
        reward=mean,
        reward_std=math.sqrt(max(0.0, squares / n_all - mean**2)),
        parts={name: value / n_all for name, value in zip(names, parts, strict=True)},
        responses=responses / n_all,
        idle_groups=idle / groups,
        refills=refills / groups,
        loss=stats.loss,
        clipped=stats.clipped,
        kl=stats.kl,
        entropy=stats.entropy,
        grad_norm=stats.grad_norm,
        lr=rate,
        rollout_s=rollout_s,
        update_s=seconds - rollout_s,
        tokens_per_s=tokens / seconds,
    )


class StepReporter:
    """Lines on stderr and in ``output``/train.log, curves in ``output``/tensorboard; silent where ``speaks``
    is False.
    """

    def __init__(self, output: Path, speaks: bool) -> None:
        self.say = RunLog(output / "train.log", speaks)
        self._board = SummaryWriter(str(output / "tensorboard")) if speaks else None

    def step(self, step: int, steps: int, minutes: float, found: StepReport) -> None:
        self._write("grpo", found.to_dict(), step)
        parts = "  ".join(f"{name} {value:.3f}" for name, value in found.parts.items())
        self.say(
            f"step {step:>5}/{steps}  {minutes:6.1f} min  "
            f"reward {found.reward:.3f} +- {found.reward_std:.3f}  "
            f"{parts}  "
            f"responses {found.responses:.2f}  idle groups {found.idle_groups:.2f}  "
            f"refills {found.refills:.2f}  "
            f"clipped {found.clipped:.3f}  kl {found.kl:.4f}  entropy {found.entropy:.3f}  "
            f"grad {found.grad_norm:.2f}  lr {found.lr:.2e}  "
            f"rollout {found.rollout_s:.1f} s  update {found.update_s:.1f} s  "
            f"{found.tokens_per_s:.0f} tokens/s"
        )

    def evaluation(
        self, step: int, threshold: float, f1: dict[str, float], responses: float, best: bool
    ) -> None:
        self._write(f"f1@{threshold:g}", f1, step)
        by_task = "  ".join(f"{name} {value:.3g}" for name, value in f1.items())
        self.say(
            f"StreamPro-F1 at step {step}, threshold {threshold:g}: {by_task}  "
            f"({responses:.2f} responses per question){'  (the best so far)' if best else ''}"
        )

    def close(self) -> None:
        if self._board is not None:
            self._board.close()

    def _write(self, group: str, values: dict[str, float], step: int) -> None:
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{group}/{name}", value, step)
