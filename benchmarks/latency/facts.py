"""What a latency number must be read with: machine, versions, model, commit."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from edge_runtime.atomic_write import write_whole
from edge_runtime.bundle.manifest import MANIFEST, Bundle

PACKAGES = (
    "streampro-edge",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "tokenizers",
    "av",
    "torch",
    "transformers",
)


def machine_facts() -> dict[str, Any]:
    """Processor, cores, memory, system and package versions. What is not known is left out."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "device": _read("/proc/device-tree/model"),
        "cores": usable,
        "load_before": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "memory": _memory(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "commit": _commit(),
    }
    return {key: value for key, value in facts.items() if value}


def bundle_facts(bundle: Bundle) -> dict[str, Any]:
    """Which model was measured, and how large its cache and its frames are."""
    manifest = bundle.path(MANIFEST).read_bytes()
    model, stream_format = bundle.model, bundle.stream_format
    return {
        "name": bundle.name,
        "precision": bundle.precision,
        "sha256_of_manifest": hashlib.sha256(manifest).hexdigest(),
        "image_size": list(model.image_size),
        "tokens_per_frame": stream_format.frame_tokens,
        "context_rows": model.context_rows,
        "window_turns": stream_format.window_turns,
        "evict_turns": stream_format.evict_turns,
        "bytes": {name: spec.size for name, spec in bundle.files.items()},
    }


def resident_mb() -> float | None:
    """Memory this process holds now, in MB (10^6 bytes); None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_resident_mb() -> float | None:
    """Return the most memory this process ever held, in MB; None where the system does not say."""
    kibibytes, _, unit = (_field("/proc/self/status", "VmHWM") or "").partition(" ")
    return int(kibibytes) * 1024 / 1e6 if unit == "kB" else None


def write_json(path: Path | None, result: dict[str, Any]) -> None:
    """Write a result to the file of ``--out``, whole or not at all; None: nowhere. Raises SinkError."""
    if path is not None:
        write_whole(path, [json.dumps(result, indent=2), "\n"])


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\x00\n ")
    except OSError:
        return None


def _field(path: str, name: str) -> str | None:
    for line in (_read(path) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def _memory() -> str | None:
    """The machine's, in GB (10^9 bytes)."""
    kibibytes, _, unit = (_field("/proc/meminfo", "MemTotal") or "").partition(" ")
    return f"{int(kibibytes) * 1024 / 1e9:.1f} GB" if unit == "kB" else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
