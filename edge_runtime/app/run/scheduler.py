"""Several cameras in one process: each in turn does one timestep at most, so that none starves another.

One thread runs the model, for one timestep takes a small machine's cores or its GPU anyway; each camera reads
on threads of its own. Of a live camera that waits for its turn the newest picture is kept, a file waits. What
one camera does is written in its order, and one that fails leaves the others alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from edge_runtime.engine.decision_loop import Runner
from edge_runtime.sinks import ReaderGoneError

POLL_S = 0.2
"""Longest wait for a picture before the clock is looked at: Ctrl-C, --duration and stats are due then."""


def round_robin(
    runners: Iterable[Runner],
    *,
    wake: threading.Event | None = None,
    between: Callable[[], None] | None = None,
    ended: Callable[[Runner], None] | None = None,
) -> None:
    """Run all, which have begun, to their ends; what ended each is in its ``error``.

    ``wake`` is set by whatever has something to read; only several runners need it. ``between`` is called
    before each round; a runner that it finished gets no more turns, and an error that it raises ends all.
    ``ended`` is called once for each runner when it has finished. Raises ReaderGoneError when nobody reads
    the events any more, after all were stopped.
    """
    running = list(runners)
    wake = wake or threading.Event()
    try:
        while running:
            if between is not None:
                between()
            wake.clear()
            came = False
            for runner in list(running):
                if not runner.over:
                    came |= _turn(runner, POLL_S if len(running) == 1 else 0.0)
                if runner.over:
                    running.remove(runner)
                    if ended is not None:
                        ended(runner)
            if not came and len(running) > 1:
                wake.wait(POLL_S)
    except ReaderGoneError:
        for runner in running:
            runner.stop("whoever read the events has gone")
        raise
    finally:
        for runner in running:
            if not runner.over:
                _finish(runner)


def _turn(runner: Runner, timeout_s: float) -> bool:
    """One turn, and the runner's end if it was the last; False when there was nothing to do."""
    try:
        came = runner.turn(timeout_s)
    except ReaderGoneError:
        raise
    except Exception as err:  # one camera's trouble, even a bug of ours, is not the others'
        _finish(runner, err)
        return True
    if runner.over:
        _finish(runner)
    return came


def _finish(runner: Runner, error: Exception | None = None) -> None:
    """End it. Trouble in that (a last event that cannot be written) is its own as well, not the others'."""
    try:
        runner.finish(error)
    except Exception as err:
        runner.error = error or err
