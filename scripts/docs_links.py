"""A hook of mkdocs: the site has only what lies in docs/, so links that leave that folder are changed.

In the repository `[the unit](../deploy/edge-run.service)` is a link. On the site it becomes the name of the
file, or a link when `repo_url` is set. CONTRIBUTING.md becomes a page. A link to a file that does not exist
is an error. Roles of docstrings (:func:`x`) lose their prefix.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

CONTRIBUTING = "CONTRIBUTING.md"
_OUTSIDE = re.compile(r"\[([^\]]+)\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")
_ROLE = re.compile(r":(?:func|meth|class|mod|attr|data):(?=<code>)")


def on_files(files: Any, *, config: Any) -> Any:
    """Add CONTRIBUTING.md, with its links to docs/ as links between pages."""
    text = (Path(config["docs_dir"]).parent / CONTRIBUTING).read_text(encoding="utf-8")
    inside = re.sub(r"\]\((?!docs/|https?:|#)([^)]+)\)", r"](../\1)", text).replace("](docs/", "](")
    files.append(File.generated(config, "contributing.md", content=inside))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Called by mkdocs with the text of each page; returns the text to build."""
    root = Path(config["docs_dir"]).parent
    base = (config["repo_url"] or "").rstrip("/")

    def replace(match: re.Match[str]) -> str:
        text, name = match[1], match[2].removeprefix("../")
        if not (root / name).exists():
            raise PluginError(f"{page.file.src_uri}: {match[2]} does not exist")
        if name == CONTRIBUTING:
            return f"[{text}](contributing.md{match[3] or ''})"
        if base:
            return f"[{text}]({base}/blob/main/{name})"
        return f"`{name}`" if text.strip("`") in (name, Path(name).name) else f"{text} (`{name}`)"

    return _OUTSIDE.sub(replace, markdown)


def on_page_content(html: str, *, page: Any, config: Any, files: Any) -> str:
    """Called by mkdocs with the HTML of each page."""
    return _ROLE.sub("", html)
