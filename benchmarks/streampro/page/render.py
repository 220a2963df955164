"""Joins the page: template, style, script and data in one file that needs no network.

Nothing of the data becomes markup: it travels as JSON in which ``<``, ``>`` and ``&`` are escaped, and the
script puts it on the page as text only. A content security policy that names the hashes of the page's own
style and script forbids everything else, network access included.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from edge_runtime.atomic_write import write_whole

SCRIPTS = (
    "dom.js",
    "charts.js",
    "timing.js",
    "overview.js",
    "timeline.js",
    "details.js",
    "questions.js",
    "main.js",
)
"""In the order in which they are joined; together they are one function scope."""

_SLOT = re.compile(r"\{\{(\w+)\}\}")
_JSON_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def render(data: Mapping[str, Any]) -> str:
    """The whole page. ``data``: what :func:`.data.build` made."""
    style = _template("style.css")
    script = f'(() => {{\n"use strict";\n{"".join(map(_template, SCRIPTS))}}})();\n'
    slots = {
        "title": html.escape(str(data["title"])),
        "policy": f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}",
        "style": style,
        "data": json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(
            _JSON_ESCAPES
        ),
        "script": script,
    }
    # One pass, so that a slot's name in the data stays what it is.
    return _SLOT.sub(lambda match: slots[match[1]], _template("page.html"))


def write_page(path: Path, data: Mapping[str, Any]) -> None:
    """Write the whole page or nothing. Raises SinkError."""
    # A lone surrogate, which JSON may carry, has no UTF-8 form.
    write_whole(path, [render(data).encode("utf-8", "replace").decode("utf-8")])


def _template(name: str) -> str:
    return files("benchmarks.streampro.page").joinpath("template", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
