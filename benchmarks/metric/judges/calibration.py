"""Fits and checks the embedding judge's map on labelled pairs, written by hand for this project.

Each line of ``calibration.jsonl`` is an answer with three responses: a paraphrase, one on the same matter
with a wrong fact, and one on another matter. Their accuracy follows the paper's scale of 0 to 5 points: 5, 1
and 0, divided by 5.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.metric.judges.embedding import MAP, CosineMap
from benchmarks.metric.judges.minilm import MiniLm

Array = NDArray[np.float64]

PAIRS = Path(__file__).with_name("calibration.jsonl")
ACCURACY = {"paraphrase": 1.0, "wrong_fact": 0.2, "unrelated": 0.0}
"""Kinds of responses and what a perfect judge gives them."""

FOLDS = 10
BINS = 5


@dataclass(frozen=True)
class Calibration:
    """How well a map fits. Errors are in [0, 1].

    ``distance``: mean distance of score and true accuracy. ``error`` (expected calibration error): distance
    of mean score and mean accuracy within bins of the score, weighed by their sizes. Both for the stored map,
    and held out: each answer judged by a map that was fitted to others. ``wrong_facts_told``: share of pairs
    of a paraphrase and a wrong fact in which the paraphrase has the higher cosine; 0.5 is a coin.
    ``off_topic_told``: the same of paraphrases and unrelated responses.
    """

    answers: int
    stored: CosineMap
    fitted: CosineMap
    cosines: dict[str, float]
    scores: dict[str, float]
    distance: float
    error: float
    held_out_distance: float
    held_out_error: float
    wrong_facts_told: float
    off_topic_told: float


def calibrate(model: MiniLm, stored: CosineMap = MAP) -> Calibration:
    """Measure ``stored`` on the pairs, and fit a new map to them."""
    rows = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]
    answers = model.encode([row["answer"] for row in rows])
    cosines = np.stack(
        [np.sum(answers * model.encode([row[kind] for row in rows]), axis=1) for kind in ACCURACY], axis=1
    ).astype(np.float64)  # [answers, kinds]
    target = np.broadcast_to(list(ACCURACY.values()), cosines.shape)
    held_out = np.empty_like(cosines)
    for fold in range(FOLDS):
        out = np.arange(len(rows)) % FOLDS == fold
        held_out[out] = fit(cosines[~out], target[~out])(cosines[out])
    scores = stored(cosines)
    paraphrase, wrong_fact, unrelated = cosines.T
    return Calibration(
        answers=len(rows),
        stored=stored,
        fitted=fit(cosines, target),
        cosines=_by_kind(cosines),
        scores=_by_kind(scores),
        distance=float(np.abs(scores - target).mean()),
        error=calibration_error(scores, target),
        held_out_distance=float(np.abs(held_out - target).mean()),
        held_out_error=calibration_error(held_out, target),
        wrong_facts_told=_told(paraphrase, wrong_fact),
        off_topic_told=_told(paraphrase, unrelated),
    )


def describe(found: Calibration) -> str:
    """For people: a table by kind of response, then the errors."""
    rows = [("response", "right", "cosine", "score")]
    for kind, right in ACCURACY.items():
        rows.append((kind, f"{right:.2f}", f"{found.cosines[kind]:.2f}", f"{found.scores[kind]:.2f}"))
    return "\n".join(
        [
            *(f"{name:<12}{right:>7}{cosine:>8}{score:>8}" for name, right, cosine, score in rows),
            "",
            f"{found.answers} answers, three responses each; the last two columns are means",
            f"mean distance to the right score  {found.distance:.3f}, held out {found.held_out_distance:.3f}",
            f"calibration error                 {found.error:.3f}, held out {found.held_out_error:.3f}",
            f"paraphrase nearer than wrong fact {found.wrong_facts_told:.3f} (0.5 is a coin)",
            f"paraphrase nearer than off topic  {found.off_topic_told:.3f}",
            f"map in use    {_constants(found.stored)}",
            f"fitted anew   {_constants(found.fitted)}",
        ]
    )


def fit(cosines: Array, target: Array) -> CosineMap:
    """The map of least squares, by a grid of slopes and middles that closes in on the best; no chance."""
    best, widths = (15.0, 0.5), (14.0, 0.5)
    top = 1.0
    for _ in range(4):
        axes = [np.linspace(b - w, b + w, 15) for b, w in zip(best, widths, strict=True)]
        slopes, middles = (a.reshape(-1, 1) for a in np.meshgrid(np.maximum(axes[0], 1.0), axes[1]))
        shapes = 1 / (1 + np.exp(-slopes * (cosines.reshape(1, -1) - middles)))  # [grid, pairs]
        wanted = target.reshape(1, -1)
        # For each shape the best top is known: that of a linear fit.
        tops = np.clip((shapes * wanted).sum(1) / np.square(shapes).sum(1), 0.0, 1.0)
        index = int(np.argmin(np.square(tops[:, None] * shapes - wanted).sum(1)))
        top, best = float(tops[index]), (float(slopes[index, 0]), float(middles[index, 0]))
        widths = (widths[0] / 6, widths[1] / 6)
    return CosineMap(round(top, 3), round(best[0], 2), round(best[1], 3))


def calibration_error(scores: Array, target: Array) -> float:
    """Expected calibration error over bins of equal width, see :class:`Calibration`."""
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    gaps = [abs((scores - target)[bins == b].sum()) for b in range(BINS)]
    return float(sum(gaps) / scores.size)


def _constants(used: CosineMap) -> str:
    return f"{used.top:g} / (1 + exp(-{used.slope:g} (cosine - {used.middle:g})))"


def _by_kind(values: Array) -> dict[str, float]:
    return {kind: float(mean) for kind, mean in zip(ACCURACY, values.mean(axis=0), strict=True)}


def _told(right: Array, wrong: Array) -> float:
    return float((right[:, None] > wrong[None]).mean())
