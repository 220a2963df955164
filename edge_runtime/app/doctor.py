"""What is wrong with this machine, and the command that fixes it.

Each check gives findings: ``ok``, ``warn`` (works, but not as well as it could) or ``fail`` (something needed
is missing or broken). A check never raises: what it could not find out is a finding, too.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edge_runtime.app.optional_parts import check_endpoint, check_evidence, check_page
from edge_runtime.backends.spinning import Spinning
from edge_runtime.errors import BundleError, ConfigError, EdgeError, Finding, first_line
from edge_runtime.observability.log import lines_to

if TYPE_CHECKING:
    from edge_runtime.app.config_file import Config

PYTHONS = ((3, 10), (3, 14))
GSTREAMERS = ((1, 20), (1, 28))
"""The oldest and the newest release that is supported; `make test-distros` runs several of them."""
_LOW_DISK_BYTES = 200 << 20
_TIMED_STEPS = 20


@dataclass(frozen=True)
class Decoder:
    """An installed video decoder; ``proof`` is ``works`` or why it does not."""

    name: str
    codecs: tuple[str, ...]
    hardware: bool
    proof: str


class Video(Protocol):
    """What doctor asks of the pipelines package. Methods may raise EdgeError with its remedy."""

    def versions(self) -> dict[str, str]:
        """Of GStreamer and its Python bindings."""
        ...

    def decoders(self) -> list[Decoder]: ...

    def encoder(self) -> str:
        """Of H.264, for clips; empty for none."""
        ...

    def cameras(self) -> list[str]:
        """Cameras of this machine, for people."""
        ...


def examine(
    bundle: str,
    video: Video,
    *,
    threads: int | None = None,
    backend: str = "auto",
    config: Config | None = None,
    spinning: Spinning = "run",
) -> Iterator[Finding]:
    """All findings, as they are made. ``bundle``: name or folder of the model that is to run here."""
    yield from check_python()
    yield from check_packages()
    yield from check_engine()
    yield from check_tensorrt()
    yield from _guarded("GStreamer", lambda: check_gstreamer(video))
    yield from _guarded("decoders", lambda: check_decoders(video))
    yield from _guarded("evidence", lambda: check_evidence(video.encoder(), config))
    yield from check_element()
    yield from check_page(config)
    yield from _guarded("cameras", lambda: check_cameras(video))
    if config is not None and config.endpoint:
        endpoint = config.endpoint
        yield from _guarded("endpoint", lambda: check_endpoint(endpoint))
    else:
        yield from _guarded("model", lambda: check_bundle(bundle, threads, backend, spinning))
    yield from check_disk()
    yield from check_egress(config)


def broken(findings: Iterable[Finding]) -> bool:
    """True when something needed does not work."""
    return any(finding.status == "fail" for finding in findings)


def check_python() -> Iterator[Finding]:
    detail = f"{platform.python_version()} ({sys.executable}), {platform.platform()}, {_cores()} CPU cores"
    finding = _supported("Python", detail, sys.version_info[:2], PYTHONS)
    yield replace(finding, status="fail") if sys.version_info < PYTHONS[0] else finding


def _supported(
    name: str, detail: str, found: tuple[int, ...], range_: tuple[tuple[int, ...], ...]
) -> Finding:
    """``ok`` when ``found`` (major, minor) lies in ``range_`` (oldest, newest), else ``warn``."""
    oldest, newest = (".".join(map(str, version)) for version in range_)
    if found < range_[0]:
        return Finding(name, "warn", f"{detail}; older than what is supported", f"use {oldest} to {newest}")
    if found > range_[1]:
        return Finding(
            name,
            "warn",
            f"{detail}; newer than what was tested",
            f"if something fails, use {oldest} to {newest}",
        )
    return Finding(name, "ok", detail)


def check_packages() -> Iterator[Finding]:
    """The packages every part of the runtime needs."""
    for module, package in (
        ("numpy", "numpy"),
        ("PIL", "pillow"),
        ("tokenizers", "tokenizers"),
        ("click", "click"),
    ):
        try:
            importlib.import_module(module)
            yield Finding(package, "ok", metadata.version(package))
        except Exception as err:  # a broken binary raises anything; that is what we are here to find
            yield Finding(package, "fail", f"cannot be imported: {first_line(err)}", _pip(package))


def check_engine() -> Iterator[Finding]:
    """Inference engines and what they run on."""
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _version(name)]
    try:
        onnxruntime = importlib.import_module("onnxruntime")
        providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
        yield Finding("onnxruntime", "ok", f"{onnxruntime.__version__}, providers: {', '.join(providers)}")
    except Exception as err:
        yield Finding(
            "onnxruntime", "fail", f"cannot be imported: {first_line(err)}", _pip("streampro-edge[cpu]")
        )
        return
    if len(installed) == 2:
        yield Finding(
            "onnxruntime",
            "warn",
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files",
            f"{_python()} -m pip uninstall -y onnxruntime onnxruntime-gpu, then {_pip('onnxruntime-gpu')}",
        )
    if "CUDA" not in providers and Path("/proc/driver/nvidia/version").exists():
        yield Finding(
            "onnxruntime",
            "warn",
            "this machine has an NVIDIA driver, but the installed engine runs on the CPU alone",
            f"{_python()} -m pip uninstall -y onnxruntime, then {_pip('streampro-edge[gpu]')}",
        )


def check_tensorrt() -> Iterator[Finding]:
    """TensorRT where it is installed, and whether it would find a GPU. Its absence is nothing to mention."""
    from edge_runtime.backends.select import extra_of
    from edge_runtime.backends.tensorrt.cuda import Cuda

    for module in ("tensorrt", "tensorrt_rtx"):
        if importlib.util.find_spec(module) is None:
            continue
        try:
            version = importlib.import_module(module).__version__
            device = Cuda.load(extra_of(module)).device
        except EdgeError as err:
            detail, _, remedy = str(err).partition("; ")
            yield Finding(
                module,
                "warn",
                f"installed, but cannot be used: {detail}",
                remedy or "nothing, if this machine has no NVIDIA GPU: the CPU is used",
            )
        except Exception as err:  # a broken binary raises anything
            remedy = _pip(f"streampro-edge[{extra_of(module)}]")
            yield Finding(module, "warn", f"cannot be imported: {first_line(err)}", remedy)
        else:
            yield Finding(module, "ok", f"{version} on {device.name} (SM{device.sm})")


def check_gstreamer(video: Video) -> Iterator[Finding]:
    for name, version in video.versions().items():
        if name == "GStreamer":
            found = tuple(int(number) for number in version.split(".")[:2])
            # Odd minor numbers are development releases of the next even one.
            yield _supported(name, version, (found[0], found[1] + found[1] % 2), GSTREAMERS)
        else:
            yield Finding(name, "ok", version)


def check_decoders(video: Video) -> Iterator[Finding]:
    """Every codec that cameras send needs one decoder that really delivers a frame."""
    decoders = video.decoders()
    working = [decoder for decoder in decoders if decoder.proof == "works"]
    by_codec: dict[str, list[Decoder]] = {}
    for decoder in working:
        for codec in decoder.codecs:
            by_codec.setdefault(codec, []).append(decoder)
    remedy = "sudo apt-get install -y gstreamer1.0-libav gstreamer1.0-plugins-good"
    if "h264" not in by_codec:
        yield Finding("decoder h264", "fail", "none delivers a frame; most cameras and files need it", remedy)
    for codec in ("h265", "jpeg"):
        if codec not in by_codec:
            yield Finding(f"decoder {codec}", "warn", "none delivers a frame", remedy)
    for codec, found in sorted(by_codec.items()):
        names = ", ".join(f"{d.name}{' (hardware)' if d.hardware else ''}" for d in found)
        yield Finding(f"decoder {codec}", "ok", names)
    for decoder in decoders:
        if decoder.hardware and decoder.proof not in ("works", "not tried"):
            yield Finding(
                f"decoder {decoder.name}",
                "warn",
                f"hardware decoder that delivers no frame: {decoder.proof}; software is used instead",
                "check the GPU's driver and, in a container, that its device is passed in",
            )


def check_element() -> Iterator[Finding]:
    """The element `streampro` is optional: only one that was installed and does not load is a warning."""
    from edge_runtime.app.commands.plugin import LOADER, plugin_folder, prove

    if not (plugin_folder(user=True) / LOADER).exists():
        yield Finding(
            "element streampro", "ok", "not installed; `edge-run plugin install` adds it to GStreamer"
        )
    elif (problem := prove()) is None:
        yield Finding("element streampro", "ok", "found by gst-inspect-1.0")
    else:
        detail, _, remedy = problem.partition("; ")
        yield Finding(
            "element streampro", "warn", detail, remedy or f"{_python()} -m edge_runtime plugin install"
        )


def check_cameras(video: Video, devices: Sequence[Path] | None = None) -> Iterator[Finding]:
    """Cameras of this machine. Having none is fine: there are network cameras and files."""
    if devices is None:
        devices = sorted(Path("/dev").glob("video*"))
    locked = [str(path) for path in devices if not os.access(path, os.R_OK | os.W_OK)]
    if locked:
        yield Finding(
            "cameras",
            "fail",
            f"no permission to open {', '.join(locked)}",
            "sudo usermod -aG video $USER, then log in again",
        )
    cameras = video.cameras()
    for number, camera in enumerate(cameras):
        yield Finding(f"camera{number}", "ok", camera)
    if not cameras and not locked:
        yield Finding(
            "cameras", "ok", "none on this machine; rtsp:// sources, files and `edge-run sample` work"
        )


def check_bundle(
    name: str, threads: int | None = None, backend: str = "auto", spinning: Spinning = "run"
) -> Iterator[Finding]:
    """The model fits the memory, its files are what its manifest says, and a timestep fits its interval."""
    import edge_runtime
    from edge_runtime.bundle.memory_plan import memory_findings

    yield from memory_findings(name)
    started = time.perf_counter()
    lines: list[str] = []
    try:
        with lines_to(lines.append, "edge_runtime.backends"):
            model = edge_runtime.load(name, threads=threads, backend=backend, spinning=spinning)
    except BundleError as err:
        yield Finding(
            "model",
            "fail",
            str(err),
            f"export it again or copy all of its folder; see {_python()} -m export --help",
        )
        return
    loaded_s = time.perf_counter() - started
    size = sum(spec.size for spec in model.bundle.files.values())
    yield Finding(
        "model",
        "ok",
        f"{model.bundle.name} {model.bundle.precision}, {len(model.bundle.files)} files, "
        f"{size / 1e6:.1f} MB, hashes verified, loaded in {loaded_s:.1f} s ({model.bundle.folder})",
    )
    for line in lines:
        detail, _, remedy = line.partition("; ")
        yield Finding("engine", "warn", detail, remedy)
    yield _time_steps(model)


def _time_steps(model: Any) -> Finding:
    import numpy as np

    height, width = model.bundle.model.image_size
    frames = np.random.default_rng(0).integers(0, 256, (_TIMED_STEPS, height, width, 3), dtype=np.uint8)
    spent = []
    vision = model.open_vision()
    with model.session() as session:
        session.ask("Is this machine fast enough?")
        for index, frame in enumerate(frames):
            started = time.perf_counter()
            # The decision alone: how much text follows depends on what is seen.
            decision = session.push_tokens(vision.see(frame), index)
            text_ms = decision.timing["total"] - decision.timing["decision"]
            spent.append((time.perf_counter() - started) * 1e3 - text_ms)
    median_ms = sorted(spent)[len(spent) // 2]
    interval_ms = 1000 / model.stream_format.fps
    detail = f"a decision takes {median_ms:.1f} ms of the {interval_ms:.0f} ms it may ({model.backend})"
    if median_ms < interval_ms / 2:
        return Finding("speed", "ok", detail)
    return Finding("speed", "warn", detail, "use a smaller model, or a lower --fps: frames will be skipped")


def check_disk() -> Iterator[Finding]:
    """Room for event files here, and a cache folder that can be written."""
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    detail = f"{free / 1e9:.1f} GB free in {here}"
    if free >= _LOW_DISK_BYTES:
        yield Finding("disk", "ok", detail)
    else:
        yield Finding("disk", "warn", detail, "free some space, or write --events elsewhere")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    nearest = next(path for path in (cache, *cache.parents) if path.exists())
    if os.access(nearest, os.W_OK | os.X_OK):
        yield Finding("cache", "ok", f"{cache} can be written")
    else:
        remedy = (
            f"sudo chown -R $USER {shlex.quote(str(nearest))}, or set XDG_CACHE_HOME to a folder of yours"
        )
        yield Finding(
            "cache", "warn", f"{cache} cannot be written, so GStreamer starts slowly each time", remedy
        )


def check_egress(config: Config | None) -> Iterator[Finding]:
    """Every host that the configuration may contact, so that anything else in a firewall's log is a fault."""
    from edge_runtime.app.contacts import contacts

    found = list(contacts(config)) if config is not None else []
    for one in found:
        remedy = "" if one.status == "ok" else "edge-run check"
        yield Finding("network", one.status, f"{one.subject}: {one.detail}", remedy)
    file = config.path if config is not None and config.path is not None else "without a configuration"
    what = f"nothing {'else ' if found else ''}is contacted but for sources given on the command line"
    yield Finding("network", "ok", f"{file}: {what}")


def _guarded(check: str, findings: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What a check yields, and a finding in place of what it raises."""
    try:
        yield from findings()
    except ConfigError:
        raise  # a mistake in how doctor was called
    except EdgeError as err:
        detail, _, remedy = str(err).partition("; ")
        yield Finding(check, "fail", detail, remedy)
    except Exception as err:
        yield Finding(
            check, "fail", f"{type(err).__name__}: {first_line(err)}", "run it again with EDGE_RUN_DEBUG=1"
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _pip(package: str) -> str:
    return f"{_python()} -m pip install {shlex.quote(package)}"


def _python() -> str:
    return shlex.quote(sys.executable)
