"""Which engine runs a bundle here."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from types import ModuleType

from edge_runtime.backends.base import Backend
from edge_runtime.bundle import Bundle
from edge_runtime.errors import BackendError, ConfigError

NAMES = ("auto", "cpu", "cuda")
MAX_THREADS = 4
"""More threads than this gain little on graphs this small and keep cores awake for nothing."""


def select_backend(name: str, bundle: Bundle, threads: int | None = None) -> Backend:
    """The backend for ``name``; ``auto`` is CUDA where the bundle is made for it and it is there, else the
    CPU.

    Raises ConfigError for an unknown name or thread count, BackendError when the engine is not installed or
    cannot run this bundle.
    """
    if name not in NAMES:
        raise ConfigError(f"backend {name!r}: unknown; choose one of {', '.join(NAMES)}")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads {threads}: must be 1 or more")
    onnxruntime = _import_onnxruntime()
    # ONNX Runtime's CUDA attention has half-precision kernels only; elsewhere a float32 cache would be copied
    # from and to the GPU in every step.
    for_gpu = bundle.decoder.input("past_k.0").dtype == "float16"
    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if name == "cuda":
        if not has_cuda:
            raise BackendError(
                "backend cuda: the installed onnxruntime has no CUDA; pip uninstall onnxruntime, then "
                "pip install 'streampro-edge[gpu]'"
            )
        if not for_gpu:
            raise BackendError(
                f"backend cuda: bundle {bundle.name} is made for the CPU (its cache is float32); "
                "use backend cpu"
            )
    device = "cuda" if name == "cuda" or (name == "auto" and has_cuda and for_gpu) else "cpu"

    from edge_runtime.backends.ort import OrtBackend

    return OrtBackend(device, threads if threads is not None else default_threads())


def default_threads() -> int:
    """One thread per physical core this process may use, at most :data:`MAX_THREADS`."""
    try:
        usable = os.sched_getaffinity(0)
    except AttributeError:  # not on Linux
        return min(os.cpu_count() or 1, MAX_THREADS)
    siblings = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    try:  # logical processors of one core share its arithmetic units and list the same siblings
        cores = {Path(siblings.format(number)).read_text(encoding="ascii") for number in usable}
    except OSError:
        return min(len(usable), MAX_THREADS)
    return min(len(cores), MAX_THREADS)


def _import_onnxruntime() -> ModuleType:
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        raise BackendError(
            f"onnxruntime cannot be imported ({error}); pip install 'streampro-edge[cpu]' or "
            "'streampro-edge[gpu]'"
        ) from error
