"""``edge-run --evidence``: files that fit the events, the limits of the configuration, and the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.gst
ROOT = Path(__file__).resolve().parents[4]


def edge_run(*arguments, cwd):
    command = [sys.executable, "-m", "edge_runtime", *map(str, arguments), "--json"]
    done = subprocess.run(command, cwd=cwd, env=_environment(), capture_output=True, text=True, timeout=120)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return done, [event for event in events if event["type"] == "response"]


def _environment():
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_the_sample_leaves_a_snapshot_and_a_clip_of_each_response(tmp_path):
    done, responses = edge_run("sample", "--bundle", "nano", "--evidence", "kept", cwd=tmp_path)
    assert done.returncode == 0 and responses, done.stderr
    named = [event["evidence"][kind] for event in responses for kind in ("snapshot", "clip")]
    assert sorted(named) == sorted(path.name for path in (tmp_path / "kept").iterdir())
    for event in responses:
        assert event["evidence"]["snapshot"] == f"{event['id']}.jpg"
        assert event["evidence"]["clip_at"] >= 5.0
        probe = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"]
        clip = tmp_path / "kept" / event["evidence"]["clip"]
        length = subprocess.run([*probe, str(clip)], capture_output=True, text=True, timeout=60)
        assert not length.stderr and float(length.stdout) > event["evidence"]["clip_at"]
    _, again = edge_run("sample", "--bundle", "nano", "--evidence", "kept", cwd=tmp_path)
    assert again == responses


def test_the_configuration_limits_what_is_kept(tmp_path):
    sample = ROOT / "edge_runtime" / "samples" / "sample.mp4"
    (tmp_path / "edge-run.toml").write_text(
        f"""[runtime]
bundle = "nano"
[evidence]
folder = "kept"
keep_count = 1
[[camera]]
name = "kitchen"
source = "{sample}"
[[camera.ask]]
text = "Tell me everything that happens."
[camera.evidence]
clip = "off"
"""
    )
    done, responses = edge_run("kitchen", cwd=tmp_path)
    assert done.returncode == 0 and len(responses) > 1, done.stderr
    assert {tuple(event["evidence"]) for event in responses} == {("snapshot",)}
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [f"{responses[-1]['id']}.jpg"]


def test_mistakes_are_named_with_their_line(tmp_path):
    (tmp_path / "edge-run.toml").write_text('[evidence]\nclip = "all"\nkeep_count = 0\npost = -1\n')
    done, _ = edge_run("sample", cwd=tmp_path)
    assert done.returncode == 2
    assert "edge-run.toml:2: evidence.clip: expected one of masked, off" in done.stderr
    assert "2 more" in done.stderr


def test_a_folder_that_cannot_be_used_ends_the_run_before_it_starts(tmp_path):
    (tmp_path / "file").write_text("")
    done, responses = edge_run("sample", "--evidence", "file/folder", cwd=tmp_path)
    assert done.returncode == 5 and not responses
    assert "give --evidence another folder" in done.stderr
