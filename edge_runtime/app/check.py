"""What is wrong with an ``edge-run.toml`` before it is run: every mistake with its line and what to do.

Read what a run would read (secrets, bundle, certificates, sources) and opens nothing; see
:mod:`edge_runtime.app.check_connections` for trying sinks and cameras. Secrets that are read are
redacted from then on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from edge_runtime.app.config_file import Config, read_config
from edge_runtime.app.optional_parts import folder_problem, page_problem
from edge_runtime.app.run import source_factory
from edge_runtime.app.web.access import Access
from edge_runtime.app.web.certificate import server_context
from edge_runtime.bundle.manifest import load_bundle
from edge_runtime.command_line.missing_extra import how_to_install
from edge_runtime.config.certificates import check_certificates
from edge_runtime.config.key_lines import KeyPath
from edge_runtime.config.secret import Secret
from edge_runtime.config.server_url import check_key_travels
from edge_runtime.engine.zones import zone_grid
from edge_runtime.errors import BundleError, ConfigError, EdgeError, Finding, SinkError, Status
from edge_runtime.sinks.file import FileConfig


def check(path: Path, environment: Mapping[str, str] = os.environ) -> tuple[Config, list[Finding]]:
    """The configuration as far as it could be read, and all findings, from the top of the file down."""
    config, mistakes = read_config(path)
    findings = list(mistakes)
    if config.file is not None:  # it is TOML
        for examine in (_bundle, _endpoint, _zones, _questions, _outputs, _evidence, _web, _cameras, _sinks):
            findings += examine(config, environment)
    return config, sorted(findings, key=lambda finding: finding.line or 0)


def exit_code(findings: list[Finding]) -> int:
    """0, or what a run would end with because of the first thing that fails."""
    return next((finding.exit_code for finding in findings if finding.status == "fail"), 0)


def note(config: Config, at: KeyPath, status: Status, text: str, code: int = 2) -> Finding:
    """A finding about the key ``at``, in one line."""
    assert config.file is not None
    return config.file.finding(at, status, " ".join(text.split()), code)


def _bundle(config: Config, environment: Mapping[str, str]) -> Iterator[Finding]:
    if config.endpoint:
        return  # it watches in the bundle's place
    try:
        load_bundle(config.runtime.bundle)
    except BundleError as err:
        yield _fail(config, ("runtime", "bundle"), err)


def _endpoint(config: Config, environment: Mapping[str, str]) -> Iterator[Finding]:
    """That the package is there, and that the key can be read and may travel."""
    endpoint, at = config.endpoint, ("endpoint",)
    if not endpoint:
        return
    if find_spec("openai") is None:
        text = f"openai is not installed; {how_to_install('endpoint')}"
        yield note(config, (*at, "url"), "fail", text)
    key = list(endpoint.key.check("key", environment))
    yield from _within(config, at, key)
    if not exit_code(key):
        try:
            if endpoint.read_key(environment) and (warning := check_key_travels(endpoint.url)):
                yield note(config, (*at, "url"), "warn", warning)
        except ConfigError as err:
            yield _fail(config, (*at, "url"), err)


def _zones(config: Config, environment: Mapping[str, str]) -> Iterator[Finding]:
    """That the bundle knows zones, and that each is within what its camera shows."""
    if not any(camera.zones for camera in config.cameras):
        return
    if config.endpoint:
        for index, camera in enumerate(config.cameras):
            if camera.zones:
                yield note(config, ("camera", index, "zone"), "fail", "an endpoint knows no zones")
        return
    try:
        bundle = load_bundle(config.runtime.bundle)
    except BundleError:
        return  # said already
    for index, camera in enumerate(config.cameras):
        try:
            if camera.zones:
                zone_grid(bundle, camera.zones, camera.options.framing)
        except EdgeError as err:
            yield _fail(config, ("camera", index, "zone"), err)


def _questions(config: Config, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Questions that the bundle was not trained for, so that a run would not ask them."""
    try:
        bundle = load_bundle(config.runtime.bundle)
    except BundleError:
        return  # said already
    for index, camera in enumerate(config.cameras):
        names = [zone.name for zone in camera.zones]
        for number, query in enumerate(camera.queries):
            known = None if query.ask_anyway else bundle.knowledge
            words = known.unknown_words(query.text, names) if known is not None else ()
            if words:
                named = ", ".join(f'"{word}"' for word in words)
                text = (
                    f"{bundle.name} was not trained for {named}, so it is not asked; edge-run "
                    "questions shows what works, ask_anyway = true asks it nevertheless"
                )
                yield note(config, ("camera", index, "ask", number, "text"), "warn", text)


def _outputs(config: Config, environment: Mapping[str, str]) -> Iterator[Finding]:
    """That the file of events and the outbox can be written."""
    runtime = config.runtime
    if runtime.events is not None:
        yield from _within(config, ("runtime", "events"), FileConfig(str(runtime.events)).check())
    if any(sink.uses_outbox for sink in config.sinks) and (
        problem := folder_problem(runtime.outbox, "runtime.outbox")
    ):
        yield _fail(config, ("runtime", "outbox"), SinkError(f"{runtime.outbox}: {problem}"))


def _evidence(config: Config, environment: Mapping[str, str]) -> Iterator[Finding]:
    """That its folder can be written, and that there is an encoder for clips that hide something."""
    folder = config.evidence.folder
    if folder is None:
        return
    if problem := folder_problem(folder, "evidence.folder"):
        yield _fail(config, ("evidence", "folder"), SinkError(f"{folder}: {problem}"))
    for index, camera in enumerate(config.cameras):
        try:
            problem = source_factory.masked_clip_problem(camera)
        except (ImportError, EdgeError):
            return  # said with the sources
        if problem:
            yield note(config, ("camera", index), "warn", f"no clips are kept: {problem}")


def _web(config: Config, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Its packages, the token and that there is one where it is needed, and that the certificate can be
    used.
    """
    web, at = config.web, ("web",)
    if web.address is not None and (problem := page_problem()):
        yield note(config, ("web", "address"), "fail", problem)
    unreadable = list(web.token.check("token", environment))
    yield from _within(config, at, unreadable)
    if web.address is not None and web.token and not exit_code(unreadable):
        try:
            Access(web.address[0], token=web.token.read("web", environment))
        except ConfigError as err:
            yield _fail(config, ("web", web.token.key("token")), err)
    if web.address is not None and not web.on_loopback and not web.token:
        text = "can be reached from other machines, so it needs token_env or token_file"
        yield note(config, ("web", "address"), "fail", text)
    if web.tls_certificate is not None and web.tls_key is not None:
        try:
            server_context(web.tls_certificate, web.tls_key)
        except ConfigError as err:
            yield _fail(config, ("web", "tls_certificate"), err)


def _cameras(config: Config, environment: Mapping[str, str]) -> Iterator[Finding]:
    names_and_sources = []
    for index, camera in enumerate(config.cameras):
        at: KeyPath = ("camera", index)
        if not camera.queries:
            yield note(config, at, "warn", "nothing to watch for; add [[camera.ask]] or give --ask")
        password = list(Secret(camera.password_env, camera.password_file).check("password", environment))
        yield from _within(config, at, password)
        yield from _within(config, at, check_certificates("tls_ca_file", camera.options.tls_ca_file))
        if camera.source and not exit_code(password):
            try:
                names_and_sources.append((camera.name, source_factory.parse(camera)))
            except ImportError:
                yield note(config, (*at, "source"), "warn", "not checked: pipelines is not installed")
            except EdgeError as err:
                yield _fail(config, (*at, "source"), err)
    try:
        if names_and_sources and len({name for name, _ in names_and_sources}) == len(names_and_sources):
            source_factory.check_distinct(names_and_sources)
    except ConfigError as err:
        yield _fail(config, ("camera",), err)


def _sinks(config: Config, environment: Mapping[str, str]) -> Iterator[Finding]:
    for sink in config.sinks:
        yield from _within(config, sink.at, sink.check(environment))


def _within(config: Config, at: KeyPath, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Findings about keys of the table ``at``, with their places in the file."""
    for one in findings:
        key = (*at, one.subject) if one.subject else at
        yield note(config, key, one.status, one.detail, one.exit_code)


def _fail(config: Config, at: KeyPath, err: EdgeError) -> Finding:
    return note(config, at, "fail", str(err), err.exit_code)
