"""The command line of `edge-run`: mistakes, help, doctor."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.edge_runtime.app.process import ROOT, events, fails


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["test:", "test:", "--ask", "What?"], "test: is given twice"),
        (["--ask", "What?"], "a source is missing"),
        (["test:"], 'add --ask "..."'),
        (["test:", "--ask", " "], "--ask is empty"),
        (["test:", "--ask", b"caf\xe9"], '--ask "caf?" is not UTF-8; write it in UTF-8'),
        (["test:", "--ask", "a", "--ask-at", "1", "--ask-at", "2"], "2 --ask-at for 1 --ask"),
        (["test:", "--aks", "a"], "No such option"),
        (["test:", "--ask", "a", "--fps", "nan"], "not a finite number"),
        (["test:", "--ask", "a", "--fps", "0"], "--fps"),
        (["test:", "--ask", "a", "--fps", "1e-300"], "range 0.0001<=x<=60"),
        (["test:", "--ask", "a", "--connect-timeout", "1e300"], "range 0<x<=1000000000"),
        (["test:", "--ask", "a", "--duration", "1e300"], "range 0<x<=1000000000"),
        (["test:", "--ask", "a", "--threshold", "1.1"], "--threshold"),
        (["test:", "--ask", "a", "--config", "none.toml"], "none.toml: there is no such configuration file"),
        (["smaple"], "did you mean sample?"),
        (
            ["test:", "--ask", "a", "--backend", "gpu"],
            "one of 'auto', 'cpu', 'cuda', 'tensorrt', 'tensorrt-rtx'",
        ),
        (["test:", "--ask", "a", "--threads", "99999999999999999999"], "range 1<=x<=1024"),
        (["gate", "--ask", "a"], "no such file, and no camera of that name"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(edge_run, args, said):
    assert said in fails(edge_run(*args, bundle=False), 2)


@pytest.mark.gst
def test_sources_that_cannot_be_used(edge_run, tmp_path):
    assert "none.mp4" in fails(edge_run("none.mp4", "--ask", "a"), 4)
    (tmp_path / "empty.mp4").touch()
    assert "empty.mp4" in fails(edge_run("empty.mp4", "--ask", "a"), 4)
    assert "gopher://" in fails(edge_run("gopher://x", "--ask", "a"), 4)
    assert r"caf\udce9.mp4: the name is not UTF-8" in fails(edge_run(b"caf\xe9.mp4", "--ask", "a"), 4)
    if not list(Path("/dev").glob("video*")):
        assert "edge-run sample" in fails(edge_run("camera0", "--ask", "a"), 4)


@pytest.mark.gst
def test_a_model_that_is_not_there(edge_run, clip):
    assert "nowhere" in fails(edge_run(clip, "--ask", "a", "--bundle", "nowhere", bundle=False), 3)


@pytest.mark.gst
def test_passwords_are_never_shown(edge_run, tmp_path):
    typed = edge_run(
        "rtsp://viewer:hunter2@127.0.0.1:1/live", "--ask", "a", "--give-up", "0", EDGE_RUN_DEBUG="1"
    )
    (tmp_path / "edge-run.toml").write_text(
        '[[camera]]\nname = "door"\nsource = "rtsp://127.0.0.1:1/live"\nuser = "viewer"\n'
        'password_env = "DOOR"\n[[camera.ask]]\ntext = "Who comes?"\n'
    )
    configured = edge_run("door", "--give-up", "0", DOOR="hunter2")
    for done in (typed, configured):
        assert done.returncode == 4, done.stderr
        assert "hunter2" not in done.stdout + done.stderr
        assert events(done.stdout)[-1]["type"] == "stats"
    assert {event["stream"] for event in events(configured.stdout)} == {"door"}
    assert "DOOR, which is not set" in fails(edge_run("door"), 2)


def test_a_mistake_in_the_configuration_names_its_line(edge_run, tmp_path):
    (tmp_path / "edge-run.toml").write_text('[[camera]]\nname = "door"\nsorce = "test:"\n')
    assert fails(edge_run("door", bundle=False), 2).startswith(
        "edge-run.toml:3: camera.sorce: unknown key; did you mean source?"
    )


def test_what_is_not_the_users_mistake_asks_for_a_report(tmp_path, monkeypatch, capsys):
    from edge_runtime.app import cli
    from edge_runtime.app.commands import run as run_command

    def broken(path):
        raise KeyError("who knows")

    monkeypatch.setattr(run_command, "find_config", broken)
    assert cli._main(["test:", "--ask", "a"]) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "unexpected KeyError: 'who knows'; please report it" in err
    monkeypatch.setenv("EDGE_RUN_DEBUG", "1")
    assert cli._main(["test:", "--ask", "a"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_help_names_the_sources_and_loads_nothing_heavy(edge_run):
    done = edge_run("--help", bundle=False)
    assert done.returncode == 0
    for word in ("sample", "camera0", "rtsp://", "--ask-at", "--min-gap", "doctor"):
        assert word in done.stdout
    groups = ["Examples:", "Sources, one or several:", "What to watch for:", "Output:", "Commands:"]
    assert [line for line in done.stdout.splitlines() if line in groups] == groups
    assert "[x>" not in done.stdout and "RANGE" not in done.stdout
    assert edge_run("help", bundle=False).stdout == done.stdout
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, edge_runtime.app.cli as _;"
            "print({'numpy', 'onnxruntime', 'gi', 'rich', 'fastapi', 'uvicorn'} & set(sys.modules))",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert loaded.stdout == "set()\n"


@pytest.mark.parametrize("command", [(), ("plugin",)])
def test_nothing_given_is_answered_with_a_short_help(edge_run, command):
    done = edge_run(*command, bundle=False)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert lines[0].startswith("Usage: edge-run") and "Commands:" in lines
    assert 8 < len(lines) < 35 and max(map(len, lines)) <= 80


def test_version(edge_run):
    assert edge_run("--version", bundle=False).stdout.startswith("edge-run")


@pytest.mark.gst
def test_doctor(edge_run, tiny_bundle):
    done = edge_run("doctor", "--bundle", tiny_bundle, bundle=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"ok +decoder h264: ", done.stdout)
    as_json = edge_run("doctor", "--json", "--bundle", "nowhere", bundle=False)
    report = json.loads(as_json.stdout)
    assert as_json.returncode == 1 and report["ok"] is False
    assert next(f for f in report["findings"] if f["check"] == "model")["status"] == "fail"
