"""Code blocks of the Markdown pages, and the notes above them that say what a test does with each.

    <!-- not run: REASON -->    the block needs something a test does not have; its commands must still exist
    <!-- prints: TEXT -->       the block is run, and TEXT must be in what it prints
    <!-- file: NAME -->         the block is written to NAME in the page's folder
    <!-- recipe -->, <!-- recipe part -->, <!-- comparison -->    TOML that `train` reads
    <!-- recipe part of grpo -->   the same, for `train grpo`

All other blocks of `sh` and `python` are run, those of one page in order and in one folder.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md")
PAGES += tuple(sorted((ROOT / "docs").glob("*.md")))
LANGUAGES = ("sh", "python", "toml", "json", "yaml", "")
NOTES = ("not run", "prints", "file", "recipe", "recipe part", "recipe part of grpo", "comparison")

_FENCE = re.compile(
    r"(?:^<!-- (?P<note>[^>]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.S | re.M
)
_INLINE = re.compile(r"`((?:edge-run|python -m) [^`]+)`")
_MODULE = re.compile(r"(?:python|torchrun\b.*?|accelerate launch\b.*?) -m (?P<module>[\w.]+)(?P<rest>.*)")


@dataclass(frozen=True)
class Block:
    """One fenced block. ``line``: of its first line in the page."""

    page: Path
    line: int
    language: str
    text: str
    note: str

    @property
    def run(self) -> bool:
        return self.language in ("sh", "python") and self.kind in ("", "prints")

    @property
    def kind(self) -> str:
        """What the note says, without its argument; empty when there is none."""
        return self.note.partition(":")[0]

    @property
    def argument(self) -> str:
        return self.note.partition(":")[2].strip()

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start("text")) + 1,
            found["language"],
            found["text"],
            found["note"] or "",
        )
        for found in _FENCE.finditer(text)
    ]


def commands_of(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Module and arguments of each of the project's commands in a page's shell blocks and inline code."""
    shell = [line for block in blocks_of(page) if block.language == "sh" for line in _lines(block.text)]
    inline = [" ".join(code.split()) for code in _INLINE.findall(page.read_text(encoding="utf-8"))]
    for line in [*shell, *inline]:
        for part in re.split(r"\s(?:\||&&|;)\s", line):
            if (command := _command(part)) is not None:
                yield command


def _lines(text: str) -> list[str]:
    return text.replace("\\\n", " ").splitlines()


def _command(line: str) -> tuple[str, list[str]] | None:
    line = line.strip()
    if line == "edge-run" or line.startswith("edge-run "):
        module, rest = "edge_runtime", line[len("edge-run") :]
    elif found := _MODULE.match(line):
        module, rest = found["module"], found["rest"]
    else:
        return None
    if module.split(".")[0] not in ("edge_runtime", "train", "export", "benchmarks", "tests"):
        return None
    try:
        words = shlex.split(rest, comments=True)
    except ValueError:  # a quotation that goes on after a pipe
        words = rest.split()
    return module, [word.strip("[]") for word in words]
