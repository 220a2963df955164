"""The model of a run: the bundle, or in its place the server of an endpoint."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from edge_runtime.app.run.run_config import RunConfig

if TYPE_CHECKING:
    from edge_runtime.engine.stream_model import StreamModel


def open_model(
    config: RunConfig, wake: Callable[[], None], stack: ExitStack, *, sessions: int
) -> StreamModel:
    """Until ``stack`` ends. ``wake``: called when an endpoint has decided. ``sessions``: how many it has at
    least, for the memory they need. Raises EdgeError, before anything is loaded when memory is short.
    """
    if config.endpoint:
        from edge_runtime.engine.endpoint.model import EndpointModel

        return stack.enter_context(closing(EndpointModel(config.endpoint, wake=wake)))
    import edge_runtime
    from edge_runtime.bundle.manifest import read_bundle
    from edge_runtime.bundle.memory_plan import check_memory

    runtime = config.runtime
    check_memory(read_bundle(runtime.bundle), sessions=sessions)
    return edge_runtime.load(
        runtime.bundle, threads=runtime.threads, backend=runtime.backend, spinning=runtime.spinning
    )
