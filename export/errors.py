"""What can go wrong between a checkpoint and a bundle, in one line."""

from __future__ import annotations

from edge_runtime.errors import EdgeError


class ExportError(EdgeError):
    """A checkpoint that cannot become a bundle, or a bundle that does not do what its checkpoint does."""

    exit_code = 3
