"""``[[command]]`` with real programs: they fail, hang, flood, fork, are missing, and one speaks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import wave
from pathlib import Path

import pytest

from edge_runtime import redaction
from edge_runtime.app.config_file import load_config
from edge_runtime.errors import ConfigError, SinkError
from edge_runtime.sinks import SinkContext, child_process
from edge_runtime.sinks import command as command_module
from edge_runtime.sinks.command import Command, CommandConfig, without_secrets
from edge_runtime.sinks.outbox import OutboxRecord
from edge_runtime.sinks.remote import PermanentError, RetryableError

EVENT = {"type": "response", "id": "id1", "stream": "door", "text": "Someone rings; $(reboot)"}
RECORD = OutboxRecord(1, "id1", "door", "response", json.dumps(EVENT).encode())


def python(code: str, **keys) -> Command:
    return Command(CommandConfig("run", argv=(sys.executable, "-c", code), **keys))


def wait_for(ready, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    """Whether the process does, a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("kind", "given"), [("json", json.dumps(EVENT) + "\n"), ("text", "Someone rings; $(reboot)\n")]
)
def test_the_event_is_stdin_and_arguments_are_no_shell(tmp_path, kind, given):
    out = tmp_path / "out"
    copy = "import sys; open(sys.argv[1], 'w').write(sys.argv[2] + sys.stdin.read())"
    Command(CommandConfig("a", argv=(sys.executable, "-c", copy, str(out), "$HOME;"), stdin=kind)).send(
        RECORD
    )
    assert out.read_text() == "$HOME;" + given


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("raise SystemExit('no sound card')", PermanentError, r"^exit code 1: no sound card$"),
        ("raise SystemExit(75)", RetryableError, r"^exit code 75 \(try again\)$"),
        ("import os; os.kill(os.getpid(), 11)", PermanentError, r"^SIGSEGV ended it$"),
        ("import time; time.sleep(60)", PermanentError, r"^it ran for more than 0.5 s and was ended$"),
    ],
)
def test_how_a_program_ends_is_told(code, error, message):
    with pytest.raises(error, match=message):
        python(code, timeout_s=0.5).send(RECORD)


def test_a_program_that_ignores_sigterm_is_killed():
    started = time.monotonic()
    ignore = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    with pytest.raises(PermanentError, match="it ran for more than 1 s and was ended: up"):
        python(ignore, timeout_s=1).send(RECORD)
    assert time.monotonic() - started < 10


def test_a_program_that_floods_its_output_is_ended_and_little_is_kept(monkeypatch):
    flood = "import sys\nwhile True: sys.stderr.write('x' * 65536)"
    with pytest.raises(
        PermanentError, match=r"it wrote more than 1 MiB of output and was ended: x+$"
    ) as caught:
        python(flood).send(RECORD)
    assert len(str(caught.value)) < 300
    outcome = child_process.run_program(
        (sys.executable, "-c", "print('y' * 500000); print('the end')"),
        b"",
        timeout_s=20,
        environment=os.environ,
        stop=threading.Event(),
    )
    assert outcome.exit_code == 0 and outcome.output.endswith("y the end") and len(outcome.output) <= 2000


def test_a_program_that_reads_nothing_gets_a_large_event():
    large = OutboxRecord(1, "id1", "door", "response", b'{"text": "' + b"x" * 300_000 + b'"}')
    python("pass").send(large)
    python("import sys; sys.stdin.close(); import time; time.sleep(0.2)").send(large)
    python("import sys; assert len(sys.stdin.read()) > 300000").send(large)


def test_what_a_program_leaves_behind_is_ended_with_it(tmp_path):
    pid = tmp_path / "pid"
    fork = f"sleep 60 & echo $! > {pid}"  # it keeps stdout open, too
    started = time.monotonic()
    Command(CommandConfig("a", argv=("sh", "-c", fork))).send(RECORD)
    assert time.monotonic() - started < 10
    wait_for(lambda: not runs(int(pid.read_text())))


def test_no_more_programs_a_minute_than_allowed(monkeypatch):
    monkeypatch.setattr(command_module, "_MINUTE_S", 1.5)
    command = python("pass", per_minute=2)
    started = time.monotonic()
    command.send(RECORD)
    command.send(RECORD)
    command.send(RECORD)
    assert time.monotonic() - started >= 1.5


def test_a_secret_is_neither_passed_on_nor_logged():
    redaction.register("t0ken-of-the-hook")
    environment = {**os.environ, "HOOK": "t0ken-of-the-hook", "OTHER": "kept"}
    assert "HOOK" not in without_secrets(environment)
    code = "import os; raise SystemExit('t0ken-of-the-hook %s' % sorted({'HOOK', 'OTHER'} & set(os.environ)))"
    command = Command(CommandConfig("a", argv=(sys.executable, "-c", code)), environment=environment)
    with pytest.raises(PermanentError, match=r"exit code 1: \*\*\* \['OTHER'\]$"):
        command.send(RECORD)


def sink(tmp_path, code: str, **keys):
    config = CommandConfig("say", argv=(sys.executable, "-c", code), **keys)
    return config.open(SinkContext(tmp_path))


APPEND = "import sys; open({!r}, 'a').write(sys.stdin.read())"


def test_events_are_handled_one_at_a_time_in_order(tmp_path, nothing_logged):
    out = tmp_path / "out"
    one = sink(tmp_path, APPEND.format(str(out)))
    for number in range(5):
        assert one.write({**EVENT, "id": f"id{number}"})
    assert not one.write({"type": "stream", "id": "s", "stream": "door"})  # responses alone, by default
    wait_for(lambda: one.depth == 0)
    assert one.close() == 0 and one.counts() == {"delivered": 5, "waiting": 0, "lost": 0}
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == [f"id{n}" for n in range(5)]


def test_a_program_that_runs_at_the_end_is_ended_and_its_event_comes_again(tmp_path, monkeypatch, logged):
    monkeypatch.setattr(command_module, "FLUSH_S", 0.3)
    pid = tmp_path / "pid"
    hang = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    first = sink(tmp_path, hang)
    first.write(EVENT)
    wait_for(lambda: pid.exists() and pid.read_text())
    assert first.close() == 0
    assert not runs(int(pid.read_text()))
    assert len(logged) == 1 and "1 events for command say" in logged[0] and "the next run" in logged[0]
    out = tmp_path / "out"
    second = sink(tmp_path, APPEND.format(str(out)))
    wait_for(lambda: second.depth == 0)
    second.close()
    assert json.loads(out.read_text())["id"] == "id1"


def test_a_program_that_cannot_be_started_now_gets_its_events_later(tmp_path, logged):
    script, out = tmp_path / "script", tmp_path / "out"
    script.write_text("not a program\n")
    script.chmod(0o700)
    config = CommandConfig("say", argv=(str(script),))
    one = config.open(SinkContext(tmp_path))
    one.write(EVENT)
    wait_for(lambda: one.sender.failing)
    assert "cannot send events to command say (script): it cannot be started: Exec format error" in logged[0]
    script.write_text(f"#!/bin/sh\ncat > {out}\n")
    wait_for(lambda: one.depth == 0)
    assert one.close() == 0 and json.loads(out.read_text()) == EVENT


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("no-such-program-here", "no program no-such-program-here is on PATH; install it"),
        ("./none", "none does not exist; correct its path in run"),
        ("./data", "data is not executable; chmod \\+x"),
    ],
)
def test_a_program_that_is_not_there_ends_the_run_before_it_starts(tmp_path, program, problem):
    (tmp_path / "data").write_text("x")
    path = tmp_path / "edge-run.toml"
    path.write_text(f"[[command]]\nname = 'say'\nrun = ['{program}']\n")
    (config,) = load_config(path).sinks
    with pytest.raises(SinkError, match=f"command say: .*{problem}"):
        config.open(SinkContext(tmp_path))
    (finding,) = config.check()
    assert finding.exit_code == 5 and finding.status == "fail" and not config.connect()


def test_its_keys(tmp_path):
    path = tmp_path / "edge-run.toml"
    path.write_text(
        "[[command]]\nname = 'say'\nrun = ['./speak', '-v', 'en']\nstdin = 'text'\n"
        "timeout = 5\nper_minute = 10\nmax_age = 30\n"
    )
    assert load_config(path).sinks == (
        CommandConfig(
            "say",
            types=("response",),
            outbox_age_s=30.0,
            argv=(str(tmp_path / "speak"), "-v", "en"),
            stdin="text",
            timeout_s=5.0,
            per_minute=10,
        ),
    )


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("", "command.run: expected the program and its arguments"),
        ("run = []", "command.run: expected the program"),
        ("run = 'espeak-ng --stdin'", "command.run: expected a list in brackets"),
        ("run = ['a', 3]", "command.run: expected the program"),
        ("run = ['a']\nstdin = 'xml'", "command.stdin: expected json or text"),
        ("run = ['a']\nstdin = 'text'\nevents = ['stream']", "command.stdin: only events of the types"),
        ("run = ['a']\nper_minute = 0", "command.per_minute: expected a whole number"),
        ("run = ['a']\ntimeout = 0", "command.timeout: expected a number greater than 0"),
        ("run = ['a']\nca_file = 'x'", "command.ca_file: unknown key"),
    ],
)
def test_mistakes_are_named(tmp_path, keys, problem):
    path = tmp_path / "edge-run.toml"
    path.write_text(f"[[command]]\nname = 'say'\n{keys}\n")
    with pytest.raises(ConfigError, match=problem.replace("[", r"\[")):
        load_config(path)


SPEECH = """\
[[command]]
name = "speech"
run = ["espeak-ng", "--stdin", "-w", "said.wav"]
stdin = "text"
max_age = 30
"""


def test_a_run_speaks(tmp_path):
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    pytest.importorskip("gi")
    (tmp_path / "edge-run.toml").write_text(SPEECH)
    done = subprocess.run(
        [sys.executable, "-m", "edge_runtime", "sample", "--config", "edge-run.toml", "--quiet"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3]), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    with wave.open(str(tmp_path / "said.wav")) as said:
        assert said.getnframes() / said.getframerate() > 0.5
