"""How much memory a bundle takes, from its manifest alone, and whether that fits before anything is loaded.

Weights and cache are exact. Activations and the program itself are estimates; docs/models.md compares plans
with measurements.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.bundle.manifest import EMBEDDING, TOKENIZER, Bundle, read_bundle
from edge_runtime.errors import BundleError, Finding

PROGRAM = 200 << 20
"""Bytes of Python, GStreamer, ONNX Runtime and a camera's frames."""
DEVICES_GB = (8, 16, 24)
_SYSTEM_SHARE = 0.85
"""What the operating system leaves of a device's memory."""
_ITEM_BYTES = {"float32": 4, "float16": 2, "int8": 1}
_LIVE_TENSORS = 24
"""Tensors as wide as a hidden state that live at once in a layer, its intermediate ones included."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes. ``cache``: of one session; ``embedding``: mapped from its file, may be paged out."""

    weights: int
    embedding: int
    cache: int
    activations: int
    program: int = PROGRAM

    def total(self, sessions: int = 1) -> int:
        """Return what must fit: all but the embedding's file."""
        return self.weights + sessions * self.cache + self.activations + self.program

    def fits(self, sessions: int = 1) -> list[int]:
        """Return the usual sizes of a device, in GB, that are large enough."""
        return [size for size in DEVICES_GB if self.total(sessions) <= size * 1e9 * _SYSTEM_SHARE]

    def __str__(self) -> str:
        return (
            f"about {gigabytes(self.total())}: weights {gigabytes(self.weights)}, KV cache "
            f"{gigabytes(self.cache)} per session, activations {gigabytes(self.activations)}, program "
            f"{gigabytes(self.program)}; {describe_fit(self.fits())}"
        )


def plan_of(bundle: Bundle) -> MemoryPlan:
    """Return the plan of a bundle."""
    model, sizes = bundle.model, {name: spec.size for name, spec in bundle.files.items()}
    others = {graph.file for graph in bundle.alternatives}
    weights = sum(size for name, size in sizes.items() if name not in {EMBEDDING, TOKENIZER} | others)
    vision = bundle.manifest["graphs"]["vision"]
    if bundle.manifest.get("target") == "ort-cpu" and vision.get("precision") == "fp32":
        weights += sizes[bundle.vision.file]  # stored in fp16, computed in fp32
    shape = (model.num_layers, 2, model.num_kv_heads, model.context_rows, model.head_dim)
    return MemoryPlan(
        weights=weights,
        embedding=sizes[EMBEDDING],
        cache=cache_bytes(shape, bundle.decoder.input("past_k.0").dtype),
        activations=activation_bytes(
            model.hidden_size, model.vocab_size, bundle.stream_format.frame_tokens, model.image_size
        ),
    )


def cache_bytes(shape: tuple[int, ...], dtype: str) -> int:
    """Return the size of a cache [L, 2, Hkv, C, Dh]."""
    size = _ITEM_BYTES.get(dtype, 4)
    for side in shape:
        size *= side
    return size


def activation_bytes(width: int, vocab: int, frame_tokens: int, frame: tuple[int, int]) -> int:
    """Estimate what a timestep needs beside weights and cache."""
    chunk = frame_tokens + 64
    pixels = frame[0] * frame[1] * 3 * 4
    return chunk * width * 4 * _LIVE_TENSORS + 4 * vocab * 4 + 16 * pixels


def free_memory() -> int | None:
    """Return bytes of memory that a new program may take: the machine's, or its container's when that is
    less; None where the system does not say.
    """
    found = [size for size in (_available(), _container_free()) if size is not None]
    return min(found) if found else None


def check_memory(bundle: Bundle, sessions: int = 1, *, loaded: bool = False) -> None:
    """Raises BundleError when weights and caches do not fit the free memory. Estimates are left out: what is
    refused would surely fail. ``loaded``: the weights are in memory already.
    """
    free, plan = free_memory(), plan_of(bundle)
    needed = sessions * plan.cache + (0 if loaded else plan.weights)
    if free is None or needed <= free:
        return
    many = f"{sessions} KV caches of" if sessions > 1 else "KV cache"
    weights = "" if loaded else f"weights {gigabytes(plan.weights)}, "
    parts = f"{weights}{many} {gigabytes(plan.cache)}"
    raise BundleError(
        f"bundle {bundle.name}: needs {gigabytes(needed)} of memory ({parts}), "
        f"{gigabytes(free)} free; {remedy(bundle, plan, free, sessions)}"
    )


def memory_findings(name: str) -> Iterator[Finding]:
    """What a bundle takes of the memory; nothing for one whose loading says what is wrong with it."""
    try:
        bundle = read_bundle(name)
    except BundleError:
        return
    plan, free = plan_of(bundle), free_memory()
    detail = f"{bundle.name} takes {plan}"
    if free is None or plan.total() <= free:
        yield Finding("memory", "ok", detail)
        return
    surely = plan.weights + plan.cache > free
    detail += f"; {gigabytes(free)} free"
    yield Finding("memory", "fail" if surely else "warn", detail, remedy(bundle, plan, free))


def remedy(bundle: Bundle, plan: MemoryPlan, free: int, sessions: int = 1) -> str:
    """Return what to change, the change that costs least first."""
    if plan.weights > free:
        smaller = "int4 weights" if bundle.precision != "int4" else "a smaller model"
        return f"export it with {smaller}, or free memory"
    changes = []
    if sessions > 1:
        changes.append("watch fewer cameras or questions")
    if bundle.decoder.input("past_k.0").dtype == "float32":
        changes.append("export it with --kv int8")
    room = max(int((free - plan.weights) / sessions / max(plan.cache, 1) * bundle.model.context_rows), 64)
    changes += [f"export it with fewer turns (--context-rows {room // 64 * 64})", "with a smaller --frame"]
    return ", or ".join(changes)


def gigabytes(size: int) -> str:
    """Return a size for people, ``1.2 GB`` or ``340 MB``."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def describe_fit(sizes: list[int]) -> str:
    """Say which devices are large enough."""
    if not sizes:
        return f"more than a device of {DEVICES_GB[-1]} GB has"
    return f"fits devices of {sizes[0]} GB and more" if len(sizes) > 1 else f"fits a device of {sizes[0]} GB"


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return None


def _container_free(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return what is left of the limit of this process's control group (version 2, also the root that a
    container sees); pages of files can be given up and do not count.
    """
    try:
        limit = (root / "memory.max").read_text(encoding="ascii").strip()
        used = int((root / "memory.current").read_text(encoding="ascii"))
        stat = (root / "memory.stat").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    if limit == "max":
        return None
    files = int(stat[stat.index("file") + 1]) if "file" in stat else 0
    return max(int(limit) - used + files, 0)
