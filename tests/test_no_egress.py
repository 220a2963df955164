"""No egress: a run contacts what its source and sinks need, and nothing else; it leaves no foreign files.

strace shows every file and connection of a program in a fresh HOME.
"""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from edge_runtime.backends.no_telemetry import VARIABLES

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "edge_runtime" / "samples" / "sample.mp4"
OWN_FILES = (".cache/gstreamer-1.0/",)
"""What a run without sinks keeps in HOME: GStreamer's list of plugins."""
LOOKUP_S = 20
"""onnxruntime 1.32 looked up a Microsoft host within 15 s."""
QUERY = "Tell me each step as it is finished."

_SENT_TO = re.compile(
    r"\b(?:connect|sendto|sendm?msg)\(.*?"
    r"(?:sin_port=htons\((\d+)\), sin_addr=inet_addr\(\"([^\"]+)\"\)"
    r"|sin6_port=htons\((\d+)\).*?inet_pton\(AF_INET6, \"([^\"]+)\")"
)
_LOOKUP = re.compile(r"\bopenat\([^,]+, \"/etc/(?:resolv\.conf|hosts)\"|io\.systemd\.Resolve\"")


@dataclass(frozen=True)
class Trace:
    """What a program did."""

    code: int
    output: str
    contacts: set[tuple[str, int]]
    """Address and port of each connection and datagram."""
    lookups: list[str]
    """System calls that begin the lookup of a name."""
    files: list[str]
    """Left in HOME, without those in OWN_FILES."""


class Tracer:
    """Runs Python under strace, each time in a HOME of its own."""

    def __init__(self, strace: str, folder: Path) -> None:
        self._strace, self._folder, self._runs = strace, folder, count()
        # As on a machine where nobody has switched anything off.
        kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        self._environment = {name: value for name, value in kept.items() if not name.startswith("XDG_")}

    def __call__(self, *arguments: str) -> Trace:
        number = next(self._runs)
        home, log = self._folder / f"home{number}", self._folder / f"strace{number}.log"
        home.mkdir()
        done = subprocess.run(
            [
                *(self._strace, "-f", "-qq", "-s", "200", "-e", "trace=network,openat", "-o", str(log)),
                *(sys.executable, *arguments),
            ],
            cwd=ROOT,
            env={**self._environment, "HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
        )
        calls = log.read_text(errors="replace").splitlines()
        sent = filter(None, map(_SENT_TO.search, calls))
        left = sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
        return Trace(
            done.returncode,
            done.stdout,
            {(match[2] or match[4], int(match[1] or match[3])) for match in sent},
            [call for call in calls if _LOOKUP.search(call)],
            [name for name in left if not name.startswith(OWN_FILES)],
        )

    def together(self, *programs: tuple[str, ...]) -> list[Trace]:
        """All at once: a run that is long enough for a lookup mostly waits."""
        with ThreadPoolExecutor(len(programs)) as pool:
            return list(pool.map(lambda arguments: self(*arguments), programs))


@pytest.fixture
def traced(tmp_path: Path) -> Tracer:
    """``traced(arguments of python ...)``"""
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "-o", os.devnull, "true"], capture_output=True).returncode:
        pytest.skip("needs strace (apt-get install strace) and the right to use it")
    return Tracer(strace, tmp_path)


EDGE_RUN = ("-m", "edge_runtime.app.cli")


def check_silent(trace: Trace) -> None:
    assert trace.code == 0, trace.output
    assert (trace.contacts, trace.lookups, trace.files) == (set(), [], [])


def test_the_trace_shows_lookups_connections_and_files(traced: Tracer) -> None:
    """Otherwise the tests below could not fail."""
    code = """
import pathlib, socket
(pathlib.Path.home() / ".deviceid").touch()
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    try:
        socket.socket(family, socket.SOCK_DGRAM).sendto(b"x", (address, 9))
        socket.socket(family, socket.SOCK_STREAM).connect((address, 9))
    except OSError:
        pass
try:
    socket.getaddrinfo("camera.invalid", 554)
except OSError:
    pass
"""
    trace = traced("-c", code)
    assert ("127.0.0.1", 9) in trace.contacts
    assert trace.lookups and trace.files == [".deviceid"]


@pytest.mark.gst
def test_the_sample(traced: Tracer) -> None:
    pytest.importorskip("gi")
    trace = traced(*EDGE_RUN, "sample", "--quiet")
    check_silent(trace)
    assert '"type": "response"' in trace.output


ELEMENT = f"""
import runpy, gi
gi.require_version("Gst", "1.0")
from gi.repository import Gst
Gst.init(None)
name, rank, kind = runpy.run_path("pipelines/plugins/python/streampro_loader.py")["__gstelementfactory__"]
Gst.Element.register(None, name, rank, kind)
pipeline = Gst.parse_launch(
    "videotestsrc is-live=true num-buffers={LOOKUP_S * 5} ! video/x-raw,framerate=5/1 ! videoconvert"
    ' ! streampro query="{QUERY}" ! fakesink'
)
pipeline.set_state(Gst.State.PLAYING)
end = Gst.MessageType.EOS | Gst.MessageType.ERROR
message = pipeline.get_bus().timed_pop_filtered(60 * Gst.SECOND, end)
pipeline.set_state(Gst.State.NULL)
import onnxruntime, sys
sys.exit(message.type != Gst.MessageType.EOS)
"""
"""A program that knows nothing of this project but the element's loader."""


@pytest.mark.gst
@pytest.mark.slow
def test_longer_runs_of_edge_run_and_of_the_element(traced: Tracer, tiny_bundle: Path) -> None:
    pytest.importorskip("gi")
    options = ("--bundle", str(tiny_bundle), "--quiet", "--duration", str(LOOKUP_S))
    for trace in traced.together((*EDGE_RUN, "test:", "--ask", QUERY, *options), ("-c", ELEMENT)):
        check_silent(trace)


@pytest.mark.slow
def test_importing_an_engine_in_the_other_packages(traced: Tracer) -> None:
    pytest.importorskip("torch")
    modules = (
        "export.quantization.vision",
        "benchmarks.external.runtimes.engines.ours",
        "benchmarks.latency.graph_steps",
        "train.models.smollm, train.models.compact.lite0, train.sft.callbacks, onnxruntime",
    )
    check = f"import sys, time; assert 'onnxruntime' in sys.modules; time.sleep({LOOKUP_S})"
    for trace in traced.together(*(("-c", f"import {module}; {check}") for module in modules)):
        check_silent(trace)


@pytest.mark.parametrize("room", ["edge_runtime", "pipelines", "train", "export", "benchmarks"])
def test_every_package_switches_telemetry_off_first(room: str) -> None:
    code = (
        f"import {room}, os, sys; "
        "print(os.environ.get('ORT_DISABLE_TELEMETRY'), 'onnxruntime' in sys.modules)"
    )
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=kept, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["1", "False"], done.stderr


@pytest.mark.parametrize("name", ["Containerfile", "Containerfile.jetson", "edge-run.service"])
def test_containers_and_unit_switch_it_off_as_well(name: str) -> None:
    text = (ROOT / "deploy" / name).read_text()
    assert all(f"{variable}={value}" in text for variable, value in VARIABLES.items())


class _Site(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and takes what is posted."""

    posts: list[bytes]
    port: int

    def do_POST(self) -> None:
        self.posts.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[type[_Site]]:
    handler = type("Handler", (_Site,), {"posts": []})
    folder = functools.partial(handler, directory=str(SAMPLE.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), folder) as server:
        handler.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield handler
        server.shutdown()


@pytest.mark.gst
@pytest.mark.slow
def test_source_sink_and_metrics_alone_are_contacted(
    traced: Tracer, site: type[_Site], tmp_path: Path, free_port: int
) -> None:
    pytest.importorskip("gi")
    port = site.port
    config = tmp_path / "edge-run.toml"
    config.write_text(
        f'[runtime]\noutbox = "box"\nmetrics = "{free_port}"\n'
        f'[[camera]]\nname = "door"\nsource = "http://127.0.0.1:{port}/sample.mp4"\n'
        f'[[camera.ask]]\ntext = "{QUERY}"\nthreshold = 0.0\n'
        f'[[webhook]]\nname = "hook"\nurl = "http://127.0.0.1:{port}/in"\n',
        encoding="utf-8",
    )
    trace = traced(*EDGE_RUN, "door", "--config", str(config), "--quiet")
    assert trace.code == 0, trace.output
    assert site.posts, trace.output
    assert (trace.contacts, trace.lookups, trace.files) == ({("127.0.0.1", port)}, [], [])


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
