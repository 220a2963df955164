"""Several RTSP cameras in one `edge-run`, for as long as wanted, while their servers are killed in turn.

    python -m tests.soak.cameras --cameras 4 --minutes 30 --kill-every 20 --out cameras.json

Every `--kill-every` seconds one server gets SIGKILL, stays away for `--down` seconds and is started again on
its port. Events go to stdout, to a file and to a webhook on loopback. Afterwards all three are compared, and
held against what the run counted: nothing may be lost or out of order, for any camera
(:mod:`tests.soak.event_check`). With `--viewers` the page is served and each camera is watched by so many.
Ends with code 1 when a limit is missed.
"""

from __future__ import annotations

import asyncio
import http.server
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from benchmarks.latency.facts import machine_facts, write_json
from benchmarks.latency.viewers import view
from edge_runtime.command_line.exit import run_command
from edge_runtime.errors import BackendError
from tests.soak.event_check import check_events, recoveries
from tests.soak.process import Holdings, holdings, slope
from tests.soak.rtsp_server import RtspServer

QUERY = "Tell me each step as it is finished."
MAX_RECOVERY_P95_S = 3.0
MAX_GROWTH_MB = 1.0
"""Of memory, per 100 reconnects."""
_START_S = 60.0
_READ_EVERY_S = 2.0
_WARM_UP_S = 180.0
"""Before memory counts, or a third of a shorter run: sessions fill their windows of 80 timesteps, which makes
3 MB of four cameras whether anything is killed or not."""
_SETTLE_S = 8.0
"""Before the end nothing is killed any more: the last one shall be back."""


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--cameras", type=click.IntRange(1), default=4, show_default=True)
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True)
@click.option(
    "--kill-every", type=click.FloatRange(min=1), default=20.0, show_default=True, metavar="SECONDS"
)
@click.option("--down", type=click.FloatRange(0), default=1.0, show_default=True, metavar="SECONDS")
@click.option("--fps", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True)
@click.option("--bundle", default="nano", show_default=True, help="Bundle name or folder.")
@click.option("--viewers", type=click.IntRange(0, 20), default=0, show_default=True, help="Of each camera.")
@click.option("--threads", type=click.IntRange(1), help="Of the model.  [default: chosen]")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here as JSON.")
def main(
    cameras: int,
    minutes: float,
    kill_every: float,
    down: float,
    fps: float,
    bundle: str,
    viewers: int,
    threads: int | None,
    out: Path | None,
) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        inbox = stack.enter_context(Inbox())
        servers = {f"camera-{n}": stack.enter_context(RtspServer()) for n in range(1, cameras + 1)}
        config = _configuration(folder, servers, inbox, bundle=bundle, fps=fps, threads=threads)
        if viewers:
            stack.enter_context(Viewers(_serve_page(config), list(servers), viewers))
        run = Soak(folder, config, servers)
        run.watch(60 * minutes, kill_every, down)
        time.sleep(2)  # the last events are on their way to the webhook
        result = _result(run, inbox, folder) | {
            "minutes": minutes,
            "kill_every_s": kill_every,
            "down_s": down,
            "viewers": viewers,
        }
    click.echo(json.dumps({key: value for key, value in result.items() if key != "readings"}, indent=2))
    write_json(out, result)
    sys.exit(0 if result["passed"] else 1)


def _configuration(
    folder: Path,
    servers: dict[str, RtspServer],
    inbox: Inbox,
    *,
    bundle: str,
    fps: float,
    threads: int | None,
) -> Path:
    """`edge-run.toml`: all cameras speak at every timestep, repeats apart, and statistics come every 5 s."""
    quoted = json.dumps  # a JSON text is a TOML text
    lines = [
        "[runtime]",
        f"bundle = {quoted(bundle)}",
        'events = "events.jsonl"',
        'outbox = "outbox"',
        "stats_every = 5.0",
        *([f"threads = {threads}"] if threads else []),
    ]
    for name, server in servers.items():
        lines += ["[[camera]]", f"name = {quoted(name)}", f"source = {quoted(server.url)}", f"fps = {fps}"]
        lines += ["threshold = 0.0", "repeat = 0.0", "[[camera.ask]]", f"text = {quoted(QUERY)}"]
    types = '["response", "stream", "query", "stats"]'
    lines += ["[[webhook]]", 'name = "inbox"', f"url = {quoted(inbox.url)}", f"events = {types}"]
    path = folder / "edge-run.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _serve_page(config: Path) -> str:
    """Add `[web]` to the configuration; the address of the page."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with config.open("a", encoding="utf-8") as file:
        file.write(f'[web]\naddress = "127.0.0.1:{port}"\n')
    return f"http://127.0.0.1:{port}"


class Viewers:
    """Watch every camera as the page does, each viewer anew whenever its connection ends."""

    def __init__(self, base: str, cameras: Sequence[str], count: int) -> None:
        self._base = base
        self._cameras = [camera for camera in cameras for _ in range(count)]
        self._process = multiprocessing.get_context("spawn").Process(target=self._run, daemon=True)

    def __enter__(self) -> Viewers:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def _run(self) -> None:
        os.nice(19)  # viewers have machines of their own
        asyncio.run(self._watch_all())

    async def _watch_all(self) -> None:
        await asyncio.gather(*(self._watch(camera) for camera in self._cameras))

    async def _watch(self, camera: str) -> None:
        while True:
            with suppress(Exception):
                await view(self._base, f"/api/v1/cameras/{camera}")
            await asyncio.sleep(1)


class Inbox:
    """A webhook on loopback that keeps the ids of what it was sent."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        inbox = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                inbox.ids.append(event["id"])
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/in"

    def __enter__(self) -> Inbox:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Soak:
    """One run of `edge-run`, and what was done to it."""

    folder: Path
    config: Path
    servers: dict[str, RtspServer]
    kills: list[tuple[str, float, float]] = field(default_factory=list)
    """Camera, and the times (Unix) at which its server was killed and was back."""
    readings: list[tuple[float, int, Holdings]] = field(default_factory=list)
    """Seconds since all cameras were live, how many kills there had been, and what the process held."""
    exit_code: int | None = None

    def watch(self, seconds: float, kill_every_s: float, down_s: float) -> None:
        """Start, kill servers in turn, read the process; stop it with SIGINT. Raises BackendError."""
        command = [
            sys.executable,
            "-m",
            "edge_runtime.app.cli",
            *self.servers,
            "--quiet",
            "--config",
            self.config,
        ]
        with (self.folder / "stdout").open("wb") as stdout, (self.folder / "stderr").open("wb") as stderr:
            process = subprocess.Popen(list(map(str, command)), stdout=stdout, stderr=stderr)
            try:
                self._wait_until_live(process)
                self._run(process, seconds, kill_every_s, down_s)
                process.send_signal(signal.SIGINT)
                self.exit_code = process.wait(60)
            finally:
                process.kill()
                process.wait()

    def _wait_until_live(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + _START_S
        while time.monotonic() < end and process.poll() is None:
            text = self._events()
            if sum('"state": "live"' in line for line in text) >= len(self.servers):
                return
            time.sleep(0.2)
        words = (self.folder / "stderr").read_text(errors="replace").strip()[-300:]
        raise BackendError(f"edge-run did not see all cameras within {_START_S:g} s: {words or 'no reason'}")

    def _events(self) -> list[str]:
        path = self.folder / "events.jsonl"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def _run(
        self, process: subprocess.Popen[bytes], seconds: float, kill_every_s: float, down_s: float
    ) -> None:
        names = list(self.servers)
        begin = time.monotonic()
        next_kill = begin + kill_every_s
        with tqdm(total=round(seconds), desc="seconds", file=sys.stderr, disable=None) as bar:
            while (passed := time.monotonic() - begin) < seconds and process.poll() is None:
                bar.update(round(passed) - bar.n)
                self.readings.append((passed, len(self.kills), holdings(process.pid)))
                if time.monotonic() >= next_kill and passed < seconds - _SETTLE_S - down_s:
                    next_kill += kill_every_s
                    self._kill(names[len(self.kills) % len(names)], down_s)
                time.sleep(_READ_EVERY_S)
        if process.poll() is not None:
            self.exit_code = process.returncode

    def _kill(self, name: str, down_s: float) -> None:
        killed = time.time()
        self.servers[name].kill()
        time.sleep(down_s)
        self.servers[name].start()
        self.kills.append((name, killed, time.time()))


def _result(run: Soak, inbox: Inbox, folder: Path) -> dict[str, Any]:
    printed = (folder / "stdout").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in run._events()]
    kills = {name: sum(kill[0] == name for kill in run.kills) for name in run.servers}
    faults = check_events(events, kills)
    if printed != run._events():
        faults.append("stdout and the events' file differ")
    missing = [event["id"] for event in events if event["id"] not in set(inbox.ids)]
    if missing:
        faults.append(f"{len(missing)} events never reached the webhook, the first is {missing[0]}")
    seconds = recoveries(events, run.kills)
    p95 = float(np.percentile(seconds, 95)) if seconds else None
    # The first round of kills warms up, too: every camera has come back once.
    warm = min(_WARM_UP_S, run.readings[-1][0] / 3)
    counted = [item for item in run.readings if item[0] >= warm and item[1] >= len(run.servers)]
    counted = counted or run.readings
    growth = 100 * slope([kills for _, kills, _ in counted], [held.rss_mb for *_, held in counted])
    first, last = counted[0][2], counted[-1][2]
    words = (folder / "stderr").read_text(errors="replace")
    if "Traceback" in words or run.exit_code != 130:
        faults.append(f"edge-run ended with {run.exit_code}: {words.strip()[-300:]}")
    return {
        "what": f"{len(run.servers)} RTSP cameras in one process, servers killed {len(run.kills)} times",
        "machine": machine_facts(),
        "events": len(events),
        "responses": sum(event["type"] == "response" for event in events),
        "webhook": {"delivered": len(set(inbox.ids)), "more_than_once": len(inbox.ids) - len(set(inbox.ids))},
        "recovery_s": {
            "n": len(seconds),
            "p50": round(float(np.median(seconds)), 3) if seconds else None,
            "p95": round(p95, 3) if p95 is not None else None,
            "max": round(max(seconds), 3) if seconds else None,
        },
        "rss_mb": {"first": round(first.rss_mb, 1), "last": round(last.rss_mb, 1)},
        "rss_mb_per_100_reconnects": round(growth, 3),
        "threads": [first.threads, last.threads],
        "files": [first.files, last.files],
        "faults": faults,
        "passed": not faults
        and len(seconds) == len(run.kills)
        and (p95 is None or p95 < MAX_RECOVERY_P95_S)
        and growth < MAX_GROWTH_MB,
        "readings": [
            {"s": round(passed, 1), "kills": kills, **vars(held)} for passed, kills, held in run.readings
        ],
    }


if __name__ == "__main__":
    run_command(main)
