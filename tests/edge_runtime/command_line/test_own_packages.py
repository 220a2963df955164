"""Commands find our packages although the user's folders hold modules of the same names."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.hostile_folder import write_hostile_modules

ROOT = Path(__file__).resolve().parents[3]


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in ``folder``, which comes first on its path."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_edge_run_finds_its_packages(tmp_path: Path) -> None:
    write_hostile_modules(tmp_path)
    done = python(tmp_path, "-m", "edge_runtime", "doctor")
    assert "GStreamer" in done.stdout and "user's" not in done.stderr
    done = python(tmp_path, "-m", "edge_runtime", "bench", "--help")
    assert "Usage: edge-run bench" in done.stdout or "pip install 'streampro-edge[bench]'" in done.stderr


@pytest.mark.parametrize("package", ["train", "export", "benchmarks"])
def test_a_command_that_was_found_finds_the_other_packages(package: str, tmp_path: Path) -> None:
    write_hostile_modules(tmp_path, without=package)
    others = {"train", "export", "benchmarks", "pipelines"} - {package}
    code = f"import sys; sys.argv = ['-m']; import {package}; import {', '.join(others)}; print('all ours')"
    assert python(tmp_path, "-c", code).stdout == "all ours\n"


@pytest.mark.gst
@pytest.mark.skipif(find_spec("gi") is None, reason="GStreamer's Python bindings are not installed")
def test_the_loader_of_the_element_changes_nothing_else(tmp_path: Path) -> None:
    write_hostile_modules(tmp_path)
    loader = ROOT / "pipelines" / "plugins" / "python" / "streampro_loader.py"
    code = f"""
import runpy, gi
gi.require_version("Gst", "1.0")
gi.require_version("GstBase", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import Gst
Gst.init(None)
print(runpy.run_path({str(loader)!r})["__gstelementfactory__"][0])
import train
"""
    done = python(tmp_path, "-c", code)
    assert (done.stdout, done.stderr) == ("streampro\n", "the user's train was imported\n")


def test_a_program_that_imports_the_runtime_keeps_its_modules(tmp_path: Path) -> None:
    write_hostile_modules(tmp_path)
    assert "user's train" in python(tmp_path, "-c", "import edge_runtime, train").stderr
