"""The few calls of the CUDA runtime that TensorRT needs, through cuda-python, imported when first needed.

Every call of cuda-python returns a tuple that begins with an error code; here a code other than success is a
:class:`BackendError` of one line.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BackendError

_OUT_OF_MEMORY = 2
_DRIVER_TOO_OLD = (35, 804)
_NO_DEVICE = (100,)


@dataclass(frozen=True)
class Device:
    """The GPU in use. ``sm``: compute capability, 89 for 8.9. Versions as CUDA has them: 12040 is 12.4."""

    name: str
    sm: int
    driver: int
    runtime: int

    @property
    def cuda_major(self) -> int:
        return self.runtime // 1000


class Cuda:
    """``runtime``: the module ``cuda.bindings.runtime``, or ``cuda.cudart`` before cuda-python 12.6.

    Device 0, whichever GPU ``CUDA_VISIBLE_DEVICES`` puts there. Pointers and streams are plain integers.
    """

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self.device = self._examine()

    @classmethod
    def load(cls, extra: str = "tensorrt") -> Cuda:
        """``extra``: of this project, which brings cuda-python.

        Raises BackendError when cuda-python, the driver or a GPU is missing, or when they do not fit.
        """
        for name in ("cuda.bindings.runtime", "cuda.cudart"):
            try:
                return cls(import_module(name))
            except ImportError as error:
                reason = error
        raise BackendError(
            f"cuda-python cannot be imported ({reason}); pip install 'streampro-edge[{extra}]'"
        ) from reason

    def _examine(self) -> Device:
        driver, runtime = self.call("cudaDriverGetVersion"), self.call("cudaRuntimeGetVersion")
        if driver // 1000 < runtime // 1000:
            raise BackendError(_mismatch(driver, runtime))
        if self.call("cudaGetDeviceCount") == 0:
            raise BackendError("GPU: none is visible; check CUDA_VISIBLE_DEVICES, or choose backend cpu")
        properties = self.call("cudaGetDeviceProperties", 0)
        name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
        return Device(name.rstrip("\0"), 10 * properties.major + properties.minor, driver, runtime)

    def call(self, name: str, *arguments: Any) -> Any:
        """One call; what it returns after the code: nothing, one value or a tuple. Raises BackendError."""
        code, *values = getattr(self._runtime, name)(*arguments)
        if int(code) != 0:
            raise BackendError(self._explain(name, int(code), code))
        return values[0] if len(values) == 1 else tuple(values) or None

    def _explain(self, name: str, number: int, code: Any) -> str:
        if number in _DRIVER_TOO_OLD:
            versions = [getattr(self._runtime, f"cuda{what}GetVersion")() for what in ("Driver", "Runtime")]
            return _mismatch(*(int(values[1]) for values in versions))
        if number in _NO_DEVICE:
            return "GPU: none was found; check that the driver is loaded, or choose backend cpu"
        text = self._runtime.cudaGetErrorString(code)[1]
        text = text.decode() if isinstance(text, bytes) else str(text)
        if number == _OUT_OF_MEMORY:
            return f"GPU memory: {name} failed ({text}); close other programs or use a smaller --context-rows"
        return f"GPU: {name} failed ({text})"

    def memory(self) -> tuple[int, int]:
        """Free and total bytes."""
        free, total = self.call("cudaMemGetInfo")
        return int(free), int(total)

    def need(self, size: int, what: str) -> None:
        """Raises BackendError, which says how much is needed, when ``size`` bytes are not free."""
        free, total = self.memory()
        if free < size:
            raise BackendError(
                f"GPU memory: {what} needs about {size / 1e6:.0f} MB, {free / 1e6:.0f} of "
                f"{total / 1e6:.0f} MB are free; close other programs or export with fewer --context-rows"
            )

    def allocate(self, size: int) -> int:
        """Device memory, zeroed: slots that were never written must not hold a NaN."""
        pointer = int(self.call("cudaMalloc", size))
        self.call("cudaMemset", pointer, 0, size)
        return pointer

    def allocate_host(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Page-locked memory, from and to which copies run beside the CPU. Freed by :meth:`free_host`."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        pointer = int(self.call("cudaMallocHost", size))
        raw = (ctypes.c_byte * size).from_address(pointer)
        return np.frombuffer(raw, dtype).reshape(shape)

    def free(self, pointer: int) -> None:
        self.call("cudaFree", pointer)

    def free_host(self, array: NDArray[Any]) -> None:
        self.call("cudaFreeHost", array.ctypes.data)

    def stream(self) -> int:
        return int(self.call("cudaStreamCreate"))

    def close_stream(self, stream: int) -> None:
        self.call("cudaStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        self.call("cudaStreamSynchronize", stream)

    def copy_in(self, target: int, source: NDArray[Any], stream: int) -> None:
        """Host to device; ``source`` is contiguous."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.call("cudaMemcpyAsync", target, source.ctypes.data, source.nbytes, kind, stream)

    def copy_out(self, target: NDArray[Any], source: int, stream: int) -> None:
        """Device to host; ``target`` is contiguous."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.call("cudaMemcpyAsync", target.ctypes.data, source, target.nbytes, kind, stream)

    def copy_strided(
        self,
        target: int,
        target_pitch: int,
        source: int,
        source_pitch: int,
        width: int,
        count: int,
        stream: int,
    ) -> None:
        """``count`` pieces of ``width`` bytes, a pitch apart, from or to device or host, in one copy."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDefault
        self.call("cudaMemcpy2DAsync", target, target_pitch, source, source_pitch, width, count, kind, stream)

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """What ``work`` puts on ``stream``, as a graph to :meth:`launch`; it is not run here."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call("cudaStreamBeginCapture", stream, mode)
        try:
            work()
        finally:
            graph = self.call("cudaStreamEndCapture", stream)
        try:
            return int(self.call("cudaGraphInstantiate", graph, 0))
        finally:
            self.call("cudaGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        self.call("cudaGraphLaunch", graph, stream)

    def free_graph(self, graph: int) -> None:
        self.call("cudaGraphExecDestroy", graph)


def _mismatch(driver: int, runtime: int) -> str:
    if driver == 0:
        return "GPU: no NVIDIA driver is installed; install one, or choose backend cpu"

    def version(number: int) -> str:
        return f"{number // 1000}.{number % 1000 // 10}"

    return (
        f"GPU: the driver knows CUDA {version(driver)}, the installed libraries are of CUDA "
        f"{version(runtime)}; update the driver, or install those for CUDA {driver // 1000}"
    )
