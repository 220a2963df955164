"""What a run is given to do, and a camera that it watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_runtime.app.config_file import CameraConfig
from edge_runtime.app.run.run_config import RunConfig
from edge_runtime.video.source import Camera

if TYPE_CHECKING:
    from edge_runtime.app.run.runner import Runner


@dataclass(frozen=True)
class RunSpec:
    """What to watch, and how."""

    config: RunConfig
    reread: Callable[[], RunConfig]
    """Makes the configuration anew from its file as it is then."""
    duration_s: float | None = None
    follow_file: bool = True
    """Take over changes of the configuration file once they are written; SIGHUP does so in any case."""
    as_json: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class WatchedCamera:
    """A camera that is being watched."""

    config: CameraConfig
    runner: Runner
    camera: Camera
    source: Any = None
    """As it was parsed; None for one that cannot be used."""
