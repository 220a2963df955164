"""What can go wrong with a training beyond its recipe."""

from __future__ import annotations

from edge_runtime.errors import EdgeError


class TrainingError(EdgeError, RuntimeError):
    """Training can't go on; the message says where, on what, and what is kept."""
