"""Real video through a camera that compares frames: what stands still is not converted, what moves is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.video.framing import Framing
from pipelines.camera import Camera, CameraOptions, Frame, open_camera
from pipelines.evidence.ring import Footage
from pipelines.gst import load

pytest.importorskip("gi")
pytestmark = pytest.mark.gst

WIDTH, HEIGHT, SECONDS, FPS = 640, 480, 12, 5
COMPARE = CameraOptions(compare=True)


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """A textured background, float [H, W, 3]."""
    rng = np.random.default_rng(1)
    coarse = rng.uniform(60, 180, (HEIGHT // 16, WIDTH // 16, 3))
    return coarse.repeat(16, 0).repeat(16, 1) + rng.normal(0, 8, (HEIGHT, WIDTH, 1))


def write(path: Path, draw: Callable[[int], np.ndarray], codec: str = "libx264", noise: float = 3.0) -> Path:
    """``draw(frame)`` with the noise of a sensor, as a camera encodes it."""
    import av

    rng = np.random.default_rng(2)
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast", "crf": "24", "tune": "zerolatency", "g": "20"}
        stream = container.add_stream(codec, rate=FPS, options=options if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        if codec == "mjpeg":
            stream.pix_fmt = "yuvj420p"
            stream.options = {"q": "3"}
        for index in range(SECONDS * FPS):
            seen = np.clip(draw(index) + rng.normal(0, noise, (HEIGHT, WIDTH, 1)), 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(seen, "rgb24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read(path: Path, options: CameraOptions = COMPARE) -> list[Frame]:
    with open_camera(str(path), fps=1.0, options=options) as camera:
        return [item for item in camera if isinstance(item, Frame)]


def news(frames: list[Frame]) -> str:
    """A letter per timestep: n for an image of its own, . for that of the one before."""
    pairs = zip(frames, [None, *frames], strict=False)
    return "".join("." if before is not None and one.image is before.image else "n" for one, before in pairs)


@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_a_still_scene_is_converted_once(tmp_path: Path, scene: np.ndarray, codec: str) -> None:
    path = write(tmp_path / "still.mkv", lambda _: scene, codec)
    frames = read(path)
    assert news(frames) == "n" + "." * (SECONDS - 1)
    assert [frame.index for frame in frames] == list(range(SECONDS))
    plain = read(path, CameraOptions())
    assert news(plain) == "n" * SECONDS
    np.testing.assert_array_equal(plain[0].image, frames[0].image)


def test_a_small_object_that_enters_is_new_at_each_step(tmp_path: Path, scene: np.ndarray) -> None:
    """12 pixels square, from the sixth second on, four pixels a frame."""

    def draw(index: int) -> np.ndarray:
        seen = scene.copy()
        if index >= 5 * FPS:
            left = 4 * (index - 5 * FPS)
            seen[200:212, max(0, left - 12) : left] += (30, -30, 30)
        return seen

    frames = read(write(tmp_path / "small.mkv", draw))
    assert news(frames)[:5] == "n...."
    assert news(frames)[6:] == "n" * (SECONDS - 6)


def test_what_a_mask_hides_or_a_crop_leaves_out_does_not_count(tmp_path: Path, scene: np.ndarray) -> None:
    """Such as the clock that a camera writes into its frames."""

    def draw(index: int) -> np.ndarray:
        seen = scene.copy()
        seen[8:40, 8:200] = 255 * ((index // FPS) % 2)
        return seen

    path = write(tmp_path / "clock.mkv", draw)
    corner = ((0.0, 0.0), (0.35, 0.0), (0.35, 0.1), (0.0, 0.1))
    still = "n" + "." * (SECONDS - 1)
    assert news(read(path)).count("n") >= SECONDS - 1  # the last frame may be shown once more
    assert news(read(path, CameraOptions(compare=True, framing=Framing(masks=(corner,))))) == still
    assert news(read(path, CameraOptions(compare=True, framing=Framing(crop=(0.4, 0.2, 0.5, 0.5))))) == still
    other = Framing(crop=(0.0, 0.0, 0.5, 0.5))
    assert news(read(path, CameraOptions(compare=True, framing=other))).count("n") >= SECONDS - 1


def test_new_masks_make_a_new_image(tmp_path: Path, scene: np.ndarray) -> None:
    path = write(tmp_path / "still.mkv", lambda _: scene)
    everything = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    frames: list[Frame] = []
    with open_camera(str(path), fps=1.0, options=COMPARE) as camera:
        for item in camera:
            if isinstance(item, Frame):
                frames.append(item)
                if len(frames) == 1:
                    camera.set_masks((everything,))
    assert frames[0].image.max() > 100
    assert news(frames).count("n") == 2
    assert frames[-1].image.max() == 0


def test_evidence_of_a_still_frame_is_the_picture_of_the_one_before(
    tmp_path: Path, scene: np.ndarray
) -> None:
    path = write(tmp_path / "still.mkv", lambda _: scene)
    footage = Footage(picture=True, clip=False)
    frames = read(path, CameraOptions(compare=True, evidence=footage))
    assert news(frames) == "n" + "." * (SECONDS - 1)
    assert all(frame.moment.has_picture for frame in frames)
    assert frames[-1].moment.jpeg() == frames[0].moment.jpeg()


def test_a_run_says_what_it_left_out(tmp_path: Path, scene: np.ndarray, tiny_bundle: Path) -> None:
    path = write(tmp_path / "still.mkv", lambda _: scene)
    command = [sys.executable, "-m", "edge_runtime", "run", str(path), "--bundle", str(tiny_bundle)]
    asked = ["--ask", "What does the person do?", "--threshold", "1", "--still-skip", "60"]
    done = subprocess.run([*command, *asked, "--json"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    stats = json.loads(done.stdout.splitlines()[-1])
    summary = json.loads(done.stderr.splitlines()[-1])
    for told in (stats, summary):
        assert (told["timesteps"], told["still"], told["skipped"]) == (4, SECONDS - 4, 0)


@pytest.mark.parametrize("format", ["I420", "NV12", "YUY2", "UYVY", "BGRx", "RGB", "GRAY8", "Y444"])
def test_components_of_formats(format: str) -> None:
    """A block of red on grey is found where it is, in one component at least; rows may be padded."""
    from pipelines.pipeline.frames import mapped
    from pipelines.pipeline.still_frames import comparable, planes

    modules = load()
    Gst = modules.Gst
    pipeline = Gst.parse_launch(
        "appsrc name=in format=time ! videoconvert ! "
        f"video/x-raw,format={format},width=90,height=60 ! appsink name=out"
    )
    image = np.full((60, 90, 3), 100, np.uint8)
    image[20:40, 30:60] = (220, 40, 40)
    source, sink = pipeline.get_by_name("in"), pipeline.get_by_name("out")
    source.set_property(
        "caps", Gst.Caps.from_string("video/x-raw,format=RGB,width=90,height=60,framerate=1/1")
    )
    pipeline.set_state(Gst.State.PLAYING)
    try:
        padded = np.zeros((60, 272), np.uint8)  # rows of 272 bytes
        padded[:, :270] = image.reshape(60, 270)
        source.emit("push-buffer", Gst.Buffer.new_wrapped(padded.tobytes()))
        sample = sink.emit("try-pull-sample", 5 * Gst.SECOND)
        info = modules.GstVideo.VideoInfo.new_from_caps(sample.get_caps())
        assert comparable(info)
        with mapped(sample.get_buffer()) as data:
            found = [plane.copy() for plane in planes(data, sample.get_buffer(), info)]
    finally:
        pipeline.set_state(Gst.State.NULL)
    assert len(found) == (1 if format == "GRAY8" else 3)
    assert found[0].shape == (60, 90)
    for plane in found:
        rows, columns = plane.shape
        inside = plane[rows // 3 + 2 : rows * 2 // 3 - 2, columns // 3 + 2 : columns * 2 // 3 - 2]
        outside = np.concatenate([plane[: rows // 3 - 2].ravel(), plane[rows * 2 // 3 + 2 :].ravel()])
        assert np.ptp(inside.astype(int)) <= 4 and np.ptp(outside.astype(int)) <= 4
        assert abs(int(inside.mean()) - int(outside.mean())) > 20 or plane is found[0]


@pytest.mark.parametrize("format", ["I420_10LE", "P010_10LE", "NV12_64Z32"])
def test_other_formats_are_always_new(format: str) -> None:
    from pipelines.pipeline.still_frames import comparable

    modules = load()
    text = f"video/x-raw,format={format},width=64,height=48,framerate=1/1"
    info = modules.GstVideo.VideoInfo.new_from_caps(modules.Gst.Caps.from_string(text))
    assert not comparable(info)


def test_a_connection_that_compares_leaves_nothing_behind(tmp_path: Path, scene: np.ndarray) -> None:
    import gc
    import weakref

    from pipelines.pipeline.still_frames import StillFrames

    alive: list[weakref.ref[StillFrames]] = []
    init = StillFrames.__init__

    def note(self: StillFrames, *arguments: object) -> None:
        init(self, *arguments)  # type: ignore[arg-type]
        alive.append(weakref.ref(self))

    StillFrames.__init__ = note  # type: ignore[method-assign, assignment]
    try:
        camera: Camera = open_camera(
            str(write(tmp_path / "still.mkv", lambda _: scene)), fps=1.0, options=COMPARE
        )
        assert sum(isinstance(item, Frame) for item in camera) == SECONDS
        camera.close()
    finally:
        StillFrames.__init__ = init  # type: ignore[method-assign]
    gc.collect()
    assert alive and all(one() is None for one in alive)
