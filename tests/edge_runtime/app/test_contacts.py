"""What `edge-run doctor` says a configuration may contact: all of it, and no secret."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from edge_runtime.app.config_file import load_config
from edge_runtime.app.contacts import contacts
from edge_runtime.errors import Finding

ROOT = Path(__file__).resolve().parents[3]
CONFIG = """
[runtime]
metrics = "9464"
[[camera]]
name = "door"
source = "rtsps://Cam.local/h264?token=S3cret"
user = "S3cret-user"
password_env = "NOT_SET"
[[camera]]
name = "list"
source = "https://[::1]:8443/x/a@b.m3u8"
[[camera]]
name = "sender"
source = "srt://:9000?mode=listener&passphrase=S3cret@x"
[[camera]]
name = "file"
source = "a@b.mp4"
[[camera]]
name = "wrong"
source = "rtsp://cam:port/S3cret"
[[webhook]]
name = "hook"
url_env = "HOOK"
[[webhook]]
name = "later"
url_env = "NOT_SET"
[[mqtt]]
name = "home"
host = "broker.lan"
tls = true
"""


def test_everything_is_listed_without_secrets(tmp_path: Path) -> None:
    path = tmp_path / "edge-run.toml"
    path.write_text(CONFIG, encoding="utf-8")
    environment = {
        "HOOK": "http://hooks.lan:8080/S3cret?key=S3cret",
        "http_proxy": "http://me:S3cret/@proxy.lan:3128",
    }
    found = list(contacts(load_config(path), environment))
    assert found == [
        Finding("camera door", "ok", "cam.local:322 (rtsps)"),
        Finding("camera list", "ok", "[::1]:8443 (https)"),
        Finding("camera sender", "ok", "listens on 0.0.0.0:9000 (srt)"),
        Finding("camera wrong", "warn", "its source cannot be read"),
        Finding("webhook hook", "ok", "hooks.lan:8080 (http)"),
        Finding(
            "webhook later",
            "warn",
            "the environment variable NOT_SET is not set; export it before edge-run",
        ),
        Finding("MQTT home", "ok", "broker.lan:8883 (mqtt)"),
        Finding("metrics", "ok", "listens on 127.0.0.1:9464"),
        Finding("proxy of http_proxy", "ok", "proxy.lan:3128"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "edge_runtime.app.cli", "doctor", "--config", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )
    network = [line for line in done.stdout.splitlines() if " network: " in line]
    assert network[0].endswith("camera door: cam.local:322 (rtsps)") and len(network) == len(found) + 1
    assert "nothing else is contacted" in network[-1]
    assert "S3cret" not in done.stdout + done.stderr
