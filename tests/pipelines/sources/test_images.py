"""Images from files: those that can be read are shown upright, the others are named, and none crashes."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime.errors import SourceError
from pipelines.camera import Frame, StateChange, open_camera
from pipelines.sources.file import FileSource
from pipelines.sources.images.reader import ImageError, read_image
from pipelines.sources.images.source import ImagesSource
from pipelines.sources.registry import parse_source
from tests.pipelines.reading import read

pytest.importorskip("gi")
pytestmark = pytest.mark.gst

GREEN = (40, 200, 80)


def watch(source: Path) -> tuple[list[Frame], list[StateChange], SourceError | None]:
    return read(source, size=(64, 64))


def green(ending: str, size: tuple[int, int] = (64, 64), **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, GREEN).save(file, {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending), **options)
    return file.getvalue()


def huge_png() -> bytes:
    """A file of some hundred bytes that says it has 60000 x 60000 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(99)))
        + chunk(b"IEND", b"")
    )


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty.jpg": (lambda path: path.touch(), "the file is empty"),
    "empty.png": (lambda path: path.touch(), "the file is empty"),
    "random.jpg": (lambda path: path.write_bytes(random.Random(1).randbytes(5000)), "it is no JPEG, PNG"),
    "header.jpg": (lambda path: path.write_bytes(green("jpg")[:20]), ""),
    "cut.jpg": (
        lambda path: path.write_bytes(noise("JPEG")[:2000]),
        "it is damaged (image file is truncated",
    ),
    "cut.png": (lambda path: path.write_bytes(noise("PNG")[:9000]), "it is damaged"),
    "spoiled.png": (lambda path: path.write_bytes(spoiled(noise("PNG"))), "it is damaged"),
    "huge.png": (lambda path: path.write_bytes(huge_png()), "it has more than"),
    "text.png": (lambda path: path.write_text("buy milk"), "it is no JPEG, PNG"),
    "page.jpg": (
        lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "it is no",
    ),
    "folder.jpg": (lambda path: path.mkdir(), "it is a folder"),
    "pipe.jpg": (lambda path: os.mkfifo(path), "it is not a regular file"),
    "gone.jpg": (lambda path: path.symlink_to("nowhere.jpg"), "there is no such file"),
    "loop.jpg": (lambda path: path.symlink_to("loop.jpg"), "it cannot be read (Too many levels"),
    "phone.heic": (lambda path: path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(99)), "it is no JPEG, PNG"),
}


def noise(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (90, 120, 3), np.uint8)).save(file, kind)
    return file.getvalue()


def spoiled(data: bytes) -> bytes:
    return data[:2000] + random.Random(2).randbytes(3000) + data[5000:]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_image_is_named_and_skipped(tmp_path: Path, name: str) -> None:
    """The others keep their timesteps."""
    make, reason = BROKEN[name]
    make(tmp_path / name)
    for other in ("a.jpg", "z.png"):
        (tmp_path / other).write_bytes(green(other[-3:]))
    frames, changes, error = watch(tmp_path)
    assert [frame.index for frame in frames] == [0, 2]
    told = f"{name} ({reason}"
    assert [change.state for change in changes] == ["connecting", "live", "live", "ended"]
    assert f"skipped {told}" in changes[2].cause
    assert f"skipped 1 of 3 images: {told}" in changes[3].cause
    assert error is not None and error.exit_code == 4 and told in str(error)


@pytest.mark.parametrize("name", sorted(set(BROKEN) - {"folder.jpg", "phone.heic"}))
def test_a_broken_image_alone_is_an_error(tmp_path: Path, name: str) -> None:
    BROKEN[name][0](tmp_path / name)
    frames, _, error = watch(tmp_path / name)
    assert not frames
    assert error is not None and error.exit_code == 4 and name in str(error)


def test_only_broken_images(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number}.jpg").touch()
    frames, changes, error = watch(tmp_path)
    assert not frames
    assert [change.state for change in changes] == ["connecting"] * 11 + ["failed"]
    assert "skipped 30 of 30 images: 0.jpg (the file is empty), 1.jpg" in str(error)
    assert "4.jpg (the file is empty) and 25 more" in str(error)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret.jpg").write_bytes(green("jpg"))
    (tmp_path / "secret.jpg").chmod(0)
    if os.access(tmp_path / "secret.jpg", os.R_OK):  # root reads everything
        denied = PermissionError(13, "Permission denied")
        monkeypatch.setattr("builtins.open", lambda *_: (_ for _ in ()).throw(denied))
    with pytest.raises(ImageError, match=r"it cannot be read \(Permission denied\)"):
        read_image(str(tmp_path / "secret.jpg"))


def test_one_image_is_one_timestep(tmp_path: Path) -> None:
    path = tmp_path / "shot.JPG"
    path.write_bytes(green("jpg"))
    frames, changes, error = watch(path)
    assert [frame.index for frame in frames] == [0]
    assert frames[0].image[32, 32].tolist() == pytest.approx(GREEN, abs=3)
    assert changes[-1] == StateChange("ended", "end of the images, 1 shown")
    assert error is None


def test_kinds_and_sizes_are_mixed_in_one_folder(tmp_path: Path) -> None:
    for number, ending in enumerate(("jpg", "png", "webp", "bmp", "tif", "png", "jpg", "jpeg")):
        (tmp_path / f"{number}.{ending}").write_bytes(green(ending, (300 - 40 * number, 60 + 10 * number)))
    frames, _, error = watch(tmp_path)
    assert error is None
    assert [frame.index for frame in frames] == list(range(8))
    for frame in frames:
        assert frame.image[32, 32].tolist() == pytest.approx(GREEN, abs=3)
    assert (
        frames[0].image[:20].max() < 12 and frames[-1].image[1:8].max() > 100
    )  # each letterboxed by its shape


def test_what_systems_leave_behind_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(green("jpg"))
    (tmp_path / "._a.jpg").write_bytes(b"\0\5\26\7Mac OS X")
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "notes.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(b"x")
    frames, _, error = watch(tmp_path)
    assert len(frames) == 1 and error is None


def test_the_ending_may_be_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(green("png"))
    (tmp_path / "b.png").write_bytes(green("jpg"))
    frames, _, error = watch(tmp_path)
    assert len(frames) == 2 and error is None


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(tmp_path: Path, orientation: int, ending: str) -> None:
    """Stored as a camera does in each orientation: seen upright, the left part is red and the top is dark."""
    upright = np.full((40, 60, 3), 60, np.uint8)
    upright[10:] = 180
    upright[10:, :20] = (255, 0, 0)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if ending in ("jpg", "webp") else {}
    path = tmp_path / f"a.{ending}"
    Image.fromarray(np.ascontiguousarray(stored[orientation])).save(path, exif=exif, **options)
    seen = np.asarray(read_image(str(path))).astype(int)
    assert seen.shape == upright.shape
    assert np.abs(seen - upright).mean() < 8


def test_damaged_exif_is_no_reason_to_lose_an_image(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    data = green("jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + random.Random(3).randbytes(200))
    (tmp_path / "a.jpg").write_bytes(data)
    assert read_image(str(tmp_path / "a.jpg")).size == (64, 64)
    assert not recwarn.list


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I"])
def test_every_kind_of_pixel(tmp_path: Path, mode: str) -> None:
    """Mid grey stays mid grey, whatever it is stored as."""
    name = "a.jpg" if mode == "CMYK" else "a.png"
    if mode in ("I;16", "I"):
        image = Image.fromarray(np.full((32, 32), 128 << 8, np.uint16))
    else:
        image = Image.new("RGB", (32, 32), (128, 128, 128)).convert(mode)
    image.save(tmp_path / name)
    pixels = np.asarray(read_image(str(tmp_path / name)))
    assert pixels.shape == (32, 32, 3)
    assert abs(pixels.mean() - 128) < (8 if mode == "1" else 3)


def test_sixteen_bits_of_colour(tmp_path: Path) -> None:
    raw = np.full((8, 8, 3), GREEN, np.uint16) << 8

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in raw)
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    (tmp_path / "a.png").write_bytes(data)
    assert np.asarray(read_image(str(tmp_path / "a.png")))[4, 4].tolist() == list(GREEN)


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_a_large_image_is_reduced_at_once(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_bytes(green(ending, (9000, 3000)))
    image = read_image(str(path))
    assert 2048 <= image.width <= 4096 and image.width / image.height == pytest.approx(3, abs=0.01)


@pytest.mark.slow
def test_no_bytes_crash(tmp_path: Path) -> None:
    """Files spoiled at random give an image or a reason."""
    chance = random.Random(5)
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF"):
        whole = noise(kind)
        for _ in range(200):
            data = bytearray(whole[: chance.randrange(1, len(whole))] if chance.random() < 0.3 else whole)
            for _ in range(chance.randrange(1, 20)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            (tmp_path / "a.jpg").write_bytes(data)
            try:
                assert read_image(str(tmp_path / "a.jpg")).mode == "RGB"
            except ImageError as error:
                assert str(error)


# ---------------------------------------------------------------------------------------------- names

NAMES = [
    "sale 20%down",
    "100%",
    "%d",
    "a*b",
    "what?",
    "[1]",
    "clip#1",
    "12:30",
    "test:ball",
    "ä ö",
    "-x",
    "a&b=c",
    "~",
]


@pytest.mark.parametrize("name", NAMES)
def test_what_exists_counts_before_what_its_name_may_stand_for(
    make_clip: Callable[..., Path], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clip = Path(f"{name}.mp4")
    clip.write_bytes(make_clip("clip.mp4", size=(160, 90), seconds=2).read_bytes())
    assert parse_source(str(clip)) == FileSource(str(clip))
    assert len(watch(clip)[0]) == 2
    folder = Path(name)
    folder.mkdir()
    (folder / f"{name}.jpg").write_bytes(green("jpg"))
    (folder / "1.jpg").write_bytes(green("jpg"))
    if name != "test:ball":  # a folder is never meant by the name of a test pattern
        assert parse_source(str(folder)) == ImagesSource(str(folder))
        assert len(watch(folder)[0]) == 2
    assert len(watch(folder.absolute() / f"{name}.jpg")[0]) == 1


def test_a_pattern_inside_a_folder_with_a_per_cent_sign(tmp_path: Path) -> None:
    folder = tmp_path / "100% %d"
    folder.mkdir()
    for number in (20260101, 20260102, 20260104):
        (folder / f"5% {number}.jpg").write_bytes(green("jpg"))
    frames, changes, error = watch(folder / "5% %d.jpg")
    assert len(frames) == 2 and error is None
    assert "not shown, as a number before is missing: 5% 20260104.jpg" in changes[-1].cause


def test_a_file_url_may_name_images(tmp_path: Path) -> None:
    (tmp_path / "a b.jpg").write_bytes(green("jpg"))
    assert parse_source((tmp_path / "a b.jpg").as_uri()) == ImagesSource(str(tmp_path / "a b.jpg"))
    assert parse_source(tmp_path.as_uri()) == ImagesSource(str(tmp_path))


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    Path(path).write_bytes(b"x")
    with pytest.raises(SourceError, match=r"caf\\udce9.mp4: the name is not UTF-8; rename it") as caught:
        open_camera(path, fps=1.0)
    str(caught.value).encode()
    Path(path).rename(tmp_path / "notes.txt")
    for name in (b"a\xe9.jpg", b"b\xe9.jpg"):  # inside a folder such names do no harm
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(
            green("jpg") if name[0] == 97 else b""
        )
    frames, _, error = watch(tmp_path)
    assert len(frames) == 1
    str(error).encode()
    assert r"b\udce9.jpg (the file is empty)" in str(error)
