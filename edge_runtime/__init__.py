"""Runs proactive video models (StreamPro) on edge devices.

    with edge_runtime.watch("nano") as watcher:    # a bundle's name or folder
        watcher.ask("Tell me each step as it is finished.")
        for response in watcher.responses(frames): # frames: (seconds, uint8 [H, W, 3] RGB)
            print(response.time, response.text)

Or decision by decision, without a policy:

    session = edge_runtime.open("nano")
    session.ask("Tell me each step as it is finished.")
    for t, frame in frames:
        decision = session.push(frame, t)
        if decision and decision.speak:
            print(decision.time, decision.text)

Importing this package loads no inference engine; :func:`open` and :func:`load` do.
"""

from __future__ import annotations

from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any

from edge_runtime.backends import no_telemetry

if TYPE_CHECKING:
    from edge_runtime.backends.spinning import Spinning
    from edge_runtime.engine.decision import Decision
    from edge_runtime.engine.model import Model
    from edge_runtime.engine.session import StreamSession
    from edge_runtime.engine.watcher import Watcher
    from edge_runtime.errors import EdgeError
    from edge_runtime.events.policy import PolicySettings
    from edge_runtime.events.records import Response

no_telemetry.switch_off()  # before anything can import onnxruntime

__all__ = [
    "Decision",
    "EdgeError",
    "Model",
    "PolicySettings",
    "Response",
    "StreamSession",
    "Watcher",
    "load",
    "open",
    "watch",
]

_HOMES = {
    "Decision": "engine.decision",
    "EdgeError": "errors",
    "Model": "engine.model",
    "PolicySettings": "events.policy",
    "Response": "events.records",
    "StreamSession": "engine.session",
    "Watcher": "engine.watcher",
}


def open(  # the verb a user expects; the builtin is not needed in this module
    name_or_folder: str | PathLike[str],
    *,
    threads: int | None = None,
    threshold: float | None = None,
    backend: str = "auto",
) -> StreamSession:
    """Load a model and start one session on it. See :func:`load` and :meth:`Model.session`."""
    return load(name_or_folder, threads=threads, backend=backend).session(threshold=threshold)


def watch(
    name_or_folder: str | PathLike[str],
    *,
    threads: int | None = None,
    backend: str = "auto",
    fps: float | None = None,
    identity: str | None = None,
) -> Watcher:
    """Load a model and watch one stream with it, see :class:`~edge_runtime.engine.watcher.Watcher`.

    ``fps``: timesteps per second, None for the bundle's own; the others as of :func:`load` and Watcher.
    """
    from edge_runtime.engine.watcher import Watcher

    model = load(name_or_folder, threads=threads, backend=backend)
    return Watcher(model if fps is None else model.with_fps(fps), identity=identity)


def load(
    name_or_folder: str | PathLike[str],
    *,
    threads: int | None = None,
    backend: str = "auto",
    spinning: Spinning = "run",
) -> Model:
    """Load a model bundle: a name shipped with the package (``nano``) or a folder.

    ``threads``: CPU threads per graph, None for a choice made from the machine. ``backend``: ``auto``,
    ``cpu``, ``cuda``, ``tensorrt`` or ``tensorrt-rtx``. ``spinning``: when ONNX Runtime's threads poll for
    work: ``run`` (while a graph runs, for microseconds at a time), ``never`` or ``always``. Logs to
    ``edge_runtime.backends`` when an engine is built and when a GPU stays unused. Raises BundleError for a
    bundle that cannot be trusted or read, BackendError when no engine can run it.
    """
    from edge_runtime.engine.model import Model

    return Model(name_or_folder, threads=threads, backend=backend, spinning=spinning)


def __getattr__(name: str) -> Any:
    # Classes are imported on first use, so that `edge-run --help` does not wait for numpy.
    if name in _HOMES:
        return getattr(import_module(f"edge_runtime.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'edge_runtime' has no attribute {name!r}")
