from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.sources.container import Structure, inspect

pytest.importorskip("av")


@pytest.mark.parametrize(
    ("name", "codec"),
    [("clip.mp4", "libx264"), ("clip.mkv", "libx264"), ("clip.mov", "libx264"), ("clip.avi", "mjpeg")],
)
def test_missing_bytes_are_counted(
    make_clip: Callable[..., Path], tmp_path: Path, name: str, codec: str
) -> None:
    whole = make_clip(name, codec=codec, size=(320, 180), seconds=1)
    assert replace(inspect(str(whole)), frames=0) == Structure()
    data = whole.read_bytes()
    cut = tmp_path / name
    cut.write_bytes(data[:-1])
    assert inspect(str(cut)).missing_bytes == 1
    cut.write_bytes(data[: len(data) // 2])
    if name.endswith("mov"):  # its index would have come at the end
        assert inspect(str(cut)).no_index
    else:
        assert inspect(str(cut)).missing_bytes == len(data) - len(data) // 2


def test_an_mp4_without_its_index(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "recording.mp4"
    data = make_clip("clip.mp4", size=(320, 180), seconds=1).read_bytes()
    path.write_bytes(data.replace(b"moov", b"free"))
    assert inspect(str(path)) == Structure(no_index=True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"\x1a\x45\xdf\xa3",
        b"\x1a\x45\xdf\xa3\x00\x00\x00\x00\x00",
        b"\x00\x00\x00\x00ftyp" + b"\x00" * 20,
        b"\x00\x00\x00\x02ftyp" + b"\x00" * 20,
        b"\x00\x00\x00\x01mdat",
        b"RIFF\xff\xff\xff\xffWAVE",
    ],
)
def test_nonsense_says_nothing(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(data)
    assert inspect(str(path)) == Structure()


def test_a_live_recording_of_unknown_length(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    data = bytearray(make_clip("clip.mkv", size=(320, 180), seconds=1).read_bytes())
    size = data.index(b"\x18\x53\x80\x67") + 4
    data[size : size + 8] = b"\x01" + b"\xff" * 7
    path = tmp_path / "live.mkv"
    path.write_bytes(data[: len(data) // 2])
    assert inspect(str(path)) == Structure()


def test_the_index_of_an_mp4_lists_its_frames(make_clip: Callable[..., Path]) -> None:
    assert inspect(str(make_clip("clip.mp4", size=(320, 180), seconds=1))).frames == 10
    assert inspect(str(make_clip("sound.mp4", size=(320, 180), seconds=1, sound_s=1))).frames == 10
    assert inspect(str(make_clip("sound.mp4", seconds=0, sound_s=1))).frames == 0


TRAILERS = [b"SEFT\xa5\xa5\xa5\xa5trailer", b"\x00\x00\x7f\xfffree", b"\x00\x10\x00\x00udta", bytes(40), b"x"]


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov"])
def test_bytes_behind_an_mp4_are_not_missing(
    make_clip: Callable[..., Path], tmp_path: Path, name: str, trailer: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(make_clip(name, size=(320, 180), seconds=1).read_bytes() + trailer)
    found = inspect(str(path))
    assert (found.missing_bytes, found.no_index, found.broken) == (0, False, False)


@pytest.mark.parametrize(
    ("name", "codec"), [("clip.mkv", "libx264"), ("clip.flv", "libx264"), ("clip.avi", "mjpeg")]
)
def test_zeros_in_place_of_the_video_are_seen(
    make_clip: Callable[..., Path], tmp_path: Path, name: str, codec: str
) -> None:
    data = make_clip(name, codec=codec, size=(320, 180), seconds=2).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    assert replace(inspect(str(path)), frames=0) == Structure(broken=True)
    path.write_bytes(data)
    assert replace(inspect(str(path)), frames=0) == Structure()


def test_a_cut_flv(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    data = make_clip("clip.flv", size=(320, 180), seconds=1).read_bytes()
    path = tmp_path / "clip.flv"
    path.write_bytes(data[: len(data) // 2])
    assert 0 < inspect(str(path)).missing_bytes < len(data) // 2
    path.write_bytes(data[:-4])  # some programs leave the last length out
    assert inspect(str(path)) == Structure()
