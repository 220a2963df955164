"""The time at which an ideal answer is given: what supervision asks of the model, per task.

The benchmark's best response time (streampro.md section 4) is a point in continuous time; a model can only
speak at the end of a timestep and only of what it has seen by then. This module says which timestep that is.
"""

from __future__ import annotations

import math

from benchmarks.metric.annotations import Answer

_EPSILON = 1e-6
LATEST_FRAME = 0.05
"""Share of a timestep before its end after which a change is taken to be not yet in its frame."""
RECOGNISABLE = 0.6
"""Share of an event that must have passed before it can be named (EU, TP)."""
RISK_LEAD_S = 3.0
"""Seconds before the hazard at which a warning is due (RF)."""


def target_time(task: str, query_time: float, answer: Answer, fps: float = 1.0) -> float:
    """End in seconds of the timestep at which ``answer`` is due; a multiple of 1 / ``fps``.

    Never before the first timestep in force for a query asked at ``query_time``. By task:

    - EU, TP: the last timestep that ends within the event and at least 60 % through it; when the event holds
      none, the first one at or after its end. Both score full marks for time or, the second, nearly so.
    - EC, AC: the first timestep that ends at or after the event's end.
    - OU, AA: the first timestep whose frame shows the new state.
    - TG: the first timestep that ends after the event's end, when the end has been seen.
    - GP: the last timestep that ends at or before ``start``, the completion of the previous step: an
      instruction must not come late.
    - RF: the first timestep that ends at or after three seconds before the hazard's onset.

    Raises ValueError for an unknown task.
    """
    start, end = answer.start * fps, answer.end * fps  # in timesteps
    if task in ("EU", "TP"):
        step = math.floor(end + _EPSILON)
        if step < start + RECOGNISABLE * (end - start) - _EPSILON:
            step = _ceil(end)
    elif task in ("EC", "AC"):
        step = _ceil(end)
    elif task in ("OU", "AA"):
        step = _ceil(start + LATEST_FRAME)
    elif task == "TG":
        step = math.floor(end + _EPSILON) + 1
    elif task == "GP":
        step = math.floor(start + _EPSILON)
    elif task == "RF":
        step = _ceil(start - RISK_LEAD_S * fps)
    else:
        raise ValueError(f"unknown task {task!r}: expected one of EU, OU, AA, TP, TG, GP, RF, EC, AC")
    return max(step, _ceil(query_time * fps), 1) / fps


def _ceil(value: float) -> int:
    """Ceiling that forgives rounding: 3.0000000001 is 3."""
    return math.ceil(value - _EPSILON)
