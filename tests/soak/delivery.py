"""A webhook that is down for minutes while the process is killed: does every event arrive?

    python -m tests.soak.delivery --down 600 --kills 5 --out delivery.json

`edge-run` watches a test picture and speaks at every timestep. Its webhook, a real HTTP server on loopback,
is not there; meanwhile the process gets SIGKILL several times and is started again. Then the server comes,
and in the midst of the backlog there is one more SIGKILL. What was printed on stdout must have arrived, in
its order, signed rightly. Ends with code 1 when something is missing.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from benchmarks.latency.facts import machine_facts
from edge_runtime.command_line.exit import run_command
from edge_runtime.errors import SourceError
from edge_runtime.sinks.webhook import sign

_KEY = b"a key that is for the soak alone"
_SECRET = f"whsec_{b64encode(_KEY).decode()}"
_START_S = 60.0
_END_S = 60.0
_PATIENCE_S = 150.0
"""Longer than the longest pause between two attempts and a restart."""

_CONFIG = """\
[runtime]
outbox = "outbox"
stats_every = 5

[[camera]]
name = "soak"
source = "test:"
fps = {fps}
threshold = 0
repeat = 0

[[camera.ask]]
text = "What do you see?"

[[webhook]]
name = "soak"
url = "http://127.0.0.1:{port}/events"
secret_env = "SOAK_KEY"
events = ["response", "stream", "query", "stats"]
"""


class Receiver:
    """Keeps the ids of what is posted, in the order it came; ``wrong`` counts bad signatures."""

    def __init__(self, port: int) -> None:
        self.ids: list[str] = []
        self.wrong = 0
        self.first_at: float | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                id, timestamp = self.headers["webhook-id"], self.headers["webhook-timestamp"]
                outer.wrong += self.headers["webhook-signature"] != sign(_KEY, id, timestamp, body)
                outer.first_at = outer.first_at or time.monotonic()
                outer.ids.append(json.loads(body)["id"])
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class EdgeRun:
    """The program, as often as it is started; everything it prints goes to one file."""

    def __init__(self, folder: Path, bundle: str) -> None:
        self._folder = folder
        self._command = [
            sys.executable,
            "-m",
            "edge_runtime.app.cli",
            "soak",
            "--bundle",
            bundle,
            "--threads",
            "1",
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.stderr = folder / "stderr"

    def start(self) -> None:
        """Raises SourceError when it prints nothing for a minute."""
        before = len(self.printed())
        with (self._folder / "stdout").open("ab") as out, self.stderr.open("ab") as err:
            root = str(Path(__file__).resolve().parents[2])
            paths = [path for path in (root, os.environ.get("PYTHONPATH")) if path]
            self._process = subprocess.Popen(
                self._command,
                stdout=out,
                stderr=err,
                cwd=self._folder,
                env={
                    **os.environ,
                    "SOAK_KEY": _SECRET,
                    "PYTHONPATH": os.pathsep.join(paths),
                },
            )
        deadline = time.monotonic() + _START_S
        while len(self.printed()) == before:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SourceError(f"edge-run does not start; it says: {self._last_words()}")
            time.sleep(0.1)

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait; the exit code. Raises SourceError when it does not end within a minute."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            return self._process.wait(_END_S)
        except subprocess.TimeoutExpired as error:
            name = signal.Signals(number).name
            raise SourceError(
                f"edge-run does not end within {_END_S:g} s of {name}; it says: {self._last_words()}"
            ) from error

    def kill(self) -> None:
        """SIGKILL, whether it runs or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        """The end of its stderr, as one line."""
        return " ".join(self.stderr.read_text(errors="replace")[-500:].split())

    def printed(self) -> list[str]:
        """Ids of the events on stdout; a line that SIGKILL cut off is none."""
        path = self._folder / "stdout"
        if not path.exists():
            return []
        ids = []
        for line in path.read_bytes().split(b"\n")[:-1]:
            with suppress(ValueError, KeyError):
                ids.append(json.loads(line)["id"])
        return ids


def measure(
    folder: Path, bundle: str, *, down_s: float, kills: int, fps: float, web: bool = False
) -> dict[str, Any]:
    """Run it in an empty ``folder``; ``web``: with the page served. Raises SourceError when edge-run does not
    start or end.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page = '\n[web]\naddress = "127.0.0.1:0"\n' if web else ""
    (folder / "edge-run.toml").write_text(_CONFIG.format(port=port, fps=fps) + page, encoding="utf-8")
    program = EdgeRun(folder, bundle)
    receiver = None
    try:
        program.start()
        began = time.monotonic()
        for number in tqdm(range(kills + 1), desc="outages", unit="part", disable=not sys.stderr.isatty()):
            _sleep_until(began + down_s * (number + 1) / (kills + 1))
            if number < kills:
                program.end(signal.SIGKILL)
                program.start()
        waiting = len(program.printed())
        box = sum(path.stat().st_size for path in (folder / "outbox").glob("*.sqlite*"))
        receiver = Receiver(port)
        back = time.monotonic()
        _wait(lambda: len(set(receiver.ids)) >= waiting // 2, "half of the backlog")
        program.end(signal.SIGKILL)
        program.start()
        _wait(lambda: set(program.printed()[:waiting]) <= set(receiver.ids), "the backlog")
        drained = time.monotonic()
        code = program.end(signal.SIGTERM)
    finally:
        program.kill()
        if receiver is not None:
            receiver.close()
    printed, arrived = program.printed(), list(dict.fromkeys(receiver.ids))
    places = {event: place for place, event in enumerate(arrived)}
    order = [places[event] for event in printed if event in places]
    return {
        "seconds_down": round(back - began, 1),
        "sigkill": kills + 1,
        "events_printed": len(printed),
        "waiting_when_back": waiting,
        "outbox_mb": round(box / 2**20, 2),
        "posts": len(receiver.ids),
        "distinct": len(arrived),
        "missing": len(set(printed) - set(arrived)),
        "repeated": len(receiver.ids) - len(arrived),
        "out_of_order": sum(later < earlier for earlier, later in pairwise(order)),
        "wrongly_signed": receiver.wrong,
        "seconds_to_first_post": round((receiver.first_at or drained) - back, 2),
        "seconds_to_empty": round(drained - back, 2),
        "exit_code": code,
    }


def passed(result: dict[str, Any]) -> bool:
    """Nothing missing, out of order or wrongly signed."""
    return not any(result[key] for key in ("missing", "out_of_order", "wrongly_signed"))


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--down", type=click.FloatRange(1), default=180, show_default=True, help="Seconds it is away.")
@click.option("--kills", type=click.IntRange(0), default=2, show_default=True, help="SIGKILLs meanwhile.")
@click.option("--fps", type=click.FloatRange(0.1, 60), default=5, show_default=True)
@click.option("--web", is_flag=True, help="Serve the page, too.")
@click.option("--bundle", default="nano", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here as JSON.")
def main(down: float, kills: int, fps: float, web: bool, bundle: str, out: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), bundle, down_s=down, kills=kills, fps=fps, web=web)
    result = {"passed": passed(result), **result, "machine": machine_facts()}
    text = json.dumps(result, indent=2)
    click.echo(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")
    sys.exit(0 if result["passed"] else 1)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _wait(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not done():
        if time.monotonic() > deadline:
            raise SourceError(f"{what} did not arrive within {_PATIENCE_S:g} s")
        time.sleep(0.1)


if __name__ == "__main__":
    run_command(main)
