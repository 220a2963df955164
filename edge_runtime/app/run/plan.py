"""Which cameras a command line means, and what is asked of each: the options of the command line on top of
``edge-run.toml``. Nothing is opened here, so the same plan can be made again when the file has changed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from edge_runtime.bundle.tokenizer import is_unicode
from edge_runtime.config.schema import Ask, CameraConfig, Config, RuntimeConfig
from edge_runtime.errors import ConfigError, SourceError
from edge_runtime.sinks.base import SinkConfig
from edge_runtime.video.framing import Framing, Polygon

SAMPLE = "sample"
SAMPLES = Path(__file__).parents[2] / "samples"
_TLS = ("tls_verify", "tls_ca_file", "tls_fingerprint")


@dataclass(frozen=True)
class Given:
    """What the command line says. It holds for every camera, and above what the file says."""

    sources: tuple[str, ...]
    asks: tuple[str, ...] = ()
    ask_at: tuple[float, ...] = ()
    """Seconds; the first belongs to the first of ``asks``."""
    fps: float | None = None
    masks: tuple[Polygon, ...] = ()
    crop: tuple[float, float, float, float] | None = None
    rotate: int | None = None
    policy: Mapping[str, Any] = field(default_factory=dict)
    """Fields of PolicySettings; None: not given. So in the next two."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of SourceOptions."""
    runtime: Mapping[str, Any] = field(default_factory=dict)
    """Fields of RuntimeConfig."""
    config: bool = False
    """The configuration file was named, not found."""


@dataclass(frozen=True)
class Plan:
    """All that a run needs to know."""

    cameras: tuple[CameraConfig, ...]
    """One for each source given; the name is empty where the source is its own best name."""
    runtime: RuntimeConfig
    sinks: tuple[SinkConfig, ...]
    path: Path | None
    """The configuration file, if there is one."""
    needs_sinks: bool = True
    """A sink that cannot be used ends the run; otherwise it is left out, with a warning."""


def make_plan(given: Given, settings: Config) -> Plan:
    """Put the two together. Raises click.UsageError, ConfigError, or SourceError for a damaged sample."""
    if not given.sources:
        raise click.UsageError("a source is missing, e.g. sample, camera0, clip.mp4 or rtsp://host/path")
    twice = next((one for n, one in enumerate(given.sources) if one in given.sources[:n]), None)
    if twice is not None:
        shown = "one address" if "://" in twice or "@" in twice else twice  # it may hold a password
        raise click.UsageError(
            f"{shown} is given twice; one camera is watched once, with any number of --ask"
        )
    return Plan(
        tuple(_planned(find_camera(source, settings), given) for source in given.sources),
        replace(settings.runtime, **_known(given.runtime)),
        settings.sinks,
        settings.path,
        # A clip beside an edge-run.toml that was only found is no reason to ask for that file's secrets.
        given.config or any(settings.camera(source) for source in given.sources if source != SAMPLE),
    )


def find_camera(source: str, settings: Config) -> CameraConfig:
    """The camera that ``source`` means. Raises ConfigError for a name that nothing has."""
    if source == SAMPLE:
        return _sample()
    configured = settings.camera(source)
    if configured is not None:
        return configured
    plain = re.fullmatch(r"[\w-]+", source) and not re.fullmatch(r"camera\d*|test", source)
    if plain and not os.path.exists(source):
        names = [camera.name for camera in settings.cameras]
        known = [*names, SAMPLE, "camera0", "doctor", "check", "init", "plugin", "bench"]
        near = get_close_matches(source, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "give a file, rtsp://..., camera0 or sample"
        file = f" in {settings.path}" if settings.path else ", and there is no edge-run.toml"
        raise ConfigError(f"{source}: no such file, and no camera of that name{file}; {hint}")
    name = Path(source).name if "://" not in source and os.path.isfile(source) else ""
    return CameraConfig(name=name, source=source)


def _sample() -> CameraConfig:
    """The clip that comes with the program, with its questions."""
    clip, about = SAMPLES / "sample.mp4", SAMPLES / "sample.json"
    try:
        data = json.loads(about.read_text(encoding="utf-8"))
        queries = data["queries"] if "queries" in data else [data["query"]]
        asks = tuple(Ask(query["text"], float(query["time"])) for query in queries)
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise SourceError(
            f"{about}: the sample's question cannot be read ({err!r}); install the program again"
        ) from err
    return CameraConfig(name=SAMPLE, source=str(clip), asks=asks)


def _planned(camera: CameraConfig, given: Given) -> CameraConfig:
    options = replace(
        camera.options,
        framing=_framing(camera.options.framing, given),
        **_trust(given),
        **{name: value for name, value in _known(given.options).items() if name not in _TLS},
    )
    asks = _questions(camera, given.asks, given.ask_at, _known(given.policy))
    return replace(camera, fps=given.fps or camera.fps, asks=asks, options=options)


def _trust(given: Given) -> dict[str, Any]:
    """The three keys of TLS stand together: the file's would loosen or contradict the command line's."""
    known = {name: value for name, value in _known(given.options).items() if name in _TLS}
    if known.get("tls_verify") is False and len(known) > 1:
        raise click.UsageError("--no-tls-verify accepts any certificate; give it alone")
    if "tls_ca_file" in known and "tls_fingerprint" in known:
        raise click.UsageError("give --tls-ca-file or --tls-fingerprint, not both")
    return {**dict.fromkeys(_TLS), **known} if known else {}


def _questions(
    camera: CameraConfig, texts: Sequence[str], times: Sequence[float], policy: dict[str, Any]
) -> tuple[Ask, ...]:
    """What is asked: the command line's questions, else the camera's, under the command line's policy."""
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
    if texts:
        padded = [*times, *[0.0] * (len(texts) - len(times))]
        asks = tuple(Ask(text, at, camera.policy) for text, at in zip(texts, padded, strict=True))
    else:
        asks = camera.asks
    if not asks:
        whom = f"{camera.name}: " if camera.name else ""
        raise click.UsageError(f'{whom}nothing to watch for; add --ask "..."')
    return tuple(replace(ask, policy=replace(ask.policy, **policy)) for ask in asks)


def _framing(base: Framing, given: Given) -> Framing:
    """The camera's framing; masks of the command line come on top, never in place of the camera's."""
    rotate = base.rotate if given.rotate is None else given.rotate
    try:
        return Framing((*base.masks, *given.masks), given.crop or base.crop, rotate)
    except ValueError as err:
        raise click.UsageError(f"{err}") from err


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
