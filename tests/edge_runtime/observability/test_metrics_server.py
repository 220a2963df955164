"""The endpoint over real HTTP; the clock alone is told what time it is."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_runtime.errors import SinkError
from edge_runtime.observability.metrics import MetricsPages, MetricsServer, StreamMetrics, render
from edge_runtime.observability.telemetry import Histogram, Telemetry

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Camera:
    dropped: int = 3
    reconnects: int = 2


@dataclass
class Hook:
    name: str = "webhook alerts (h)"

    def counts(self) -> dict[str, int]:
        return {"delivered": 12, "waiting": 7, "lost": 1}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def get(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as err:
        return err.code, err.read().decode()


def samples(text: str) -> dict[str, float]:
    """Every line of the text format, checked for its form."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            assert re.fullmatch(r"# (HELP edge_run_\w+ .+|TYPE edge_run_\w+ (counter|gauge|histogram))", line)
            continue
        match = re.fullmatch(r'(edge_run_\w+\{(?:\w+="(?:[^"\\]|\\.)*",?)+\}) (-?[\d.]+)', line)
        assert match, line
        assert match[1] not in found, f"twice: {line}"
        found[match[1]] = float(match[2])
    return found


@pytest.fixture
def stream():
    telemetry = Telemetry(timesteps=1_234_567, responses=4)
    telemetry.suppress("repeat")
    telemetry.add_stage("vision", 20.0)
    for value in (4.0, 40.0, 400.0, 20_000.0):
        telemetry.decision.add(value)
    return StreamMetrics('do"or', 1.0, telemetry, Camera())


def test_what_is_served(stream):
    clock = Clock()
    server = MetricsServer("127.0.0.1", 0, MetricsPages([stream], [Hook()], clock=clock))
    try:
        status, text = get(server.address, "/metrics")
        assert status == 200
        told = samples(text)
        door = 'stream="do\\"or"'
        assert told[f"edge_run_timesteps_total{{{door}}}"] == 1_234_567
        assert told[f'edge_run_suppressed_total{{{door},reason="repeat"}}'] == 1
        assert told[f"edge_run_dropped_total{{{door}}}"] == 3
        assert told[f"edge_run_reconnects_total{{{door}}}"] == 2
        assert told['edge_run_outbox_depth{sink="webhook alerts (h)"}'] == 7
        assert told['edge_run_events_lost_total{sink="webhook alerts (h)"}'] == 1
        bucket = f'edge_run_latency_seconds_bucket{{{door},stage="decision",le='
        assert told[bucket + '"0.005"}'] == 1 and told[bucket + '"0.05"}'] == 2
        assert told[bucket + '"10.0"}'] == 3 and told[bucket + '"+Inf"}'] == 4
        assert told[f'edge_run_latency_seconds_sum{{{door},stage="decision"}}'] == pytest.approx(20.444)
        assert f'edge_run_latency_seconds_count{{{door},stage="vision"}}' in told
        assert get(server.address, "/etc/passwd")[0] == 404
        for path, expected in (("/metrics", 200), ("/health/live", 503), ("/none", 404)):
            connection = http.client.HTTPConnection(server.address, timeout=5)
            connection.request("HEAD", path)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (expected, b"")
            assert int(answer.headers["Content-Length"]) == len(get(server.address, path)[1].encode())
            connection.close()
    finally:
        server.close()


def test_ready_means_that_frames_flow_and_live_that_the_loop_turns(stream):
    clock = Clock()
    server = MetricsServer("127.0.0.1", 0, MetricsPages([stream], clock=clock))
    try:
        assert get(server.address, "/health/live")[0] == 503
        assert get(server.address, "/health/ready") == (503, 'do"or: no frames yet\n')
        stream.telemetry.last_step = stream.telemetry.last_frame = 100.0
        assert get(server.address, "/health/live") == get(server.address, "/health/ready") == (200, "ok\n")
        clock.now = stream.telemetry.last_step = 130.0  # the loop turns, the camera is away
        assert get(server.address, "/health/live")[0] == 200
        assert get(server.address, "/health/ready") == (503, 'do"or: no frames for 30 s\n')
        clock.now = 200.0
        assert get(server.address, "/health/live") == (503, 'do"or: the loop stands still for 70 s\n')
    finally:
        server.close()


def test_of_several_streams_one_that_ended_is_no_trouble_and_one_that_failed_is(stream):
    other = StreamMetrics("hall", 1.0, Telemetry(), Camera())
    clock = Clock()
    server = MetricsServer("127.0.0.1", 0, MetricsPages([stream, other], clock=clock))
    try:
        for one in (stream, other):
            one.telemetry.last_step = one.telemetry.last_frame = 100.0
        clock.now = other.telemetry.last_step = other.telemetry.last_frame = 200.0
        assert get(server.address, "/health/live")[0] == get(server.address, "/health/ready")[0] == 503
        stream.telemetry.ended = "well"
        assert get(server.address, "/health/live") == get(server.address, "/health/ready") == (200, "ok\n")
        stream.telemetry.ended = "failed"
        assert get(server.address, "/health/live")[0] == 200
        assert get(server.address, "/health/ready") == (503, 'do"or: failed\n')
    finally:
        server.close()


def test_a_slow_stream_is_given_its_time():
    assert StreamMetrics("a", 0.1, Telemetry(), Camera()).ready_within_s() == 50
    assert StreamMetrics("a", 10.0, Telemetry(), Camera()).ready_within_s() == 10


def test_a_client_that_says_nothing_holds_up_nobody(stream):
    server = MetricsServer("127.0.0.1", 0, MetricsPages([stream]))
    host, _, port = server.address.rpartition(":")
    try:
        with socket.create_connection((host, int(port))):
            assert get(server.address, "/metrics")[0] == 200
    finally:
        server.close()


def test_an_address_that_is_taken_is_an_error(stream):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SinkError, match=f"127.0.0.1:{port}: .*--metrics"):
            MetricsServer("127.0.0.1", port, MetricsPages([stream]))


def test_without_a_frame_nothing_is_made_up():
    text = render([StreamMetrics("a", 1.0, Telemetry(), Camera())], [], 0.0)
    assert "last_frame_age" not in text
    assert samples(text)['edge_run_latency_seconds_count{stream="a",stage="decision"}'] == 0


def test_cumulative_counts_agree_with_the_values():
    histogram = Histogram()
    values = [0.001, 0.5, 1.03, 7.0, 99.0, 1e9]
    for value in values:
        histogram.add(value)
    bounds = [0.6, 1.5, 8.0, 100.0, 1000.0]
    counts, total = histogram.cumulative(bounds)
    assert counts == [sum(value <= bound for value in values) for bound in bounds] and total == 6


@pytest.mark.gst
def test_edge_run_serves_while_it_watches(tiny_bundle, tmp_path):
    pytest.importorskip("gi")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "edge_runtime.app.cli", "test:", "--ask", "What?", "--quiet"),
            *("--metrics", address, "--bundle", str(tiny_bundle), "--threads", "1"),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        until, ready = time.monotonic() + 60, 0
        while ready != 200:
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.1)
            try:
                ready = get(address, "/health/ready")[0]
            except OSError:
                continue
        told = samples(get(address, "/metrics")[1])
        assert any(name.startswith("edge_run_timesteps_total") and value >= 1 for name, value in told.items())
    finally:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(output.splitlines()[-1])["type"] == "stats"
