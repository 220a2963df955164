"""Video files through GStreamer: the right frames, upright, whole; and every bad file with its reason."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import SourceError
from edge_runtime.video.sampling import TimestepSampler
from pipelines.camera import CameraOptions, Frame, StateChange, open_camera
from tests.pipelines import reading

pytest.importorskip("gi")
pytestmark = pytest.mark.gst


def read(path: Path | str, fps: float = 1.0, **options: object) -> tuple[list[Frame], list[StateChange]]:
    frames, changes, error = reading.read(path, fps, **options)
    assert error is None
    return frames, changes


def read_until_error(path: Path | str) -> tuple[list[Frame], list[StateChange], SourceError]:
    frames, changes, error = reading.read(path)
    assert error is not None and str(path) in str(error)
    return frames, changes, error


def read_with_pyav(path: Path, fps: float) -> list[tuple[float, int, np.ndarray]]:
    """(pts, timestep, letterboxed frame) of the chosen frames, by another decoder and scaler."""
    import av
    from PIL import Image

    sampler, chosen = TimestepSampler(fps), []
    with av.open(str(path)) as clip:
        for frame in clip.decode(video=0):
            pts = float(frame.pts * frame.time_base)
            if (index := sampler.take(pts)) is None:
                continue
            image = Image.fromarray(frame.to_ndarray(format="rgb24"))
            scale = min(224 / image.width, 224 / image.height)
            size = (round(image.width * scale), round(image.height * scale))
            inner = image.resize(size, Image.BILINEAR)
            canvas = Image.new("RGB", (224, 224))
            canvas.paste(inner, ((224 - inner.width) // 2, (224 - inner.height) // 2))
            chosen.append((pts, index, np.asarray(canvas)))
    return chosen


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
@pytest.mark.parametrize(
    ("fps", "size"), [(10, (640, 360)), (30, (640, 360)), (10, (224, 224)), (10, (180, 320))]
)
def test_frames_equal_those_chosen_through_pyav(
    make_clip: Callable[..., Path], name: str, fps: int, size: tuple[int, int]
) -> None:
    path = make_clip(name, fps=fps, size=size, seconds=4)
    expected = read_with_pyav(path, 1.0)
    frames, changes = read(path)
    assert [(round(f.pts, 3), f.index) for f in frames] == [
        (round(pts, 3), index) for pts, index, _ in expected
    ]
    assert [f.index for f in frames] == [0, 1, 2, 3]
    for frame, (_, _, image) in zip(frames, expected, strict=True):
        difference = np.abs(frame.image.astype(int) - image.astype(int))
        assert difference.mean() < 2.0
        assert np.percentile(difference, 99) < 12
    assert [c.state for c in changes] == ["connecting", "live", "ended"]


@pytest.mark.parametrize("fps", [0.5, 2.0, 4.0])
def test_other_timestep_rates(make_clip: Callable[..., Path], fps: float) -> None:
    path = make_clip("clip.mp4", fps=10, seconds=4)
    expected = [(round(pts, 3), index) for pts, index, _ in read_with_pyav(path, fps)]
    if len(expected) < 4 * fps:  # no frame closes the last interval
        expected.append((3.9, len(expected)))
    assert [(round(f.pts, 3), f.index) for f in read(path, fps)[0]] == expected
    assert len(expected) == 4 * fps


@pytest.mark.parametrize(
    ("name", "codec"),
    [("clip.avi", "mjpeg"), ("clip.ts", "libx264"), ("clip.webm", "libvpx"), ("clip.mov", "libx264")],
)
def test_other_containers_and_codecs(make_clip: Callable[..., Path], name: str, codec: str) -> None:
    options = {"deadline": "realtime", "cpu-used": "8"} if codec == "libvpx" else None
    frames, changes = read(make_clip(name, codec=codec, size=(160, 90), seconds=3, options=options))
    assert [f.index for f in frames] == [0, 1, 2]
    assert changes[-1].state == "ended"


def test_frames_are_owned_writable_and_letterboxed(make_clip: Callable[..., Path]) -> None:
    frames, _ = read(make_clip("clip.mp4", seconds=4))
    copies = [f.image.copy() for f in frames]
    for frame, copy in zip(frames, copies, strict=True):
        assert frame.image.shape == (224, 224, 3) and frame.image.dtype == np.uint8
        assert frame.image.flags.owndata or frame.image.base.flags.owndata
        assert np.array_equal(frame.image, copy)
        assert frame.image[:48].max() < 12 and frame.image[-48:].max() < 12
        assert frame.image[52:-52].mean() > 60


def test_another_size(make_clip: Callable[..., Path]) -> None:
    frames, _ = read(make_clip("clip.mp4", seconds=4), size=(223, 125))
    assert frames[0].image.shape == (125, 223, 3)
    assert frames[0].image[62, 200, 0] > 200  # the slope to the right is red: rows are not sheared


def test_the_description_names_file_codec_and_decoder(make_clip: Callable[..., Path]) -> None:
    path = make_clip("clip.mp4", seconds=4)
    with open_camera(str(path), fps=1.0) as camera:
        assert camera.description.startswith(f"file {path}")
        list(camera)
        assert camera.decoder
        assert camera.description == f"file {path}, h264 640x360, decoder {camera.decoder}"
        assert (camera.dropped, camera.decoded) == (0, 40)


@pytest.mark.parametrize("name", ["openh264dec", "avdec_h264"])
def test_a_decoder_can_be_asked_for(make_clip: Callable[..., Path], name: str) -> None:
    from pipelines.gst import load

    if load().Gst.ElementFactory.find(name) is None:
        pytest.skip(f"{name} is not installed")
    path = make_clip("baseline.mp4", seconds=2, options={"bf": "0", "profile": "baseline"})
    with open_camera(str(path), fps=1.0, options=CameraOptions(decoder=name)) as camera:
        assert sum(isinstance(item, Frame) for item in camera) == 2
        assert camera.decoder == name


def test_a_slow_consumer_gets_every_frame_of_a_file(make_clip: Callable[..., Path]) -> None:
    import time

    got = []
    with open_camera(str(make_clip("clip.mp4", seconds=4)), fps=5.0) as camera:
        for item in camera:
            if isinstance(item, Frame):
                got.append(item.index)
                time.sleep(0.02)
        assert camera.dropped == 0
    assert got == list(range(20))


def test_a_change_of_resolution_in_mid_stream_goes_on(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    first = make_clip("a.h264", size=(320, 240), seconds=2)
    second = make_clip("b.h264", size=(640, 360), seconds=2)
    both = tmp_path / "both.h264"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    frames, changes = read(both, fps=5.0)
    assert changes[-1].state == "ended"
    borders = [int((f.image.reshape(224, -1).max(1) < 12).sum()) for f in frames]
    assert set(borders) == {56, 98}  # rows of the 4:3 and of the 16:9 letterbox
    assert borders == sorted(borders)


def test_a_phone_video_is_turned_upright(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    plain = make_clip("clip.mp4", seconds=4)
    data = bytearray(plain.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    quarter = [0, 65536, 0, -65536, 0, 0, 360 * 65536, 0, 1 << 30]
    data[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in quarter)
    turned = tmp_path / "phone.mp4"
    turned.write_bytes(data)
    upright, as_stored = read(turned)[0][0].image, read(plain)[0][0].image
    expected = np.rot90(as_stored, -1)
    assert np.abs(upright.astype(int) - expected.astype(int)).mean() < 2


def test_sound_that_lasts_longer_than_the_video_is_no_damage(make_clip: Callable[..., Path]) -> None:
    frames, changes = read(make_clip("clip.mp4", seconds=2, sound_s=6))
    assert len(frames) == 2
    assert changes[-1] == StateChange("ended", "end of the file at 2.0 s")


def test_at_the_end_of_the_iteration_nothing_runs_any_more(make_clip: Callable[..., Path]) -> None:
    """A program that ended without closing its camera crashed in one of ten runs."""
    import threading

    for frame in open_camera(str(make_clip("clip.mp4", seconds=4)), fps=1.0):
        assert frame
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("camera")]


def test_close_in_the_middle_ends_the_iteration(make_clip: Callable[..., Path]) -> None:
    camera = open_camera(str(make_clip("clip.mp4", seconds=4)), fps=5.0)
    next(camera)
    camera.close()
    camera.close()
    assert list(camera) == []


# ---------------------------------------------------------------------------------------------- bad files


def test_no_such_file(tmp_path: Path) -> None:
    error = read_until_error(tmp_path / "none.mp4")[2]
    assert "no such file" in str(error)
    assert "no such folder" in str(read_until_error(tmp_path / "none" / "none.mp4")[2])


def test_folder_and_empty_file(tmp_path: Path) -> None:
    assert "there are no images (.jpg, " in str(read_until_error(tmp_path)[2])
    (tmp_path / "empty.mp4").touch()
    assert "0 bytes" in str(read_until_error(tmp_path / "empty.mp4")[2])


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    path = tmp_path / "secret.mp4"
    path.write_bytes(b"x")
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything
        monkeypatch.setattr(os, "access", lambda *_: False)
    assert "no permission" in str(read_until_error(path)[2])


HLS = b"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("random.mp4", random.Random(1).randbytes(60_000), "not a video file"),
        ("notes.mp4", b"buy milk\n" * 100, "not a video file"),
        ("list.m3u8", HLS, "list of links"),
        (
            "cam.sdp",
            b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nm=video 5004 RTP/AVP 96\r\n",
            "list of links",
        ),
    ],
)
def test_not_a_video(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    _, changes, error = read_until_error(tmp_path / name)
    assert words in str(error)
    assert error.permanent
    assert changes[-1].state == "failed"


def test_sound_only(make_clip: Callable[..., Path]) -> None:
    error = read_until_error(make_clip("sound.mp4", seconds=0, sound_s=2))[2]
    assert "no video in it" in str(error)


def test_mp4_without_index(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(make_clip("clip.mp4", seconds=4).read_bytes().replace(b"moov", b"free"))
    assert "without its index (moov)" in str(read_until_error(path)[2])


@pytest.mark.parametrize("attempt", range(3))
def test_mp4_cut_inside_its_index(make_clip: Callable[..., Path], tmp_path: Path, attempt: int) -> None:
    """decodebin sometimes swallows this error: it must be found out nevertheless, and soon."""
    data = make_clip("clip.mp4", seconds=4).read_bytes()
    path = tmp_path / f"cut{attempt}.mp4"
    path.write_bytes(data[: data.index(b"moov") + 40])
    assert "truncated" in str(read_until_error(path)[2])


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_truncated(make_clip: Callable[..., Path], tmp_path: Path, name: str) -> None:
    data = make_clip(name, seconds=8).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: len(data) // 2])
    frames, changes, error = read_until_error(path)
    assert 3 <= len(frames) <= 5
    assert [f.index for f in frames] == list(range(len(frames)))
    assert "of 8.0 s: the file is truncated" in str(error)
    assert changes[-1].state == "ended"
    assert "truncated" in changes[-1].cause


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_zeros_to_the_end(make_clip: Callable[..., Path], tmp_path: Path, name: str) -> None:
    data = make_clip(name, seconds=8).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    frames, _, error = read_until_error(path)
    assert 3 <= len(frames) <= 5
    assert "of 8.0 s: the file is damaged" in str(error)


def test_a_damaged_middle_is_reported_and_the_rest_is_read(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    data = bytearray(make_clip("clip.mp4", seconds=8).read_bytes())
    start, end = int(len(data) * 0.4), int(len(data) * 0.7)
    data[start:end] = random.Random(2).randbytes(end - start)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    frames, changes = read(path)
    assert frames[0].index == 0 and frames[-1].index == 7
    assert "no frames between" in changes[-1].cause


def test_a_missing_decoder_names_codec_and_package(make_clip: Callable[..., Path]) -> None:
    path = make_clip("clip.mp4", seconds=4)
    program = (
        "import sys\n"
        "from edge_runtime.errors import SourceError\n"
        "from pipelines.camera import open_camera\n"
        "try:\n"
        "    list(open_camera(sys.argv[1], fps=1.0))\n"
        "except SourceError as error:\n"
        "    print(error)\n"
    )
    environment = {"GST_PLUGIN_FEATURE_RANK": "avdec_h264:NONE,openh264dec:NONE", "PATH": "/usr/bin:/bin"}
    result = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[3],
        timeout=60,
        check=True,
    )
    assert "no decoder for H.264" in result.stdout
    assert "gstreamer1.0-libav" in result.stdout
