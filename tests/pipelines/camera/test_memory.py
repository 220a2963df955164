"""Pages between small things that live on go back to the system; seen in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

HOLES = """
import ctypes
from pipelines.trim_heap import trim_heap
def rss_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
large = []
for _ in range(400):
    large.append(libc.malloc(100_000))
    ctypes.memset(large[-1], 1, 100_000)
    libc.malloc(2000)  # stays
for block in large:
    libc.free(block)
before = rss_mb()
trim_heap()
print(before - rss_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heap")
def test_pages_go_back() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 25  # of 38 MB


def test_where_there_is_nothing_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines import trim_heap

    monkeypatch.setattr(trim_heap, "_malloc_trim", lambda: None)
    trim_heap.trim_heap()
