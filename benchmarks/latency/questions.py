"""What many questions about one camera cost, as a multiple of one question.

    python -m benchmarks.latency.questions --bundle nano --questions 8

A timestep is a chunk of rows for each session, a token of a text one row. The ways take turns in each round:

- ``one``: one question;
- ``apart``: a session for each question, a call of the engine for each;
- ``batch``: a session for each question, all in one call (edge_runtime/backends/batcher.py);
- ``shared``: one session for all questions, for bundles that were trained so. It holds their texts, and its
  answers come one after the other. What is trained does not change what a step costs, so it is measured on
  every bundle.

Vision is left out: it runs once for all questions. Elapsed time counts on a quiet machine; on a busy one read
processor time, best of a single thread.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.latency.facts import bundle_facts, machine_facts, write_json
from benchmarks.latency.quantiles import summarise
from edge_runtime.backends.ort import OrtBackend
from edge_runtime.backends.select import default_threads
from edge_runtime.bundle.manifest import Bundle, load_bundle
from edge_runtime.command_line.exit import run_command
from edge_runtime.errors import ConfigError

REPEATS, REST_S = 3, 0.03
QUESTION_ROWS = 20
"""Of one question's text in the chat format of a bundle."""
TIMESTEP_ROWS = 6
"""Of a silent timestep beside its visual tokens: the label, the turn's marks, the decision before."""
WAYS = ("one", "apart", "batch", "shared")


class Sessions:
    """Caches with ``context`` slots in use: one for each question, and one for all of them."""

    def __init__(self, bundle: Bundle, questions: int, context: int, threads: int) -> None:
        decoder = OrtBackend("cpu", threads).load_decoder(bundle)
        if decoder.batcher is None:
            raise ConfigError(f"{bundle.name}: holds no graph for several questions; export it again")
        self._batcher = decoder.batcher
        self._caches = [decoder.open_cache() for _ in range(questions)]
        self._shared = decoder.open_cache()
        self._context = context
        # Slots of caches that differ, as those of questions asked at different times do.
        self._starts = [context - 7 * i for i in range(questions)]
        self._all = min(context + QUESTION_ROWS * (questions - 1), bundle.model.context_rows - 32)
        rng = np.random.default_rng(0)
        size = (32, bundle.model.hidden_size)
        self._rows = [rng.standard_normal(size).astype(np.float32) for _ in range(questions)]
        for cache in (*self._caches, self._shared):
            for start in range(0, self._all, 32):
                cache.step(self._rows[0][: min(32, self._all - start)], start)

    def ways(self, rows: int) -> dict[str, Callable[[], Any]]:
        """A step of so many rows in each way."""
        steps = [
            partial(cache.step, chunk[:rows], start)
            for cache, chunk, start in zip(self._caches, self._rows, self._starts, strict=True)
        ]
        return {
            "one": steps[0],
            "apart": lambda: [step() for step in steps],
            "batch": lambda: self._together(steps),
            "shared": lambda: self._shared.step(self._rows[0][:rows], self._all),
        }

    def check(self, rows: int) -> None:
        """Raises ConfigError when both ways to step the sessions give other numbers."""
        ways = self.ways(rows)
        apart = [logits.copy() for logits in ways["apart"]()]
        if not all(np.array_equal(a, b) for a, b in zip(apart, ways["batch"](), strict=True)):
            raise ConfigError("the batch gives other logits than the sessions apart; export the bundle again")

    def _together(self, steps: list[Callable[[], NDArray[np.float32]]]) -> list[NDArray[np.float32]]:
        found: list[NDArray[np.float32]] = []
        while len(found) < len(steps):
            found += [future.result() for future in self._batcher.run(steps[len(found) :])]
        return found


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--bundle", required=True, help="Bundle name or folder.")
@click.option("--questions", type=click.IntRange(2), multiple=True, default=(8,), show_default=True)
@click.option("--context", type=click.IntRange(128), default=512, show_default=True, help="Slots in use.")
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=default_threads)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here as JSON.")
def main(
    bundle: str, questions: tuple[int, ...], context: int, rounds: int, threads: int, out: Path | None
) -> None:
    facts = machine_facts()
    loaded = load_bundle(bundle)
    most = loaded.model.context_rows - 32
    if not 7 * max(questions) < context <= most:
        raise ConfigError(f"--context {context}: must lie from {7 * max(questions) + 1} to {most}")
    results = []
    print("milliseconds (quartiles), and how many times one question's time in the same round")
    for count in questions:
        sessions = Sessions(loaded, count, context, threads)
        for step, rows in (("timestep", loaded.stream_format.frame_tokens + TIMESTEP_ROWS), ("token", 1)):
            sessions.check(rows)
            for row in _measure(sessions.ways(rows), rounds, f"{count} questions, {step}"):
                results.append({"questions": count, "step": step, "rows": rows} | row)
                print(_line(results[-1]))
    measured = {"threads": threads, "context": context, "results": results}
    write_json(out, {"machine": facts, "bundle": bundle_facts(loaded)} | measured)


def _measure(ways: dict[str, Callable[[], Any]], rounds: int, what: str) -> list[dict[str, Any]]:
    times: dict[str, dict[str, list[float]]] = {way: {"elapsed": [], "processor": []} for way in WAYS}
    order = random.Random(0)
    for _ in tqdm(range(rounds), desc=what, leave=False):
        for way in order.sample(WAYS, len(WAYS)):
            sleep(REST_S)
            ways[way]()  # finds the weights of another graph in the caches
            begin, used = perf_counter(), process_time()
            for _ in range(REPEATS):
                ways[way]()
            times[way]["elapsed"].append((perf_counter() - begin) * 1e3 / REPEATS)
            times[way]["processor"].append((process_time() - used) * 1e3 / REPEATS)
    rows = []
    for way, found in times.items():
        row: dict[str, Any] = {"way": way}
        for kind, values in found.items():
            ratios = [value / one for value, one in zip(values, times["one"][kind], strict=True)]
            row[kind] = {"ms": summarise(values), "ratio": summarise(ratios)}
        rows.append(row)
    return rows


def _line(row: dict[str, Any]) -> str:
    parts = [f"{row['questions']:>3} questions {row['step']:>8} {row['way']:>6}"]
    for kind in ("elapsed", "processor"):
        ms, ratio = row[kind]["ms"], row[kind]["ratio"]
        parts.append(
            f"{kind} {ms['p50']:7.2f} ({ms['p25']:.2f}..{ms['p75']:.2f})  "
            f"{ratio['p50']:5.2f} ({ratio['p25']:.2f}..{ratio['p75']:.2f})"
        )
    return "  ".join(parts)


if __name__ == "__main__":
    run_command(main)
