"""``edge-run.toml``: cameras with their queries, sinks of events, and settings of the runtime.

    [runtime]
    bundle = "nano"

    [[camera]]
    name = "door"
    source = "rtsp://192.168.1.20/stream1"
    user = "viewer"
    password_env = "DOOR_PASSWORD"

    [[camera.ask]]
    text = "Tell me when someone rings."

Every mistake is reported with the file, the line and the key; an unknown key is a mistake too, since it is
most often a misspelt one. Passwords come from the environment or from files, never from this one.
"""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.app.runtime_config import RuntimeConfig, parse_address, read_runtime
from edge_runtime.app.web.config import WebConfig, read_web
from edge_runtime.config.cameras import TRANSPORTS, CameraConfig, SourceOptions, read_cameras
from edge_runtime.config.endpoint import EndpointConfig, read_endpoint
from edge_runtime.config.evidence import read_evidence
from edge_runtime.config.key_lines import key_lines
from edge_runtime.config.table import Table, TomlFile
from edge_runtime.errors import ConfigError, Finding
from edge_runtime.events.evidence_config import EvidenceConfig
from edge_runtime.sinks.base import SinkConfig
from edge_runtime.sinks.registry import read_sinks

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

_log = logging.getLogger(__name__)

FILE_NAME = "edge-run.toml"


@dataclass(frozen=True)
class Config:
    """A whole configuration; ``path`` is None when there is no file."""

    path: Path | None = None
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    web: WebConfig = field(default_factory=WebConfig, kw_only=True)
    cameras: tuple[CameraConfig, ...] = ()
    sinks: tuple[SinkConfig, ...] = ()
    """Those with a table of their own, by their kind in the order of the registry."""
    evidence: EvidenceConfig = field(default_factory=EvidenceConfig)
    endpoint: EndpointConfig = field(default_factory=EndpointConfig, kw_only=True)
    file: TomlFile | None = field(default=None, compare=False, repr=False)
    """On which line each key stands; None when the file is no TOML."""

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
    """Read a configuration file. Raises ConfigError with the first mistake and the number of others."""
    config, mistakes = read_config(path)
    _log.debug("configuration: %s", path)
    if mistakes:
        more = f" ({len(mistakes) - 1} more: see edge-run check)" if len(mistakes) > 1 else ""
        raise ConfigError(f"{mistakes[0]}{more}")
    return config


def read_config(path: str | os.PathLike[str]) -> tuple[Config, tuple[Finding, ...]]:
    """A configuration file with every mistake in it; where one is, the configuration holds a default."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors of Windows begin it with a byte order mark
        data = tomllib.loads(text)
    except FileNotFoundError:
        problem = "there is no such configuration file; check the path, or write one with edge-run init"
    except OSError as err:
        problem = f"the configuration cannot be read: {err.strerror}"
    except UnicodeDecodeError:
        problem = "the configuration cannot be read: it is not UTF-8 text"
    except tomllib.TOMLDecodeError as err:
        problem = f"not valid TOML: {err}"
    except RecursionError:
        problem = "not valid TOML: brackets are nested too deeply"
    else:
        return _read(path, text, data)
    return Config(path), (Finding("", "fail", problem, file=path),)


def _read(path: Path, text: str, data: dict[str, Any]) -> tuple[Config, tuple[Finding, ...]]:
    file = TomlFile(path, key_lines(text))
    root = Table(data, (), file)
    runtime = root.table("runtime", read_runtime)
    web = root.table("web", read_web)
    evidence = root.table("evidence", read_evidence)
    endpoint = root.table("endpoint", read_endpoint)
    cameras = read_cameras(root, evidence.settings)
    config = Config(path, runtime, cameras, read_sinks(root), evidence, file, web=web, endpoint=endpoint)
    root.close()
    return config, file.in_order()
