"""The package can be imported where GStreamer is missing; opening a camera then says what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
{break_it}
import pipelines.camera, pipelines.sources.v4l2.devices, pipelines.pipeline.decoding.decoders
from edge_runtime.errors import SourceError
try:
    pipelines.camera.open_camera("test:", fps=1.0)
except SourceError as error:
    print(error)
"""

NO_BINDINGS = "sys.modules['gi'] = None"
NO_LIBRARY = """
import types
gi = types.ModuleType("gi")
def require_version(name, version):
    raise ValueError(f"Namespace {name} not available")
gi.require_version = require_version
sys.modules["gi"] = gi
"""


@pytest.mark.parametrize(
    ("break_it", "words"), [(NO_BINDINGS, "bindings cannot be imported"), (NO_LIBRARY, "cannot be loaded")]
)
def test_what_to_install(break_it: str, words: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(break_it=break_it)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=60,
        check=True,
    )
    line = result.stdout.strip()
    assert words in line
    assert "apt-get install -y python3-gi python3-gst-1.0" in line
    assert len(line.splitlines()) == 1
