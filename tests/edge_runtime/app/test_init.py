"""`edge-run init`: the file it writes, and every setting switched off in it, pass `edge-run check`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.app.config_file import load_config

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def edge_run(tmp_path):
    """Runs it in an empty folder, without input."""

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edge_runtime.app.cli", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": "none", **more},
        )

    return run


@pytest.mark.gst
def test_what_it_writes_can_be_run_as_it_is_and_with_all_of_it_switched_on(edge_run, tmp_path):
    pytest.importorskip("gi")
    done = edge_run("init")
    assert (done.returncode, done.stdout) == (0, "") and "edge-run check" in done.stderr
    done = edge_run("check")
    assert (done.returncode, done.stdout) == (0, "edge-run.toml: can be run\n")

    file = tmp_path / "edge-run.toml"
    file.write_text(re.sub(r"^#(?=[\w\[])", "", file.read_text(), flags=re.M))
    secrets = {
        "DOOR_PASSWORD": "x",
        "ALERTS_SECRET": f"whsec_{'A' * 40}",
        "MQTT_PASSWORD": "x",
        "WEB_TOKEN": "x" * 16,
    }
    done = edge_run("check", **secrets)
    assert (done.returncode, done.stdout) == (0, "edge-run.toml: can be run\n")
    config = load_config(file)
    assert [camera.name for camera in config.cameras] == ["front", "door"]
    assert [sink.name for sink in config.sinks] == ["alerts", "home"]
    assert config.runtime.metrics and config.runtime.threads == 2


def test_it_replaces_nothing_unless_told_to(edge_run, tmp_path):
    file = tmp_path / "edge-run.toml"
    file.write_text("mine")
    done = edge_run("init")
    assert done.returncode == 2 and file.read_text() == "mine"
    assert done.stderr == "edge-run: error: edge-run.toml: is there already; --force replaces it\n"
    assert edge_run("init", "--force").returncode == 0 and file.read_text() != "mine"


def test_a_place_that_cannot_be_written_is_one_line(edge_run, tmp_path):
    for name, force in (("none/x.toml", []), (".", ["--force"])):
        done = edge_run("init", name, *force)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith(f"edge-run: error: {name}: cannot be written: ")


def test_check_without_a_configuration_says_so(edge_run):
    done = edge_run("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("no edge-run.toml here") and len(done.stdout.splitlines()) == 1
    done = edge_run("check", "--json")
    assert done.returncode == 0 and '"file": null' in done.stdout
    assert edge_run("check", "--config", "none.toml").returncode == 2
