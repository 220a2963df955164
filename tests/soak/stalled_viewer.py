"""Viewers who ask for everything and never read: does the run notice?

    python -m tests.soak.stalled_viewer --seconds 600 --out stalled.json

Starts `edge-run test: --web`. A time without viewers, then clients that ask for events (as server-sent events
and over a WebSocket) and for the preview and read nothing, then a time without them again. Reports the memory
of the process, the latency of decisions and the frames dropped in each part. Ends with code 1 when the memory
has grown by more than 10 MB or edge-run did not end well.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import httpx
import psutil
from tqdm import tqdm

from benchmarks.latency.facts import machine_facts, write_json
from benchmarks.latency.quantiles import summarise
from edge_runtime.command_line.exit import run_command
from edge_runtime.errors import BackendError

QUESTION = "What do you see?"
MAX_GROWTH_MB = 10.0
_SETTLE_S = 10.0
_START_S = 120.0
_ASKED = (
    "/api/v1/events/stream?scores=true",
    "/api/v1/cameras/{camera}/preview.mjpg",
    "/api/v1/ws",
)


class Stalled:
    """One viewer: a connection for each of what the page asks for, of which nothing is ever read."""

    def __init__(self, port: int, camera: str) -> None:
        self.sockets = [self._ask(port, path.format(camera=camera)) for path in _ASKED]

    @property
    def open(self) -> int:
        """Connections that the server has not given up."""
        return sum(_is_open(one) for one in self.sockets)

    def close(self) -> None:
        for one in self.sockets:
            one.close()

    @staticmethod
    def _ask(port: int, path: str) -> socket.socket:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", port))
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
        if path.endswith("/ws"):
            key = b64encode(os.urandom(16)).decode()
            lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
            lines.append(f"Sec-WebSocket-Key: {key}")
        one.sendall("\r\n".join([*lines, "", ""]).encode())
        return one


def _is_open(one: socket.socket) -> bool:
    """By the kernel's state, as reading would end the stall."""
    state = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return bool(state == 1)  # established


def measure(
    bundle: str, folder: Path, *, seconds: float, alone_s: float, fps: float, viewers: int
) -> dict[str, Any]:
    """Run it in an empty ``folder``. Raises BackendError when edge-run does not begin."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "edge_runtime",
        "test:",
        "--fps",
        str(fps),
        "--ask",
        QUESTION,
        "--ask-anyway",
    ]
    command += [
        "--threshold",
        "0",
        "--json",
        "--quiet",
        "--web",
        str(port),
        "--bundle",
        bundle,
        "--threads",
        "1",
    ]
    with (folder / "said").open("wb") as said:
        paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        process = subprocess.Popen(command, stdout=said, stderr=said, cwd=folder, env=env)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False, timeout=30) as client:
            run = _Run(client, _first_camera(client), psutil.Process(process.pid))
            parts = {"before": run.part("alone before", alone_s)}
            crowd = [Stalled(port, run.camera) for _ in range(viewers)]
            parts["stalled"] = run.part("stalled", seconds)
            still_open = sum(one.open for one in crowd)
            for one in crowd:
                one.close()
            parts["after"] = run.part("alone after", alone_s)
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
    growth = parts["after"]["rss_mb"] - parts["before"]["rss_mb"]
    dropped = parts["after"]["dropped"] - parts["before"]["dropped"]
    return {
        "what": f"{viewers} viewers read nothing for {seconds:g} s; ms from the frame to the decision",
        "machine": machine_facts(),
        "bundle": bundle,
        "fps": fps,
        "parts": parts,
        "connections_still_open": still_open,
        "rss_growth_mb": round(growth, 2),
        "dropped": dropped,
        "exit_code": code,
        "passed": growth < MAX_GROWTH_MB and code == 130,
    }


class _Run:
    def __init__(self, client: httpx.Client, camera: str, process: psutil.Process) -> None:
        self.camera = camera
        self._client = client
        self._process = process

    def part(self, name: str, seconds: float) -> dict[str, Any]:
        """Watch for so long, and summarise it without its beginning."""
        begin = time.time() + min(_SETTLE_S, seconds / 3)
        started, used = time.monotonic(), self._cpu_s()
        highest, latencies = 0.0, dict[str, float]()
        for _ in tqdm(
            range(max(1, round(seconds / 5))), desc=name, unit="look", disable=not sys.stderr.isatty()
        ):
            time.sleep(min(5.0, seconds))
            highest = max(highest, self._rss_mb())
            for score in self._client.get(f"/cameras/{self.camera}/scores").json():
                moment = datetime.fromisoformat(score["wall_time"].replace("Z", "+00:00")).timestamp()
                if moment >= begin:
                    latencies[score["wall_time"]] = score["latency_ms"]
        camera = self._client.get(f"/cameras/{self.camera}").json()
        return {
            "rss_mb": round(self._rss_mb(), 1),
            "highest_rss_mb": round(highest, 1),
            "cpu_share": round((self._cpu_s() - used) / (time.monotonic() - started), 4),
            "threads": self._process.num_threads(),
            "files": self._process.num_fds(),
            "timesteps": camera["timesteps"],
            "dropped": camera["dropped"],
            "decision_ms": summarise(list(latencies.values())),
        }

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def _rss_mb(self) -> float:
        return float(self._process.memory_info().rss) / 2**20


def _first_camera(client: httpx.Client) -> str:
    """Its name, once it has decided ten times."""
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        with suppress(httpx.TransportError):
            (camera,) = client.get("/cameras").json()
            if camera["timesteps"] >= 10:
                return str(camera["name"])
        time.sleep(0.1)
    raise BackendError(f"edge-run did not decide ten times within {_START_S:g} s")


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--bundle", default="nano", show_default=True, help="Bundle name or folder.")
@click.option(
    "--seconds", type=click.FloatRange(1), default=600.0, show_default=True, help="Without reading."
)
@click.option("--alone", type=click.FloatRange(1), default=60.0, show_default=True, help="Before and after.")
@click.option("--fps", type=click.FloatRange(0.1, 60), default=2.0, show_default=True)
@click.option("--viewers", type=click.IntRange(1, 20), default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here as JSON.")
def main(bundle: str, seconds: float, alone: float, fps: float, viewers: int, out: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        result = measure(bundle, Path(folder), seconds=seconds, alone_s=alone, fps=fps, viewers=viewers)
    print(json.dumps(result, indent=2))
    write_json(out, result)
    sys.exit(0 if result["passed"] else 1)


if __name__ == "__main__":
    run_command(main)
