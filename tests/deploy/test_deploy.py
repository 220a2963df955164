"""Unit and Containerfiles, as far as they can be judged without a service manager and without a registry."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "deploy" / "edge-run.service"
CONTAINERFILES = ["Containerfile", "Containerfile.jetson"]


@pytest.fixture
def unit(tmp_path):
    """The unit with a program that is there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    path = tmp_path / "edge-run.service"
    path.write_text(UNIT.read_text().replace("/opt/edge-run/bin/edge-run", "/bin/true"))
    return path


def test_the_unit_is_one_that_systemd_understands(unit):
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60
    )
    about_it = [line for line in done.stderr.splitlines() if "edge-run.service" in line]
    assert about_it == [] and done.returncode == 0, done.stderr


def test_the_unit_exposes_little(unit):
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=25", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze judges only what is loaded")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_runs_what_the_command_line_knows():
    for line in re.findall(r"^ExecStart(?:Pre)?=/opt/edge-run/bin/edge-run (.*)$", UNIT.read_text(), re.M):
        command, *options = line.split()
        done = subprocess.run(
            [sys.executable, "-m", "edge_runtime.app.cli", command, "--help"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
        )
        known = done.stdout
        assert done.returncode == 0 and all(o in known for o in options if o.startswith("--")), line


@pytest.mark.parametrize("name", CONTAINERFILES)
def test_what_a_containerfile_copies_and_installs_is_there(name):
    text = (ROOT / "deploy" / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    known = {"ARG", "FROM", "RUN", "COPY", "USER", "WORKDIR", "ENV", "VOLUME", "ENTRYPOINT", "CMD"}
    assert {line.split()[0] for line in lines} <= known
    for line in lines:
        if line.startswith("COPY"):
            *sources, _target = line.split()[1:]
            assert all((ROOT / source).exists() for source in sources), line
        if line.startswith(("ENTRYPOINT", "CMD", "VOLUME")):
            assert all(isinstance(word, str) for word in json.loads(line.partition(" ")[2]))
        if line.startswith("RUN"):
            shell = subprocess.run(["sh", "-n", "-c", line[4:]], capture_output=True, text=True)
            assert shell.returncode == 0, shell.stderr
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.search(r"/src\[([\w,-]+)\]", text)
    assert extras is not None and set(extras[1].split(",")) <= set(project["optional-dependencies"])
    assert lines.index("USER edge-run") < next(n for n, one in enumerate(lines) if one.startswith("ENTRY"))
