"""`edge-run` from a source to its events, in real processes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import pytest

from edge_runtime.app.config_file import Config
from edge_runtime.errors import SourceError
from edge_runtime.events.query_config import QueryConfig
from edge_runtime.video.samples import SAMPLES
from tests.edge_runtime.app.process import CLIP_S, environment, events, start


@pytest.mark.gst
def test_a_clip_from_end_to_end_twice_with_the_same_bytes(edge_run, clip, tmp_path):
    args = ("--ask", "What does the person do?", "--ask", "How many?", "--ask-at", "0", "--ask-at", "3")
    first = edge_run(clip, *args, "--threshold", "0", "--events", "events.jsonl")
    assert first.returncode == 0, first.stderr
    second = edge_run(clip, *args, "--threshold", "0", "--events", "events.jsonl")
    assert first.stdout == second.stdout
    assert (tmp_path / "events.jsonl").read_text() == first.stdout * 2

    told = events(first.stdout)
    asked = {"q1": "What does the person do?", "q2": "How many?"}
    assert all(event["question"] == asked[event["query"]] for event in told if event["type"] == "response")
    assert [event["type"] for event in told[:3]] == ["stream", "stream", "query"]
    assert [event["state"] for event in told if event["type"] == "stream"] == ["connecting", "live", "ended"]
    assert len({event["id"] for event in told}) == len(told)
    assert {event["stream"] for event in told} == {"clip.mp4"}
    responses = [event for event in told if event["type"] == "response"]
    assert responses[0]["interval"] == [0.0, 1.0] and responses[0]["text"]
    assert min(event["time"] for event in responses if event["query"] == "q2") >= 3.0
    assert told[-1]["type"] == "stats"
    assert told[-1]["timesteps"] == CLIP_S
    assert told[-1]["responses"] == len(responses)

    lines = first.stderr.splitlines()
    assert "q2 (from 3 s): How many?" in lines
    assert sum(bool(re.match(r" +\d+s  q[12] ", line)) for line in lines) >= CLIP_S
    summary = "\n".join(lines[-12:])
    assert re.search(r"timesteps +8\n", summary)
    assert re.search(r"decision, from decoded frame +p50 [\d.]+  p90 [\d.]+  p99 [\d.]+", summary)
    assert re.search(r"dropped frames +0\n", summary)
    assert re.search(r"decoder +\w+", summary)
    assert "onnxruntime" in summary


@pytest.mark.gst
def test_json_and_quiet(edge_run, clip):
    as_json = edge_run(clip, "--ask", "What?", "--json", "--duration", "4")
    figures = json.loads(as_json.stderr)  # that is all there is on stderr
    assert figures["timesteps"] == 4 and figures["ended"] == "4 s are over"
    assert figures["decision_ms"]["n"] == 4 and figures["events_lost"] == {}
    quiet = edge_run(clip, "--ask", "What?", "--quiet", "--duration", "4")
    assert quiet.stderr == ""
    assert quiet.stdout == as_json.stdout


@pytest.mark.gst
def test_another_rate(edge_run, clip):
    done = edge_run(clip, "--ask", "What?", "--fps", "2", "--duration", "4", "--quiet")
    assert events(done.stdout)[-1]["timesteps"] == 8


@pytest.mark.gst
def test_a_live_source_until_ctrl_c(tiny_bundle, tmp_path):
    process = start(
        tiny_bundle, tmp_path, "test:", "--ask", "What?", "--fps", "5", "--threshold", "0", "--json"
    )
    first = [json.loads(process.stdout.readline()) for _ in range(4)]
    assert first[-1]["type"] == "response"
    assert first[-1]["wall_time"].endswith("Z") and first[-1]["latency_ms"]["decision"] > 0
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    rest = events(out)
    assert [event["type"] for event in rest[-2:]] == ["stream", "stats"]
    assert rest[-2]["cause"] == "stopped by Ctrl-C"
    assert rest[-1]["decision_ms"]["n"] == rest[-1]["timesteps"]
    assert json.loads(err)["latency_from"] == "capture"


@pytest.mark.gst
def test_sigterm_ends_in_order_and_as_its_sender_expects(tiny_bundle, tmp_path):
    process = start(tiny_bundle, tmp_path, "test:", "--ask", "What?", "--quiet")
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert events(out)[-1]["type"] == "stats"
    assert err == ""


@pytest.mark.gst
def test_duration_ends_a_live_source(edge_run):
    started = time.monotonic()
    done = edge_run("test:", "--ask", "What?", "--duration", "2", "--quiet")
    assert done.returncode == 0
    assert time.monotonic() - started < 60
    assert events(done.stdout)[-2]["cause"] == "2 s are over"


def test_the_sample_brings_its_questions(tmp_path, monkeypatch):
    from edge_runtime.app.run import run_config as cameras
    from edge_runtime.video import samples

    monkeypatch.setattr(samples, "SAMPLES", tmp_path)
    with pytest.raises(SourceError, match=r"street\.json: .*install the program again"):
        cameras.find_camera("sample", Config())
    about = tmp_path / "street.json"
    about.write_text('{"query": {"time": 4, "text": "What?"}, "answers": []}')
    assert cameras.find_camera("sample", Config()).queries == (QueryConfig("What?", 4.0),)
    about.write_text('{"queries": [{"time": 0, "text": "a"}, {"time": 1, "text": "b"}]}')
    camera = cameras.find_camera("sample", Config())
    assert [ask.text for ask in camera.queries] == ["a", "b"]
    assert (camera.name, camera.source) == ("sample", str(tmp_path / "street.mp4"))


def test_a_bundle_that_knows_real_footage_has_a_real_sample():
    from edge_runtime.app.run.run_config import CliOptions, make_run_config

    def shown(**runtime):
        (camera,) = make_run_config(CliOptions(("sample",), runtime=runtime), Config()).cameras
        return camera

    real = shown(bundle="bundles/scout")
    assert real.source == str(SAMPLES / "street.mp4") and len(real.queries) == 3
    assert shown(bundle="nano").source == shown(bundle="elsewhere/own").source == str(SAMPLES / "sample.mp4")
    assert (SAMPLES / "street.mp4").stat().st_size < 700_000


@pytest.mark.gst
@pytest.mark.skipif(not (SAMPLES / "sample.mp4").is_file(), reason="needs the sample clip")
def test_the_sample_runs(edge_run):
    done = edge_run("sample", "--json")
    assert done.returncode == 0, done.stderr
    told = events(done.stdout)
    assert {event["stream"] for event in told} == {"sample"}
    assert json.loads(done.stderr)["never_asked"] == []


@pytest.mark.gst
def test_a_reload_asked_for_while_the_model_is_loaded_is_done_afterwards(tiny_bundle, clip, tmp_path):
    """The second question is written, and SIGHUP sent, at the very moment that loading begins."""
    file = tmp_path / "edge-run.toml"
    door = f'[[camera]]\nname = "door"\nsource = "{clip}"\n[[camera.ask]]\ntext = "Who?"\n'
    file.write_text(door)
    program = (
        "import os, signal, sys, edge_runtime\n"
        "from edge_runtime.app.cli import main\n"
        "load = edge_runtime.load\n"
        "def late(*arguments, **options):\n"
        f"    open({str(file)!r}, 'a').write('[[camera.ask]]\\ntext = \"What?\"\\n')\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    return load(*arguments, **options)\n"
        "edge_runtime.load = late\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            "door",
            "--no-reload",
            "--bundle",
            str(tiny_bundle),
            "--threads",
            "1",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env=environment(tmp_path),
        start_new_session=True,  # a service: whose terminal is gone, SIGHUP ends
    )
    assert done.returncode == 0, done.stderr
    assert "edge-run.toml taken over: door: q2 added" in done.stderr
    asked = [(event["query"], event["time"]) for event in events(done.stdout) if event["type"] == "query"]
    assert asked == [("q1", 0.0), ("q2", 0.0)]


@pytest.mark.gst
def test_the_sample_of_the_shipped_model_is_answered_rightly(edge_run):
    """A woman in red comes in at 6.5 s, a man at 10.5 s, and at 14.5 s two people, one in red and black."""
    done = edge_run("sample", "--json", bundle=False)
    responses = [event for event in events(done.stdout) if event["type"] == "response"]
    assert len(responses) >= 3, done.stderr
    assert {event["text"] for event in responses} == {"A person comes in."}
    assert {event["query"] for event in responses} <= {"q1", "q2"}
    assert all((event["time"] - 7.0) % 4.0 <= 1.0 and event["time"] <= 16.0 for event in responses)
