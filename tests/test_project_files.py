"""Files of the project that repeat what other files say."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_pre_commit_runs_what_make_lint_runs() -> None:
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    commands = re.findall(r"^\t@(\.venv.*)$", recipe[1], re.MULTILINE)
    hooks = re.findall(r"^ +entry: (.*)$", (ROOT / ".pre-commit-config.yaml").read_text(), re.MULTILINE)
    assert len(commands) == 3 and hooks == commands


def test_the_notice_names_files_that_are_there() -> None:
    paths = re.findall(r"\b(?:train|edge_runtime)/[\w./]+\w", (ROOT / "NOTICE").read_text())
    assert len(paths) == 4 and all((ROOT / path).exists() for path in paths)
