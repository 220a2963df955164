"""What each fuzz case is fed: drawn from (seed, number) alone, so a case can be made again by its number.

Of twenty numbers two are files, one is an RTSP server's answers and the others are configurations.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edge_runtime.errors import SourceError
from tests.soak.fuzz.mutation import spoil, spoil_text

Kind = Literal["file", "rtsp", "config"]

HANG_S: dict[Kind, float] = {"config": 10.0, "file": 60.0, "rtsp": 30.0}
"""Who takes so long for a case hangs. A file whose decoder says nothing is given up after 30 s."""

_CLIP = "videotestsrc num-buffers=20 pattern=ball ! video/x-raw,width=64,height=48,framerate=10/1"
_H264 = "video/x-raw,format=I420 ! x264enc tune=zerolatency speed-preset=ultrafast threads=1 key-int-max=5"
_ENCODINGS = {
    "mp4": f"{_H264} ! mp4mux",
    "fragmented.mp4": f"{_H264} ! mp4mux fragment-duration=500",
    "mov": "jpegenc ! qtmux",
    "mkv": f"{_H264} ! matroskamux",
    "webm": "vp8enc deadline=1 threads=1 ! webmmux",
    "avi": "jpegenc ! avimux",
    "ts": f"{_H264} ! mpegtsmux",
    "flv": f"{_H264} ! flvmux",
    "ogv": "theoraenc ! oggmux",
    "h264": f"{_H264} ! video/x-h264,stream-format=byte-stream",
    "jpg": "jpegenc snapshot=true",
    "png": "pngenc snapshot=true",
}
"""Endings, and the constant text of the pipeline that makes a clip of that kind."""
_RTP = f"{_H264} ! h264parse config-interval=-1 ! rtph264pay pt=96 mtu=600"
_LONGEST_PACKET = 0xFFFF


@dataclass(frozen=True)
class Material:
    """Sound clips by ending, and the RTP packets of a sound stream: what is spoiled."""

    clips: dict[str, bytes]
    packets: tuple[bytes, ...]


@dataclass(frozen=True)
class Case:
    """One case. ``data``: a file's bytes, a configuration's, or the bytes an RTSP server says at once."""

    number: int
    kind: Kind
    name: str
    data: bytes = field(default=b"", repr=False)
    replies: dict[str, bytes] = field(default_factory=dict, repr=False)
    """RTSP: what is sent to a request of this method; ``{cseq}`` is filled in."""
    media: bytes = field(default=b"", repr=False)
    """RTSP: what follows the reply to PLAY."""


def kind_of(number: int) -> Kind:
    return "rtsp" if number % 20 == 19 else "file" if number % 10 == 7 else "config"


def make_material() -> Material:
    """Encode the sound clips; endings whose encoder is not installed are left out. Raises SourceError."""
    clips = {}
    for ending, encoding in _ENCODINGS.items():
        if made := _encode(encoding):
            clips[ending] = b"".join(made)
    packets = _encode(_RTP)
    if not clips or not packets:
        raise SourceError(
            "no clip can be encoded; install gstreamer1.0-plugins-good, -bad and -ugly (x264enc)"
        )
    return Material(clips, tuple(packets))


def save_material(material: Material, folder: Path) -> None:
    """So that several processes, and a case made again, spoil the same bytes."""
    for ending, data in material.clips.items():
        (folder / f"clip.{ending}").write_bytes(data)
    lengths = b"".join(len(packet).to_bytes(2, "big") + packet for packet in material.packets)
    (folder / "packets").write_bytes(lengths)


def load_material(folder: Path) -> Material:
    """What :func:`save_material` wrote."""
    clips = {path.name.removeprefix("clip."): path.read_bytes() for path in sorted(folder.glob("clip.*"))}
    data, packets = (folder / "packets").read_bytes(), []
    while data:
        end = 2 + int.from_bytes(data[:2], "big")
        packets.append(data[2:end])
        data = data[end:]
    return Material(clips, tuple(packets))


def _encode(encoding: str) -> list[bytes]:
    """The buffers that come out; none when an element is missing."""
    from pipelines.gst import load

    Gst: Any = load().Gst
    try:
        pipeline = Gst.parse_launch(f"{_CLIP} ! videoconvert ! {encoding} ! appsink name=out sync=false")
    except load().GLib.Error:
        return []
    made: list[bytes] = []
    pipeline.set_state(Gst.State.PLAYING)
    out = pipeline.get_by_name("out")
    while (sample := out.emit("try-pull-sample", 10 * Gst.SECOND)) is not None:
        buffer = sample.get_buffer()
        made.append(bytes(buffer.extract_dup(0, buffer.get_size())))
    pipeline.set_state(Gst.State.NULL)
    return made


def make_case(seed: int, number: int, material: Material) -> Case:
    """Case ``number`` of ``seed``: always the same for the same material."""
    draw, kind = random.Random(f"{seed}/{number}"), kind_of(number)
    if kind == "config":
        data = draw.randbytes(draw.randrange(2000)) if draw.random() < 0.1 else spoil_text(CONFIG, draw)
        return Case(number, kind, "edge-run.toml", data)
    if kind == "file":
        ending = draw.choice(sorted(material.clips))
        others = [clip for name, clip in sorted(material.clips.items()) if name != ending]
        return Case(number, kind, f"{number}.{ending}", spoil(material.clips[ending], draw, others))
    return _rtsp_case(number, draw, material)


def _rtsp_case(number: int, draw: random.Random, material: Material) -> Case:
    """One part of a sound conversation is spoiled, or what answers speaks no RTSP at all."""
    replies = {method: text.replace("\n", "\r\n").encode() for method, text in REPLIES.items()}
    packets = list(material.packets)
    framed = b"".join(map(_interleave, packets))
    part = draw.choice(("noise", "OPTIONS", "DESCRIBE", "SETUP", "PLAY", "sdp", "sdp", "packets", "framing"))
    if part == "noise":
        return Case(number, "rtsp", part, draw.randbytes(draw.randrange(1, 3000)))
    if part == "sdp":
        sdp = spoil_text(SDP, draw)
        replies["DESCRIBE"] = _describe(sdp)
    elif part == "packets":
        framed = b"".join(_interleave(spoil(packet, draw)[:_LONGEST_PACKET]) for packet in packets)
    elif part == "framing":
        framed = spoil(framed, draw)
    else:
        replies["DESCRIBE"] = _describe(SDP.encode())
        replies[part] = spoil_text(replies[part].decode(), draw)
    replies.setdefault("DESCRIBE", _describe(SDP.encode()))
    return Case(number, "rtsp", part, replies=replies, media=framed)


def _describe(sdp: bytes) -> bytes:
    body = sdp.replace(b"\n", b"\r\n")
    head = "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nContent-Type: application/sdp\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _interleave(packet: bytes) -> bytes:
    return b"$\x00" + len(packet).to_bytes(2, "big") + packet


SDP = """v=0
o=- 1 1 IN IP4 127.0.0.1
s=camera
c=IN IP4 0.0.0.0
t=0 0
a=control:*
m=video 0 RTP/AVP 96
a=rtpmap:96 H264/90000
a=framerate:10
a=fmtp:96 packetization-mode=1
a=control:stream=0
"""

REPLIES = {
    "OPTIONS": "RTSP/1.0 200 OK\nCSeq: {cseq}\nPublic: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\n\n",
    "SETUP": "RTSP/1.0 200 OK\nCSeq: {cseq}\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\n"
    "Session: 12345678;timeout=60\n\n",
    "PLAY": "RTSP/1.0 200 OK\nCSeq: {cseq}\nSession: 12345678\nRange: npt=0-\nRTP-Info: url=stream=0\n\n",
    "TEARDOWN": "RTSP/1.0 200 OK\nCSeq: {cseq}\n\n",
}

CONFIG = """[runtime]
bundle = "nano"
threads = 2
stats_every = 60.0
events = "events.jsonl"
outbox = "outbox"
metrics = "127.0.0.1:9464"

[[camera]]
name = "door"
source = "rtsp://192.0.2.7:554/stream?channel=1"
fps = 1.0
user = "viewer"
password_env = "DOOR_PASSWORD"
mask = [[[0, 0], [0.3, 0], [0.3, 1], [0, 1]]]
crop = [0.25, 0, 0.5, 1]
rotate = 90
transport = "tcp"
decoder = "auto"
connect_timeout = 10.0
stall_timeout = 5.0
give_up = 3600
threshold = 0.5
min_gap = 0.0
repeat = 5.0
debounce = [2, 3]
budget = 12
quiet_hours = "22:00-06:30"

[[camera.ask]]
text = "Warn me at once if something is wrong."
at = 0.0
threshold = 0.7

[[camera]]
name = "yard"
source = "yard.mp4"

[[camera.ask]]
text = "Tell me each step."

[[webhook]]
name = "alerts"
url = "https://hooks.example.com/in"
secret_env = "ALERTS_SECRET"
events = ["response", "stream"]
ca_file = "ca.pem"
connect_timeout = 5.0
read_timeout = 10.0
outbox_megabytes = 64
outbox_days = 7

[[mqtt]]
name = "home"
host = "broker.lan"
port = 1883
topic = "edge-run"
tls = false
user = "edge"
password_env = "MQTT_PASSWORD"
home_assistant = true
discovery_prefix = "homeassistant"

[[command]]
name = "speech"
run = ["true", "--stdin"]
stdin = "text"
timeout = 30.0
per_minute = 60
max_age = 30

[[frigate]]
name = "nvr"
url = "https://frigate.lan:8971"
user = "edge"
password_env = "FRIGATE_PASSWORD"
duration = 30
labels = { q1 = "doorbell" }
cameras = { door = "front_door" }
max_age = 60
"""
