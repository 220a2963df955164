"""Images in sequence, SRT, CSI and the choice of a camera's format."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edge_runtime.errors import SourceError
from pipelines.camera import CameraOptions, Frame, open_camera
from pipelines.gst import load
from pipelines.sources.base import ElementContext
from pipelines.sources.csi import CsiSource
from pipelines.sources.images.source import ImagesSource
from pipelines.sources.registry import parse_source
from pipelines.sources.srt import SrtSource
from pipelines.sources.v4l2 import formats
from tests.pipelines.reading import read

pytest.importorskip("gi")
pytestmark = pytest.mark.gst


def save(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        Image.new("RGB", (64, 48), (20 * number + 20,) * 3).save(folder / name)


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_a_folder_of_images(tmp_path: Path, ending: str) -> None:
    """In the order of their numbers; each one is a timestep."""
    save(tmp_path, [f"shot{number}.{ending}" for number in (8, 9, 10, 11)])
    (tmp_path / "notes.txt").write_text("not an image")
    frames = read(tmp_path)[0]
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    shades = [int(frame.image[112, 112, 0]) for frame in frames]
    assert shades == pytest.approx([20, 40, 60, 80], abs=3)


def test_images_by_number_and_their_rate(tmp_path: Path) -> None:
    save(tmp_path, [f"a{number:03d}.png" for number in range(5, 15)])
    save(tmp_path, ["a099.png"])  # behind a gap: not of the sequence
    assert len(parse_source(str(tmp_path / "a%03d.png")).files) == 10
    frames = read(tmp_path / "a%03d.png", options=CameraOptions(image_fps=5.0))[0]
    assert [frame.index for frame in frames] == [0, 1]
    assert len(read(tmp_path / "a%03d.png", fps=2.0)[0]) == 10


def test_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there are no images"):
        open_camera(str(tmp_path), fps=1.0)
    assert isinstance(parse_source(str(tmp_path)), ImagesSource)


@pytest.fixture
def srt() -> Iterator[Callable[..., None]]:
    """Senders that listen on a port, each a process of its own."""
    launch = shutil.which("gst-launch-1.0")
    if launch is None or load().Gst.ElementFactory.find("srtsrc") is None:
        pytest.skip("needs gstreamer1.0-tools and srtsrc of gstreamer1.0-plugins-bad")
    running: list[subprocess.Popen[bytes]] = []

    def start(port: int, passphrase: str = "") -> None:
        command = (
            "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=10/1 ! "
            "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 threads=1 ! mpegtsmux ! "
            f"srtsink uri=srt://127.0.0.1:{port}?mode=listener wait-for-connection=false"
        )
        secret = [f"passphrase={passphrase}"] if passphrase else []
        running.append(subprocess.Popen([launch, "-q", *command.split(), *secret], stderr=subprocess.DEVNULL))

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.parametrize("passphrase", ["", "a-long-passphrase"])
def test_srt(srt: Callable[..., Any], free_port: int, passphrase: str) -> None:
    srt(free_port, passphrase)
    url = f"srt://127.0.0.1:{free_port}" + (f"?passphrase={passphrase}" if passphrase else "")
    with open_camera(url, fps=5.0) as camera:
        got = []
        for item in camera:
            if isinstance(item, Frame):
                got.append(item)
                if len(got) == 4:
                    break
        assert camera.description.startswith(f"srt srt://127.0.0.1:{free_port}, h264 320x240")
    assert got[0].image.std() > 10


def test_srt_urls() -> None:
    source = parse_source("srt://sender:7001?passphrase=opensesame77&latency=200&streamid=cam-one")
    assert isinstance(source, SrtSource)
    assert (source.host, source.port, source.location) == ("sender", 7001, "srt://sender:7001")
    assert ("passphrase", "opensesame77") in source.settings
    assert "opensesame77" not in repr(source) + source.label
    assert parse_source("srt://:7001?mode=listener").label == "srt://:7001"
    for text, words in (
        ("srt://sender", "host or port is missing"),
        ("srt://:7001", "host or port is missing"),
        ("srt://sender:7001?passprase=xyz", "passprase is no setting of srt://"),
        ("srt://sender:7001?mode=rendez", "choose caller or listener"),
    ):
        with pytest.raises(SourceError, match=words):
            parse_source(text)


@pytest.fixture
def jetson() -> Iterator[Callable[[], None]]:
    """Elements by the names of a Jetson's; they take the same properties. Put out of use afterwards."""
    Gst = load().Gst
    from gi.repository import GObject

    names: list[str] = []

    def install() -> None:
        def bin_of(name: str, inner_name: str, has_sink: bool) -> type:
            caps = Gst.Caps.from_string("video/x-raw(ANY); video/x-raw")
            source = Gst.PadTemplate.new("src", Gst.PadDirection.SRC, Gst.PadPresence.ALWAYS, caps)
            sink = Gst.PadTemplate.new("sink", Gst.PadDirection.SINK, Gst.PadPresence.ALWAYS, caps)

            class Made(Gst.Bin):
                __gtype_name__ = f"Test{name.title()}"
                __gstmetadata__ = (name, "Source/Video", "stands in for a device", "tests")
                __gsttemplates__ = (source, sink) if has_sink else (source,)
                sensor_id = GObject.Property(type=int, default=-1)

                def __init__(self) -> None:
                    super().__init__()
                    inner = Gst.ElementFactory.make(inner_name)
                    self.add(inner)
                    self.add_pad(Gst.GhostPad.new_from_template("src", inner.get_static_pad("src"), source))
                    if has_sink:
                        self.add_pad(
                            Gst.GhostPad.new_from_template("sink", inner.get_static_pad("sink"), sink)
                        )

            return Made

        for name, inner, has_sink in (
            ("nvarguscamerasrc", "videotestsrc", False),
            ("nvvidconv", "videoconvert", True),
        ):
            assert Gst.Element.register(None, name, 0, bin_of(name, inner, has_sink))
            names.append(name)

    yield install
    registry = Gst.Registry.get()
    for name in names:
        registry.remove_feature(registry.lookup_feature(name))


def test_csi_by_construction(jetson: Callable[[], None]) -> None:
    """No such camera here: that the right elements are made, in order, with the right caps and number."""
    nothing = ElementContext(None, CameraOptions(), 1.0, *[lambda *_: None] * 3)
    if load().Gst.ElementFactory.find("nvarguscamerasrc") is None:
        with pytest.raises(SourceError, match="nvidia-l4t-gstreamer"):
            CsiSource(0).make_elements(nothing)
        jetson()
    elements = CsiSource(1).make_elements(nothing)
    factories = [element.get_factory().get_name() for element in elements]
    assert factories == ["nvarguscamerasrc", "capsfilter", "nvvidconv", "capsfilter"]
    assert elements[0].get_property("sensor-id") == 1
    assert "memory:NVMM" in elements[1].get_property("caps").to_string()
    assert "memory" not in elements[3].get_property("caps").to_string()
    assert parse_source("csi://1") == CsiSource(1)
    assert parse_source("csi://") == CsiSource(0)


@pytest.mark.parametrize(
    ("caps", "chosen"),
    [
        (  # raw is slow at full size, fast at 640x480
            "video/x-raw,format=YUY2,width=1920,height=1080,framerate=5/1;"
            "video/x-raw,format=YUY2,width=640,height=480,framerate={30/1,15/1};"
            "image/jpeg,width=1920,height=1080,framerate=30/1",
            ("video/x-raw", 640, 480, 30.0),
        ),
        (  # raw is too slow at every useful size: MJPEG
            "video/x-raw,format=YUY2,width=1280,height=720,framerate=5/1;"
            "video/x-raw,format=YUY2,width=320,height=240,framerate=30/1;"
            "image/jpeg,width=1280,height=720,framerate=30/1;image/jpeg,width=1920,height=1080,framerate=30/1",
            ("image/jpeg", 1280, 720, 30.0),
        ),
        ("video/x-h264,width=1920,height=1080,framerate=25/1", ("video/x-h264", 1920, 1080, 25.0)),
        ("video/x-raw,width=160,height=120,framerate=9/1", ("video/x-raw", 160, 120, 9.0)),
        (
            "video/x-raw,width=[16,4096],height=[16,4096],framerate=[0/1,60/1]",
            ("video/x-raw", 640, 480, 60.0),
        ),
        ("audio/x-raw,rate=48000", None),
    ],
)
def test_the_format_asked_of_a_camera(caps: str, chosen: tuple[object, ...] | None) -> None:
    made = load().Gst.Caps.from_string(caps)
    offer = formats.choose(formats.offers(made))
    assert offer == (None if chosen is None else formats.Offer(*chosen))
    if offer is not None:
        asked = load().Gst.Caps.from_string(formats.filter_for(offer))
        assert not made.intersect(asked).is_empty()


def test_states_of_an_image_sequence(tmp_path: Path) -> None:
    save(tmp_path, ["1.png", "2.png"])
    _, changes, error = read(tmp_path)
    assert [change.state for change in changes] == ["connecting", "live", "ended"] and error is None


def test_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    save(tmp_path, ["0.png", "1.png"])
    (tmp_path / "2.png").mkdir()
    _, changes, error = read(tmp_path)
    assert changes[-1].state == "ended" and error is not None
