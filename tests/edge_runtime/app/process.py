"""`edge-run` as a process of its own, and what it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
EDGE_RUN = [sys.executable, "-m", "edge_runtime.app.cli"]
CLIP_S = 8


def environment(home: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(home), **more}


def events(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def fails(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line on stderr that a mistake ends with."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("edge-run: error: ")
    return lines[0].removeprefix("edge-run: error: ")


def start(bundle: Path, folder: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*EDGE_RUN, *args, "--bundle", str(bundle), "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment(folder),
    )
