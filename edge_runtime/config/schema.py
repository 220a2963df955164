"""``edge-run.toml``: cameras with their questions, receivers of events, and settings of the runtime.

    [runtime]
    bundle = "nano"

    [[camera]]
    name = "door"
    source = "rtsp://192.168.1.20/stream1"
    user = "viewer"
    password_env = "DOOR_PASSWORD"

    [[camera.ask]]
    text = "Tell me when someone rings."

Every problem names the file, the line and the key; a key nobody knows is a problem too, since it is most
often a misspelt one. Passwords come from the environment or from files, never from this one.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.backends.names import MOST_THREADS, NAMES
from edge_runtime.backends.spinning import Spinning, parse_spinning
from edge_runtime.config.cameras import TRANSPORTS, CameraConfig, SourceOptions, read_cameras
from edge_runtime.config.receivers import read_receivers
from edge_runtime.config.toml import Problem, Problems, Table
from edge_runtime.config.toml_lines import key_lines
from edge_runtime.errors import ConfigError
from edge_runtime.sinks.file import Rotation
from edge_runtime.sinks.registry import ReceiverConfig, default_outbox

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "TRANSPORTS",
    "CameraConfig",
    "Config",
    "RuntimeConfig",
    "SourceOptions",
    "find_config",
    "find_path",
    "load_config",
    "parse_address",
    "read_config",
]

FILE_NAME = "edge-run.toml"
DEFAULT_BUNDLE = "nano"


@dataclass(frozen=True)
class RuntimeConfig:
    """``[runtime]``."""

    bundle: str = DEFAULT_BUNDLE
    """A bundle's name or folder; a relative folder is taken from the configuration file's."""
    threads: int | None = None
    backend: str = "auto"
    """What runs the model; see :data:`edge_runtime.backends.names.NAMES`."""
    spinning: Spinning = "run"
    """When ONNX Runtime's threads poll for work."""
    stats_every_s: float = 60.0
    """Seconds between the ``stats`` events of a live source."""
    events: Path | None = None
    """A file that events are appended to, beside stdout."""
    rotation: Rotation = field(default_factory=Rotation)
    """Of that file."""
    outbox: Path = field(default_factory=default_outbox)
    """The folder in which events wait for webhooks and MQTT brokers."""
    metrics: tuple[str, int] | None = None
    """Host and port of the Prometheus endpoint; None for none."""


@dataclass(frozen=True)
class Config:
    """A whole configuration; ``path`` is None when there is no file."""

    path: Path | None = None
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    cameras: tuple[CameraConfig, ...] = ()
    receivers: tuple[ReceiverConfig, ...] = ()
    """Webhooks, then MQTT brokers."""
    lines: Problems | None = field(default=None, compare=False, repr=False)
    """Tells on which line a key stands, for what is found wrong with it later."""

    def camera(self, name: str) -> CameraConfig | None:
        return next((camera for camera in self.cameras if camera.name == name), None)


def find_path(given: str | os.PathLike[str] | None = None) -> Path | None:
    """The file to use: ``given``, else ``./edge-run.toml``, else the user's; None when there is none."""
    if given is not None:
        return Path(given)
    home = Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"))
    paths = (Path(FILE_NAME), home / "edge-run" / FILE_NAME)
    # Not Path.is_file(): a home that a service may not look into holds no configuration for it.
    return next((path for path in paths if os.path.isfile(path)), None)


def find_config(given: str | os.PathLike[str] | None = None) -> Config:
    """The configuration of :func:`find_path`'s file; an empty one when there is none. Raises ConfigError."""
    path = find_path(given)
    return Config() if path is None else load_config(path)


def load_config(path: str | os.PathLike[str]) -> Config:
    """Read a configuration file. Raises ConfigError with the first problem and the number of others."""
    config, problems = read_config(path)
    if problems:
        more = f" ({len(problems) - 1} more: see edge-run check)" if len(problems) > 1 else ""
        raise ConfigError(f"{problems[0]}{more}")
    return config


def read_config(path: str | os.PathLike[str]) -> tuple[Config, tuple[Problem, ...]]:
    """A configuration file with every mistake in it; where one is, the configuration holds a default."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors of Windows begin it with a byte order mark
        data = tomllib.loads(text)
    except FileNotFoundError:
        problem = "there is no such configuration file"
    except OSError as err:
        problem = f"the configuration cannot be read: {err.strerror}"
    except UnicodeDecodeError:
        problem = "the configuration cannot be read: it is not UTF-8 text"
    except tomllib.TOMLDecodeError as err:
        problem = f"not valid TOML: {err}"
    except RecursionError:
        problem = "not valid TOML: brackets lie too deep in each other"
    else:
        return _read(path, text, data)
    return Config(path), (Problem(path, None, "", problem),)


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT``, ``[IPv6]:PORT`` or ``PORT`` (loopback). Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 <= int(port) <= 65535 or (":" in host and host[0] + host[-1] != "[]"):
        raise ValueError(f"expected HOST:PORT such as 127.0.0.1:9464, got {text!r}")
    return host.strip("[]") or "127.0.0.1", int(port)


def _read(path: Path, text: str, data: dict[str, Any]) -> tuple[Config, tuple[Problem, ...]]:
    problems = Problems(path, key_lines(text))
    root = Table(data, (), problems)
    runtime = root.table("runtime", _runtime)
    config = Config(path, runtime, read_cameras(root), read_receivers(root), problems)
    root.close()
    return config, problems.in_order()


def _runtime(table: Table) -> RuntimeConfig:
    bundle = table.text("bundle", DEFAULT_BUNDLE) or DEFAULT_BUNDLE
    return RuntimeConfig(
        bundle=str(table.near(bundle)) if os.sep in bundle else bundle,
        threads=table.whole(
            "threads",
            None,
            lambda n: 1 <= n <= MOST_THREADS,
            f"a whole number of threads from 1 to {MOST_THREADS}",
        ),
        backend=_backend(table),
        spinning=table.parsed("spinning", parse_spinning, "run"),
        stats_every_s=table.seconds("stats_every", 60.0, zero=False),
        events=table.path("events"),
        rotation=_rotation(table),
        outbox=table.path("outbox") or default_outbox(),
        metrics=table.parsed("metrics", parse_address, None),
    )


def _backend(table: Table) -> str:
    name = table.text("backend", "auto")
    if name not in NAMES:
        table.wrong("backend", f"expected one of {', '.join(NAMES)}, got {name!r}")
        return "auto"
    return name


def _rotation(table: Table) -> Rotation:
    megabytes = table.positive("events_megabytes", None)
    days = table.positive("events_days", None, 1e6)
    keep = table.whole("events_keep", 5, lambda n: 1 <= n <= 1000, "a whole number of files from 1 to 1000")
    return Rotation(
        None if megabytes is None else max(1, int(megabytes * (1 << 20))),
        None if days is None else days * 86400.0,
        keep,
    )
