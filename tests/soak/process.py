"""What a process holds: memory, threads, file descriptors; and whether a series of readings grows."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.errors import BackendError


@dataclass(frozen=True)
class Holdings:
    """One reading."""

    rss_mb: float
    threads: int
    files: int


def holdings(pid: int | None = None) -> Holdings:
    """Of process ``pid``, or of this one. Raises BackendError when there is no such process (or no /proc)."""
    folder = Path("/proc", str(pid or os.getpid()))
    try:
        fields = dict(
            line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
        )
        files = len(os.listdir(folder / "fd"))
        return Holdings(int(fields["VmRSS"].split()[0]) / 1024, int(fields["Threads"]), files)
    except (OSError, KeyError) as error:
        raise BackendError(f"process {pid or 'self'}: it has ended, or /proc cannot be read") from error


class _MallInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = (
        ("arena", ctypes.c_size_t),
        ("ordblks", ctypes.c_size_t),
        ("smblks", ctypes.c_size_t),
        ("hblks", ctypes.c_size_t),
        ("hblkhd", ctypes.c_size_t),
        ("usmblks", ctypes.c_size_t),
        ("fsmblks", ctypes.c_size_t),
        ("uordblks", ctypes.c_size_t),
        ("fordblks", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    )


def allocated_mb() -> float:
    """What this process has asked the C library for and not given back: RSS less the allocator's holes.

    A leak shows here without the noise that holes in many threads' arenas make in RSS. nan elsewhere than on
    glibc 2.33 and newer.
    """
    try:
        mallinfo = ctypes.CDLL("libc.so.6").mallinfo2
    except (OSError, AttributeError):
        return float("nan")
    mallinfo.restype = _MallInfo
    info = mallinfo()
    return float(info.uordblks + info.hblkhd) / 2**20


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Growth of ``y`` per unit of ``x``: the median of all pairs' slopes (Theil and Sen).

    A single step, such as an allocator's new arena, moves a least-squares line and not this one. 0 for fewer
    than two readings.
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    first, last = np.triu_indices(len(xs), k=1)
    run = xs[last] - xs[first]
    if not run.any():
        return 0.0
    return float(np.median((ys[last] - ys[first])[run != 0] / run[run != 0]))
