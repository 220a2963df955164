"""`edge-run check`: every problem with its line, secrets never shown, and who is really at the other end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ROOT = Path(__file__).resolve().parents[3]

GOOD = """\
[runtime]
outbox = "box"
events = "events.jsonl"

[[camera]]
name = "picture"
source = "test:"

[[camera.ask]]
text = "What?"

[[webhook]]
name = "alerts"
url_file = "address"
secret_env = "HOOK_KEY"
"""


@pytest.fixture
def check(tmp_path):
    """Runs it in a folder with these texts as files; the environment holds HOOK_KEY."""

    def check(toml: str, *options: str, address: str = "https://h/t0ken", mode: int = 0o600):
        (tmp_path / "edge-run.toml").write_text(toml)
        (tmp_path / "address").write_text(address)
        (tmp_path / "address").chmod(mode)
        done = subprocess.run(
            [sys.executable, "-m", "edge_runtime.app.cli", "check", *options],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOOK_KEY": KEY, "XDG_CONFIG_HOME": "none"},
        )
        assert not any(secret in done.stdout + done.stderr for secret in ("t0ken", KEY[6:]))
        return done

    return check


pytestmark = pytest.mark.gst


def test_a_file_without_mistakes(check, tmp_path):
    pytest.importorskip("gi")
    done = check(GOOD)
    assert (done.returncode, done.stdout, done.stderr) == (0, "edge-run.toml: can be run\n", "")
    assert sorted(os.listdir(tmp_path)) == ["address", "edge-run.toml"]  # nothing was made by asking


def test_zones_that_the_bundle_does_not_know_are_told(check):
    pytest.importorskip("gi")
    zone = '[[camera.zone]]\nname = "lawn"\npolygon = [[0, 0.5], [1, 0.5], [1, 1]]\n\n'
    toml = GOOD.replace("[[camera.ask]]", zone + "[[camera.ask]]")
    done = check(toml.replace("[runtime]", '[runtime]\nbundle = "nano"'))
    assert done.returncode == 2 and "bundle nano knows no zones; remove [[camera.zone]]" in done.stdout


def test_questions_evidence_and_the_page(check, knowing, tmp_path):
    """What a run would not ask, could not keep, and would not serve."""
    pytest.importorskip("gi")
    more = """[evidence]
folder = "address/kept"
[web]
address = "127.0.0.1:8080"
token_file = "token"
"""
    (tmp_path / "token").write_text("short")
    (tmp_path / "token").chmod(0o600)
    toml = GOOD.replace("What?", "Tell me when the pizza arrives.") + more
    toml = toml.replace("[runtime]", f'[runtime]\nbundle = "{knowing}"')
    done = check(toml)
    assert done.returncode == 5, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["warn", "fail", "fail", "edge-run.toml:"]
    assert 'edge-run.toml:11: camera.ask.text: knowing was not trained for "pizza"' in lines[0]
    assert "evidence.folder: " in lines[1] and "give evidence.folder another one" in lines[1]
    assert "web.token_file: web: the token has 5 characters" in lines[2]
    done = check(toml.replace("pizza", "visitor").replace("address/", "").replace("token_file", "# "))
    assert (done.returncode, done.stdout) == (0, "edge-run.toml: can be run\n")


BAD = """\
[runtime]
bundel = "nano"
bundle = "none"
outbox = "address/box"
events = "none/events.jsonl"
threads = 0

[[camera]]
name = "door"
source = "rtsp://127.0.0.1:1/x"
user = "me"
password_env = "NOT_SET"
mask = [[[0, 0], [1.5, 0], [1, 1]], 3]
crop = [0, 0, 2, 2]
rotate = 45
treshold = 0.5

[[camera]]
name = "clip"
source = "none.mp4"
[[camera.ask]]
text = ""
at = -1

[[webhook]]
name = "a"
url_file = "address"
secret_file = "empty"
ca_file = "none.pem"

[[mqtt]]
name = "m"
host = "two words"
password_file = "address"
"""


def test_every_problem_is_told_with_its_line(check, tmp_path):
    pytest.importorskip("gi")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "empty").chmod(0o600)
    done = check(BAD, "--json", address="ftp://t0ken", mode=0o644)
    report = json.loads(done.stdout)
    assert done.returncode == 2 and not report["ok"]
    told = [(one["line"], one["status"], one["key"]) for one in report["findings"]]
    assert told == sorted(told, key=lambda one: one[0])
    assert set(told) == {
        (2, "fail", "runtime.bundel"),
        (3, "fail", "runtime.bundle"),
        (4, "fail", "runtime.outbox"),
        (5, "fail", "runtime.events"),
        (6, "fail", "runtime.threads"),
        (8, "warn", "camera"),  # nothing to watch for
        (12, "fail", "camera.password_env"),
        (13, "fail", "camera.mask"),
        (14, "fail", "camera.crop"),
        (15, "fail", "camera.rotate"),
        (16, "fail", "camera.treshold"),
        (20, "fail", "camera.source"),
        (22, "fail", "camera.ask.text"),
        (23, "fail", "camera.ask.at"),
        (27, "fail", "webhook.url_file"),
        (27, "warn", "webhook.url_file"),  # readable by others
        (28, "fail", "webhook.secret_file"),
        (29, "fail", "webhook.ca_file"),
        (33, "fail", "mqtt.host"),
        (31, "fail", "mqtt"),  # a password without a user
        (34, "warn", "mqtt.password_file"),
    }
    words = {one["key"]: one["text"] for one in report["findings"]}
    assert words["camera.treshold"] == "unknown key; did you mean threshold?"
    assert "NOT_SET is not set" in words["camera.password_env"]
    assert "is empty" in words["webhook.secret_file"] and "chmod 600" in words["mqtt.password_file"]


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("[runtime]", '[runtime]\nbundle = "none"', 3),
        ('"test:"', '"none.mp4"', 4),
        ('"box"', '"address/box"', 5),
        ("name", "nam", 2),
    ],
)
def test_the_exit_code_is_that_of_a_run(check, old, new, code):
    pytest.importorskip("gi")
    assert check(GOOD.replace(old, new, 1)).returncode == code


def test_a_signing_key_that_cannot_be_used_is_told_without_repeating_it(check, tmp_path):
    pytest.importorskip("gi")
    (tmp_path / "key").write_text("my-own-words")
    (tmp_path / "key").chmod(0o600)
    done = check(GOOD.replace('secret_env = "HOOK_KEY"', 'secret_file = "key"'))
    assert done.returncode == 2 and "webhook.secret_file: its value cannot be used" in done.stdout
    assert "my-own-words" not in done.stdout


def test_without_a_file_or_with_what_is_no_toml(check, tmp_path):
    assert check("x = ").returncode == 2
    done = check("", "--config", str(tmp_path / "other.toml"))
    assert done.returncode == 2 and "no such configuration file" in done.stdout


def test_a_folder_that_cannot_be_looked_into(check):
    folder = "x" * 300  # refused by the system, to root too
    done = check(f'[runtime]\nevents = "{folder}/events.jsonl"\n')
    assert done.returncode == 5
    assert f"there is no folder {folder}; make it" in done.stdout


def test_connecting_tries_sinks_and_cameras_and_posts_nothing(check):
    pytest.importorskip("gi")
    posts: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posts.append(self.path)

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}/t0ken"
    reached = check(GOOD, "--connect", address=address)
    server.shutdown()
    server.server_close()
    assert reached.returncode == 0 and not posts, reached.stdout
    assert "alerts was reached in" in reached.stdout and "picture: the first frame came" in reached.stdout

    gone = check(GOOD, "--connect", address=address)
    assert gone.returncode == 5 and "alerts cannot be reached: Connection refused" in gone.stdout

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"rtsp://127.0.0.1:{probe.getsockname()[1]}/x"
    camera = GOOD.partition("[[webhook]]")[0].replace("test:", nobody)
    done = check(camera.replace('name = "picture"', 'name = "picture"\nuser = "u"'), "--connect")
    assert done.returncode == 4 and "picture: no frame came" in done.stdout
