"""Teacher-forced measures of decisions and texts: cheap signs of progress, not the benchmark's score."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy as nll

from train.data.encode import IGNORE
from train.sft.losses import DecisionIds

COUNTS = (
    "response_turns",
    "response_hits",
    "silence_turns",
    "silence_hits",
    "text_tokens",
    "text_hits",
    "exact_texts",
    "nll",
)
"""What is counted. Hits: the decision token of higher logit is the right one, as a threshold of 0.5 has it.
``exact_texts``: responses of which every text token, end included, has the highest logit. ``nll``: sum over
supervised tokens of -log p."""


def count(logits: Tensor, targets: Tensor, ids: DecisionIds) -> Tensor:
    """COUNTS of one run of supervised positions in order: ``logits`` [M, vocab], ``targets`` [M] -> [8]."""
    silence, response = targets == ids.silence, targets == ids.response
    speaks = logits[:, ids.response] > logits[:, ids.silence]
    text = ~(silence | response)
    right = logits.argmax(-1) == targets
    turn = torch.cumsum(silence | response, 0)  # each text token carries the number of its turn
    wrong_turns = torch.unique(turn[text & ~right])
    exact = response.sum() - torch.isin(turn[response], wrong_turns).sum()
    values = [
        response.sum(),
        (response & speaks).sum(),
        silence.sum(),
        (silence & ~speaks).sum(),
        text.sum(),
        (text & right).sum(),
        exact,
        nll(logits.float(), targets, reduction="sum"),
    ]
    return torch.stack([value.double() for value in values])


def count_by_task(
    logits: Tensor, labels: Tensor, tasks: Sequence[str], ids: DecisionIds
) -> Iterable[tuple[str, Tensor]]:
    """(task, COUNTS) of each row. ``logits`` [M, vocab]: of the positions ``labels[:, 1:]`` marks."""
    supervised = labels[:, 1:] != IGNORE
    first = 0
    for row, task in enumerate(tasks):
        n = int(supervised[row].sum())
        yield task, count(logits[first : first + n], labels[row, 1:][supervised[row]], ids)
        first += n


def rates(counts: Tensor) -> dict[str, float]:
    """Shares out of counts; those of nothing are left out.

    ``recall``, ``precision``: of responses; ``silence_recall``, ``silence_precision``; ``text``: token
    accuracy; ``exact``: share of responses with exactly the right text; ``nll``: mean over supervised tokens.
    """
    n = dict(zip(COUNTS, counts.tolist(), strict=True))
    missed = n["response_turns"] - n["response_hits"]
    false_alarms = n["silence_turns"] - n["silence_hits"]
    shares = {
        "recall": (n["response_hits"], n["response_turns"]),
        "precision": (n["response_hits"], n["response_hits"] + false_alarms),
        "silence_recall": (n["silence_hits"], n["silence_turns"]),
        "silence_precision": (n["silence_hits"], n["silence_hits"] + missed),
        "text": (n["text_hits"], n["text_tokens"]),
        "exact": (n["exact_texts"], n["response_turns"]),
        "nll": (n["nll"], n["response_turns"] + n["silence_turns"] + n["text_tokens"]),
    }
    return {name: part / whole for name, (part, whole) in shares.items() if whole > 0}


def table(by_task: dict[str, dict[str, float]]) -> str:
    """Rates by task as text, one row a task."""
    columns = ("recall", "precision", "silence_recall", "silence_precision", "text", "exact", "nll")
    lines = ["task  " + "  ".join(f"{name:>17}" for name in columns)]
    for task, values in by_task.items():
        cells = [f"{values[name]:17.3f}" if name in values else f"{'-':>17}" for name in columns]
        lines.append(f"{task:<5} " + "  ".join(cells))
    return "\n".join(lines)


class TaskCounts:
    """Sums of COUNTS by task."""

    def __init__(self, tasks: Sequence[str]) -> None:
        self._sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(len(COUNTS), dtype=torch.float64))
        self._tasks = list(tasks)

    def add(self, pairs: Iterable[tuple[str, Tensor]]) -> None:
        for task, values in pairs:
            self._sums[task] += values.cpu()

    def stacked(self) -> Tensor:
        """[tasks, 8], in the order of the tasks given, for summing over ranks."""
        return torch.stack([self._sums[task] for task in self._tasks])

    def rates(self, stacked: Tensor) -> dict[str, Any]:
        """Rates by task, and of everything together as "all"."""
        by_task = {task: rates(stacked[i]) for i, task in enumerate(self._tasks)}
        return {**by_task, "all": rates(stacked.sum(0))}
