"""Which engines there are, and how many threads they may be given. Imports nothing: ``--help`` reads it."""

from __future__ import annotations

NAMES = ("auto", "cpu", "cuda", "tensorrt", "tensorrt-rtx")
MOST_THREADS = 1024
"""More than any machine has cores; a number far beyond makes the engine fail in ways that say nothing."""
