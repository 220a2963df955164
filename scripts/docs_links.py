"""A hook of mkdocs: links from a page to files outside docs/ become their names.

The pages are also read in the repository, where `[the unit](../deploy/edge-run.service)` is a link. The site
has only what lies in docs/. A link to a file that does not exist is an error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

_OUTSIDE = re.compile(r"\[([^\]]+)\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Called by mkdocs with the text of each page; returns the text to build."""
    docs = Path(config["docs_dir"])
    base = (config["repo_url"] or "").rstrip("/")

    def replace(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        path = (docs / page.file.src_uri).parent / target
        if not path.exists():
            raise PluginError(f"{page.file.src_uri}: {target} does not exist")
        name = path.resolve().relative_to(docs.parent.resolve()).as_posix()
        if base:
            return f"[{text}]({base}/blob/main/{name})"
        shown = f"`{name}`"
        return shown if text.strip("`") in (name, path.name) else f"{text} ({shown})"

    return _OUTSIDE.sub(replace, markdown)
