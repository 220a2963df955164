"""The stream format of a published model: a preset's name, or a TOML file of facts."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from edge_runtime.bundle.presets import load_preset, preset_names, read_prompt
from edge_runtime.bundle.stream_format import StreamFormat
from export.errors import ExportError

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[import-not-found,no-redef,unused-ignore]

STREAMPRO = "streampro"
"""The preset that takes the family's own chat format."""


def read_stream_format(name: str, chat: StreamFormat, prompt: Path | None = None) -> StreamFormat:
    """Return ``chat``, the family's chat format, as the preset or the file ``name`` changes it.

    ``streampro`` changes nothing: its decision tokens must be in the tokenizer. Other presets
    (:mod:`edge_runtime.bundle.presets`) take its place, with its tokens per frame. A file holds keys of
    :class:`StreamFormat`, such as ``silence = "No"``. ``prompt``: a text file with the system prompt to take
    instead. Raises ExportError, and ConfigError for a prompt that cannot be read.
    """
    if name in preset_names() and name != STREAMPRO:
        return load_preset(name).with_prompt(prompt, chat.frame_tokens)
    if prompt is not None:
        chat = replace(chat, system_prompt=read_prompt(prompt))
    if name == STREAMPRO:
        return chat
    path = Path(name)
    if not path.is_file():
        raise ExportError(
            f"--format {name}: neither a preset ({', '.join(preset_names())}) nor a TOML file; "
            "see docs/models.md"
        )
    try:
        facts: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"{path}: cannot be read as TOML ({error})") from error
    known = {field.name: getattr(chat, field.name) for field in fields(StreamFormat)}
    for key, value in facts.items():
        if key not in known or key == "frame_tokens":
            why = "follows from --frame" if key == "frame_tokens" else "is no key of a stream format"
            raise ExportError(f"{path}: {key} {why}; remove it")
        wanted = (int, float) if isinstance(known[key], float) else type(known[key])
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise ExportError(f"{path}: {key} is {value!r:.40}, expected the kind of {known[key]!r:.40}")
    try:
        return replace(chat, **facts)
    except ValueError as error:
        raise ExportError(f"{path}: {error}") from error
