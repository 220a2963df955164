"""Choosing a decoder by proof. Hardware that this machine lacks is stood in for by elements made here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import SourceError
from pipelines.camera import Camera, CameraOptions, Frame, open_camera
from pipelines.gst import load
from pipelines.pipeline.decoding import decoders

pytest.importorskip("gi")
pytestmark = pytest.mark.gst


@pytest.fixture
def hardware() -> Iterator[Callable[[str, bool], None]]:
    """``hardware(name, works)`` installs an H.264 "hardware" decoder; it is put out of use afterwards."""
    Gst = load().Gst
    names: list[str] = []

    def install(name: str, works: bool) -> None:
        names.append(name)
        source = Gst.Caps.from_string("video/x-raw")
        accepted = Gst.Caps.from_string("video/x-h264, stream-format=byte-stream, alignment=au")

        class Hardware(Gst.Bin):
            __gtype_name__ = f"Test{name.title()}"
            __gstmetadata__ = (name, "Codec/Decoder/Video/Hardware", "stands in for a device", "tests")
            __gsttemplates__ = (
                Gst.PadTemplate.new("sink", Gst.PadDirection.SINK, Gst.PadPresence.ALWAYS, accepted),
                Gst.PadTemplate.new("src", Gst.PadDirection.SRC, Gst.PadPresence.ALWAYS, source),
            )

            def __init__(self) -> None:
                super().__init__()
                inner = Gst.ElementFactory.make("avdec_h264")
                self.add(inner)
                self.add_pad(
                    Gst.GhostPad.new_from_template(
                        "sink", inner.get_static_pad("sink"), self.__gsttemplates__[0]
                    )
                )
                output = inner.get_static_pad("src")
                self.add_pad(Gst.GhostPad.new_from_template("src", output, self.__gsttemplates__[1]))
                if not works:
                    output.add_probe(Gst.PadProbeType.BUFFER, lambda *_: Gst.PadProbeReturn.DROP)

        assert Gst.Element.register(None, name, 300, Hardware)

    yield install
    for name in names:
        Gst.ElementFactory.find(name).set_rank(0)
        decoders._original_ranks[name] = 0
        decoders._probed[name] = "gone"


def read(path: Path, **options: Any) -> tuple[Camera, int]:
    with open_camera(str(path), fps=1.0, options=CameraOptions(**options)) as camera:
        return camera, sum(isinstance(item, Frame) for item in camera)


def test_installed_decoders_are_proved() -> None:
    infos = decoders.list_decoders()
    assert infos
    for info in infos:
        assert info.works, f"{info.name}: {info.probe}"
        assert info.long_name and info.codecs
    assert {"h264", "h265", "jpeg"} >= {codec for info in infos for codec in info.codecs}


def test_listing_without_proof_is_quick() -> None:
    assert all(info.probe == "not tried" for info in decoders.list_decoders(probe=False))


def test_hardware_that_delivers_nothing_is_passed_over(
    hardware: Callable[[str, bool], None], make_clip: Callable[..., Path]
) -> None:
    hardware("brokenhwdec", False)
    camera, frames = read(make_clip("clip.mp4", seconds=2))
    assert (camera.decoder, frames) == ("avdec_h264", 2)
    info = next(info for info in decoders.list_decoders() if info.name == "brokenhwdec")
    assert info.hardware
    assert info.probe == "delivers no frame"


def test_hardware_that_works_is_preferred_unless_software_is_asked_for(
    hardware: Callable[[str, bool], None], make_clip: Callable[..., Path]
) -> None:
    hardware("workinghwdec", True)
    path = make_clip("clip.mp4", seconds=2)
    camera, frames = read(path)
    assert (camera.decoder, frames) == ("workinghwdec", 2)
    assert "decoder workinghwdec" in camera.description
    assert decoders.list_decoders()[0].name == "workinghwdec"
    camera, frames = read(path, decoder="software")
    assert (camera.decoder, frames) == ("avdec_h264", 2)


def test_an_unknown_decoder_is_refused_with_those_there_are(make_clip: Callable[..., Path]) -> None:
    with pytest.raises(
        SourceError, match=r"decoder nvh265000: not installed; use auto, software or one of .*avdec_h264"
    ):
        read(make_clip("clip.mp4", seconds=2), decoder="nvh265000")


def test_a_decoder_for_another_codec_says_so(make_clip: Callable[..., Path]) -> None:
    with pytest.raises(SourceError, match="decoder jpegdec cannot decode h264"):
        read(make_clip("clip.mp4", seconds=2), decoder="jpegdec")


def test_vendors_names_count_as_hardware() -> None:
    class Factory:
        def get_metadata(self, _key: str) -> str:
            return "Codec/Decoder/Video"

        def get_name(self) -> str:
            return "nvv4l2decoder"

    assert decoders.is_hardware(Factory())
    assert not decoders.is_hardware(load().Gst.ElementFactory.find("jpegdec"))


def test_a_frame_in_ordinary_memory_needs_no_download() -> None:
    Gst = load().Gst
    assert decoders.downloader_for(Gst.Caps.from_string("video/x-raw, format=I420")) is None
