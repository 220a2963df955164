"""An engine in a process of its own: its memory is its own, and while it waits its threads sleep.

All engines are open at the same time and take turns; whatever else the machine does falls on all of them.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.external.runtimes.engines.base import Engine, EngineSpec, open_engine
from benchmarks.latency.facts import peak_resident_mb
from edge_runtime.errors import BackendError

_FILL = 128
"""Tokens a call while a context is filled."""


class Worker:
    """Starts the process; raises BackendError, with the engine's reason, when it does not come up."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self._said = ""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, spec), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self.facts: dict[str, Any] = self._answer()
        except BackendError:
            self.close()
            raise

    def fill(self, ids: Sequence[int]) -> None:
        """Start over with the context ``ids``."""
        self._ask("fill", list(ids))

    def time(self, ids: Sequence[int], repeats: int) -> list[float]:
        """Append ``ids`` after the context, ``repeats`` times over, rewinding between; milliseconds each."""
        times: list[float] = self._ask("time", list(ids), repeats)
        return times

    def logits(self, ids: Sequence[int], prefix: int) -> NDArray[np.float32]:
        """``prefix`` tokens of ``ids`` at once, then one by one: logits after each of those, [n, vocab]."""
        rows: NDArray[np.float32] = self._ask("logits", list(ids), prefix)
        return rows

    def peak_mb(self) -> float | None:
        """Most memory the process ever held, in MB (10^6 bytes); None where the system does not say."""
        peak: float | None = self._ask("peak_mb")
        return peak

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _ask(self, *request: Any) -> Any:
        with suppress(OSError):  # it has ended: then its answer says so
            self._pipe.send(request)
        return self._answer()

    def _answer(self) -> Any:
        try:
            kind, value = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            ended = f"{self.spec.label}: its process ended with exit status {self._process.exitcode}"
            raise BackendError(f"{ended}; it said: {self._said}" if self._said else ended) from error
        if kind == "error":
            self._said = value
            raise BackendError(value)
        return value


def _serve(pipe: Connection, spec: EngineSpec) -> None:
    """The process: answer requests until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which closes the pipe
    try:
        engine = open_engine(spec)
        facts = ("version", "weight_bytes", "row_bytes")
        pipe.send(("facts", {name: getattr(engine, name) for name in facts}))
        bench = _Bench(engine)
        while True:
            name, *arguments = pipe.recv()
            pipe.send(("value", getattr(bench, name)(*arguments)))
    except EOFError:
        return
    except Exception as error:  # libraries of others raise what they like; the parent says it in one line
        lines = str(error).strip().splitlines()
        reason = lines[0][:300] if lines else type(error).__name__
        pipe.send(("error", reason if reason.startswith(spec.label) else f"{spec.label}: {reason}"))


class _Bench:
    """What a worker is asked for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rows = 0

    def fill(self, ids: list[int]) -> None:
        self._engine.rewind(0)
        for start in range(0, len(ids), _FILL):
            self._engine.feed(ids[start : start + _FILL])
        self._rows = len(ids)

    def time(self, ids: list[int], repeats: int) -> list[float]:
        times = []
        for _ in range(repeats):
            begin = perf_counter()
            self._engine.feed(ids)
            times.append((perf_counter() - begin) * 1e3)
            self._engine.rewind(self._rows)
        return times

    def logits(self, ids: list[int], prefix: int) -> NDArray[np.float32]:
        self.fill(ids[:prefix])
        rows = [self._engine.feed([token]).copy() for token in ids[prefix:]]
        return np.stack(rows)

    def peak_mb(self) -> float | None:
        return peak_resident_mb()
