"""Recorded videos: time starts at the first frame, nothing shown is lost, and "damaged" needs evidence.

The clips are made by PyAV; where a container must not start at 0, or its last frame must stay, their packets
are moved.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import SourceError
from pipelines.camera import CameraOptions, Frame, StateChange, open_camera
from tests.pipelines import reading

pytest.importorskip("gi")
av: Any = pytest.importorskip("av")
pytestmark = pytest.mark.gst

SIZE = (160, 90)
CONTAINERS = ["clip.mp4", "clip.mkv", "clip.mov", "clip.flv", "clip.avi", "clip.ts"]
WITH_DURATION = CONTAINERS[:-1]


def read(path: Path, fps: float = 1.0) -> tuple[list[Frame], StateChange, SourceError | None]:
    """Frames, the last change of state, and how it failed, if it did."""
    frames, changes, error = reading.read(path, fps, size=(64, 64))
    return frames, changes[-1] if changes else StateChange("failed"), error


def indices(path: Path, fps: float = 1.0) -> list[int]:
    """All timesteps of a file that is whole."""
    frames, last, error = read(path, fps)
    assert error is None
    assert last.state == "ended" and "damaged" not in last.cause
    return [frame.index for frame in frames]


def remux(
    source: Path,
    target: Path,
    *,
    offset_s: float = 0.0,
    times: list[float] | None = None,
    end_s: float | None = None,
    muxer: dict[str, str] | None = None,
) -> Path:
    """Copy the video's packets. ``times`` (rising, one a packet) replaces theirs, ``end_s`` says when the
    last frame ends: only for clips whose frames are not reordered.
    """
    with av.open(str(source)) as clip, av.open(str(target), "w", options=muxer or {}) as copy:
        stream = clip.streams.video[0]
        add = getattr(copy, "add_stream_from_template", None)
        output = add(stream) if add is not None else copy.add_stream(template=stream)
        packets = [packet for packet in clip.demux(stream) if packet.size]
        base = stream.time_base
        if times is not None:
            for packet, time_s in zip(packets, times, strict=True):
                packet.pts = packet.dts = round(time_s / base)
        if end_s is not None:
            for packet, later in itertools.pairwise(packets):
                packet.duration = later.pts - packet.pts
            packets[-1].duration = round(end_s / base) - packets[-1].pts
        for packet in packets:
            packet.pts += round(offset_s / base)
            packet.dts += round(offset_s / base)
            packet.stream = output
            copy.mux(packet)
    return target


@pytest.fixture(scope="module")
def plain(make_clip: Callable[..., Path]) -> Path:
    """6 s at 10 frames a second, in order."""
    return make_clip("clip.mp4", size=SIZE, seconds=6, options={"bf": "0"})


@pytest.fixture(scope="module")
def plain_avi(make_clip: Callable[..., Path]) -> Path:
    """The same, in a codec that any AVI takes."""
    return make_clip("clip.avi", codec="mjpeg", size=SIZE, seconds=6)


# ---------------------------------------------------------------- time starts at the first frame


@pytest.mark.parametrize(
    ("name", "offset_s"),
    [
        *[
            (name, offset_s)
            for name in ("clip.mkv", "clip.flv", "clip.ts")
            for offset_s in (0.0, 0.7, 1000.0)
        ],
        ("clip.mov", 2.0),  # qtdemux takes a video much shorter than its offset for a preview image
    ],
)
def test_time_starts_at_the_first_frame(plain: Path, tmp_path: Path, name: str, offset_s: float) -> None:
    path = remux(plain, tmp_path / name, offset_s=offset_s)
    frames, last, error = read(path)
    assert error is None
    assert [(frame.index, round(frame.pts, 2)) for frame in frames] == [(k, k + 0.9) for k in range(6)]
    assert last == StateChange("ended", "end of the file at 6.0 s")


@pytest.mark.parametrize("name", ["clip.mkv", "clip.ts", "clip.mpg"])
def test_time_starts_at_the_first_frame_when_frames_are_reordered(
    make_clip: Callable[..., Path], name: str
) -> None:
    codec, options = ("mpeg2video", {"bf": "2"}) if name == "clip.mpg" else ("libx264", None)
    path = make_clip(name, codec=codec, fps=25, size=(320, 240), seconds=4, options=options)
    frames, last, error = read(path)
    assert error is None
    assert [(frame.index, round(frame.pts, 2)) for frame in frames] == [(k, k + 0.88) for k in range(4)]
    assert last.cause == "end of the file at 4.0 s"


def test_a_lone_segment_of_a_fragmented_mp4(plain: Path, tmp_path: Path) -> None:
    whole = remux(
        plain, tmp_path / "whole.mp4", muxer={"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    )
    assert indices(whole) == list(range(6))
    data = whole.read_bytes()
    starts = [at - 4 for at in range(len(data)) if data.startswith(b"moof", at)]
    assert len(starts) >= 6  # a keyframe a second
    segment = tmp_path / "segment.mp4"
    segment.write_bytes(data[: starts[0]] + data[starts[3] : starts[5]])
    frames, last, error = read(segment)
    assert error is None
    assert [(frame.index, round(frame.pts, 2)) for frame in frames] == [(0, 0.9), (1, 1.9)]
    assert last.cause == "end of the file at 2.0 s"
    segment.write_bytes(data[starts[3] : starts[5]])
    error = read(segment)[2]
    assert error is not None
    assert "without the first part that describes it" in str(error)


def test_transport_streams_joined_end_to_end(plain: Path, tmp_path: Path) -> None:
    data = remux(plain, tmp_path / "clip.ts").read_bytes()
    path = tmp_path / "both.ts"
    path.write_bytes(data + data)
    assert indices(path) == list(range(12))


def test_a_transport_stream_whose_video_pid_changes(plain: Path, tmp_path: Path) -> None:
    first = remux(plain, tmp_path / "first.ts", muxer={"mpegts_start_pid": "256"})
    second = remux(
        plain, tmp_path / "second.ts", offset_s=6, muxer={"mpegts_start_pid": "300", "tables_version": "1"}
    )
    path = tmp_path / "both.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    frames, last, error = read(path)
    assert error is None
    assert [frame.index for frame in frames] == list(range(12))
    assert last == StateChange("ended", "end of the file at 12.0 s")
    # The same frames twice: the second half has really been seen.
    for one, other in zip(frames[:6], frames[6:], strict=True):
        assert abs(one.image.astype(int) - other.image.astype(int)).mean() < 6


# ------------------------------------------------------------------------------ every started interval counts


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.flv", "clip.avi"])
@pytest.mark.parametrize(("seconds", "count"), [(0.6, 1), (1.0, 1), (2.1, 3), (4.0, 4), (4.5, 5)])
def test_a_timestep_for_every_started_interval(
    make_clip: Callable[..., Path], name: str, seconds: float, count: int
) -> None:
    assert indices(make_clip(name, size=SIZE, seconds=seconds)) == list(range(count))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.flv", "clip.avi", "clip.h264"])
def test_one_frame_a_second(make_clip: Callable[..., Path], name: str) -> None:
    frames, _, error = read(make_clip(name, fps=1, size=SIZE, seconds=5))
    assert error is None
    assert [frame.index for frame in frames] == list(range(5))
    assert round(frames[-1].pts, 2) == 4.0


def test_the_last_partial_interval_shows_the_last_frame(make_clip: Callable[..., Path]) -> None:
    path = make_clip("clip.mp4", size=SIZE, seconds=2.4)
    last, exact = read(path)[0][-1], read(path, fps=10.0)[0][-1]
    assert (last.index, round(last.pts, 2)) == (2, 2.3)
    assert (last.image == exact.image).all()
    assert last.image.flags.owndata or last.image.base.flags.owndata


def test_a_single_frame(make_clip: Callable[..., Path]) -> None:
    assert indices(make_clip("clip.mp4", size=SIZE, seconds=0.1)) == [0]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.flv"])
def test_a_frame_on_screen_is_watched_until_the_next(plain: Path, tmp_path: Path, name: str) -> None:
    """As screen recorders write: a frame only when something has changed."""
    times = [n / 10 for n in range(30)] + [8 + n / 10 for n in range(30)]
    frames, _, error = read(remux(plain, tmp_path / name, times=times, end_s=11.0))
    assert error is None
    assert [frame.index for frame in frames] == list(range(11))
    assert [round(frame.pts, 1) for frame in frames[2:8]] == [2.9, 2.9, 2.9, 2.9, 2.9, 8.0][:6]
    assert all((frame.image == frames[3].image).all() for frame in frames[4:7])
    frames[3].image[:] = 0
    assert frames[4].image.any(), "each frame belongs to its receiver"


def test_a_hole_of_minutes_is_no_still_frame_and_is_named(plain: Path, tmp_path: Path) -> None:
    times = [n / 10 for n in range(30)] + [600 + n / 10 for n in range(30)]
    frames, last, error = read(remux(plain, tmp_path / "clip.mkv", times=times, end_s=603.0))
    assert error is None
    assert [frame.index for frame in frames] == [0, 1, 2, 599, 600, 601, 602]
    assert "no frames between 2.9 s and 600.0 s" in last.cause


def test_images_in_sequence_keep_their_timesteps(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    from PIL import Image

    for number in range(25):
        Image.new("RGB", (64, 48), (10 * number, 0, 0)).save(tmp_path / f"{number}.png")
    assert indices(tmp_path) == list(range(25))
    options = CameraOptions(image_fps=10.0)
    with open_camera(str(tmp_path), fps=1.0, options=options) as camera:
        assert [item.index for item in camera if isinstance(item, Frame)] == [0, 1, 2]


# ------------------------------------------------------------------------------ sound files


@pytest.mark.parametrize("name", WITH_DURATION)
def test_a_long_last_frame_is_watched_to_its_end(
    plain: Path, plain_avi: Path, tmp_path: Path, name: str
) -> None:
    path = remux(
        plain_avi if name == "clip.avi" else plain,
        tmp_path / name,
        times=[n / 10 for n in range(60)],
        end_s=12.0,
    )
    frames, last, error = read(path)
    assert error is None
    assert [frame.index for frame in frames] == list(range(12))
    assert last == StateChange("ended", "end of the file at 12.0 s")
    assert all((frame.image == frames[-1].image).all() for frame in frames[6:])


def test_a_long_last_frame_beside_sound(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    """The header's length may be the sound's; an MP4 says how long each frame is."""
    clip = make_clip("clip.mp4", size=SIZE, seconds=3, sound_s=9, options={"bf": "0"})
    assert indices(clip) == [0, 1, 2]


def test_a_second_video_of_another_length(plain: Path, tmp_path: Path) -> None:
    """The first is watched; the other says nothing about it."""
    path = tmp_path / "two.mkv"
    with av.open(str(plain)) as clip, av.open(str(path), "w") as copy:
        stream = clip.streams.video[0]
        add = getattr(copy, "add_stream_from_template", None)
        both = [add(stream) if add is not None else copy.add_stream(template=stream) for _ in range(2)]
        packets = [packet for packet in clip.demux(stream) if packet.size]
        for packet in packets:
            copies = [(both[0], packet)] if packet.pts * stream.time_base < 2.95 else []
            for output, one in [*copies, (both[1], packet)]:
                one.stream = output
                copy.mux(one)
    assert indices(path) == [0, 1, 2]


@pytest.mark.parametrize("trailer", [b"SEFT\xa5\xa5\xa5\xa5trailer", b"\x00\x00\x7f\xfffree", bytes(64)])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov"])
def test_trailing_bytes(make_clip: Callable[..., Path], tmp_path: Path, name: str, trailer: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(make_clip(name, size=SIZE, seconds=3).read_bytes() + trailer)
    assert indices(path) == [0, 1, 2]


@pytest.mark.parametrize("tail", [0, 40])
def test_raw_h264(make_clip: Callable[..., Path], tmp_path: Path, tail: int) -> None:
    """Its length is only a guess, from a bit rate that changes."""
    path = tmp_path / "clip.h264"
    quiet = make_clip("still.h264", fps=25, size=SIZE, seconds=6, draw=_grey)
    path.write_bytes(make_clip("clip.h264", fps=25, size=SIZE, seconds=2).read_bytes() + quiet.read_bytes())
    assert indices(path) == list(range(8))


def _grey(_index: int, width: int, height: int) -> Any:
    import numpy as np

    return np.full((height, width, 3), 128, np.uint8)


@pytest.mark.parametrize("name", ["moving.gif", "moving.webp", "still.gif"])
def test_animated_images_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    from PIL import Image

    images = [Image.new("RGB", (64, 48), (40 * n, 0, 200)) for n in range(1 if "still" in name else 4)]
    images[0].save(tmp_path / name, save_all=True, append_images=images[1:], duration=500)
    error = read(tmp_path / name)[2]
    assert error is not None
    assert "which is not supported; convert it to MP4" in str(error)
    assert "damaged" not in str(error)


# ------------------------------------------------------------------------------ files that are not whole


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.flv", "clip.avi"])
@pytest.mark.parametrize("end_s", [6.0, 7.0])
def test_truncated(plain: Path, plain_avi: Path, tmp_path: Path, name: str, end_s: float) -> None:
    """Also with a last frame that would have stayed: it is not watched where it never came."""
    times = [n / 10 for n in range(60)]
    muxer = {"movflags": "faststart"} if name == "clip.mp4" else None
    data = remux(
        plain_avi if name == "clip.avi" else plain, tmp_path / name, times=times, end_s=end_s, muxer=muxer
    ).read_bytes()
    path = tmp_path / f"cut-{name}"
    path.write_bytes(data[: len(data) // 2])
    frames, last, error = read(path)
    assert error is not None
    assert "the file is truncated" in str(error) and "the file is truncated" in last.cause
    assert 2 <= len(frames) <= 5
    assert [frame.index for frame in frames] == list(range(len(frames)))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.flv", "clip.avi"])
@pytest.mark.parametrize("filling", ["zeros", "noise"])
def test_the_second_half_is_lost(
    plain: Path, plain_avi: Path, tmp_path: Path, name: str, filling: str
) -> None:
    muxer = {"movflags": "faststart"} if name == "clip.mp4" else None
    data = remux(plain_avi if name == "clip.avi" else plain, tmp_path / name, muxer=muxer).read_bytes()
    half, rest = data[: len(data) // 2], len(data) - len(data) // 2
    path = tmp_path / f"bad-{name}"
    path.write_bytes(half + (bytes(rest) if filling == "zeros" else random.Random(3).randbytes(rest)))
    frames, _, error = read(path)
    assert error is not None
    assert "damaged" in str(error) or "truncated" in str(error)
    assert frames and frames[-1].index < 5


def test_an_mp4_cut_where_its_size_is_left_open(plain: Path, tmp_path: Path) -> None:
    """A box of size 0 goes on to the end of the file, wherever that is: only the index knows what is lost."""
    data = bytearray(remux(plain, tmp_path / "clip.mp4", muxer={"movflags": "faststart"}).read_bytes())
    at = data.index(b"mdat")
    data[at - 4 : at] = bytes(4)
    path = tmp_path / "open.mp4"
    path.write_bytes(data)
    assert indices(path) == list(range(6))
    path.write_bytes(data[: len(data) // 2])
    frames, _, error = read(path)
    assert error is not None
    assert "of 6.0 s: the file is damaged" in str(error)
    assert len(frames) <= 4


def test_trailing_bytes_do_not_hide_a_cut(plain: Path, tmp_path: Path) -> None:
    data = remux(plain, tmp_path / "clip.mp4", muxer={"movflags": "faststart"}).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: len(data) // 2] + b"SEFT\xa5\xa5\xa5\xa5trailer")
    error = read(path)[2]
    assert error is not None
    assert "the file is truncated" in str(error)
