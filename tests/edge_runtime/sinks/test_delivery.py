"""Webhooks and MQTT brokers in edge-run.toml, their secrets, and edge-run delivering to a real server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge_runtime import redaction
from edge_runtime.app.config_file import load_config
from edge_runtime.app.runtime_config import parse_address
from edge_runtime.config.secret import Secret
from edge_runtime.config.table import Table, dotted
from edge_runtime.errors import ConfigError, SinkError
from edge_runtime.sinks import SinkContext
from edge_runtime.sinks.mqtt import MqttConfig
from edge_runtime.sinks.registry import open_sinks
from edge_runtime.sinks.webhook import WebhookConfig

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ROOT = Path(__file__).resolve().parents[3]

GOOD = """\
[runtime]
outbox = "box"
metrics = "127.0.0.1:9464"

[[webhook]]
name = "alerts"
url_env = "HOOK"
secret_file = "secret"
events = ["response"]
connect_timeout = 2
outbox_megabytes = 1.5
outbox_days = 1

[[mqtt]]
name = "home"
host = "broker.lan"
tls = true
user = "edge"
password_env = "MQTT_PASSWORD"
"""


def test_a_full_file(tmp_path):
    (tmp_path / "edge-run.toml").write_text(GOOD)
    config = load_config(tmp_path / "edge-run.toml")
    assert config.runtime.outbox == tmp_path / "box" and config.runtime.metrics == ("127.0.0.1", 9464)
    webhook, mqtt = config.sinks
    assert webhook == WebhookConfig(
        name="alerts",
        types=("response",),
        outbox_bytes=3 << 19,
        outbox_age_s=86400.0,
        url_from=Secret(env="HOOK"),
        secret=Secret(file=tmp_path / "secret"),
        connect_timeout_s=2.0,
    )
    assert mqtt == MqttConfig(
        name="home", host="broker.lan", tls=True, user="edge", password=Secret(env="MQTT_PASSWORD")
    )


HOOK = "[[webhook]]\nname = 'a'\n"
MQTT = "[[mqtt]]\nname = 'a'\nhost = 'h'\n"
FRIGATE = "[[frigate]]\nname = 'a'\nurl = 'http://h/'\n"
COMMAND = "[[command]]\nname = 'a'\nrun = ['true']\n"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        (HOOK, 1, "webhook.url: expected exactly one of"),
        (HOOK + "url = 'https://h/'\nurl_env = 'X'\n", 3, "webhook.url: expected exactly one of"),
        (HOOK + "url = 'https://u:t0ken@h/'\n", 3, "webhook.url: the address holds a user"),
        (HOOK + "url = 'https://h/'\nsecret = 't0ken'\n", 4, "webhook.secret: secrets do not belong"),
        (HOOK + "url = 'https://h/'\nevents = ['respones']\n", 4, "webhook.events: expected some of"),
        (HOOK + "url = 'https://h/'\nread_timeout = 0\n", 4, "webhook.read_timeout: expected a number"),
        (HOOK + "url = 'https://h/'\nurll = ''\n", 4, "webhook.urll: unknown key; did you mean url?"),
        ("[[webhook]]\nname = '../a'\nurl = 'https://h/'\n", 2, "webhook.name: expected a name of letters"),
        (MQTT + MQTT, 5, "mqtt.name: 'a' is taken"),
        (MQTT + "password = 't0ken'\n", 4, "mqtt.password: secrets do not belong"),
        (MQTT + "topic = 'a/#'\n", 4, "mqtt.topic: expected a topic without wildcards"),
        (MQTT + "port = 0\n", 4, "mqtt.port: expected a port"),
        (MQTT + "events = ['stream']\nsnapshot = true\n", 5, "mqtt.snapshot: snapshots follow responses"),
        ("[runtime]\nmetrics = 'here'\n", 2, "runtime.metrics: expected HOST:PORT"),
    ],
)
def test_mistakes_name_line_and_key_and_no_secret(tmp_path, text, line, problem):
    path = tmp_path / "edge-run.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert f"{path}:{line}: {problem}" in str(caught.value) and "t0ken" not in str(caught.value)


def test_addresses():
    assert parse_address("9464") == parse_address(":9464") == ("127.0.0.1", 9464)
    assert parse_address("[::1]:80") == ("::1", 80) and parse_address("0.0.0.0:1") == ("0.0.0.0", 1)
    for bad in ("", "a", "a:b", "::1", "h:70000"):
        with pytest.raises(ValueError, match="HOST:PORT"):
            parse_address(bad)


def test_secrets_come_from_the_environment_or_a_file(tmp_path, monkeypatch, nothing_logged):
    monkeypatch.setenv("HOOK", "https://127.0.0.1/t0ken")
    (tmp_path / "secret").write_bytes(b"\xef\xbb\xbf" + KEY.encode() + b"\n")  # after a byte order mark
    config = WebhookConfig("alerts", url_from=Secret("HOOK"), secret=Secret(file=tmp_path / "secret"))
    context = SinkContext(tmp_path / "box")
    (sink,) = open_sinks([config], context)
    sink.close()
    assert redaction.scrub(f"a https://127.0.0.1/t0ken b {KEY} c") == "a *** b *** c"
    assert sink.name == "webhook alerts (127.0.0.1)" and "t0ken" not in repr(config)
    monkeypatch.delenv("HOOK")
    with pytest.raises(ConfigError, match="webhook alerts: the environment variable HOOK is not set"):
        open_sinks([config], context)
    with pytest.raises(ConfigError, match="No such file"):
        Secret(file=tmp_path / "none").read("x")


def test_an_outbox_that_cannot_be_made_is_an_error_before_the_run(tmp_path):
    (tmp_path / "box").write_text("")
    with pytest.raises(SinkError, match=r"runtime\.outbox"):
        open_sinks([WebhookConfig("a", url="http://h/")], SinkContext(tmp_path / "box"))


@pytest.mark.gst
def test_edge_run_delivers_what_it_prints(tiny_bundle, tmp_path):
    """First without a receiver: the events wait; then with one: those and the new ones arrive."""
    pytest.importorskip("gi")
    posts: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_address[1]}/t0ken"
    (tmp_path / "edge-run.toml").write_text(
        '[runtime]\noutbox = "box"\n[[webhook]]\nname = "alerts"\nurl_env = "HOOK"\nsecret_env = "KEY"\n'
        'events = ["response", "stream", "query", "stats"]\n'
    )

    def run(hook: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(
                    sys.executable,
                    "-m",
                    "edge_runtime.app.cli",
                    "test:",
                    "--ask",
                    "What?",
                    "--threshold",
                    "0",
                ),
                *("--duration", "3", "--bundle", str(tiny_bundle), "--threads", "1"),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOOK": hook, "KEY": KEY},
        )

    server_thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    waiting = run("http://127.0.0.1:9/t0ken")
    assert waiting.returncode == 0, waiting.stderr
    assert "cannot send events to webhook alerts (127.0.0.1)" in waiting.stderr
    assert "the next run sends them" in waiting.stderr
    server_thread.start()
    done = run(url)
    server.shutdown()
    server.server_close()
    assert done.returncode == 0, done.stderr
    printed = [json.loads(line) for line in (waiting.stdout + done.stdout).splitlines()]
    assert posts == printed and any(event["type"] == "response" for event in posts)
    for output in (waiting.stdout, waiting.stderr, done.stdout, done.stderr):
        assert "t0ken" not in output and KEY[6:] not in output


def test_the_reference_names_every_key_of_sinks(tmp_path):
    """What docs/edge-run.toml shows commented out can be used as it stands."""
    text = (ROOT / "docs" / "edge-run.toml").read_text()
    shown = [line[2:] for line in text.partition("# [[webhook]]")[2].splitlines() if line.startswith("# ")]
    chosen = [line for line in shown if not line.startswith(("url_env", "url_file"))]
    (tmp_path / "edge-run.toml").write_text("\n".join(["[[webhook]]", *chosen]))
    sinks = load_config(tmp_path / "edge-run.toml").sinks
    assert [sink.name for sink in sinks] == ["alerts", "home", "speech", "nvr"]


def test_the_reference_names_every_key(tmp_path, monkeypatch):
    """Whatever the program asks a table for stands in that table's part of docs/edge-run.toml."""
    asked: set[tuple[str, str]] = set()
    value = Table.value

    def noting(table: Table, key: str):
        asked.add((dotted(table.at), key))
        return value(table, key)

    monkeypatch.setattr(Table, "value", noting)
    (tmp_path / "edge-run.toml").write_text(
        "[[camera]]\nname = 'a'\nsource = 'test:'\n[[camera.ask]]\ntext = 'x'\n"
        "[[camera.zone]]\nname = 'z'\npolygon = [[0, 0], [1, 0], [1, 1]]\n[camera.evidence]\npre = 1\n"
        "[[webhook]]\nname = 'a'\nurl = 'https://h/'\n" + MQTT + COMMAND + FRIGATE
        + "[endpoint]\nurl = 'http://127.0.0.1:8080/v1'\nmodel = 'm'\n"
    )  # fmt: skip
    load_config(tmp_path / "edge-run.toml")
    text = (ROOT / "docs" / "edge-run.toml").read_text()
    parts = re.split(r"^(?:# )?\[\[?([\w.]+)\]\]?", text, flags=re.M)
    shown = dict(zip(parts[1::2], parts[2::2], strict=True))
    cameras = {"camera", "camera.ask", "camera.zone", "camera.evidence"}
    tables = {"runtime", "endpoint", "web", "evidence", *cameras, "webhook", "mqtt", "command", "frigate"}
    assert set(shown) == tables == {part for part, _ in asked if part}
    keys = {(part, key) for part, key in asked if part and f"{part}.{key}" not in shown}
    missing = {(part, key) for part, key in keys if not re.search(rf"\b{key}\b", shown[part])}
    assert missing == set() and len(keys) > 50


@pytest.mark.gst
def test_a_missing_secret_ends_a_run_that_uses_it_and_no_other(tiny_bundle, tmp_path):
    """A webhook and a camera of the file, both without their secrets, and a test picture beside the file."""
    pytest.importorskip("gi")
    (tmp_path / "edge-run.toml").write_text(
        '[runtime]\noutbox = "box"\n[[webhook]]\nname = "alerts"\nurl_env = "HOOK"\n'
        '[[camera]]\nname = "door"\nsource = "rtsp://127.0.0.1:9/x"\nuser = "me"\npassword_file = "none"\n'
        '[[camera]]\nname = "yard"\nsource = "test:"\n'
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, "-m", "edge_runtime.app.cli", *arguments, "--ask", "What?", "--quiet"),
                *("--duration", "1", "--bundle", str(tiny_bundle), "--threads", "1"),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOOK": ""},
        )

    done = run("test:")
    assert done.returncode == 0 and '"type": "stats"' in done.stdout
    assert done.stderr == (
        "edge-run: warning: webhook alerts: the environment variable HOOK is not set; export it before "
        "edge-run. The run goes on without it: it watches no camera of edge-run.toml\n"
    )
    for used in (("yard",), ("test:", "yard"), ("test:", "--config", "edge-run.toml")):
        done = run(*used)
        assert done.returncode == 2 and "webhook alerts: the environment variable HOOK" in done.stderr
    done = run("door")
    assert done.returncode == 2 and "camera door: the file" in done.stderr
