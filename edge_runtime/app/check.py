"""What is wrong with an ``edge-run.toml`` before it is run: everything, each with its line and what to do.

Reads what a run would read (secrets, bundle, certificates, sources) and opens nothing; see
:mod:`edge_runtime.app.check_connections` for trying receivers and cameras. No finding holds a secret's value.
"""

from __future__ import annotations

import importlib.util
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edge_runtime import redaction
from edge_runtime.app.run import source_factory
from edge_runtime.bundle.manifest import load_bundle
from edge_runtime.config.schema import CameraConfig, Config, read_config
from edge_runtime.config.toml import Problem, dotted
from edge_runtime.config.toml_lines import KeyPath
from edge_runtime.errors import BundleError, ConfigError, EdgeError, SinkError
from edge_runtime.sinks.registry import MqttConfig, Secret, WebhookConfig


@dataclass(frozen=True)
class Finding:
    """``fail``: a run would not start, or not deliver; ``warn``: it would, but look at it."""

    status: Literal["fail", "warn", "ok"]
    problem: Problem
    exit_code: int = ConfigError.exit_code
    """What a run with this mistake ends with."""

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        problem = self.problem
        file = {"file": str(problem.file), "line": problem.line, "key": problem.key}
        return {"status": self.status, **file, "text": problem.text}


def check(path: Path, environment: Mapping[str, str] = os.environ) -> tuple[Config, list[Finding]]:
    """The configuration as far as it could be read, and all findings, from the top of the file down."""
    config, problems = read_config(path)
    findings = [Finding("fail", problem) for problem in problems]
    if config.lines is not None:  # it is TOML
        look = _Look(config, environment)
        for part in (look.bundle, look.outputs, look.cameras, look.receivers):
            findings += part()
    return config, sorted(findings, key=lambda finding: finding.problem.line or 0)


def exit_code(findings: list[Finding]) -> int:
    """0, or what a run would end with because of the first thing that fails."""
    return next((finding.exit_code for finding in findings if finding.status == "fail"), 0)


def note(
    config: Config, at: KeyPath, status: Literal["fail", "warn", "ok"], text: str, code: int = 2
) -> Finding:
    """A finding about the key ``at``."""
    assert config.path is not None
    line = config.lines.line(at) if config.lines is not None else None
    return Finding(status, Problem(config.path, line, dotted(at), " ".join(text.split())), code)


def receiver_places(config: Config) -> Iterator[tuple[KeyPath, WebhookConfig | MqttConfig]]:
    """Every receiver with its place in the file."""
    counts = {"webhook": 0, "mqtt": 0}
    for receiver in config.receivers:
        kind = "webhook" if isinstance(receiver, WebhookConfig) else "mqtt"
        assert isinstance(receiver, (WebhookConfig, MqttConfig))
        yield (kind, counts[kind]), receiver
        counts[kind] += 1


class _Look:
    def __init__(self, config: Config, environment: Mapping[str, str]) -> None:
        self._config = config
        self._environment = environment

    def bundle(self) -> Iterator[Finding]:
        try:
            load_bundle(self._config.runtime.bundle)
        except BundleError as err:
            yield self._fail(("runtime", "bundle"), err)

    def outputs(self) -> Iterator[Finding]:
        """That the file of events and the outbox can be written."""
        runtime = self._config.runtime
        if runtime.events is not None and (problem := _unwritable(runtime.events)):
            yield self._fail(("runtime", "events"), SinkError(f"{runtime.events}: {problem}"))
        if self._config.receivers and (problem := _unusable_folder(runtime.outbox)):
            yield self._fail(("runtime", "outbox"), SinkError(f"{runtime.outbox}: {problem}"))

    def cameras(self) -> Iterator[Finding]:
        names_and_sources = []
        for index, camera in enumerate(self._config.cameras):
            at: KeyPath = ("camera", index)
            if not camera.queries:
                yield note(self._config, at, "warn", "nothing to watch for; add [[camera.ask]] or give --ask")
            wrong = list(self._secret(at, "password", Secret(camera.password_env, camera.password_file)))
            yield from wrong
            yield from self._certificates((*at, "tls_ca_file"), camera.options.tls_ca_file)
            if camera.source and not any(finding.status == "fail" for finding in wrong):
                try:
                    names_and_sources.append((camera.name, self._source(camera)))
                except ImportError:
                    yield note(
                        self._config, (*at, "source"), "warn", "not checked: pipelines is not installed"
                    )
                except EdgeError as err:
                    yield self._fail((*at, "source"), err)
        try:
            if names_and_sources and len({name for name, _ in names_and_sources}) == len(names_and_sources):
                source_factory.check_distinct(names_and_sources)
        except ConfigError as err:
            yield self._fail(("camera",), err)

    def receivers(self) -> Iterator[Finding]:
        for at, receiver in receiver_places(self._config):
            if isinstance(receiver, WebhookConfig):
                yield from self._webhook(at, receiver)
            else:
                yield from self._secret(at, "password", receiver.password)
                if receiver.password != Secret() and receiver.user is None:
                    yield note(self._config, at, "fail", "there is a password but no user; add user")
                if importlib.util.find_spec("paho") is None:
                    text = "paho-mqtt is not installed; pip install 'streampro-edge[mqtt]'"
                    yield self._fail(at, SinkError(text))
                yield from self._certificates((*at, "ca_file"), receiver.ca_file)

    def _webhook(self, at: KeyPath, receiver: WebhookConfig) -> Iterator[Finding]:
        from edge_runtime.sinks.webhook import check_url

        wrong = list(self._secret(at, "url", receiver.url_from))
        yield from wrong
        if receiver.url_from != Secret() and not any(finding.status == "fail" for finding in wrong):
            url = receiver.url_from.read(receiver.name, self._environment) or ""
            if problem := check_url(url):
                key = "url_env" if receiver.url_from.env else "url_file"
                yield note(
                    self._config, (*at, key), "fail", f"what it leads to is no such address: {problem}"
                )
        yield from self._secret(at, "secret", receiver.secret)
        if receiver.secret == Secret():
            text = "events are not signed, so the receiver cannot tell who sent them; give it secret_file"
            yield note(self._config, at, "warn", text)
        yield from self._certificates((*at, "ca_file"), receiver.ca_file)

    def _secret(self, at: KeyPath, key: str, secret: Secret) -> Iterator[Finding]:
        """That it is there, and that nobody else can read its file. What it holds is hidden from now on."""
        place = (*at, f"{key}_file" if secret.file is not None else f"{key}_env")
        try:
            value = secret.read(f"{at[0]}", self._environment)
        except ConfigError as err:
            yield note(self._config, place, "fail", str(err).partition(": ")[2])
            return
        if value is not None:
            with suppress(ImportError):  # without pipelines no source is looked at, which could show it
                redaction.register(value)
        if secret.file is not None and (others := stat.S_IMODE(secret.file.stat().st_mode) & 0o077):
            mode = stat.S_IMODE(secret.file.stat().st_mode)
            who = "others" if others & 0o007 else "its group"
            text = f"{secret.file} is open to {who} (mode {mode:03o}); chmod 600 {secret.file}"
            yield note(self._config, place, "warn", text)

    def _certificates(self, at: KeyPath, file: Path | None) -> Iterator[Finding]:
        import ssl

        try:
            if file is not None:
                ssl.create_default_context(cafile=file)
        except (OSError, ssl.SSLError) as err:
            reason = err.strerror if isinstance(err, FileNotFoundError) else "it holds no certificate"
            yield note(self._config, at, "fail", f"{file} cannot be used: {reason}")

    def _source(self, camera: CameraConfig) -> Any:
        """Parsed, and looked at where it is a file. The environment of the process holds its password."""
        return source_factory.parse(camera)

    def _fail(self, at: KeyPath, err: EdgeError) -> Finding:
        return note(self._config, at, "fail", without_secrets(err), err.exit_code)


def without_secrets(err: Exception) -> str:
    """An error's words without secrets, where there are any to know of."""
    try:
        return redaction.scrub(str(err))
    except ImportError:
        return str(err)


def _unwritable(file: Path) -> str | None:
    """Why no events can be appended to ``file``, which is not made by asking; None when they can."""
    if len(os.fsencode(file.name)) > 255:
        return "its name is too long"
    # Not Path's own questions: they raise where a folder on the way may not be looked into.
    if os.path.isdir(file):
        return "it is a folder; name a file"
    if os.path.exists(file):
        return None if os.access(file, os.W_OK) else "it may not be written; give its owner or mode"
    if not os.path.isdir(file.parent):
        return f"there is no folder {file.parent}; make it"
    return None if os.access(file.parent, os.W_OK) else f"the folder {file.parent} may not be written"


def _unusable_folder(folder: Path) -> str | None:
    """Why no outbox can be kept in ``folder``, which a run makes if need be; None when one can."""
    if len(os.fsencode(folder.name)) > 255:
        return "its name is too long"
    nearest = next((one for one in (folder, *folder.absolute().parents) if os.path.exists(one)), Path("/"))
    if not os.path.isdir(nearest):
        return f"{nearest} is not a folder; give runtime.outbox another one"
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(b"x")
    except OSError as err:
        return f"{err.strerror}; give runtime.outbox a folder that can be written"
    return None
