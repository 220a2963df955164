"""What only some runs need, the page and evidence: findings for `edge-run check` and `edge-run doctor`."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from edge_runtime.app.config_file import Config
from edge_runtime.command_line.missing_extra import how_to_install
from edge_runtime.config.endpoint import EndpointConfig
from edge_runtime.errors import Finding

PAGE = ("fastapi", "uvicorn", "websockets")
"""The packages of the extra ``web``."""


def page_problem() -> str | None:
    """What the page lacks and how to get it; None when it can be served."""
    missing = [name for name in PAGE if importlib.util.find_spec(name) is None]
    verb = "is" if len(missing) == 1 else "are"
    return f"{', '.join(missing)} {verb} not installed; {how_to_install('web')}" if missing else None


def folder_problem(folder: Path, key: str) -> str | None:
    """Why nothing can be kept in ``folder``, which a run makes if need be; None when it can.

    ``key``: of edge-run.toml, for the remedy.
    """
    if len(os.fsencode(folder.name)) > 255:
        return f"its name is too long; give {key} a shorter one"
    nearest = next((one for one in (folder, *folder.absolute().parents) if os.path.exists(one)), Path("/"))
    if not os.path.isdir(nearest):
        return f"{nearest} is not a folder; give {key} another one"
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(b"x")
    except OSError as err:
        return f"{err.strerror}; give {key} a folder that can be written"
    return None


def check_page(config: Config | None) -> Iterator[Finding]:
    """The packages of the page; missing they are a failure only where the configuration serves it."""
    problem = page_problem()
    if problem is None:
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in PAGE)
        yield Finding("page", "ok", versions)
    elif config is not None and config.web.address is not None:
        detail, _, remedy = problem.partition("; ")
        yield Finding("page", "fail", detail, remedy)
    else:
        yield Finding("page", "ok", f"--web cannot be used: {problem}")


def check_evidence(encoder: str, config: Config | None) -> Iterator[Finding]:
    """The folder of evidence, and the H.264 ``encoder`` that some clips need; empty for none."""
    folder = config.evidence.folder if config is not None else None
    if folder is not None:
        problem, _, remedy = (folder_problem(folder, "evidence.folder") or "").partition("; ")
        if problem:
            yield Finding("evidence", "fail", f"{folder}: {problem}", remedy)
        else:
            yield Finding("evidence", "ok", f"{folder} can be written")
    if encoder:
        yield Finding("encoder h264", "ok", encoder)
    elif config is not None and folder is not None and _any_clips(config):
        detail = "none, so there are no clips of masked cameras, nor of any that send neither H.264 nor H.265"
        yield Finding("encoder h264", "warn", detail, "sudo apt-get install -y gstreamer1.0-plugins-ugly")


def _any_clips(config: Config) -> bool:
    settings = [config.evidence.settings, *(camera.evidence for camera in config.cameras)]
    return any(one.clip != "off" for one in settings)


def check_endpoint(config: EndpointConfig) -> Iterator[Finding]:
    """The server answers about one grey frame, within a timestep."""
    from edge_runtime.engine.endpoint.model import try_endpoint

    warning, took = try_endpoint(config)
    if warning:
        detail, _, remedy = warning.partition("; ")
        yield Finding("endpoint", "warn", detail, remedy)
    detail = f"{config.model} at {config.url} answered about one grey frame after {took:.1f} s"
    slow = took > 1.0
    remedy = "frames will be dropped: use a lower --fps, a smaller model or fewer frames" if slow else ""
    yield Finding("endpoint", "warn" if slow else "ok", detail, remedy)
