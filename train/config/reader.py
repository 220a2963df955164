"""Reads TOML tables strictly into frozen dataclasses: an unknown key or a wrong kind of value is an error."""

from __future__ import annotations

import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from edge_runtime.errors import ConfigError
from train.config.errors import RecipeError
from train.config.toml import read_toml

T = TypeVar("T")


def read_recipe(path: Path, kind: type[T]) -> T:
    """Read a recipe. Raises RecipeError for anything it does not know, and for values of the wrong kind."""
    return build_recipe(kind, read_toml(path), path)


def build_recipe(kind: type[T], data: dict[str, Any], path: Path) -> T:
    """A recipe from the tables of ``path``; a kind with ``complete`` adds to them first.

    Raises as :func:`read_recipe`.
    """
    complete = getattr(kind, "complete", None)
    if complete is not None:
        try:
            data = complete(data)
        except ValueError as error:
            raise RecipeError(f"{path}: {error}") from error
    return _build(kind, data, path, "")


def _build(cls: type, data: Any, path: Path, where: str) -> Any:
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: {where}: expected a table, got {data!r}")
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in fields(cls)}
    for key in data:
        if key not in known:
            raise RecipeError(f"{path}: unknown key {_dotted(where, key)}; known: {', '.join(sorted(known))}")
    for name, f in known.items():
        if name not in data and f.default is MISSING and f.default_factory is MISSING:
            raise RecipeError(f"{path}: {_dotted(where, name)} is missing")
    values = {key: _convert(hints[key], value, path, _dotted(where, key)) for key, value in data.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise RecipeError(f"{path}: {where or 'recipe'}: {error}") from error


def _convert(hint: Any, value: Any, path: Path, where: str) -> Any:
    if hint is Any:
        return value
    if is_dataclass(hint):
        return _build(hint, value, path, where)  # type: ignore[arg-type]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        inside = next(argument for argument in arguments if argument is not types.NoneType)
        return _convert(inside, value, path, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise RecipeError(f"{path}: {where}: expected a list, got {value!r}")
        return tuple(_convert(arguments[0], item, path, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise RecipeError(f"{path}: {where}: expected a table, got {value!r}")
        return {key: _convert_named(arguments[1], key, item, path, where) for key, item in value.items()}
    if origin is Literal:
        if value not in arguments:
            raise RecipeError(f"{path}: {where}: expected one of {', '.join(arguments)}, got {value!r}")
        return value
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise RecipeError(f"{path}: {where}: expected {hint.__name__}, got {value!r}")
    return value


def _convert_named(hint: Any, name: str, value: Any, path: Path, where: str) -> Any:
    """An entry of a table of parts: a class with ``named`` says which subclass of it a name stands for."""
    if hasattr(hint, "named"):
        try:
            hint = hint.named(name)
        except ConfigError as error:
            raise RecipeError(f"{path}: {where}: {error}") from error
    return _convert(hint, value, path, _dotted(where, name))


def _dotted(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def plain(value: Any) -> Any:
    """As JSON would hold it: tuples as lists, paths as text."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
