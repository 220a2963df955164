"""Runs fuzz cases in one long-lived process and prints what became of each as a JSON line on stdout.

Started by :mod:`tests.soak.fuzz.run`, which sees to it when this process dies or hangs. A case is good when
the program ends with a state or with a one-line error of its own; anything else is a finding.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import resource
import socket
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import EdgeError, SourceError
from tests.soak.fuzz.cases import HANG_S, Case, Kind, kind_of, load_material, make_case
from tests.soak.process import holdings

MEMORY_BYTES = 6 << 30
"""Address space of the process: a header that asks for more memory than a device has must not get it."""
FPS = 10.0
SIZE = (64, 64)
_UNEXPECTED = re.compile(r"\b[A-Z]\w*(Error|Exception): |reading a picture failed|Traceback")


@dataclass(frozen=True)
class Outcome:
    """``result``: ``accepted``, ``refused`` or ``finding``; ``detail``: the error or what was found."""

    result: str
    detail: str = ""


def main(seed: int, first: int, stop: int, step: int, kinds: list[Kind], folder: Path) -> None:
    """Run the cases ``first``, ``first + step``, ... below ``stop`` that are of ``kinds``."""
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    material = load_material(folder)
    with tempfile.TemporaryFile() as stderr, tempfile.TemporaryDirectory() as scratch:
        os.dup2(stderr.fileno(), 2)
        for number in range(first, stop, step):
            if kind_of(number) not in kinds:
                continue
            _say(start=number)
            began = time.monotonic()
            case = make_case(seed, number, material)
            with (folder / f"stacks-{case.kind}").open("w") as stacks:  # where it hangs, if it does
                faulthandler.dump_traceback_later(0.9 * HANG_S[case.kind], file=stacks)
                outcome = run_case(case, Path(scratch))
                faulthandler.cancel_dump_traceback_later()
            if traceback := _new_traceback(stderr):
                outcome = Outcome("finding", traceback)
            seconds = round(time.monotonic() - began, 3)
            _say(
                case=number,
                kind=case.kind,
                name=case.name,
                seconds=seconds,
                **vars(outcome),
                **vars(holdings()),
            )


def run_case(case: Case, scratch: Path) -> Outcome:
    """Feed one case to the program."""
    try:
        if case.kind == "config":
            return _read_config(case, scratch)
        if case.kind == "file":
            path = scratch / case.name
            path.write_bytes(case.data)
            try:
                return _watch(str(path))
            finally:
                path.unlink()
        with _SpoiledServer(case) as url:
            return _watch(url)
    except EdgeError as error:
        text = str(error)
        bad = "\n" in text or _UNEXPECTED.search(text)
        return Outcome("finding" if bad else "refused", text[:300])
    except Exception as error:
        return Outcome("finding", f"{type(error).__name__}: {error}"[:300])


def _read_config(case: Case, scratch: Path) -> Outcome:
    """As `edge-run` reads it, and as `edge-run check` does: that one goes on behind the first mistake."""
    from edge_runtime.app.check import check
    from edge_runtime.app.config_file import load_config

    path = scratch / case.name
    path.write_bytes(case.data)
    for problem in (str(finding) for finding in check(path)[1]):
        if "\n" in problem or _UNEXPECTED.search(problem):
            return Outcome("finding", f"check: {problem}"[:300])
    load_config(path)
    return Outcome("accepted")


def _watch(source: str) -> Outcome:
    """To the end, or to the first error: nothing is tried again."""
    from pipelines.camera import CameraOptions, open_camera

    options = CameraOptions(give_up_s=0, connect_timeout_s=1.0, stall_timeout_s=1.0)
    frames, states = 0, []
    with open_camera(source, fps=FPS, size=SIZE, options=options) as camera:
        for item in camera:
            if hasattr(item, "image"):
                frames += 1
                if item.image.shape != (*SIZE, 3):
                    return Outcome("finding", f"a picture of shape {item.image.shape}")
            else:
                states.append(item.state)
    if states[-1:] != ["ended"]:
        raise SourceError(f"the iteration ended without a last state (TypeError: {states})")
    return Outcome("accepted", f"{frames} frames")


class _SpoiledServer:
    """Says what the case tells it to, to as many clients as come, one after another."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.1)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"rtsp://127.0.0.1:{self._server.getsockname()[1]}/cam"

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self._thread.join()
        self._server.close()

    def _serve(self) -> None:
        while not self._over.is_set():
            with suppress(OSError):
                client, _ = self._server.accept()
                with client:
                    client.settimeout(0.1)
                    self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        if self._case.data:
            client.sendall(self._case.data)
        received = b""
        while not self._over.is_set():
            try:
                more = client.recv(65536)
            except TimeoutError:
                continue
            if not more:
                return
            received += more
            while b"\r\n\r\n" in received:
                request, received = received.split(b"\r\n\r\n", 1)
                self._answer(client, request.decode("latin-1"))

    def _answer(self, client: socket.socket, request: str) -> None:
        method = request.lstrip("$\x00").split(" ", 1)[0]
        cseq = re.search(r"CSeq: *(\d+)", request)
        reply = self._case.replies.get(method, b"RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n\r\n")
        client.sendall(reply.replace(b"{cseq}", cseq[1].encode() if cseq else b"0"))
        if method == "PLAY":
            client.sendall(self._case.media)
            client.shutdown(socket.SHUT_WR)


def _new_traceback(stderr: Any) -> str:
    """The last lines of a traceback that someone printed since the last call."""
    stderr.seek(0)
    text = stderr.read().decode(errors="replace")
    stderr.seek(0)
    stderr.truncate()
    _, mark, rest = text.partition("Traceback (most recent call last)")
    return f"{mark}{rest}"[-600:] if mark else ""


def _say(**record: Any) -> None:
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    seed, first, stop, step, kinds, folder = sys.argv[1:]
    main(int(seed), int(first), int(stop), int(step), kinds.split(","), Path(folder))  # type: ignore[arg-type]
