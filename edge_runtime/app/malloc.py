"""How the C library keeps memory while `edge-run` runs for months.

glibc gives threads heaps of their own (eight for each core) and keeps what is freed in them. A camera is a
dozen threads that come and go with every reconnect; each new one is dealt some heap, and 3 MB of pictures
that find no hole there make it grow. Four cameras killed every few seconds: in use 72 MB the whole time, in
holes 3 MB at first and 56 MB after 32 reconnects, without end in sight. In one heap for all the next
connection fills the holes of the last, and 5 MB of holes stay 5 MB. The threads then wait for each other when
they allocate, which at cameras' rates is not to be seen; engines keep pools of their own.
"""

from __future__ import annotations

import ctypes
import os

_M_ARENA_MAX = -8


def share_one_heap() -> None:
    """One heap for all threads, for the whole process: only a program's start may decide that.

    To be called before any thread is. Nothing happens where the C library is not glibc, or where the user has
    decided otherwise (``MALLOC_ARENA_MAX``).
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return
    mallopt(_M_ARENA_MAX, 1)
