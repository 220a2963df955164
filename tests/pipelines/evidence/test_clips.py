"""Clips of recorded videos: the right frames at the right times, as they came or encoded anew."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipelines.evidence import mp4
from pipelines.evidence.ring import Footage
from tests.pipelines.evidence.conftest import Recorder, draw_number, write

pytestmark = pytest.mark.gst
SIZE = (320, 240)
FPS = 10
LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
H265 = {"x265-params": "log-level=none:keyint=10:min-keyint=10:bframes=2"}


def number(stamp, image):
    return stamp.read(np.asarray(image), *SIZE)


@pytest.fixture
def clip_of(make_clip, stamp):
    draw = draw_number(stamp)

    def make(name="numbered.mp4", codec="libx264", seconds=8.0, **options):
        return make_clip(name, fps=FPS, size=SIZE, seconds=seconds, codec=codec, draw=draw, options=options)

    return make


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),
        ("a.ts", "libx264", {}),
        ("a.mkv", "libx264", {"bf": "0"}),
        ("a.mp4", "libx265", H265),
    ],
)
def test_a_clip_holds_the_coded_frames_as_they_came_at_the_right_times(
    recorder, clip_of, stamp, tmp_path, name, codec, options
):
    source = clip_of(name, codec, **options)
    (seen,) = recorder.watch(source, lambda frame: frame.index == 4)
    played = write(seen, tmp_path / "clip.mp4")
    decided = number(stamp, Image.open(io.BytesIO(seen.frame.moment.jpeg())))
    assert number(stamp, played.at(seen.clip.at_s)) == decided
    # It starts at the last key frame (one a second) that leaves a second before, and ends a second later.
    first, last = (number(stamp, played.frames[index]) for index in (0, -1))
    assert first % FPS == 0 and decided - 2 * FPS < first <= decided - FPS
    assert decided + FPS - 1 <= last <= decided + FPS + 3
    shown = [number(stamp, frame) for frame in played.frames]
    assert shown == list(range(first, last + 1))
    assert np.allclose(played.times, [(n - first) / FPS for n in shown], atol=0.002)
    if name != "a.ts":  # its units are not told apart by their lengths
        assert slices(played.packets, codec) <= slices(packets(source), codec), "it was encoded again"


def packets(path):
    import av

    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def slices(packets, codec):
    """The units of coded picture, without the parameter sets between them."""
    found = set()
    for packet in packets:
        while packet:
            size = int.from_bytes(packet[:4], "big")
            unit, packet = packet[4 : 4 + size], packet[4 + size :]
            if (unit[0] & 31 in (1, 5)) if codec == "libx264" else (unit[0] >> 1 & 63 < 32):
                found.add(unit)
    return found


@pytest.mark.parametrize(
    ("name", "codec", "options"), [("a.avi", "mjpeg", {}), ("a.webm", "libvpx", {"b": "2M", "g": "10"})]
)
def test_other_formats_are_encoded_as_h264(recorder, clip_of, stamp, tmp_path, name, codec, options):
    (seen,) = recorder.watch(clip_of(name, codec, **options), lambda frame: frame.index == 4)
    played = write(seen, tmp_path / "clip.mp4")
    assert played.codec == "h264"
    decided = number(stamp, Image.open(io.BytesIO(seen.frame.moment.jpeg())))
    assert abs(number(stamp, played.at(seen.clip.at_s)) - decided) <= 1
    assert played.times[-1] >= seen.clip.at_s + 0.8


@pytest.mark.parametrize("encoder", mp4.ENCODERS)
@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_a_mask_hides_its_part_of_snapshot_and_clip(
    recorder, make_clip, tmp_path, monkeypatch, encoder, codec
):
    monkeypatch.setattr(mp4, "ENCODERS", (encoder,))
    if not mp4.encoder():
        pytest.skip(f"{encoder} is not installed")
    white = make_clip(
        "white.avi" if codec == "mjpeg" else "white.mp4",
        codec=codec,
        size=SIZE,
        draw=lambda index, width, height: np.full((height, width, 3), 235, np.uint8),
    )
    from edge_runtime.video.framing import Framing

    framing = Framing(masks=(LEFT_HALF,))
    (seen,) = recorder.watch(white, lambda frame: frame.index == 2, framing=framing)
    snapshot = np.asarray(Image.open(io.BytesIO(seen.frame.moment.jpeg())))
    assert snapshot.shape == (240, 320, 3)
    for image in (snapshot, *write(seen, tmp_path / "clip.mp4").frames):
        assert image[:, :156].max() < 24 and image[:, 168:].min() > 200


def test_a_mask_that_comes_within_a_clip_hides_its_part_of_all_of_it(recorder, make_clip, tmp_path):
    white = make_clip(
        "white.mp4", size=SIZE, draw=lambda index, width, height: np.full((height, width, 3), 235, np.uint8)
    )

    def mask_at_first(camera, frame):
        camera.set_masks([LEFT_HALF] if frame.index < 2 else [])

    (seen,) = recorder.watch(white, lambda frame: frame.index == 2, on_frame=mask_at_first)
    assert LEFT_HALF in seen.clip.masks
    for image in write(seen, tmp_path / "clip.mp4").frames:
        assert image[:, :156].max() < 24 and image[:, 168:].min() > 200


def test_without_an_encoder_a_masked_clip_is_refused_in_words(recorder, clip_of, monkeypatch):
    from edge_runtime.video.framing import Framing

    monkeypatch.setattr(mp4, "ENCODERS", ())
    (seen,) = recorder.watch(clip_of(), lambda frame: frame.index == 2, framing=Framing(masks=(LEFT_HALF,)))
    assert seen.frame.moment.clip_problem() == mp4.NO_ENCODER


def test_overlapping_clips_share_their_video_and_are_both_right(recorder, clip_of, stamp, tmp_path):
    seen = recorder.watch(clip_of(), lambda frame: frame.index in (3, 4))
    for n, one in enumerate(seen):
        played = write(one, tmp_path / f"{n}.mp4")
        assert number(stamp, played.at(one.clip.at_s)) == round(one.frame.pts * FPS)
    first, second = ({id(unit) for unit in one.clip._recording.units()} for one in seen)
    assert first & second


def test_the_end_of_the_source_ends_a_clip(recorder, clip_of, stamp, tmp_path):
    recorder.post_s = 60.0
    (seen,) = recorder.watch(clip_of(), lambda frame: frame.index == 6)
    played = write(seen, tmp_path / "clip.mp4")
    assert number(stamp, played.frames[-1]) == 8 * FPS - 1


def test_a_rotated_camera_gives_upright_evidence(recorder, clip_of, tmp_path):
    from edge_runtime.video.framing import Framing

    (seen,) = recorder.watch(clip_of(), lambda frame: frame.index == 4, framing=Framing(rotate=90))
    assert Image.open(io.BytesIO(seen.frame.moment.jpeg())).size == (240, 320)
    write(seen, tmp_path / "clip.mp4")
    import subprocess

    command = ["ffprobe", "-v", "error", "-show_entries", "stream_side_data=rotation", "-of", "csv=p=0"]
    found = subprocess.run([*command, str(tmp_path / "clip.mp4")], capture_output=True, text=True, timeout=60)
    assert found.stdout.strip() in ("-90", "270")


def test_evidence_changes_no_frame_and_without_it_there_is_none(clip_of):
    from pipelines.camera import Frame, open_camera

    def frames(options):
        with open_camera(str(clip_of()), options=options) as camera:
            return [item for item in camera if isinstance(item, Frame)]

    without, kept = frames(None), frames(Recorder(footage=Footage()).options())
    assert all(frame.moment is None for frame in without)
    assert all(frame.moment is not None for frame in kept)
    assert [frame.pts for frame in without] == [frame.pts for frame in kept]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(without, kept, strict=True))


def test_nothing_of_a_closed_camera_stays(recorder, clip_of):
    import gc

    from pipelines.evidence.ring import Ring
    from pipelines.evidence.tap import EvidenceTap
    from pipelines.pipeline.connection import Connection

    def alive():
        return sum(isinstance(found, (Connection, EvidenceTap, Ring)) for found in gc.get_objects())

    gc.collect()
    before = alive()
    gc.disable()
    try:
        recorder.watch(clip_of(), lambda frame: frame.index == 4)
        assert alive() == before
    finally:
        gc.enable()
