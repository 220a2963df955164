"""One heap for all threads of `edge-run`, seen in a process of its own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heaps")

HEAPS = """
import ctypes, sys, threading, tempfile
from edge_runtime.app.malloc import use_one_arena
if "share" in sys.argv:
    use_one_arena()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(6)
def allocate():
    together.wait()
    libc.malloc(100_000)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.fopen.restype = ctypes.c_void_p
libc.fopen.argtypes, libc.fclose.argtypes = [ctypes.c_char_p, ctypes.c_char_p], [ctypes.c_void_p]
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
with tempfile.NamedTemporaryFile() as told:
    file = libc.fopen(told.name.encode(), b"w")
    libc.malloc_info(0, file)
    libc.fclose(file)
    print(told.read().count(b"<heap "))
"""


def heaps(*arguments: str, **environment: str) -> int:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", HEAPS, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**clean, **environment},
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_threads_use_one_arena() -> None:
    assert heaps() > 1
    assert heaps("share") == 1


def test_the_user_decides() -> None:
    assert heaps("share", MALLOC_ARENA_MAX="3") > 1
