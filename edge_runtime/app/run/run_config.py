"""Which cameras a command line means, and which queries each is watched for: the options of the command line
on top of ``edge-run.toml``. Nothing is opened here, so it can be done again when the file has changed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from edge_runtime.app.config_file import CameraConfig, Config, RuntimeConfig
from edge_runtime.app.web.config import WebConfig
from edge_runtime.bundle.tokenizer import is_unicode
from edge_runtime.config.endpoint import EndpointConfig
from edge_runtime.config.secret import Secret
from edge_runtime.config.server_url import api_url
from edge_runtime.errors import ConfigError, SourceError
from edge_runtime.events.evidence_config import EvidenceConfig
from edge_runtime.events.query_config import QueryConfig
from edge_runtime.sinks.base import SinkConfig
from edge_runtime.video.framing import Framing, Polygon
from edge_runtime.video.samples import SAMPLE, sample_clip

_TLS = ("tls_verify", "tls_ca_file", "tls_fingerprint")


_POLICY = {"threshold": "threshold", "min_gap": "min_gap_s"}
_SOURCE = {
    "transport": "transport",
    "decoder": "decoder",
    "connect_timeout": "connect_timeout_s",
    "stall_timeout": "stall_timeout_s",
    "give_up": "give_up_s",
    "still_skip": "still_skip_s",
    "catch_up": "catch_up",
    **{name: name for name in _TLS},
}
_RUNTIME = {name: name for name in ("bundle", "backend", "threads", "events", "metrics")}


@dataclass(frozen=True)
class CliOptions:
    """What the command line says. It holds for every camera, and above what the file says."""

    sources: tuple[str, ...]
    queries: tuple[str, ...] = ()
    ask_at: tuple[float, ...] = ()
    """Seconds; the first belongs to the first of ``queries``."""
    fps: float | None = None
    masks: tuple[Polygon, ...] = ()
    crop: tuple[float, float, float, float] | None = None
    rotate: int | None = None
    policy: Mapping[str, Any] = field(default_factory=dict)
    """Fields of PolicySettings that are given. So the next two."""
    source_options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of SourceOptions."""
    runtime: Mapping[str, Any] = field(default_factory=dict)
    """Fields of RuntimeConfig."""
    ask_anyway: bool = False
    """Ask also what the model was not trained for."""
    web: tuple[str, int] | None = None
    """Where the page is served."""
    web_token_file: Path | None = None
    evidence: Path | None = None
    """The folder of evidence."""
    endpoint: str | None = None
    """Address of the server in place of a bundle."""
    model: str | None = None
    """Its model."""
    config_named: bool = False
    """The configuration file was named, not found."""

    @classmethod
    def from_click(cls, values: Mapping[str, Any]) -> CliOptions:
        """From the parameters of the command ``run``."""

        def given(fields: Mapping[str, str]) -> dict[str, Any]:
            return {field: values[name] for name, field in fields.items() if values[name] is not None}

        return cls(
            values["sources"],
            values["queries"],
            values["ask_at"],
            values["fps"],
            values["masks"],
            values["crop"],
            None if values["rotate"] is None else int(values["rotate"]),
            policy=given(_POLICY),
            source_options=given(_SOURCE),
            runtime=given(_RUNTIME),
            ask_anyway=values["ask_anyway"],
            web=values["web"],
            web_token_file=values["web_token_file"],
            evidence=values["evidence"],
            endpoint=values["endpoint"],
            model=values["model"],
            config_named=values["config"] is not None,
        )


@dataclass(frozen=True)
class RunConfig:
    """What to watch and where events go: the command line and the configuration file together."""

    cameras: tuple[CameraConfig, ...]
    """One for each source given; the name is empty where the source is its own best name."""
    runtime: RuntimeConfig
    sinks: tuple[SinkConfig, ...]
    path: Path | None
    """The configuration file, if there is one."""
    needs_sinks: bool = True
    """A sink that cannot be used ends the run; otherwise it is left out, with a warning."""
    evidence: EvidenceConfig = field(default_factory=EvidenceConfig)
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    """Watches in place of the bundle where it is given."""
    web: WebConfig = field(default_factory=WebConfig)
    configured: frozenset[str] = frozenset()
    """Names of all cameras in the configuration file, watched or not."""


def make_run_config(options: CliOptions, settings: Config) -> RunConfig:
    """Put the two together. Raises click.UsageError, ConfigError, or SourceError for a damaged sample."""
    web = _web(options, settings)
    starts_empty = web.address is not None and web.allow_add_cameras
    if not options.sources and not starts_empty:
        raise click.UsageError("a source is missing, e.g. sample, camera0, clip.mp4 or rtsp://host/path")
    twice = next((one for n, one in enumerate(options.sources) if one in options.sources[:n]), None)
    if twice is not None:
        shown = "one address" if "://" in twice or "@" in twice else twice  # it may hold a password
        raise click.UsageError(
            f"{shown} is given twice; one camera is watched once, with any number of --ask"
        )
    settings = replace(settings, runtime=replace(settings.runtime, **options.runtime))
    cameras = [_with_options(find_camera(source, settings), options) for source in options.sources]
    idle = next((camera for camera in cameras if not camera.queries), None)
    if idle is not None and web.address is None:  # else it can be asked on the page
        whom = f"{idle.name}: " if idle.name else ""
        raise click.UsageError(f'{whom}nothing to watch for; add --ask "..."')
    evidence = settings.evidence
    if options.evidence is not None:
        evidence = replace(evidence, folder=options.evidence)
    return RunConfig(
        tuple(cameras),
        settings.runtime,
        settings.sinks,
        settings.path,
        # A clip beside an edge-run.toml that was only found is no reason to ask for that file's secrets.
        options.config_named
        or not options.sources
        or any(settings.camera(source) for source in options.sources if source != SAMPLE),
        web=web,
        configured=frozenset(camera.name for camera in settings.cameras),
        evidence=evidence,
        endpoint=_endpoint(options, settings.endpoint),
    )


def _endpoint(options: CliOptions, found: EndpointConfig) -> EndpointConfig:
    """The command line's server and model in place of the file's; none where it names a bundle."""
    if "bundle" in options.runtime:
        if options.endpoint is not None or options.model is not None:
            raise click.UsageError("give --bundle or --endpoint with --model, not both")
        return EndpointConfig()
    if options.endpoint is not None:
        url = api_url(options.endpoint)
        # The file's key is for the file's server.
        found = replace(found, url=url, key=found.key if url == found.url else Secret())
    if options.model is not None:
        if not options.model.strip():
            raise click.UsageError("--model is empty; name a model of the server")
        found = replace(found, model=options.model)
    if found.url and not found.model:
        raise click.UsageError("--endpoint needs --model NAME, a model of that server")
    if found.model and not found.url:
        raise click.UsageError("--model needs --endpoint URL, such as http://127.0.0.1:8080/v1")
    return found


def _web(options: CliOptions, settings: Config) -> WebConfig:
    """The command line's address and token in place of the file's."""
    web = settings.web
    if options.web is not None:
        web = replace(web, address=options.web)
    if options.web_token_file is not None:
        if web.address is None:
            raise click.UsageError("--web-token-file is for the page; give --web as well")
        web = replace(web, token=Secret(file=options.web_token_file))
    return web


def find_camera(source: str, settings: Config) -> CameraConfig:
    """The camera that ``source`` means. Raises ConfigError for a name that nothing has."""
    if source == SAMPLE:
        return replace(_sample(settings.runtime.bundle), evidence=settings.evidence.settings)
    configured = settings.camera(source)
    if configured is not None:
        return configured
    plain = re.fullmatch(r"[\w-]+", source) and not re.fullmatch(r"camera\d*|test", source)
    if plain and not os.path.exists(source):
        names = [camera.name for camera in settings.cameras]
        known = [*names, SAMPLE, "camera0", "doctor", "check", "init", "questions", "plugin", "bench"]
        near = get_close_matches(source, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "give a file, rtsp://..., camera0 or sample"
        file = f" in {settings.path}" if settings.path else ", and there is no edge-run.toml"
        raise ConfigError(f"{source}: no such file, and no camera of that name{file}; {hint}")
    name = Path(source).name if "://" not in source and os.path.isfile(source) else ""
    return CameraConfig(name=name, source=source, evidence=settings.evidence.settings)


def _sample(bundle: str) -> CameraConfig:
    """The clip that comes with the program and suits the bundle, with its queries."""
    clip, about = sample_clip(bundle)
    try:
        data = json.loads(about.read_text(encoding="utf-8"))
        found = data["queries"] if "queries" in data else [data["query"]]
        queries = tuple(QueryConfig(query["text"], float(query["time"])) for query in found)
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise SourceError(
            f"{about}: the sample's question cannot be read ({err!r}); install the program again"
        ) from err
    return CameraConfig(name=SAMPLE, source=str(clip), queries=queries)


def _with_options(camera: CameraConfig, options: CliOptions) -> CameraConfig:
    source_options = replace(
        camera.options,
        framing=_framing(camera.options.framing, options),
        **_trust(options.source_options),
        **{name: value for name, value in options.source_options.items() if name not in _TLS},
    )
    queries = tuple(
        replace(
            query,
            policy=replace(query.policy, **options.policy),
            ask_anyway=query.ask_anyway or options.ask_anyway,
        )
        for query in _queries(camera, options)
    )
    policy = replace(camera.policy, **options.policy)  # of questions that are asked later
    return replace(
        camera, fps=options.fps or camera.fps, policy=policy, queries=queries, options=source_options
    )


def _trust(given: Mapping[str, Any]) -> dict[str, Any]:
    """The three keys of TLS stand together: the file's would loosen or contradict the command line's."""
    known = {name: given[name] for name in _TLS if name in given}
    if known.get("tls_verify") is False and len(known) > 1:
        raise click.UsageError("--no-tls-verify accepts any certificate; give it alone")
    if "tls_ca_file" in known and "tls_fingerprint" in known:
        raise click.UsageError("give --tls-ca-file or --tls-fingerprint, not both")
    return {**dict.fromkeys(_TLS), **known} if known else {}


def _queries(camera: CameraConfig, options: CliOptions) -> tuple[QueryConfig, ...]:
    """The command line's queries, else the camera's."""
    texts, times = options.queries, options.ask_at
    if len(times) > len(texts):
        raise click.UsageError(
            f"{len(times)} --ask-at for {len(texts)} --ask; each --ask-at belongs to one --ask"
        )
    if any(not text.strip() for text in texts):
        raise click.UsageError("--ask is empty; say what to watch for")
    for text in texts:
        if not is_unicode(text):
            shown = text.encode("utf-8", "replace").decode()
            raise click.UsageError(f'--ask "{shown}" is not UTF-8; write it in UTF-8')
    times = (*times, *[0.0] * (len(texts) - len(times)))
    asked = tuple(QueryConfig(text, at, camera.policy) for text, at in zip(texts, times, strict=True))
    return asked or camera.queries


def _framing(base: Framing, options: CliOptions) -> Framing:
    """The camera's framing; masks of the command line come on top, never in place of the camera's."""
    rotate = base.rotate if options.rotate is None else options.rotate
    try:
        return Framing((*base.masks, *options.masks), options.crop or base.crop, rotate)
    except ValueError as err:
        raise click.UsageError(f"{err}") from err
