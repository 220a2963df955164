"""When ONNX Runtime's threads poll for work instead of sleeping. Imports no engine.

A thread that polls starts at once and keeps a core busy. While a graph runs, its threads get the next piece
of work within microseconds; between two timesteps they get none.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from edge_runtime.errors import ConfigError

Spinning = Literal["run", "never", "always"]
"""``run``: poll for :data:`POLL_US` at a time, during a run alone. ``never``: sleep at once. ``always``: poll
for tens of milliseconds, after a run as well.
"""
SPINNING: tuple[Spinning, ...] = get_args(Spinning)
"""The default comes first."""
POLL_US = 20
"""Longer than most gaps between two pieces of work, and far shorter than the scheduler's time slice.

Without a limit a polling thread uses up its time slice beside other processes and then lacks it for work: a
timestep of ``nano`` took 1.3 to 2 times as long as without polling (benchmarks/latency/threads.py).
"""
LIMITED_FROM = (1, 26)
"""The first onnxruntime that can limit the time."""


def supported(spinning: Spinning, version: str) -> Spinning:
    """What onnxruntime ``version`` can do: without a limit, polling costs more than it gains."""
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    return "never" if spinning == "run" and numbers < LIMITED_FROM else spinning


def parse_spinning(text: str) -> Spinning:
    """Raises ValueError for anything but the three names."""
    for name in SPINNING:
        if text == name:
            return name
    raise ValueError(f"expected one of {', '.join(SPINNING)}, got {text!r}")


def session_entries(spinning: Spinning) -> dict[str, str]:
    """The entries of ONNX Runtime's session options. Raises ConfigError for an unknown name."""
    if spinning == "run":
        return {
            "session.intra_op.allow_spinning": "1",
            "session.intra_op.spin_duration_us": str(POLL_US),
            "session.force_spinning_stop": "1",
        }
    if spinning not in SPINNING:
        raise ConfigError(f"spinning {spinning!r}: unknown; choose one of {', '.join(SPINNING)}")
    return {"session.intra_op.allow_spinning": "1" if spinning == "always" else "0"}
