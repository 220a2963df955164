"""Parts of one kind by name: ours, and those of installed packages (entry points)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from edge_runtime.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """Loads a part when it is asked for, so that a listing imports nothing.

    ``kind``: what a part is called in messages. ``group``: the entry points of other packages.
    ``built_in``: name -> "module:object". A name of this repository can't be replaced by a package.
    """

    def __init__(self, kind: str, group: str, built_in: Mapping[str, str]) -> None:
        self._kind, self._group, self._built_in = kind, group, built_in

    def names(self) -> list[str]:
        return [*self._built_in, *(name for name in self._packaged() if name not in self._built_in)]

    def find(self, name: str) -> T:
        """Raises ConfigError for a name that nothing has, and for a package whose part can't be loaded."""
        if name in self._built_in:
            return load_object(self._built_in[name])  # type: ignore[no-any-return]
        point = self._packaged().get(name)
        if point is None:
            raise ConfigError(f"unknown {self._kind} {name!r}; known: {', '.join(self.names())}")
        try:
            return point.load()  # type: ignore[no-any-return]
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"{self._kind} {name!r}: {point.value} can't be loaded ({error}); reinstall its package"
            ) from error

    def _packaged(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self._group)}


def load_object(path: str) -> Any:
    """The object that "module:object" names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
