"""Decision scores that a prediction may carry beside the format's keys (see :mod:`..runner`).

``scores`` of a prediction: a list of ``[time, score]``, one per timestep, the score being the probability of
speaking. ``score`` of a response: that of the timestep at which it was given.
"""

from __future__ import annotations

import math
from typing import Any

from benchmarks.metric.annotations import FormatError, Prediction


def timestep_scores(prediction: Prediction) -> list[tuple[float, float]] | None:
    """``(time, score)`` in time order, None when not recorded. Raises FormatError."""
    if "scores" not in prediction.extra:
        return None
    value = prediction.extra["scores"]
    if not isinstance(value, list):
        raise _wrong(prediction, "scores", "a list of [time, score]")
    pairs = []
    for index, pair in enumerate(value):
        if not (isinstance(pair, list) and len(pair) == 2 and all(_is_number(v) for v in pair)):
            raise _wrong(prediction, f"scores[{index}]", "two numbers, [time, score]")
        if pair[0] < 0 or not 0 <= pair[1] <= 1:
            raise _wrong(prediction, f"scores[{index}]", f"a time from 0 and a score in 0..1, got {pair}")
        pairs.append((float(pair[0]), float(pair[1])))
    return sorted(pairs)


def response_score(prediction: Prediction, index: int) -> float | None:
    """Score of one response, None when not recorded. Raises FormatError."""
    value = prediction.responses[index].extra.get("score")
    if value is None:
        return None
    if not _is_number(value) or not 0 <= value <= 1:
        raise _wrong(prediction, f"responses[{index}].score", "a number in 0..1")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _wrong(prediction: Prediction, key: str, expected: str) -> FormatError:
    return FormatError(f"{prediction.path}, line {prediction.line}, key {key!r}: expected {expected}")
