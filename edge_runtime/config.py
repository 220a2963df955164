"""``edge-run.toml``: cameras with their questions, and settings of the runtime.

    [runtime]
    bundle = "nano"

    [[camera]]
    name = "door"
    source = "rtsp://192.168.1.20/stream1"
    user = "viewer"
    password_env = "DOOR_PASSWORD"

    [[camera.ask]]
    text = "Tell me when someone rings."

Every problem is a ConfigError that names the file, the line and the key; a key nobody knows is a problem too,
since it is most often a misspelt one. Passwords come from the environment, never from the file.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from edge_runtime.delivery import (
    DEFAULT_TYPES,
    EVENT_TYPES,
    MqttConfig,
    ReceiverConfig,
    Secret,
    WebhookConfig,
    default_outbox,
)
from edge_runtime.errors import ConfigError
from edge_runtime.framing import Framing
from edge_runtime.policy import PolicySettings, parse_quiet_hours
from edge_runtime.tomlpos import KeyPath, key_lines

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE_NAME = "edge-run.toml"
DEFAULT_BUNDLE = "nano"
TRANSPORTS = ("tcp", "udp", "auto")
"""Of RTSP."""


@dataclass(frozen=True)
class Ask:
    """One question put to one stream at ``at`` seconds of it."""

    text: str
    at: float = 0.0
    policy: PolicySettings = field(default_factory=PolicySettings)


@dataclass(frozen=True)
class SourceOptions:
    """How a camera is read. None: the default of ``pipelines.camera.CameraOptions``."""

    framing: Framing = field(default_factory=Framing)
    transport: str | None = None
    decoder: str | None = None
    connect_timeout_s: float | None = None
    stall_timeout_s: float | None = None
    give_up_s: float | None = None


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
    asks: tuple[Ask, ...] = ()
    options: SourceOptions = field(default_factory=SourceOptions)

    def password(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """The password from the environment. Raises ConfigError when its variable is not set."""
        if self.password_env is None:
            return None
        if not environment.get(self.password_env):
            raise ConfigError(
                f"camera {self.name}: its password is read from the environment variable "
                f"{self.password_env}, which is not set; export it before edge-run"
            )
        return environment[self.password_env]


@dataclass(frozen=True)
class RuntimeConfig:
    """``[runtime]``."""

    bundle: str = DEFAULT_BUNDLE
    """A bundle's name or folder; a relative folder is taken from the configuration file's."""
    threads: int | None = None
    stats_every_s: float = 60.0
    """Seconds between the ``stats`` events of a live source."""
    events: Path | None = None
    """A file that events are appended to, beside stdout."""
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

    def camera(self, name: str) -> CameraConfig | None:
        return next((camera for camera in self.cameras if camera.name == name), None)


def find_config(given: str | os.PathLike[str] | None = None) -> Config:
    """The configuration to use: ``given``, else ``./edge-run.toml``, else the user's, else an empty one."""
    if given is not None:
        return load_config(given)
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    for path in (Path(FILE_NAME), home / "edge-run" / FILE_NAME):
        if path.is_file():
            return load_config(path)
    return Config()


def load_config(path: str | os.PathLike[str]) -> Config:
    """Read a configuration file. Raises ConfigError for whatever is wrong with it."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such configuration file") from None
    except (OSError, UnicodeDecodeError) as err:
        reason = err.strerror if isinstance(err, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path}: the configuration cannot be read: {reason}") from err
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise ConfigError(f"{path}: not valid TOML: {err}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not valid TOML: brackets lie too deep in each other") from None
    return _Reader(path, key_lines(text)).config(data)


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT``, ``[IPv6]:PORT`` or ``PORT`` (loopback). Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 <= int(port) <= 65535 or (":" in host and host[0] + host[-1] != "[]"):
        raise ValueError(f"expected HOST:PORT such as 127.0.0.1:9464, got {text!r}")
    return host.strip("[]") or "127.0.0.1", int(port)


class _Reader:
    """Turns parsed TOML into the dataclasses above, and mistakes into messages with their line."""

    def __init__(self, path: Path, lines: Mapping[KeyPath, int]) -> None:
        self._path = path
        self._lines = lines
        self._receiver_names: set[tuple[object, str]] = set()

    def config(self, data: dict[str, Any]) -> Config:
        self._known(data, (), ("runtime", "camera", "webhook", "mqtt"))
        runtime = self._runtime(self._table(data, ("runtime",)))
        cameras = self._tables(data, ("camera",), self._camera)
        names: dict[str, int] = {}
        for index, camera in enumerate(cameras):
            first = names.setdefault(camera.name, index)
            if first != index:
                self._fail(("camera", index, "name"), f"{camera.name!r} is taken by an earlier camera")
        receivers = (
            *self._tables(data, ("webhook",), self._webhook),
            *self._tables(data, ("mqtt",), self._mqtt),
        )
        return Config(self._path, runtime, tuple(cameras), receivers)

    def _runtime(self, table: dict[str, Any]) -> RuntimeConfig:
        at: KeyPath = ("runtime",)
        self._known(table, at, ("bundle", "threads", "stats_every", "events", "outbox", "metrics"))
        bundle = self._text(table, (*at, "bundle"), DEFAULT_BUNDLE)
        events = self._text(table, (*at, "events"), None)
        threads = table.get("threads")
        if threads is not None and (type(threads) is not int or threads < 1):
            self._fail((*at, "threads"), f"expected a whole number of threads from 1, got {threads!r}")
        stats_every = self._number(table, (*at, "stats_every"), 60.0)
        if stats_every <= 0:
            self._fail((*at, "stats_every"), f"expected seconds greater than 0, got {stats_every}")
        outbox = self._text(table, (*at, "outbox"), None)
        metrics = self._text(table, (*at, "metrics"), None)
        try:
            address = parse_address(metrics) if metrics else None
        except ValueError as err:
            self._fail((*at, "metrics"), str(err))
        return RuntimeConfig(
            bundle=self._near(bundle) if bundle and os.sep in bundle else bundle or DEFAULT_BUNDLE,
            threads=threads,
            stats_every_s=stats_every,
            events=Path(self._near(events)) if events else None,
            outbox=Path(self._near(outbox)) if outbox else default_outbox(),
            metrics=address,
        )

    def _webhook(self, table: dict[str, Any], at: KeyPath) -> WebhookConfig:
        from edge_runtime.sinks.webhook import check_url

        self._known(table, at, (*_RECEIVER_KEYS, *_WEBHOOK_KEYS))
        url, url_from = table.get("url", ""), self._secret(table, at, "url")
        given = [bool(url), url_from.env is not None, url_from.file is not None]
        if sum(given) != 1:
            self._fail((*at, "url"), "expected exactly one of url, url_env and url_file")
        problem = "expected a text in quotes" if not isinstance(url, str) else check_url(url) if url else None
        if problem:
            self._fail((*at, "url"), problem)
        return WebhookConfig(
            **self._receiver(table, at),
            url=url,
            url_from=url_from,
            secret=self._secret(table, at, "secret"),
            connect_timeout_s=self._positive(table, (*at, "connect_timeout"), 5.0),
            read_timeout_s=self._positive(table, (*at, "read_timeout"), 10.0),
        )

    def _mqtt(self, table: dict[str, Any], at: KeyPath) -> MqttConfig:
        self._known(table, at, (*_RECEIVER_KEYS, *_MQTT_KEYS))
        host = self._text(table, (*at, "host"))
        if not re.fullmatch(r"[\w.:-]+", host):
            self._fail((*at, "host"), "expected a host's name or address alone")
        port = table.get("port")
        if port is not None and (type(port) is not int or not 0 < port < 65536):
            self._fail((*at, "port"), f"expected a port from 1 to 65535, got {port!r}")
        topic = self._text(table, (*at, "topic"), "edge-run")
        if not topic.strip("/") or re.search(r"[+#\x00]", topic):
            self._fail((*at, "topic"), f"expected a topic without wildcards, got {topic!r}")
        tls = table.get("tls", False)
        if type(tls) is not bool:
            self._fail((*at, "tls"), f"expected true or false, got {tls!r}")
        return MqttConfig(
            **self._receiver(table, at),
            host=host,
            port=port,
            topic=topic.strip("/"),
            tls=tls,
            user=self._text(table, (*at, "user"), None),
            password=self._secret(table, at, "password"),
        )

    def _receiver(self, table: dict[str, Any], at: KeyPath) -> dict[str, Any]:
        """What every receiver may say; two of one kind may not share a name, which is their outbox's."""
        name = self._text(table, (*at, "name"))
        if not re.fullmatch(r"[\w-]+", name):
            self._fail((*at, "name"), f"expected a name of letters, digits, '-' and '_', got {name!r}")
        if (at[0], name) in self._receiver_names:
            self._fail((*at, "name"), f"{name!r} is taken by an earlier {at[0]}")
        self._receiver_names.add((at[0], name))
        types = self._list(table.get("events", list(DEFAULT_TYPES)), (*at, "events"))
        if not types or not all(kind in EVENT_TYPES for kind in types):
            self._fail((*at, "events"), f"expected some of {', '.join(EVENT_TYPES)}, got {types!r}")
        ca_file = self._text(table, (*at, "ca_file"), None)
        return {
            "name": name,
            "types": tuple(types),
            "outbox_bytes": int(self._positive(table, (*at, "outbox_megabytes"), 64.0) * (1 << 20)),
            "outbox_age_s": self._positive(table, (*at, "outbox_days"), 7.0) * 86400,
            "ca_file": Path(self._near(ca_file)) if ca_file else None,
        }

    def _secret(self, table: dict[str, Any], at: KeyPath, key: str) -> Secret:
        if key != "url" and key in table:
            self._fail((*at, key), f"secrets do not belong in this file; use {key}_env or {key}_file")
        env = self._text(table, (*at, f"{key}_env"), None)
        file = self._text(table, (*at, f"{key}_file"), None)
        if env is not None and file is not None:
            self._fail((*at, f"{key}_file"), f"expected one of {key}_env and {key}_file")
        return Secret(env, Path(self._near(file)) if file is not None else None)

    def _positive(self, table: dict[str, Any], at: KeyPath, default: float) -> float:
        value = self._number(table, at, default)
        if value <= 0:
            self._fail(at, f"expected a number greater than 0, got {value:g}")
        return float(value)

    def _camera(self, table: dict[str, Any], at: KeyPath) -> CameraConfig:
        keys = ("name", "source", "fps", "user", "password_env", "ask", *_SOURCE_KEYS, *_POLICY_KEYS)
        if "password" in table:
            self._fail(
                (*at, "password"),
                "passwords do not belong in this file; name an environment variable in password_env",
            )
        self._known(table, at, keys)
        name = self._text(table, (*at, "name"))
        if not name.strip() or any(c in name for c in "/:\n") or name == "sample":
            self._fail(
                (*at, "name"), f"expected a name without '/' and ':' other than 'sample', got {name!r}"
            )
        source = self._text(table, (*at, "source"))
        if not source:
            self._fail(
                (*at, "source"), "expected a source such as /dev/video0 or rtsp://host/path, got nothing"
            )
        if _USER_IN_ADDRESS.match(source):
            self._fail(
                (*at, "source"),
                "the address holds a user or password; move them to user and password_env",
            )
        fps = self._number(table, (*at, "fps"), None)
        if fps is not None and not 0 < fps <= 60:
            self._fail((*at, "fps"), f"expected more than 0 and at most 60 timesteps per second, got {fps}")
        policy = self._policy(table, at, PolicySettings())
        asks = self._tables(table, (*at, "ask"), lambda ask, where: self._ask(ask, where, policy))
        return CameraConfig(
            name=name,
            source=self._near(source) if _is_relative_file(source) else source,
            fps=fps,
            user=self._text(table, (*at, "user"), None),
            password_env=self._text(table, (*at, "password_env"), None),
            policy=policy,
            asks=tuple(asks),
            options=self._source_options(table, at),
        )

    def _source_options(self, table: dict[str, Any], at: KeyPath) -> SourceOptions:
        transport = self._text(table, (*at, "transport"), None)
        if transport not in (None, *TRANSPORTS):
            self._fail((*at, "transport"), f"expected one of {', '.join(TRANSPORTS)}, got {transport!r}")
        seconds = {}
        for key in ("connect_timeout", "stall_timeout", "give_up"):
            seconds[key] = self._number(table, (*at, key), None)
            if seconds[key] is not None and (seconds[key] < 0 or (seconds[key] == 0 and key != "give_up")):
                self._fail((*at, key), f"expected seconds greater than 0, got {seconds[key]}")
        masks = tuple(
            tuple(self._numbers(corner, (*at, "mask"), 2) for corner in self._list(polygon, (*at, "mask")))
            for polygon in self._list(table.get("mask", []), (*at, "mask"))
        )
        crop = self._numbers(table["crop"], (*at, "crop"), 4) if "crop" in table else None
        try:
            framing = Framing(masks, crop, table.get("rotate", 0))
        except ValueError as err:
            key = str(err).split()[0].strip(":")
            self._fail((*at, key), str(err))
        return SourceOptions(
            framing,
            transport,
            self._text(table, (*at, "decoder"), None),
            seconds["connect_timeout"],
            seconds["stall_timeout"],
            seconds["give_up"],
        )

    def _ask(self, table: dict[str, Any], at: KeyPath, base: PolicySettings) -> Ask:
        self._known(table, at, ("text", "at", *_POLICY_KEYS))
        text = self._text(table, (*at, "text"))
        if not text.strip():
            self._fail((*at, "text"), "expected a question, got nothing")
        when = self._number(table, (*at, "at"), 0.0)
        if when < 0:
            self._fail((*at, "at"), f"expected seconds from the start of the stream, got {when}")
        return Ask(text, when, self._policy(table, at, base))

    def _policy(self, table: dict[str, Any], at: KeyPath, base: PolicySettings) -> PolicySettings:
        threshold = base.threshold
        if "threshold" in table:
            threshold = self._number(table, (*at, "threshold"), 0.0)
        if threshold is not None and not 0 <= threshold <= 1:
            self._fail((*at, "threshold"), f"expected a score from 0 to 1, got {threshold}")
        seconds = {}
        for key, default in (("min_gap", base.min_gap_s), ("repeat", base.repeat_s)):
            seconds[key] = self._number(table, (*at, key), default)
            if seconds[key] < 0:
                self._fail((*at, key), f"expected seconds from 0, got {seconds[key]}")
        debounce = base.debounce
        if "debounce" in table:
            first, last = self._numbers(table["debounce"], (*at, "debounce"), 2)
            if not (1 <= first <= last <= 1000 and first.is_integer() and last.is_integer()):
                self._fail(
                    (*at, "debounce"), f"expected [k, n] with k of n timesteps, got {table['debounce']!r}"
                )
            debounce = (int(first), int(last))
        budget = table.get("budget", base.budget_per_hour)
        if budget is not None and (type(budget) is not int or budget < 1):
            self._fail(
                (*at, "budget"), f"expected a whole number of responses per hour from 1, got {budget!r}"
            )
        quiet = base.quiet_hours
        if "quiet_hours" in table:
            try:
                quiet = parse_quiet_hours(self._text(table, (*at, "quiet_hours")))
            except ValueError as err:
                self._fail((*at, "quiet_hours"), str(err))
        return PolicySettings(threshold, seconds["min_gap"], seconds["repeat"], debounce, budget, quiet)

    def _known(self, table: dict[str, Any], at: KeyPath, known: Sequence[str]) -> None:
        for key in table:
            if key not in known:
                near = get_close_matches(key, known, n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(known)}"
                self._fail((*at, key), f"unknown key{hint}")

    def _table(self, data: dict[str, Any], at: KeyPath) -> dict[str, Any]:
        value = data.get(str(at[-1]), {})
        if not isinstance(value, dict):
            self._fail(at, f"expected a table, [{_dotted(at)}], got {value!r}")
        return value

    def _tables(
        self, data: dict[str, Any], at: KeyPath, read: Callable[[dict[str, Any], KeyPath], Any]
    ) -> Any:
        values = data.get(str(at[-1]), [])
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            self._fail(at, f"expected [[{_dotted(at)}]] with two brackets: there may be several")
        return [read(value, (*at, index)) for index, value in enumerate(values)]

    def _text(self, table: dict[str, Any], at: KeyPath, *default: Any) -> Any:
        value = self._value(table, at, *default)
        if value is not None and not isinstance(value, str):
            self._fail(at, f"expected a text in quotes, got {value!r}")
        return value

    def _number(self, table: dict[str, Any], at: KeyPath, *default: Any) -> Any:
        value = self._value(table, at, *default)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < float("inf"):
            self._fail(at, f"expected a number, got {value!r}")
        return float(value)

    def _list(self, value: Any, at: KeyPath) -> list[Any]:
        if not isinstance(value, list):
            self._fail(at, f"expected a list in brackets, got {value!r}")
        return value

    def _numbers(self, value: Any, at: KeyPath, count: int) -> Any:
        numbers = self._list(value, at)
        if len(numbers) != count or not all(type(number) in (int, float) for number in numbers):
            self._fail(at, f"expected {count} numbers, got {value!r}")
        return tuple(map(float, numbers))

    def _value(self, table: dict[str, Any], at: KeyPath, *default: Any) -> Any:
        key = str(at[-1])
        if key in table:
            return table[key]
        if not default:
            self._fail(at, "is missing")
        return default[0]

    def _near(self, path: str) -> str:
        """A relative path is meant from the configuration file's folder."""
        return str(self._path.parent / Path(path).expanduser())

    def _fail(self, at: KeyPath, problem: str) -> NoReturn:
        line = next((self._lines[at[:n]] for n in range(len(at), 0, -1) if at[:n] in self._lines), None)
        where = f"{self._path}:{line}" if line else str(self._path)
        raise ConfigError(f"{where}: {_dotted(at)}: {problem}")


# A password may hold '/' and '@'; but after host and port an '@' belongs to the path.
_USER_IN_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://(?![^:/@?]*(:\d+)?[/?]).*@", re.IGNORECASE)
_POLICY_KEYS = ("threshold", "min_gap", "repeat", "debounce", "budget", "quiet_hours")
_RECEIVER_KEYS = ("name", "events", "ca_file", "outbox_megabytes", "outbox_days")
_WEBHOOK_KEYS = (
    *("url", "url_env", "url_file", "secret", "secret_env", "secret_file", "connect_timeout", "read_timeout"),
)
_MQTT_KEYS = ("host", "port", "topic", "tls", "user", "password", "password_env", "password_file")
_SOURCE_KEYS = (
    "mask",
    "crop",
    "rotate",
    "transport",
    "decoder",
    "connect_timeout",
    "stall_timeout",
    "give_up",
)


def _dotted(at: KeyPath) -> str:
    return ".".join(str(part) for part in at if isinstance(part, str))


def _is_relative_file(source: str) -> bool:
    return ":" not in source and not os.path.isabs(source) and ("." in source or os.sep in source)
