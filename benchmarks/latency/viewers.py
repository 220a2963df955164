"""What people who watch the live page cost a decision: blocks with and without viewers, in turn, in one run.

    python -m benchmarks.latency.viewers --bundle nano --out viewers.json

Starts `edge-run test: --web`. A viewer does what the page does: one WebSocket with the scores, a still for
each timestep, states and questions every 4 s. The stalled ones ask for events and the preview and never read.
All of them run in this process, at the lowest priority: viewers have machines of their own.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import httpx
import websockets

from benchmarks.latency.facts import machine_facts, write_json
from benchmarks.latency.quantiles import summarise
from edge_runtime.command_line.exit import run_command

QUESTION = "Tell me everything that happens."
LOOK_AGAIN_S = 4.0
KINDS = ("none", "viewers", "stalled")
STALLED = ("/api/v1/events/stream?scores=true", "/api/v1/cameras/{camera}/preview.mjpg")
SETTLE_S = 1.0
"""Begin of a block that is not counted."""


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--bundle", default="nano", show_default=True, help="Bundle name or folder.")
@click.option("--viewers", type=click.IntRange(1, 50), default=5, show_default=True)
@click.option("--fps", type=click.FloatRange(0.1, 60), default=5.0, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=8, show_default=True)
@click.option("--seconds", type=click.FloatRange(2), default=8.0, show_default=True, help="Of one block.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here as JSON.")
def main(bundle: str, viewers: int, fps: float, rounds: int, seconds: float, out: Path | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["edge_runtime", "test:", "--fps", str(fps), "--ask", QUESTION, "--json", "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--web", str(port), "--bundle", bundle],
            stdout=subprocess.DEVNULL,
            cwd=folder,
        )
        os.nice(19)  # viewers have machines of their own
        try:
            latencies, cpu, dropped = asyncio.run(_measure(port, process.pid, viewers, rounds, seconds))
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    blocks = {kind: summarise(values) for kind, values in latencies.items()}
    none = blocks["none"]["p50"] or float("nan")
    result: dict[str, Any] = {
        "what": "from the frame to the decision, milliseconds; blocks in random order within each round",
        "machine": machine_facts(),
        "bundle": bundle,
        "settings": {"viewers": viewers, "fps": fps, "rounds": rounds, "seconds": seconds},
        "decision_ms": blocks,
        "cpu_share": {kind: round(value / (rounds * seconds), 4) for kind, value in cpu.items()},
        "p50_ratio": {kind: round((blocks[kind]["p50"] or float("nan")) / none, 3) for kind in KINDS[1:]},
        "dropped_frames": dropped,
    }
    print(json.dumps(result, indent=2))
    write_json(out, result)


async def _measure(
    port: int, pid: int, viewers: int, rounds: int, seconds: float
) -> tuple[dict[str, list[float]], dict[str, float], int]:
    base = f"http://127.0.0.1:{port}"
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    cpu = dict.fromkeys(KINDS, 0.0)
    async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=30) as client:
        camera = await _first_camera(client)
        path = f"/api/v1/cameras/{camera}"
        for _ in range(rounds):
            for kind in random.sample(KINDS, len(KINDS)):
                crowd = [
                    asyncio.create_task(view(base, path) if kind == "viewers" else _stall(port, camera))
                    for _ in range(0 if kind == "none" else viewers)
                ]
                begin, used = time.time() + SETTLE_S, _cpu_s(pid)
                await asyncio.sleep(seconds)
                end = time.time()
                cpu[kind] += _cpu_s(pid) - used
                for one in crowd:
                    one.cancel()
                await asyncio.gather(*crowd, return_exceptions=True)
                for score in (await client.get(f"{path}/scores")).json():
                    at = datetime.fromisoformat(score["wall_time"].replace("Z", "+00:00")).timestamp()
                    if begin <= at <= end:
                        found[kind].append(score["latency_ms"])
        return found, cpu, (await client.get(path)).json()["dropped"]


def _cpu_s(pid: int) -> float:
    """CPU seconds that a process has used; a busy machine changes them little, unlike latencies."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _first_camera(client: httpx.AsyncClient) -> str:
    """Its name, once it has decided ten times."""
    for _ in range(1200):
        with suppress(httpx.TransportError):
            (camera,) = (await client.get("/api/v1/cameras")).json()
            if camera["timesteps"] >= 10:
                return str(camera["name"])
        await asyncio.sleep(0.1)
    raise TimeoutError("edge-run did not begin to decide within two minutes")


async def view(base: str, path: str) -> None:
    """Watch a camera as the page does, until cancelled."""
    looked = 0.0
    address = f"{base.replace('http', 'ws')}/api/v1/ws"
    async with (
        httpx.AsyncClient(base_url=base, trust_env=False, timeout=30) as client,
        websockets.connect(address, compression=None) as feed,
    ):
        async for message in feed:
            if json.loads(message)["type"] == "score":
                await client.get(f"{path}/snapshot.jpg")
            if time.monotonic() - looked >= LOOK_AGAIN_S:
                looked = time.monotonic()
                await client.get("/api/v1/cameras")
                await client.get(f"{path}/queries")


async def _stall(port: int, camera: str) -> None:
    """Ask and read nothing."""
    connections = []
    try:
        for path in STALLED:
            one = socket.create_connection(("127.0.0.1", port))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            head = f"GET {path.format(camera=camera)} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
            one.sendall(head.encode())
            connections.append(one)
        await asyncio.Event().wait()
    finally:
        for one in connections:
            one.close()


if __name__ == "__main__":
    run_command(main)
