"""Which engine runs a bundle here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from edge_runtime.backends.base import Backend
from edge_runtime.backends.names import MOST_THREADS, NAMES
from edge_runtime.backends.spinning import Spinning
from edge_runtime.bundle.manifest import Bundle
from edge_runtime.errors import BackendError, ConfigError

_TENSORRT = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_FOR_CUDA = "export it with --target ort-cuda"
MAX_THREADS = 4
"""More threads than this gain little on graphs this small and keep cores awake for nothing."""


def print_to_stderr(line: str) -> None:
    """Where notices go by default."""
    print(line, file=sys.stderr)


def select_backend(
    name: str,
    bundle: Bundle,
    threads: int | None = None,
    say: Callable[[str], None] = print_to_stderr,
    *,
    spinning: Spinning = "run",
) -> Backend:
    """The backend for ``name``; ``auto`` is what the bundle is made for where that is there, else the CPU.

    ``say`` gets a line when an engine has to be built first, which takes a while, and one when ``auto`` does
    not use an installed CUDA, with the reason. ``spinning``: when ONNX Runtime's threads poll for work.
    Raises ConfigError for an unknown name or thread count, BackendError when the engine is not installed or
    cannot run this bundle.
    """
    if name not in NAMES:
        raise ConfigError(f"backend {name!r}: unknown; choose one of {', '.join(NAMES)}")
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise ConfigError(f"threads {threads}: must be from 1 to {MOST_THREADS}")
    if name in _TENSORRT:
        return _open_tensorrt(_TENSORRT[name], say)
    reported = False
    if name == "auto" and (engine := _made_for_tensorrt(bundle)):
        try:
            return _open_tensorrt(engine, say)
        except BackendError as error:  # no GPU here, or not what it needs: the CPU runs the bundle as well
            say(f"bundle {bundle.name} is made for TensorRT; using the CPU ({error})")
            reported = True
    onnxruntime = _import_onnxruntime()
    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if name == "cuda":
        if not has_cuda:
            raise BackendError(
                "backend cuda: the installed onnxruntime has no CUDA; pip uninstall onnxruntime, then "
                "pip install 'streampro-edge[gpu]'"
            )
        if reason := _why_not_cuda(bundle):
            raise BackendError(f"backend cuda: {reason}; {_FOR_CUDA}, or use backend cpu")
    device = "cpu"
    if has_cuda and name != "cpu":
        reason = _why_not_cuda(bundle)
        device = "cpu" if reason else "cuda"
        if reason and not reported:
            say(f"CUDA is not used: {reason}; {_FOR_CUDA}, or choose backend cpu")

    from edge_runtime.backends.ort import OrtBackend

    return OrtBackend(device, threads if threads is not None else default_threads(), spinning=spinning)


def _why_not_cuda(bundle: Bundle) -> str | None:
    """Why ONNX Runtime cannot run this bundle on CUDA; None when it can."""
    # Its attention there has half-precision kernels only; a float32 cache would be copied from and to the GPU
    # in every step.
    dtype = bundle.decoder.input("past_k.0").dtype
    if dtype != "float16":
        return f"bundle {bundle.name} is made for the CPU (its cache is {dtype}, CUDA needs float16)"
    if bundle.decoder_for(("ort-gqa",)) is None:
        return f"bundle {bundle.name} holds no decoder for it (it is written for {bundle.decoder.lowering})"
    return None


def _made_for_tensorrt(bundle: Bundle) -> str | None:
    """The TensorRT module to try first for a bundle that holds a graph for one, when it is installed."""
    if bundle.decoder_for(("native-kv", "legacy-kv")) is None:
        return None
    order = ["tensorrt", "tensorrt_rtx"]
    if bundle.manifest.get("target") == "tensorrt-rtx":
        order.reverse()
    return next((name for name in order if find_spec(name) is not None), None)


def _open_tensorrt(module: str, say: Callable[[str], None]) -> Backend:
    """Raises BackendError when the library, cuda-python, the driver or a GPU is missing."""
    from edge_runtime.backends.tensorrt.backend import TensorRTBackend
    from edge_runtime.backends.tensorrt.cuda import Cuda

    name = module.replace("_", "-")
    try:
        library = import_module(module)
    except ImportError as error:
        raise BackendError(
            f"backend {name}: {module} cannot be imported ({error}); pip install "
            f"'streampro-edge[{extra_of(module)}]' (on a Jetson it comes with JetPack)"
        ) from error
    return TensorRTBackend(library, Cuda.load(extra_of(module)), say=say)


def extra_of(module: str) -> str:
    """The extra of this project that installs a TensorRT module with what it needs."""
    return "rtx" if module == "tensorrt_rtx" else "tensorrt"


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
