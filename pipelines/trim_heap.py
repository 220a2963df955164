"""Return to the system what the C library keeps of a closed pipeline.

A pipeline frees some megabytes when it goes, but a heap shrinks from its end alone, and something small that
lives on mostly lies there. The pages in between are given back only when asked for.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


def trim_heap() -> None:
    """Return unused pages to the system; nothing happens where the C library is not glibc.

    Takes some milliseconds, without Python's lock: for after a pipeline, not for every frame.
    """
    if (trim := _malloc_trim()) is not None:
        trim(0)


@cache
def _malloc_trim() -> Any | None:
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return trim
