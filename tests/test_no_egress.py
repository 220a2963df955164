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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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


Run = Callable[..., Trace]


@pytest.fixture
def traced(tmp_path: Path) -> Run:
    """``traced(arguments of python ...)``"""
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "-o", os.devnull, "true"], capture_output=True).returncode:
        pytest.skip("needs strace (apt-get install strace) and the right to use it")
    home, log = tmp_path / "home", tmp_path / "strace.log"
    home.mkdir()
    # As on a machine where nobody has switched anything off.
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment = {name: value for name, value in kept.items() if not name.startswith("XDG_")}

    def run(*arguments: str) -> Trace:
        done = subprocess.run(
            [
                *(strace, "-f", "-qq", "-s", "200", "-e", "trace=network,openat", "-o", str(log)),
                *(sys.executable, *arguments),
            ],
            cwd=ROOT,
            env={**environment, "HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
        )
        calls = log.read_text(errors="replace").splitlines()
        contacts = {
            (match[2] or match[4], int(match[1] or match[3]))
            for match in map(_SENT_TO.search, calls)
            if match
        }
        left = sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
        return Trace(
            done.returncode,
            done.stdout,
            contacts,
            [call for call in calls if _LOOKUP.search(call)],
            [name for name in left if not name.startswith(OWN_FILES)],
        )

    return run


def edge_run(traced: Run, *arguments: str) -> Trace:
    return traced("-m", "edge_runtime.app.cli", *arguments)


def check_silent(trace: Trace) -> None:
    assert trace.code == 0, trace.output
    assert (trace.contacts, trace.lookups, trace.files) == (set(), [], [])


def test_the_trace_shows_lookups_connections_and_files(traced: Run) -> None:
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
def test_the_sample(traced: Run) -> None:
    pytest.importorskip("gi")
    trace = edge_run(traced, "sample", "--quiet")
    check_silent(trace)
    assert '"type": "response"' in trace.output


@pytest.mark.gst
@pytest.mark.slow
def test_a_longer_run(traced: Run, tiny_bundle: Path) -> None:
    pytest.importorskip("gi")
    options = ("--bundle", str(tiny_bundle), "--quiet", "--duration", str(LOOKUP_S))
    check_silent(edge_run(traced, "test:", "--ask", QUERY, *options))


@pytest.mark.gst
@pytest.mark.slow
def test_the_element(traced: Run) -> None:
    """In a program that knows nothing of this project but the element's loader."""
    pytest.importorskip("gi")
    code = f"""
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
    check_silent(traced("-c", code))


@pytest.mark.slow
@pytest.mark.parametrize(
    "modules",
    [
        "export.quantization.vision",
        "benchmarks.external.runtimes.engines.ours",
        "benchmarks.latency.graph_steps",
        "train.models.smollm, train.models.compact.lite0, train.sft.callbacks, onnxruntime",
    ],
)
def test_importing_an_engine_in_the_other_packages(traced: Run, modules: str) -> None:
    pytest.importorskip("torch")
    code = f"import {modules}, sys, time; assert 'onnxruntime' in sys.modules; time.sleep({LOOKUP_S})"
    check_silent(traced("-c", code))


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
    traced: Run, site: type[_Site], tmp_path: Path, free_port: int
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
    trace = edge_run(traced, "door", "--config", str(config), "--quiet")
    assert trace.code == 0, trace.output
    assert site.posts, trace.output
    assert (trace.contacts, trace.lookups, trace.files) == ({("127.0.0.1", port)}, [], [])


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
