"""A sink from another package, found by its entry point: read, checked, listed by doctor, used by a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

PACKAGE = '''
"""Writes the text of each response to a file, in capitals."""

import logging
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import Finding
from edge_runtime.sinks import Sink, SinkConfig
from edge_runtime.config.secret import Secret, read_secret

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShoutConfig(SinkConfig):
    kind = "shout"

    path: Path = Path()
    token: Secret = Secret()

    @classmethod
    def read(cls, table, name):
        path = table.path("path") or Path()
        if path.suffix != ".txt":
            table.wrong("path", "expected a name that ends with .txt")
        return cls(name, path, read_secret(table, "token"), at=table.at)

    def check(self, environment):
        if self.path.exists():
            yield Finding("path", "warn", f"{self.path} exists and is appended to")

    def contacts(self, environment):
        yield Finding(self.label, "ok", "loud.example:99 (shout)")

    def open(self, context):
        return Shout(self.label, self.path, self.token.read(self.label))


class Shout(Sink):
    def __init__(self, name, path, token):
        self.name, self._file = name, path.open("a")
        log.warning("shouting with %s", token)

    def write(self, event):
        if event["type"] == "response":
            self._file.write(event["text"].upper() + "\\n")
        return True

    def close(self):
        self._file.close()
        return 0
'''


@pytest.fixture
def edge_run(tmp_path):
    """Runs the command where the package is installed, as pip would do it; beside edge-run.toml."""
    site = tmp_path / "site"
    facts = site / "shout-1.0.dist-info"
    facts.mkdir(parents=True)
    (site / "shout.py").write_text(PACKAGE)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: shout\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[streampro_edge.sinks]\nshout = shout:ShoutConfig\n")

    def edge_run(toml: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "edge-run.toml").write_text(toml)
        return subprocess.run(
            [sys.executable, "-m", "edge_runtime", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT}{os.pathsep}{site}",
                "SHOUT_TOKEN": "s3cret-token",
                "XDG_CONFIG_HOME": "none",
            },
        )

    return edge_run


SHOUT = '[[shout]]\nname = "loud"\npath = "out.txt"\ntoken_env = "SHOUT_TOKEN"\n'


@pytest.mark.gst
def test_a_run_uses_it(edge_run, tiny_bundle, tmp_path):
    pytest.importorskip("gi")
    done = edge_run(SHOUT, "sample", "--bundle", str(tiny_bundle), "--threshold", "0", "--threads", "1")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    texts = [event["text"] for event in events if event["type"] == "response"]
    assert texts and (tmp_path / "out.txt").read_text().splitlines() == [text.upper() for text in texts]
    assert "edge-run: warning: shouting with ***" in done.stderr and "s3cret-token" not in done.stderr


def test_its_mistakes_and_findings_have_their_place_in_the_file(edge_run, tmp_path):
    done = edge_run(SHOUT.replace("out.txt", "out.jsonl"), "check")
    assert done.returncode == 2
    assert "edge-run.toml:3: shout.path: expected a name that ends with .txt" in done.stdout
    done = edge_run(SHOUT + "volume = 3\n", "check")
    assert done.returncode == 2 and "edge-run.toml:5: shout.volume: unknown key" in done.stdout
    (tmp_path / "out.txt").touch()
    done = edge_run(SHOUT, "check")
    assert done.returncode == 0 and "warn  edge-run.toml:3: shout.path: " in done.stdout, done.stdout


def test_doctor_lists_what_it_contacts(edge_run):
    assert "network: shout loud: loud.example:99 (shout)" in edge_run(SHOUT, "doctor").stdout


def test_one_that_cannot_be_imported_is_an_error_only_where_it_is_used(edge_run, tmp_path):
    (tmp_path / "site" / "shout.py").write_text("import a_module_that_is_missing")
    assert edge_run("", "check").returncode == 0
    done = edge_run(SHOUT, "check")
    assert done.returncode == 2
    assert "[[shout]]: shout:ShoutConfig cannot be imported: ModuleNotFoundError" in done.stderr
