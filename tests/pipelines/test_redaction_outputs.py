"""A camera's password, searched for in everything that a whole `edge-run` puts out, GST_DEBUG=6 included."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

pytest.importorskip("gi")
pytestmark = pytest.mark.gst

ROOT = Path(__file__).resolve().parents[2]
USER, PASSWORD, WRONG = "viewer", "S3kr/t @wörd+9", "Wr0ng/t @wörd+9"
LIVE = b'"state": "live"'
LONGEST_S = 60.0
QUERY = "Tell me each step as it is finished."


def forms(password: str) -> dict[str, bytes]:
    """How a secret may look in an output."""
    found = {
        "raw": password.encode(),
        "its first word": password.split(" ")[0].encode(),
        "URL": quote(password, safe="").encode(),
        "URL, slash kept": quote(password).encode(),
        "form": quote_plus(password).encode(),
        "repr": repr(password)[1:-1].encode(),
        "unicode escapes": password.encode("unicode_escape"),
        "basic authentication": base64.b64encode(f"{USER}:{password}".encode()),
        "latin-1 basic authentication": base64.b64encode(f"{USER}:{password}".encode("latin-1")),
        "digest, the hash that is as good as the password": hashlib.md5(
            f"{USER}:GStreamer RTSP Server:{password}".encode()
        )
        .hexdigest()
        .encode(),
    }
    # Of base64, whatever stands in front of it: the three ways its bytes may be aligned.
    for shift in range(3):
        whole = base64.b64encode(b"x" * shift + password.encode())
        found[f"base64 at {shift}"] = whole[4 if shift else 0 : len(whole) // 4 * 4 - 4]
    return found


def leaks(outputs: dict[str, bytes], password: str) -> list[tuple[str, str]]:
    """(output, form) of each place where the password shows."""
    return [
        (output, form)
        for output, text in outputs.items()
        for form, secret in forms(password).items()
        if secret in text
    ]


@pytest.fixture
def digest_server(_rtsp_possible: None) -> Iterator[str]:
    """The URL of a server that asks for digest authentication; without credentials."""
    from tests.soak.rtsp_server import RtspServer

    with RtspServer("--user", USER, "--password", PASSWORD) as server:
        yield server.url


def watch(folder: Path, source: str, *options: str, metrics: int, **environment: str) -> dict[str, bytes]:
    """Run `edge-run SOURCE` to its end, or for 2 s of pictures; everything it put out, by name."""
    outputs: dict[str, bytes] = {}
    events, stop_at = folder / "events.jsonl", time.monotonic() + LONGEST_S
    with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "edge_runtime.app.cli", source, "--events", str(events)),
                *("--metrics", str(metrics), "--fps", "5", "--threads", "1", *options),
            ],
            cwd=ROOT,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, "EDGE_RUN_DEBUG": "1", "GST_DEBUG_NO_COLOR": "1", **environment},
        )
        while process.poll() is None:
            for page in ("metrics", "health/ready", "health/live"):
                with contextlib.suppress(OSError):
                    outputs[page] = fetch(f"http://127.0.0.1:{metrics}/{page}")
            if LIVE in (events.read_bytes() if events.exists() else b""):
                stop_at = min(stop_at, time.monotonic() + 2)
            if time.monotonic() > stop_at:
                process.send_signal(signal.SIGINT)
                process.wait(30)
            time.sleep(0.3)
    assert process.returncode in (4, 130), (folder / "stderr").read_bytes()[-2000:]
    for name in ("stdout", "stderr", "events.jsonl"):
        outputs[name] = (folder / name).read_bytes()
    return outputs


def fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        return error.read()


@pytest.mark.slow
@pytest.mark.parametrize(("level", "encoded"), [("0", True), ("6", True), ("6", False)])
def test_a_password_in_the_url(
    digest_server: str, tiny_bundle: Path, tmp_path: Path, free_port: int, level: str, encoded: bool
) -> None:
    word = quote(PASSWORD, safe="") if encoded else PASSWORD
    url = digest_server.replace("//", f"//{USER}:{word}@")
    more = ("--ask", QUERY, "--bundle", str(tiny_bundle), "--threshold", "0")
    outputs = watch(tmp_path, url, *more, metrics=free_port, GST_DEBUG=level)
    assert LIVE in outputs["events.jsonl"]
    assert b"streampro" in outputs["metrics"] or b"edge_run" in outputs["metrics"]
    assert (len(outputs["stderr"]) > 100_000) == (level == "6")  # it did log
    assert leaks(outputs, PASSWORD) == []


def configured(folder: Path, url: str, bundle: Path) -> Path:
    path = folder / "edge-run.toml"
    path.write_text(
        f'[runtime]\nbundle = "{bundle}"\n[[camera]]\nname = "door"\nsource = "{url}"\nuser = "{USER}"\n'
        f'password_env = "DOOR_PASSWORD"\n[[camera.ask]]\ntext = "{QUERY}"\nthreshold = 0.0\n',
        encoding="utf-8",
    )
    return path


@pytest.mark.slow
def test_a_password_from_the_environment(
    digest_server: str, tiny_bundle: Path, tmp_path: Path, free_port: int
) -> None:
    """Of another program's list of processes, too, it stays out; doctor reads the same file."""
    config = configured(tmp_path, digest_server, tiny_bundle)
    options = ("--config", str(config))
    secret = {"DOOR_PASSWORD": PASSWORD, "GST_DEBUG": "6"}
    outputs = watch(tmp_path, "door", *options, metrics=free_port, **secret)
    assert LIVE in outputs["events.jsonl"]
    for name in (["doctor"], ["doctor", "--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "edge_runtime.app.cli", *name, "--config", str(config)],
            cwd=ROOT,
            capture_output=True,
            timeout=120,
            env={**os.environ, **secret},
        )
        outputs[" ".join(name)] = done.stdout + done.stderr
    assert leaks(outputs, PASSWORD) == []


@pytest.mark.slow
def test_several_cameras_with_all_that_is_written_and_checked(
    digest_server: str, tiny_bundle: Path, tmp_path: Path, free_port: int
) -> None:
    """Two cameras, one with a wrong password; files put aside, an outbox, and every kind of `check`."""
    token, key = "t0ken-0f-the-hook", "whsec_k3yk3yk3yk3yk3yk3yk3yk3yk3yk3yk3"
    ask = f'[[camera.ask]]\ntext = "{QUERY}"\nthreshold = 0.0\nrepeat = 0.0\n'
    door, yard = (
        f'[[camera]]\nname = "{name}"\nsource = "{digest_server}"\nuser = "{USER}"\n{password}\n{ask}'
        for name, password in (
            ("door", 'password_env = "DOOR_PASSWORD"'),
            ("yard", 'password_file = "yard.password"'),
        )
    )
    (tmp_path / "yard.password").write_text(f"{WRONG}\n")
    (tmp_path / "hook.key").write_text(key)
    for name in ("yard.password", "hook.key"):
        (tmp_path / name).chmod(0o600)
    path = tmp_path / "edge-run.toml"
    path.write_text(
        f'[runtime]\nbundle = "{tiny_bundle}"\noutbox = "outbox"\nevents_megabytes = 0.002\n'
        f'events_keep = 1000\nstats_every = 0.5\n{door}{yard}[[webhook]]\nname = "hook"\n'
        'url_env = "HOOK_URL"\nsecret_file = "hook.key"\nevents = ["response", "stream", "stats"]\n',
        encoding="utf-8",
    )
    secret = {
        "DOOR_PASSWORD": PASSWORD,
        "HOOK_URL": f"http://127.0.0.1:{_nobody()}/in/{token}?key={token}",
        "GST_DEBUG": "6",
    }
    outputs = watch(tmp_path, "door", "yard", "--config", str(path), metrics=free_port, **secret)
    put_aside = {file.name: file.read_bytes() for file in tmp_path.glob("events.jsonl*")}
    outputs |= put_aside | {file.name: file.read_bytes() for file in (tmp_path / "outbox").iterdir()}
    assert len(put_aside) > 1
    assert b"auth-failed" in b"".join(put_aside.values()) and LIVE in b"".join(put_aside.values())
    for options in (["check"], ["check", "--connect"], ["check", "--connect", "--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "edge_runtime.app.cli", *options, "--config", str(path)],
            cwd=ROOT,
            capture_output=True,
            timeout=120,
            env={**os.environ, "EDGE_RUN_DEBUG": "1", **secret},
        )
        assert done.returncode == (5 if "--connect" in options else 0), done.stdout
        outputs[" ".join(options)] = done.stdout + done.stderr
    told = outputs["check --connect"]
    assert b"hook cannot be reached" in told and b"door: " in told and b"yard: no frame came" in told
    for word in (PASSWORD, WRONG, token, key):
        assert leaks(outputs, word) == []


def _nobody() -> int:
    """A port on which nothing listens."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("give_up", ["0", "5"])
def test_a_wrong_password(
    digest_server: str, tiny_bundle: Path, tmp_path: Path, free_port: int, give_up: str
) -> None:
    """What the server is sent and answers is in the error's debug text, which is shown."""
    url = digest_server.replace("//", f"//{USER}:{quote(WRONG, safe='')}@")
    more = ("--ask", QUERY, "--bundle", str(tiny_bundle), "--give-up", give_up)
    outputs = watch(tmp_path, url, *more, metrics=free_port, GST_DEBUG="6")
    assert b"auth-failed" in outputs["events.jsonl"]
    assert b"401" in outputs["stderr"]
    assert leaks(outputs, WRONG) == []


@pytest.mark.parametrize(
    "mistake",
    [
        "rtsp://{user}:{word}@127.0.0.1:notaport/x",
        "rtsp://{user}:{word}@",
        "rtsp://{user}:{word}@[::1/x",
        "rtspx://{user}:{word}@host/x",
        "http://{user}:{word}@host:99999999/x",
        "srt://host?passphrase={word}",
        "srt://{user}:{word}@host",
        "{user}:{word}@host/x",
        "rtsp:/{user}:{word}@host/x",
        "rtsp://{user}:1234/{word}@host/x",
        "rtsp://{user}:1234?a#{word}@host/x",
        "rstp://{user}:1 2/{word}@host/x",
        "{user}:12/{word}@host/x",
        "srt://host:9000?passphrase=abcdefgh&{word}",
    ],
)
@pytest.mark.parametrize("command", [[], ["doctor"], ["check", "--config"]])
def test_a_mistyped_source_does_not_repeat_the_password(mistake: str, command: list[str]) -> None:
    """Neither as a source nor as an argument that a command does not take."""
    word = "S3krtw0rd"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "edge_runtime.app.cli", *command, mistake.format(user=USER, word=word)),
            *(() if command else ("--ask", QUERY)),
        ],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        env={**os.environ, "EDGE_RUN_DEBUG": "1"},
    )
    assert done.returncode != 0
    assert word.encode() not in done.stdout + done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("word", ["S3krtw0rd", "12/S3krt#w@rd é"])
def test_the_list_of_processes_shows_no_password(word: str) -> None:
    """``ps`` and /proc/PID/cmdline, once the program has started."""
    question = "Tell me when mail:S3cret@home comes."
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "edge_runtime.app.cli", f"rtsp://{USER}:{word}@127.0.0.1:{_nobody()}/x"),
            *("--ask", question, "--quiet"),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"{")  # the first event: it runs
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()
    finally:
        process.kill()
        process.communicate()
    assert "rtsp://***@127.0.0.1:" in shown and question in shown
    assert "S3krt" not in shown and word not in shown


def test_the_search_finds_what_it_should() -> None:
    """Each form, hidden in a longer text, is found: or the tests above could not fail."""
    for name, secret in forms(PASSWORD).items():
        assert ("out", name) in leaks({"out": b"before " + secret + b" after"}, PASSWORD)
    header = b"Authorization: Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode())
    assert leaks({"out": header}, PASSWORD)
    assert not leaks({"out": header}, WRONG)
