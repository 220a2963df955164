"""What annotation files hold, in numbers: how much of it is silence, how long, how many of each task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.metric.annotations import Annotation
from train.data.timeline import build_timeline


@dataclass(frozen=True)
class Spread:
    """Least, median and most; None of nothing."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        return cls(min(values), median(values), max(values)) if values else None

    def __str__(self) -> str:
        return f"{self.least:g} / {self.median:g} / {self.most:g}"


@dataclass(frozen=True)
class Statistics:
    """Of the questions that can be trained on.

    ``turns``: timesteps of a trajectory. ``silence``: share of the decisions after the query that are silent.
    ``lost``: answers due only after the clip's last timestep. Lengths of answers in words and in tokens.
    """

    questions: int
    clips: int
    hours: float
    by_task: dict[str, int]
    turns: Spread | None
    decisions: int
    silence: float | None
    answers: int
    answers_per_question: Spread | None
    unanswered: int
    lost: int
    words: Spread | None
    tokens: Spread | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of each number, for people."""
        silence = "-" if self.silence is None else f"{100 * self.silence:.1f} %"
        rows = [
            ("questions", f"{self.questions:,}"),
            ("  by task", "  ".join(f"{task} {n}" for task, n in self.by_task.items()) or "-"),
            ("clips", f"{self.clips:,} ({self.hours:.2f} h)"),
            ("turns a trajectory", str(self.turns or "-")),
            ("silence", f"{silence} of {self.decisions:,} decisions"),
            ("answers", f"{self.answers:,}, of which lost {self.lost}"),
            ("  a question", f"{self.answers_per_question or '-'}, without any: {self.unanswered}"),
            ("  words", str(self.words or "-")),
        ]
        if self.tokens is not None:
            rows.append(("  tokens", str(self.tokens)))
        return [*rows, ("", "(three numbers: least / median / most)")]


def summarise(
    annotations: Sequence[Annotation],
    durations: dict[Path, float],
    fps: float = 1.0,
    count_tokens: Callable[[str], int] | None = None,
) -> Statistics:
    """``durations``: of clips that were looked into; the others last what their annotations say."""
    turns, decisions, spoken, lost = [], 0, 0, 0
    clips: dict[Path, float] = {}
    for annotation in annotations:
        seconds = durations.get(annotation.video_path, annotation.duration)
        clips[annotation.video_path] = seconds
        timeline = build_timeline(annotation, range(int(seconds * fps + 0.15)), fps)
        turns.append(len(timeline.timesteps))
        decisions += len(timeline.timesteps) - timeline.query_turn
        spoken += len(timeline.responses)
        lost += timeline.lost
    texts = [answer.text for annotation in annotations for answer in annotation.answers]
    return Statistics(
        questions=len(annotations),
        clips=len(clips),
        hours=sum(clips.values()) / 3600.0,
        by_task=dict(sorted(Counter(annotation.task for annotation in annotations).items())),
        turns=Spread.of(turns),
        decisions=decisions,
        silence=1.0 - spoken / decisions if decisions else None,
        answers=len(texts),
        answers_per_question=Spread.of([len(annotation.answers) for annotation in annotations]),
        unanswered=sum(not annotation.answers for annotation in annotations),
        lost=lost,
        words=Spread.of([len(text.split()) for text in texts]),
        tokens=Spread.of([count_tokens(text) for text in texts]) if count_tokens else None,
    )
