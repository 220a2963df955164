"""The vision of object slots: exported and joined with a detector, over videos, and what it refuses."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from click.testing import CliRunner

from edge_runtime.engine.preprocess import letterbox
from tests.train.models.perception.blob_detector import CAR, PERSON, blob_detector, moving_blobs
from train.data.features import FeatureCache, FeatureError
from train.models.compact.slots import SlotEncoder, SlotProjector, SlotVision
from train.models.perception.__main__ import main
from train.models.perception.features import COLOURS, SCALARS
from train.models.perception.graph import check_detector, compose, convert_detector
from train.models.perception.nanodet import HEADS, SIZE
from train.models.perception.tracker import Slots, TrackerConfig
from train.models.perception.vision import DETECTOR, SlotHead, content_rectangle

NANODET_FOLDER = os.environ.get("NANODET_FOLDER", "")
FRAMES = 30


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def pixels_of(frame: np.ndarray) -> np.ndarray:
    boxed = letterbox(frame, (SIZE, SIZE))
    return np.ascontiguousarray(boxed.transpose(2, 0, 1)[None], np.float32)


@pytest.fixture(scope="module")
def projector() -> SlotProjector:
    torch.manual_seed(0)
    return SlotProjector(TrackerConfig().slots, 2, 32).eval()


@pytest.fixture(scope="module")
def detector_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("detector") / DETECTOR
    onnx.save(blob_detector(), path)
    return path


def check_joined(detector: onnx.ModelProto, projector: SlotProjector, frames: np.ndarray) -> list[Slots]:
    """The joined graph says what the parts say one by one; returns the slots of every frame."""
    joined, alone = session(compose(detector, SlotHead(projector))), session(detector)
    head = SlotHead(projector).eval()
    state, trace, seen = head.first(), head.first().numpy(), []
    for frame in frames:
        pixels = pixels_of(frame)
        heads = [torch.from_numpy(array) for array in alone.run(list(HEADS), {"pixels": pixels})]
        with torch.no_grad():
            tokens, state = head(*heads, torch.from_numpy(pixels), state)
        found, trace = joined.run(["tokens", "trace"], {"pixels": pixels, "previous": trace})
        np.testing.assert_allclose(trace, state.numpy(), atol=2e-4)
        np.testing.assert_allclose(found, tokens.numpy(), atol=1e-4)
        seen.append(Slots.unpack(torch.from_numpy(trace)))
    return seen


def test_one_graph_says_what_its_parts_say(projector: SlotProjector) -> None:
    seen = check_joined(blob_detector(), projector, moving_blobs(FRAMES))
    kinds = [int(slots.scores[0, 0].argmax()) for slots in seen]
    assert kinds == [PERSON] * FRAMES and seen[-1].age[0, 0] == FRAMES - 1  # one slot all the way
    cars = [float((slots.taken * (slots.missing == 0))[0, 1:].sum()) for slots in seen]
    assert cars == [1.0 if 8 <= t < 20 else 0.0 for t in range(FRAMES)]
    assert int(seen[12].scores[0, 1:].sum(0).argmax()) == CAR
    moved = seen[-1].boxes[0, 0, 0] - seen[0].boxes[0, 0, 0]
    assert 0.6 < moved < 0.95  # 29 * 12 of 416 pixels, cut off at both ends by the box's width


@pytest.mark.skipif(not NANODET_FOLDER, reason="needs NANODET_FOLDER, a folder with nanodet.json")
def test_one_graph_with_nanodet(projector: SlotProjector) -> None:
    check_joined(convert_detector(Path(NANODET_FOLDER) / "nanodet.json"), projector, moving_blobs(FRAMES))


@pytest.mark.parametrize(
    ("height", "width", "rectangle"),
    [
        (234, 416, (0.0, 91 / 416, 1.0, 1 - 91 / 416)),
        (416, 208, (104 / 416, 0.0, 1 - 104 / 416, 1.0)),
        (100, 100, (0.0, 0.0, 1.0, 1.0)),
    ],
)
def test_the_borders_of_the_letterbox_are_cut_off(
    height: int, width: int, rectangle: tuple[float, ...]
) -> None:
    frame = np.random.default_rng(0).integers(1, 255, (height, width, 3)).astype(np.uint8)
    found = content_rectangle(torch.from_numpy(pixels_of(frame)))
    torch.testing.assert_close(found[0], torch.tensor(rectangle))


def test_dark_pictures_have_no_borders() -> None:
    dark = torch.zeros(2, 3, SIZE, SIZE)
    dark[1, :, 300:] = 5.0  # light at the bottom alone
    assert content_rectangle(dark).tolist() == [[0, 0, 1, 1]] * 2


def test_boxes_are_shares_of_the_content(detector_file: Path) -> None:
    """The same scene letterboxed or not gives the same box; brightness is that of the scene."""
    frame = np.full((SIZE, SIZE, 3), 51, np.uint8)
    frame[160:256, 160:256] = (250, 0, 0)
    wide = np.zeros((SIZE, SIZE, 3), np.uint8)
    wide[96:320] = 51
    wide[160:256, 160:256] = (250, 0, 0)
    square, boxed = (SlotEncoder(detector_file)(picture[None])[0] for picture in (frame, wide))
    height = (square[0, 8] * SIZE) / (boxed[0, 8] * 224)
    assert square[0, 1] == boxed[0, 1] == 1 and height == pytest.approx(1.0, abs=0.02)
    assert square[0, 6] == pytest.approx(0.5, abs=0.04) and boxed[0, 6] == pytest.approx(0.5, abs=0.04)
    expected = (51 * (1 - 96**2 / SIZE**2) + 250 / 3 * 96**2 / SIZE**2) / 255
    assert square[-1, SCALARS - 3] == pytest.approx(expected, abs=0.002)
    assert boxed[-1, SCALARS - 3] == pytest.approx(0.2, abs=0.02)
    red = square[0, SCALARS : SCALARS + COLOURS]
    assert red[0] > 0.6 and red[1] < 0.2


def crowd() -> np.ndarray:
    """A hundred red blobs."""
    frame = np.full((SIZE, SIZE, 3), 60, np.uint8)
    for x, y in ((x, y) for x in range(10) for y in range(10)):
        frame[y * 41 : y * 41 + 30, x * 41 : x * 41 + 30] = (255, 0, 0)
    return frame


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((SIZE, SIZE, 3), np.uint8),
        np.full((SIZE, SIZE, 3), 255, np.uint8),
        np.full((8, 4000, 3), (255, 0, 0), np.uint8),
        crowd(),
    ],
    ids=["black", "white", "very wide", "crowd"],
)
def test_strange_frames_give_finite_features(detector_file: Path, frame: np.ndarray) -> None:
    encode = SlotEncoder(detector_file)
    pictures = np.stack([letterbox(frame, (SIZE, SIZE))] * 3)
    features = encode(pictures)
    assert np.isfinite(features).all() and np.abs(features).max() < 20
    assert encode(np.zeros_like(pictures), first=False).shape == features.shape
    if frame.max() in (0, 255) and frame.min() == frame.max():
        assert features[:, :-1].max() == 0  # nothing is seen


def test_the_state_starts_anew_with_every_clip(detector_file: Path) -> None:
    frames = np.stack([letterbox(frame, (SIZE, SIZE)) for frame in moving_blobs(6)])
    encode = SlotEncoder(detector_file)
    whole = encode(frames)
    in_blocks = np.concatenate([encode(frames[:4]), encode(frames[4:], first=False)])
    assert (in_blocks == whole).all()
    anew = encode(frames[4:])
    assert whole[4, 0, 3] > 0 and anew[0, 0, 3] == 0  # its age


def test_features_of_a_video(detector_file: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=2, options={"qp": "10"})
        stream.width, stream.height, stream.pix_fmt = 416, 240, "yuv420p"
        for frame in moving_blobs(2 * 20):
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame)):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    cache = FeatureCache(tmp_path / "cache", workers=1, vision=SlotVision(detector_file))
    cache.ensure([clip])
    found = cache.load(clip)
    assert len(found.timesteps) == len(found.features) >= 19
    ages = np.exp(np.asarray(found.features[:, 0, 3], np.float32) * 4) - 1
    assert ages[:15].round().tolist() == list(range(15))  # one slot over two blocks


def test_a_checkpoint_without_a_detector_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"video")
    cache = FeatureCache(tmp_path / "cache", vision=SlotVision.beside(tmp_path))
    with pytest.raises(FeatureError, match=r"no detector\.onnx: make it with python -m train"):
        cache.ensure([tmp_path / "clip.mp4"])


def test_a_detector_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / DETECTOR
    path.write_bytes(b"no graph")
    with pytest.raises(ValueError, match="cannot be read as ONNX"):
        check_detector(path)
    model = blob_detector()
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 20
    onnx.save(model, path)
    with pytest.raises(ValueError, match=r"scores_8 has the shape \[1, 2704, 20\], expected \[1, 2704, 80\]"):
        check_detector(path)


def test_convert_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    model = tmp_path / "nanodet.json"
    for text, said in (("{}", "no TensorFlow.js graph model"), ("[", "no TensorFlow.js graph model")):
        model.write_text(text)
        result = CliRunner().invoke(main, ["convert", str(model), "--out", str(tmp_path / "d.onnx")])
        assert result.exit_code == 1 and said in result.output and not (tmp_path / "d.onnx").exists()


@pytest.mark.skipif(not NANODET_FOLDER, reason="needs NANODET_FOLDER, a folder with nanodet.json")
def test_convert_nanodet(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint" / DETECTOR
    result = CliRunner().invoke(main, ["convert", f"{NANODET_FOLDER}/nanodet.json", "--out", str(path)])
    assert result.exit_code == 0, result.output
    check_detector(path)
