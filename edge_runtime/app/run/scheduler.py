"""Round robin over several cameras in one process: each does one timestep at most, so that none starves.

One thread runs the model, because one timestep takes a small machine's cores or its GPU anyway; each camera
reads on threads of its own. A live camera that waits keeps its newest frame, a file waits. The events of one
camera keep their order, and a camera that fails leaves the others alone.

Cameras that have a frame at the same time share calls of the engine where their model can: then all frames of
a round are read before the first decision.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from edge_runtime.app.run.runner import Runner
from edge_runtime.backends.batcher import StepBatcher
from edge_runtime.engine.timestep import push_together
from edge_runtime.sinks import ReaderGoneError

POLL_S = 0.2
"""Longest wait for a frame before the clock is looked at: Ctrl-C, --duration and stats are due then."""


def round_robin(
    runners: Iterable[Runner],
    *,
    wake: threading.Event | None = None,
    between: Callable[[], None] | None = None,
    ended: Callable[[Runner], None] | None = None,
    joining: deque[Runner] | None = None,
    stays: Callable[[], bool] = lambda: False,
) -> None:
    """Run all, which have begun, to their ends; what ended each is in its ``error``.

    ``wake`` is set by whatever has something to read, or to do between two rounds; one runner alone works
    without it. ``between`` is called before each round; a runner that it finished is stepped no more, and an
    error that it raises ends all. ``ended`` is called once for each runner when it has finished. ``joining``:
    runners that ``between`` adds are run as well. Without any the run is over unless ``stays()``. Raises
    ReaderGoneError when nobody reads the events any more, after all were stopped.
    """
    running = list(runners)
    joining = deque() if joining is None else joining
    waits = wake is not None
    wake = wake or threading.Event()
    try:
        while running or stays():
            wake.clear()  # first: what sets it from here on is seen in this round or wakes the next
            if between is not None:
                between()
            while joining:
                running.append(joining.popleft())
            came = False
            together = _share_calls(running)
            for runner in running:
                if not runner.over:
                    timeout_s = 0.0 if waits or len(running) > 1 else POLL_S
                    came |= _attempt(runner, runner.look, timeout_s)
                    if not together and not runner.over:
                        _attempt(runner, runner.conclude)
            if together:
                push_together([runner.timestep for runner in running if runner.timestep is not None])
                for runner in running:
                    if not runner.over:
                        _attempt(runner, runner.conclude)
            for runner in [one for one in running if one.over]:
                running.remove(runner)
                if ended is not None:
                    ended(runner)
            if not came and (len(running) > 1 or (waits and (running or stays()))):
                wake.wait(POLL_S)
    except ReaderGoneError:
        for runner in running:
            runner.stop("whoever read the events has gone")
        raise
    finally:
        for runner in (*running, *joining):
            if not runner.over:
                _finish(runner)


def _share_calls(runners: Sequence[Runner]) -> bool:
    """Whether there are sessions of several cameras to decide together."""
    if len(runners) < 2:
        return False
    sessions: dict[StepBatcher, int] = {}
    for runner in runners:
        if (batcher := runner.model.batcher) is not None:
            sessions[batcher] = sessions.get(batcher, 0) + len(runner.loop.watched)
    return any(batcher.group_size(number) > 1 for batcher, number in sessions.items())


def _attempt(runner: Runner, half: Callable[..., bool | None], *arguments: float) -> bool:
    """Half a step, and the runner's end if it was the last; False when there was nothing to do."""
    try:
        came = half(*arguments)
    except ReaderGoneError:
        raise
    except Exception as err:  # one camera's trouble, even a bug of ours, is not the others'
        _finish(runner, err)
        return True
    if runner.over:
        _finish(runner)
    return bool(came)


def _finish(runner: Runner, error: Exception | None = None) -> None:
    """End it. Trouble in that (a last event that cannot be written) is its own as well, not the others'."""
    try:
        runner.finish(error)
    except Exception as err:
        runner.error = error or err
