"""Lets a command find this project's own packages, whatever the user's folders hold.

The distribution installs packages with everyday names. A ``pipelines`` folder on PYTHONPATH or in the current
folder would otherwise be imported in place of ours. Only commands call this: a program of the user's that
imports :mod:`edge_runtime` keeps its own ``train`` or ``pipelines``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_PACKAGES = frozenset({"benchmarks", "export", "pipelines", "train"})
_FOLDER = str(Path(__file__).resolve().parents[2])


class OwnPackages:
    """A finder for ``sys.meta_path``: our packages are those beside ``edge_runtime``."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [_FOLDER]) if name in _PACKAGES else None


def prefer_own_packages() -> None:
    """Import our packages from beside ``edge_runtime`` from now on. Each call counts for one ``remove``."""
    sys.meta_path.insert(0, OwnPackages)
