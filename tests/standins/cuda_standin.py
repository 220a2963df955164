"""The runtime module of cuda-python, on memory of the CPU: what the backend is tested with where no GPU is.

Only what the backend calls is here, with the calls' own shapes: every answer is a tuple that begins with an
error code. While a stream is captured, work is recorded and not done, as on a GPU.
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import numpy as np

SUCCESS, OUT_OF_MEMORY = 0, 2


class StandInCuda:
    def __init__(self, *, driver=12040, runtime=12040, free=1 << 30, total=1 << 30, sm=(8, 9), devices=1):
        self.driver, self.runtime, self.sm, self.devices = driver, runtime, sm, devices
        self.free_bytes, self.total = free, total
        self.blocks: dict[int, np.ndarray] = {}
        self.host: dict[int, np.ndarray] = {}
        self.recording: list | None = None
        self.graphs: dict[int, list] = {}
        self.launches = 0
        self.streams = 0
        self.cudaMemcpyKind = SimpleNamespace(
            cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDefault=4
        )
        self.cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def cudaDriverGetVersion(self):
        return SUCCESS, self.driver

    def cudaRuntimeGetVersion(self):
        return SUCCESS, self.runtime

    def cudaGetDeviceCount(self):
        return SUCCESS, self.devices

    def cudaGetDeviceProperties(self, index):
        name = b"Stand-in GPU\0\0"
        return SUCCESS, SimpleNamespace(name=name, major=self.sm[0], minor=self.sm[1])

    def cudaGetErrorString(self, code):
        return SUCCESS, b"out of memory" if code == OUT_OF_MEMORY else b"error %d" % code

    def cudaMemGetInfo(self):
        return SUCCESS, self.free_bytes, self.total

    def cudaMalloc(self, size):
        if size > self.free_bytes:
            return OUT_OF_MEMORY, 0
        block = np.full(size, 0xFF, np.uint8)  # NaN as floats: what was never written shows
        self.blocks[block.ctypes.data] = block
        self.free_bytes -= size
        return SUCCESS, block.ctypes.data

    def cudaMemset(self, pointer, value, size):
        ctypes.memset(pointer, value, size)
        return (SUCCESS,)

    def cudaFree(self, pointer):
        self.free_bytes += len(self.blocks.pop(pointer))
        return (SUCCESS,)

    def cudaMallocHost(self, size):
        block = np.zeros(size, np.uint8)
        self.host[block.ctypes.data] = block
        return SUCCESS, block.ctypes.data

    def cudaFreeHost(self, pointer):
        del self.host[pointer]
        return (SUCCESS,)

    def cudaStreamCreate(self):
        self.streams += 1
        return SUCCESS, 100 + self.streams

    def cudaStreamDestroy(self, stream):
        self.streams -= 1
        return (SUCCESS,)

    def cudaStreamSynchronize(self, stream):
        return (900,) if self.recording is not None else (SUCCESS,)

    def cudaMemcpyAsync(self, target, source, size, kind, stream):
        self.do(lambda: ctypes.memmove(target, source, size))
        return (SUCCESS,)

    def cudaMemcpy2DAsync(self, target, target_pitch, source, source_pitch, width, count, kind, stream):
        def copy():
            for index in range(count):
                ctypes.memmove(target + index * target_pitch, source + index * source_pitch, width)

        self.do(copy)
        return (SUCCESS,)

    def cudaStreamBeginCapture(self, stream, mode):
        self.recording = []
        return (SUCCESS,)

    def cudaStreamEndCapture(self, stream):
        recorded, self.recording = self.recording, None
        handle = 1000 + len(self.graphs)
        self.graphs[handle] = recorded
        return SUCCESS, handle

    def cudaGraphInstantiate(self, graph, flags):
        self.graphs[graph + 5000] = self.graphs[graph]
        return SUCCESS, graph + 5000

    def cudaGraphDestroy(self, graph):
        return (SUCCESS,)

    def cudaGraphLaunch(self, graph, stream):
        self.launches += 1
        for work in self.graphs[graph]:
            work()
        return (SUCCESS,)

    def cudaGraphExecDestroy(self, graph):
        del self.graphs[graph]
        return (SUCCESS,)

    def do(self, work):
        """Work on a stream: done at once, or recorded while one is captured."""
        if self.recording is None:
            work()
        else:
            self.recording.append(work)
