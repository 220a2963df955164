"""``[[camera]]`` of edge-run.toml: a source, how it is read, and what is asked of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from edge_runtime.config.evidence import read_camera_settings
from edge_runtime.config.secret import Secret, read_secret
from edge_runtime.config.table import Table
from edge_runtime.config.zones import read_zones
from edge_runtime.errors import ConfigError
from edge_runtime.events.evidence_config import EvidenceSettings
from edge_runtime.events.policy import PolicySettings, parse_quiet_hours
from edge_runtime.events.query_config import QueryConfig
from edge_runtime.video.fingerprint import parse_fingerprint
from edge_runtime.video.framing import Framing, Polygon
from edge_runtime.video.network_url import AmbiguousUrlError, UnreadableUrlError, read_url
from edge_runtime.video.sampling import LEAST_FPS
from edge_runtime.video.zones import Zone

TRANSPORTS = ("tcp", "udp", "auto")
"""Of RTSP."""
MOST_CATCH_UP = 1_000
"""A bound: about 150 MB of ``nano``'s frames."""


@dataclass(frozen=True)
class SourceOptions:
    """How a camera is read. None: the default of ``pipelines.camera.CameraOptions``."""

    framing: Framing = field(default_factory=Framing)
    transport: str | None = None
    decoder: str | None = None
    connect_timeout_s: float | None = None
    stall_timeout_s: float | None = None
    give_up_s: float | None = None
    tls_verify: bool | None = None
    tls_ca_file: Path | None = None
    tls_fingerprint: str | None = None
    """Of the one certificate that is accepted: 64 hexadecimal digits."""
    still_skip_s: float = 0.0
    """Leave out timesteps of a still scene for so many seconds at most; 0: decide at every timestep."""
    catch_up: int | None = None
    """Frames that may wait beside the newest one while the model is busy."""


@dataclass(frozen=True)
class CameraConfig:
    """One ``[[camera]]``."""

    name: str
    source: str
    fps: float | None = None
    """None for the bundle's."""
    user: str | None = None
    password_env: str | None = None
    policy: PolicySettings = field(default_factory=PolicySettings)
    """What this camera's questions start from, also those asked on the command line."""
    queries: tuple[QueryConfig, ...] = ()
    options: SourceOptions = field(default_factory=SourceOptions)
    password_file: Path | None = None
    zones: tuple[Zone, ...] = ()
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)

    @property
    def has_credentials(self) -> bool:
        return (self.user, self.password_env, self.password_file) != (None, None, None)

    def password(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """The password from the environment or its file. Raises ConfigError when it is not there."""
        if self.password_env is not None and not environment.get(self.password_env):
            raise ConfigError(
                f"camera {self.name}: its password is read from the environment variable "
                f"{self.password_env}, which is not set; export it before edge-run"
            )
        return Secret(self.password_env, self.password_file).read(f"camera {self.name}", environment)


def read_cameras(root: Table, evidence: EvidenceSettings) -> tuple[CameraConfig, ...]:
    """All cameras; no two may share a name. ``evidence``: what a camera's own settings start from."""
    names: set[str] = set()
    return tuple(root.tables("camera", partial(_camera, names=names, evidence=evidence)))


def name_problem(name: str) -> str | None:
    """Why a camera cannot be called so; None when it can."""
    if name.strip() and name != "sample" and not any(c in name for c in "/:\n"):
        return None
    return f"expected a name without '/' and ':' other than 'sample', got {name!r}"


def _camera(table: Table, names: set[str], evidence: EvidenceSettings) -> CameraConfig:
    table.forbid(
        "password",
        "passwords do not belong in this file; name an environment variable in password_env "
        "or a file in password_file",
    )
    name = table.required_text("name")
    if name is not None and (problem := name_problem(name)) is not None:
        table.wrong("name", problem)
    elif name in names:
        table.wrong("name", f"{name!r} is taken by an earlier camera")
    names.add(name or "")
    policy = _policy(table, PolicySettings())
    password = read_secret(table, "password")
    return CameraConfig(
        name=name or "",
        source=_source(table),
        fps=table.number(
            "fps",
            None,
            lambda fps: LEAST_FPS <= fps <= 60,
            f"from {LEAST_FPS:g} to 60 timesteps per second",
        ),
        user=table.text("user", None),
        password_env=password.env,
        password_file=password.file,
        zones=read_zones(table),
        policy=policy,
        queries=tuple(table.tables("ask", partial(_ask, base=policy))),
        options=_source_options(table),
        evidence=read_camera_settings(table, evidence),
    )


def _source(table: Table) -> str:
    source = table.required_text("source")
    if source == "":
        table.wrong("source", "expected a source such as /dev/video0 or rtsp://host/path, got nothing")
    if source and "://" in source and (problem := _user_in(source)):
        table.wrong("source", problem)
    return str(table.near(source)) if source and _is_relative_file(source) else source or ""


def _user_in(address: str) -> str | None:
    """What is wrong with an address that holds a user or may hold one; None if nothing."""
    scheme = address.partition("://")[0].lower()
    if scheme == "srt":  # what follows is settings, the passphrase among them
        address = address.partition("?")[0]
    try:
        user = read_url(address).user
    except AmbiguousUrlError:
        return (
            "the address may hold a user and password; move them to user and password_env, "
            f"or begin it with {scheme}://@ if it holds none"
        )
    except UnreadableUrlError:  # reported when the source is opened
        user = "" if "@" in address else None
    if user is not None:
        return "the address holds a user or password; move them to user and password_env"
    return None


def _source_options(table: Table) -> SourceOptions:
    transport = table.text("transport", None)
    if transport not in (None, *TRANSPORTS):
        table.wrong("transport", f"expected one of {', '.join(TRANSPORTS)}, got {transport!r}")
    timeout = partial(table.seconds, default=None, zero=False)
    return SourceOptions(
        _framing(table),
        transport,
        table.text("decoder", None),
        timeout("connect_timeout"),
        timeout("stall_timeout"),
        table.seconds("give_up", None),
        *_tls(table),
        still_skip_s=table.seconds("still_skip", 0.0),
        catch_up=table.whole(
            "catch_up", None, lambda frames: 0 <= frames <= MOST_CATCH_UP, f"0 to {MOST_CATCH_UP} frames"
        ),
    )


def _tls(table: Table) -> tuple[bool | None, Path | None, str | None]:
    source = table.text("source", None) or ""
    for key in ("tls_verify", "tls_ca_file", "tls_fingerprint"):
        if key in table and not source.lower().startswith(("rtsps:", "https:")):
            table.wrong(key, "it is for rtsps:// and https:// sources alone")
    verify = table.flag("tls_verify", True) if "tls_verify" in table else None
    ca_file = table.path("tls_ca_file")
    fingerprint = table.parsed("tls_fingerprint", parse_fingerprint, None)
    if ca_file and fingerprint:
        table.wrong("tls_ca_file", "give it or tls_fingerprint; with a fingerprint no authority is asked")
    if verify is False and (ca_file or fingerprint):
        table.wrong("tls_verify", "false would accept any certificate; leave it out beside the other key")
    return verify, ca_file, fingerprint


def _framing(table: Table) -> Framing:
    """Masks, crop and rotation are tried one by one: each may have a mistake of its own."""
    masks: list[Polygon] = []
    for polygon in table.items("mask"):
        if not isinstance(polygon, list):
            table.wrong("mask", f"expected a list of polygons, each a list of corners, got {polygon!r}")
            continue
        corners = [table.as_numbers("mask", corner, 2) for corner in polygon]
        points = tuple((corner[0], corner[1]) for corner in corners if corner is not None)
        if len(points) == len(corners) and _can_be(table, "mask", Framing, (points,)):
            masks.append(points)
    crop = table.numbers("crop", 4)
    if crop is not None and not _can_be(table, "crop", Framing, (), crop):
        crop = None
    rotate = table.value("rotate")
    if rotate is None or not _can_be(table, "rotate", Framing, (), None, rotate):
        rotate = 0
    return Framing(tuple(masks), (crop[0], crop[1], crop[2], crop[3]) if crop else None, rotate)


def _can_be(table: Table, key: str, make: type, *arguments: object) -> bool:
    try:
        make(*arguments)
    except ValueError as err:
        table.wrong(key, str(err))
        return False
    return True


def _ask(table: Table, base: PolicySettings) -> QueryConfig:
    text = table.required_text("text")
    if text is not None and not text.strip():
        table.wrong("text", "expected a question, got nothing")
    at = table.seconds("at", 0.0)
    policy = _policy(table, base)
    return QueryConfig(text or "", at, policy, table.flag("ask_anyway", False))


def _policy(table: Table, base: PolicySettings) -> PolicySettings:
    return PolicySettings(
        table.number("threshold", base.threshold, lambda value: 0 <= value <= 1, "a score from 0 to 1"),
        table.seconds("min_gap", base.min_gap_s),
        table.seconds("repeat", base.repeat_s),
        _debounce(table, base.debounce),
        table.whole(
            "budget",
            base.budget_per_hour,
            lambda value: value >= 1,
            "a whole number of responses per hour from 1",
        ),
        table.parsed("quiet_hours", parse_quiet_hours, base.quiet_hours),
    )


def _debounce(table: Table, default: tuple[int, int]) -> tuple[int, int]:
    numbers = table.numbers("debounce", 2)
    if numbers is None:
        return default
    first, last = numbers
    if not (1 <= first <= last <= 1000 and first.is_integer() and last.is_integer()):
        table.wrong("debounce", f"expected [k, n] with k of n timesteps, got [{first:g}, {last:g}]")
        return default
    return int(first), int(last)


def _is_relative_file(source: str) -> bool:
    return ":" not in source and not os.path.isabs(source) and ("." in source or os.sep in source)
