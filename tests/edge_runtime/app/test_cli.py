"""`edge-run` as users start it: real processes, a real H.264 clip, a real decoder, a tiny model."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime.app.config_file import Config
from edge_runtime.errors import SourceError
from edge_runtime.events.query_config import QueryConfig
from edge_runtime.video.samples import SAMPLES

ROOT = Path(__file__).resolve().parents[3]
EDGE_RUN = [sys.executable, "-m", "edge_runtime.app.cli"]
CLIP_S = 8


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """8 s of H.264 at 10 pictures a second."""
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(CLIP_S * 10):
            image = np.full((240, 320, 3), (number * 20 % 255, number * 7 % 255, 128), np.uint8)
            image[40:200, number * 2 : number * 2 + 80] = number * 31 % 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def edge_run(tiny_bundle, tmp_path):
    """Runs edge-run in an empty folder; options may add environment variables."""

    def run(*args: str | bytes | Path, bundle: bool = True, **options) -> subprocess.CompletedProcess[str]:
        model = ["--bundle", str(tiny_bundle), "--threads", "1"] if bundle else []
        return subprocess.run(
            [*EDGE_RUN, *(arg if isinstance(arg, bytes) else str(arg) for arg in args), *model],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env=environment(tmp_path, **options),
        )

    return run


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


# ---------------------------------------------------------------- watching


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


@pytest.fixture
def on_terminal(tiny_bundle, clip, tmp_path):
    """What a terminal shows of a run; ``stdout`` and ``stderr`` lead there unless they are given."""

    def run(*args: str, term: str = "xterm", **streams) -> str:
        primary, secondary = pty.openpty()
        process = subprocess.Popen(
            [*EDGE_RUN, str(clip), "--bundle", str(tiny_bundle), "--ask", "What?", *args],
            **{"stdout": secondary, "stderr": secondary, **streams},
            cwd=tmp_path,
            env=environment(tmp_path, TERM=term, COLUMNS="80", NO_COLOR="1"),
        )
        os.close(secondary)
        shown = b""
        while True:
            try:
                shown += os.read(primary, 4096)
            except OSError:  # the other end is closed
                break
        assert process.wait(timeout=60) == 0, shown.decode()
        os.close(primary)
        return shown.decode()

    return run


@pytest.mark.gst
@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_on_a_terminal_people_read_lines_and_no_json(on_terminal, tmp_path, term):
    text = on_terminal("--threshold", "0", "--min-gap", "3", "--events", "e.jsonl", term=term)
    told = events((tmp_path / "e.jsonl").read_text())
    said = [event for event in told if event["type"] == "response"]
    assert len(said) == 3
    for event in said:  # once, and the lines that are held back say so
        line = rf"^ +{event['time']:g}s  .*{re.escape(event['text'])}  [\d.]+ ms\r?$"
        assert len(re.findall(line, text.replace("\r\x1b[K", "\n"), re.M)) == 1
        assert not re.search(rf"^{event['time']:g}s  ", text, re.M)
    assert re.search(r"responses +3, held back 5", text)
    assert '"type"' not in text and "{" not in text


@pytest.mark.gst
def test_what_the_terminal_shows_counts_as_sent(on_terminal):
    """No other sink takes the events: the gap between two responses is kept all the same."""
    assert re.search(r"responses +3, held back 5", on_terminal("--threshold", "0", "--min-gap", "3"))


@pytest.mark.gst
@pytest.mark.parametrize("hidden", [["--quiet"], []])
def test_a_terminal_without_live_lines_shows_the_responses_alone(on_terminal, hidden):
    """Asked for with --quiet, or because stderr leads elsewhere."""
    streams = {} if hidden else {"stderr": subprocess.DEVNULL}
    lines = on_terminal("--threshold", "0", "--duration", "3", *hidden, **streams).splitlines()
    assert len(lines) == 3
    assert all(re.fullmatch(rf"{n}s  .+", line) for n, line in enumerate(lines, start=1))


@pytest.mark.gst
def test_json_on_a_terminal_is_json_alone(on_terminal):
    told = events(on_terminal("--json", "--duration", "3"))
    assert [event["type"] for event in told[:2]] == ["stream", "stream"]
    assert told[-1]["timesteps"] == 3 and "decision_ms" in told[-1]


@pytest.mark.gst
def test_on_a_terminal_silence_is_written_over(on_terminal):
    text = on_terminal("--threshold", "1", stdout=subprocess.DEVNULL)
    assert text.count("\r\x1b[K") >= CLIP_S
    steps = re.findall(r"\d+s  [█░]{10} [\d.]+  SILENT[^\r\n]*(\r\n)?", text)
    assert len(steps) == CLIP_S and not any(steps)


def start(bundle: Path, folder: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*EDGE_RUN, *args, "--bundle", str(bundle), "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment(folder),
    )


def test_the_sample_brings_its_questions(tmp_path, monkeypatch):
    from edge_runtime.app.run import run_config as cameras
    from edge_runtime.video import samples

    monkeypatch.setattr(samples, "SAMPLES", tmp_path)
    with pytest.raises(SourceError, match=r"sample\.json: .*install the program again"):
        cameras.find_camera("sample", Config())
    about = tmp_path / "sample.json"
    about.write_text('{"query": {"time": 4, "text": "What?"}, "answers": []}')
    assert cameras.find_camera("sample", Config()).queries == (QueryConfig("What?", 4.0),)
    about.write_text('{"queries": [{"time": 0, "text": "a"}, {"time": 1, "text": "b"}]}')
    camera = cameras.find_camera("sample", Config())
    assert [ask.text for ask in camera.queries] == ["a", "b"]
    assert (camera.name, camera.source) == ("sample", str(tmp_path / "sample.mp4"))


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


# ---------------------------------------------------------------- outputs that fail


@pytest.mark.gst
def test_a_reader_that_leaves_ends_the_run_quietly(tiny_bundle, clip, tmp_path):
    command = (
        f"{' '.join(EDGE_RUN)} {clip} --bundle {tiny_bundle} --ask What? --quiet --events e.jsonl | head -1"
    )
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env=environment(tmp_path),
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert events((tmp_path / "e.jsonl").read_text())[0] == json.loads(done.stdout)


@pytest.mark.gst
def test_ctrl_c_that_also_ends_the_reader_is_still_ctrl_c(tiny_bundle, tmp_path):
    process = start(
        tiny_bundle, tmp_path, "test:", "--ask", "?", "--threshold", "1", "--json", "--events", "e.jsonl"
    )
    while json.loads(process.stdout.readline())["type"] != "query":
        pass
    process.stdout.close()  # from now on there is nothing to write before the end
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert json.loads(process.stderr.read())["ended"] == "stopped by Ctrl-C"
    process.stderr.close()
    assert events((tmp_path / "e.jsonl").read_text())[-1]["type"] == "stats"


@pytest.mark.gst
def test_a_full_disk_does_not_stop_the_run(edge_run, clip):
    done = edge_run(clip, "--ask", "What?", "--quiet", "--events", "/dev/full")
    assert done.returncode == 5
    count = len(events(done.stdout))
    warning, error = done.stderr.splitlines()
    assert warning.startswith("edge-run: warning: cannot write events to /dev/full: No space left")
    assert error == f"edge-run: error: {count} events could not be written to /dev/full and are lost"


@pytest.mark.gst
def test_an_event_file_that_cannot_be_written_is_said_before_the_run(edge_run, clip, tmp_path):
    message = fails(edge_run(clip, "--ask", "What?", "--events", "none/events.jsonl"), 5)
    assert "none/events.jsonl" in message


@pytest.mark.gst
def test_a_broken_picture_is_said_and_leaves_the_others_alone(edge_run, clip, tmp_path):
    """Of another camera, too. Not all was watched: the exit code is that of a source that fails."""
    shots = tmp_path / "shots"
    shots.mkdir()
    for number in (1, 3):
        Image.new("RGB", (64, 48), (90 * number, 0, 0)).save(shots / f"{number}.jpg")
    (shots / "2.jpg").touch()
    os.mkfifo(shots / "4.jpg")
    said = "shots: skipped 2 of 4 images: 2.jpg (the file is empty), 4.jpg (it is not a regular file); remove"
    done = edge_run("shots", clip, "--ask", "What?", "--quiet")
    assert done.returncode == 4
    assert said in done.stderr and len(done.stderr.splitlines()) == 1
    told = {event["stream"]: event for event in events(done.stdout) if event["type"] == "stats"}
    assert (told["shots"]["timesteps"], told["shots"]["skipped"]) == (2, 1)
    assert told["clip.mp4"]["timesteps"] == CLIP_S
    again = edge_run("shots", "--ask", "What?", "--quiet")
    assert again.returncode == 4 and said in again.stderr
    assert again.stdout == edge_run("shots", "--ask", "What?", "--quiet").stdout


# ---------------------------------------------------------------- mistakes


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


# ---------------------------------------------------------------- help and doctor


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
            "print({'numpy', 'onnxruntime', 'gi', 'rich'} & set(sys.modules))",
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
