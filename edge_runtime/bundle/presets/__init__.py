"""Stream formats of public checkpoints, as TOML files of facts.

A preset says how a checkpoint is spoken to and what of its authors' loop the runtime cannot do. Prompts are
in our own words; the authors' may be given as a file.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from edge_runtime.bundle.stream_format import WORD_SETS, StreamFormat
from edge_runtime.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TEXTS = ("about", "licence", "system_prompt")
_LISTS = ("family", "checkpoints", "not_expressible")


@dataclass(frozen=True)
class Preset:
    """``family``: the model types that it is for. ``not_expressible``: where the authors' loop differs."""

    name: str
    about: str
    family: tuple[str, ...]
    checkpoints: tuple[str, ...]
    licence: str
    not_expressible: tuple[str, ...]
    stream_format: StreamFormat

    def with_prompt(self, file: Path | None, frame_tokens: int) -> StreamFormat:
        """The stream format for frames of so many tokens, with the system prompt in ``file`` if there is one.

        Raises ConfigError for a file that cannot be read or is empty.
        """
        changes: dict[str, Any] = {"frame_tokens": frame_tokens}
        if file is not None:
            changes["system_prompt"] = read_prompt(file)
        return StreamFormat.from_dict({**self.stream_format.to_dict(), **changes})


def preset_names() -> list[str]:
    """Names of the presets that come with the project."""
    names = (entry.name for entry in resources.files(__package__).iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load_preset(name_or_file: str) -> Preset:
    """A preset by its name, or from a TOML file of the same form. Raises ConfigError."""
    if name_or_file.endswith(".toml"):
        path, text = name_or_file, _read(Path(name_or_file))
    elif name_or_file in preset_names():
        path = f"{name_or_file}.toml"
        text = resources.files(__package__).joinpath(path).read_text(encoding="utf-8")
    else:
        raise ConfigError(
            f"preset {name_or_file}: unknown; choose one of {', '.join(preset_names())}, or a .toml file"
        )
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML ({error})") from error
    return _preset(path, data)


def read_prompt(file: Path) -> str:
    """A system prompt from a file, without blanks at its ends. Raises ConfigError."""
    text = _read(file).strip()
    if not text:
        raise ConfigError(f"{file}: is empty; write the system prompt into it")
    return text


def _preset(path: str, data: dict[str, Any]) -> Preset:
    for key in (*_TEXTS, *_LISTS, "format"):
        if key not in data:
            raise ConfigError(f"{path}: key {key} is missing")
    if unknown := data.keys() - {*_TEXTS, *_LISTS, "format"}:
        raise ConfigError(f"{path}: key {min(unknown)} is unknown")
    for key in _TEXTS:
        if not isinstance(data[key], str):
            raise ConfigError(f"{path}: key {key} must be a text")
    for key in _LISTS:
        if not isinstance(data[key], list) or not all(isinstance(entry, str) for entry in data[key]):
            raise ConfigError(f"{path}: key {key} must be a list of texts")
    try:
        stream_format = _stream_format(data["format"], data["system_prompt"].strip())
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    lists = (tuple(data[key]) for key in _LISTS)
    family, checkpoints, missing = lists
    name = Path(path).stem
    return Preset(name, data["about"], family, checkpoints, data["licence"], missing, stream_format)


def _stream_format(data: Any, system_prompt: str) -> StreamFormat:
    if not isinstance(data, dict):
        raise ValueError("key format must be a table")
    defaults = {field.name: field.default for field in fields(StreamFormat)}
    for key, value in data.items():
        if key not in defaults or key in ("system_prompt", "frame_tokens"):
            raise ValueError(f"key format.{key} is unknown")
        kind: Any = (int, float) if isinstance(defaults[key], float) else type(defaults[key])
        texts = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
        if key in WORD_SETS and texts:
            continue
        if not isinstance(value, kind) or isinstance(value, bool) != isinstance(defaults[key], bool):
            raise ValueError(f"key format.{key} must be of the kind of {defaults[key]!r}")
    return StreamFormat(**data, system_prompt=system_prompt)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(f"{file}: {reason}; expected a text file") from error
