"""What a run was given to do, and a camera that it watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_runtime.app.run.plan import Plan
from edge_runtime.config.schema import CameraConfig
from edge_runtime.video.source import Camera

if TYPE_CHECKING:
    from edge_runtime.app.run.runner import Runner


@dataclass(frozen=True)
class Job:
    """What to watch, and how."""

    plan: Plan
    replan: Callable[[], Plan]
    """Makes the plan anew from the configuration file as it is then."""
    duration_s: float | None = None
    follow_file: bool = True
    """Take changes of the configuration file over when it has been written; SIGHUP does so in any case."""
    as_json: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Watched:
    """A camera that is being watched."""

    config: CameraConfig
    runner: Runner
    camera: Camera
