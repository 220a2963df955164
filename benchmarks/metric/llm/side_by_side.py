"""Many requests of one kind, side by side: progress while they go, one error when they can't go on.

The first request that fails stops the others. What was answered until then is in the client's cache, so the
same command goes on there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from benchmarks.metric.llm.client import OpenAIClient, Stopped, resumable
from benchmarks.metric.progress import Progress
from edge_runtime.errors import EdgeError

Item = TypeVar("Item")
Value = TypeVar("Value")


def ask_side_by_side(
    client: OpenAIClient,
    items: Sequence[Item],
    ask: Callable[[Item], Value],
    *,
    workers: int,
    shown: bool = True,
    unit: str,
    done: str,
) -> list[Value]:
    """``ask`` of each item, in the order of ``items``; it asks ``client``, in one of ``workers`` threads.

    ``shown``: report progress on stderr. ``unit``: what it counts, such as "rubrics"; ``done``: what the
    error says of those that are done. Raises the error of the first request that failed (see
    :meth:`OpenAIClient.ask`), with how far it came; the client is of no use afterwards.
    """

    def ask_or_stop(item: Item) -> Value:
        try:
            return ask(item)
        except BaseException:
            client.stop()  # here, so that this thread begins nothing more
            raise

    with (
        Progress(len(items), unit, unit="request", shown=shown, patient=True) as progress,
        ThreadPoolExecutor(workers) as pool,
    ):
        futures = [pool.submit(ask_or_stop, item) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
                progress.advance()
        except BaseException as error:
            client.stop()
            pool.shutdown(cancel_futures=True)
            if not isinstance(error, EdgeError):
                raise
            failures = [future.exception() for future in futures if not future.cancelled()]
            cause = next((e for e in failures if e and not isinstance(e, Stopped)), error)
            if not isinstance(cause, EdgeError):
                raise cause from error
            count = sum(failure is None for failure in failures)
            kept = f"{count} of {len(items)} {done} and kept in {client.cache.path}"
            raise resumable(cause, kept) from cause
    return [future.result() for future in futures]
