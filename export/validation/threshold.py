"""The decision threshold of a bundle, from annotated clips.

Rounding moves scores, and each precision moves them by its own amount. So a bundle is asked itself, in the
runtime's session, with the choice that ``train calibrate`` makes for a checkpoint
(:mod:`train.rollout.threshold`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

import edge_runtime
from benchmarks.metric.annotations import Annotation, Prediction, Response, read_annotations
from benchmarks.metric.delivery import delivered
from benchmarks.metric.judges import open_judge
from benchmarks.metric.progress import Progress
from edge_runtime.atomic_write import write_whole
from edge_runtime.bundle.manifest import MANIFEST, SHIPPED, load_bundle
from edge_runtime.engine.model import Model
from export.errors import ExportError
from train.data.features import read_frames
from train.rollout.evaluation import grouped
from train.rollout.examination import drawn, figures
from train.rollout.threshold import GRID, best_threshold, describe


@dataclass(frozen=True)
class Asked:
    """Which questions are put to the bundle. ``questions``: so many, drawn by ``seed``; 0: all."""

    file: Path
    questions: int = 0
    seed: int = 1
    judge: str = "exact"


def calibrate_threshold(
    bundle: str, asked: Asked, false_alarms: float, say: Callable[[str], None] = lambda _: None
) -> tuple[Path, float, dict[str, Any]]:
    """Write the threshold with the best F1, within a limit on false alarms, into the bundle's manifest.

    Returns the manifest's path, the threshold and its figures. Raises EdgeError, and ClickException when all
    questions have answers, or none.
    """
    folder = load_bundle(bundle).folder
    if folder.parent == SHIPPED:
        raise ExportError(f"{bundle}: is shipped with the package; copy {folder} and calibrate the copy")
    model = edge_runtime.load(folder, threads=1)
    # Without numbers a session is asked one question, however many training put into a trajectory.
    together = (model.queries_per_session or 1) if model.stream_format.numbers_queries else 1
    questions = drawn(read_annotations(asked.file), asked.questions, asked.seed, together)
    said = _answers(model, grouped(questions, together))
    found = {}
    for threshold, answers in said.items():
        found[threshold] = figures(questions, answers, open_judge(asked.judge))
        say(f"{threshold:<6g} {describe(found[threshold])}")
    best = best_threshold(found, false_alarms)
    path = folder / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["protocol"]["threshold"] = best
    manifest["threshold_chosen_on"] = {
        "annotations": asked.file.name,
        "questions": len(questions),
        "w_avg": round(found[best]["f1"]["W-Avg"], 2),
        "false_alarms_per_minute": round(found[best]["false_alarms"]["per_minute"], 3),
    }
    write_whole(path, [json.dumps(manifest, indent=1, ensure_ascii=False), "\n"])
    return path, best, found[best]


def _answers(model: Model, groups: Sequence[list[Annotation]]) -> dict[float, list[Prediction]]:
    """What reaches a person at each threshold of the grid, a session for each group; every clip is decoded
    and seen once.
    """
    said: dict[float, list[Prediction]] = {threshold: [] for threshold in GRID}
    clips: dict[Path, list[list[Annotation]]] = {}
    for group in groups:
        clips.setdefault(group[0].video_path, []).append(group)
    with Progress(len(groups) * len(GRID), "threshold", unit="session") as progress:
        for clip, sessions in clips.items():
            seen = _see(model, clip)
            for threshold in GRID:
                for group in sessions:
                    said[threshold] += _watch(model, group, seen, threshold)
                    progress.advance()
    return said


Seen = list[tuple[int, NDArray[np.float32]]]
"""Number and visual tokens of each timestep."""


def _see(model: Model, clip: Path) -> Seen:
    vision, size = model.open_vision(), model.bundle.model.image_size
    try:
        frames = read_frames(clip, model.stream_format.fps, size)
        return [(index, vision.see(frame)) for index, frame in frames]
    except (av.FFmpegError, ValueError, OSError) as error:
        raise ExportError(f"{clip}: cannot be decoded ({error}); check the annotation's video") from error


def _watch(model: Model, group: Sequence[Annotation], seen: Seen, threshold: float) -> list[Prediction]:
    """One session for the questions of a group, each asked at its time."""
    waiting = sorted(group, key=lambda question: question.query.time)
    said: dict[str, list[Response]] = {question.id: [] for question in group}
    with model.session(threshold=threshold) as session:
        for index, tokens in seen:
            while waiting and model.stream_format.interval(index)[1] >= waiting[0].query.time:
                question = waiting.pop(0)
                session.ask(question.query.text, id=question.id)
            decision = session.push_tokens(tokens, index)
            for name, text in decision.answers.items():
                said[name].append(Response(decision.time, text))
    return [delivered(Prediction(name, tuple(responses))) for name, responses in said.items()]
