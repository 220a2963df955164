from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.container import Structure, inspect

pytest.importorskip("av")


@pytest.mark.parametrize(
    ("name", "codec"),
    [("clip.mp4", "libx264"), ("clip.mkv", "libx264"), ("clip.mov", "libx264"), ("clip.avi", "mjpeg")],
)
def test_missing_bytes_are_counted(
    make_clip: Callable[..., Path], tmp_path: Path, name: str, codec: str
) -> None:
    whole = make_clip(name, codec=codec, size=(320, 180), seconds=1)
    assert inspect(str(whole)) == Structure()
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
