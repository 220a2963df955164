"""What a recipe takes over from the checkpoint it starts from, and what it changes in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from edge_runtime.bundle.stream_format import StreamFormat


def inherited(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of ``recipe``, with each key of ``protocol`` that they do not set as ``init`` has it.

    A fine-tuned model then keeps the stream format it was trained under: threshold, window, response tokens.
    An ``init`` that can't be read changes nothing here: loading the model says what is wrong with it.
    Raises ValueError for a key of ``model`` that differs from the checkpoint's, because it has no effect;
    but ``zones`` can be added to a model that has none.
    """
    result = dict(recipe)
    config = _config(recipe.get("init"))
    own_stream_format, own_model = recipe.get("protocol", {}), recipe.get("model", {})
    if config is None or not isinstance(own_stream_format, dict) or not isinstance(own_model, dict):
        return result
    known = {field.name for field in fields(StreamFormat)}
    theirs = {key: value for key, value in config["protocol"].items() if key in known}
    result["protocol"] = theirs | own_stream_format
    for key, value in own_model.items():
        found = config["model"].get(key)
        if found != value and not (key == "zones" and not found):
            raise ValueError(
                f"model.{key} is {value!r}, but the model is that of init ({recipe['init']}), where it is "
                f'{found!r}: leave the key out, or set init = "scratch"'
            )
    if "zones" in own_model and "slots" in config["model"]:  # which zones cannot do without
        result["model"] = {"slots": config["model"]["slots"], **own_model}
    return result


def changes(old: StreamFormat, new: StreamFormat) -> list[str]:
    """One line for each key in which ``new`` differs from ``old``."""
    names = [field.name for field in fields(StreamFormat)]
    pairs = [(name, getattr(old, name), getattr(new, name)) for name in names]
    return [f"protocol.{name}: {was!r} -> {now!r}" for name, was, now in pairs if was != now]


def _config(init: Any) -> dict[str, Any] | None:
    if not isinstance(init, str) or init == "scratch":
        return None
    try:
        config = json.loads((Path(init) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    tables = isinstance(config, dict) and all(isinstance(config.get(k), dict) for k in ("protocol", "model"))
    return config if tables else None
