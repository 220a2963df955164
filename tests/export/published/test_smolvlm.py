"""A SmolVLM2 as published, without training: `--format smolvlm`, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnxruntime")

from click.testing import CliRunner, Result  # noqa: E402

import edge_runtime  # noqa: E402
from export.__main__ import main  # noqa: E402
from tests.export.published.test_pull import NAME, run  # noqa: E402
from tests.hub_server import Hub  # noqa: E402
from tests.tiny_smolvlm import SIDE, write_published  # noqa: E402


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "hub"
    write_published(folder)
    return folder


@pytest.fixture
def copied(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "hub"))


def export(folder: Path, *options: object) -> Result:
    given = [str(part) for part in (folder, *options)]
    return CliRunner().invoke(main, given, catch_exceptions=False)


def test_a_published_folder_becomes_a_bundle_that_decides(published: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    how = ("--format", "smolvlm", "--precision", "fp32", "--parity-timesteps", 16, "--licence", "apache-2.0")
    done = export(published, *how, "--out", out)
    assert done.exit_code == 0, done.output
    manifest = json.loads((out / "bundle.json").read_text())
    assert manifest["family"] == "smolvlm" and manifest["license"] == "apache-2.0"
    assert manifest["model"]["image_size"] == [SIDE, SIDE]
    assert manifest["origin"] == {
        "checkpoint": str(published),
        "stream_format": "smolvlm",
        "frame": f"{SIDE}x{SIDE}",
    }
    assert manifest["protocol"]["frame_tokens"] == 16 and manifest["protocol"]["silence"] == " No"
    assert manifest["parity"]["decision_agreement"] == 1.0 and manifest["parity"]["evictions"] >= 2
    theirs, ours = (json.loads((at / "tokenizer.json").read_text()) for at in (published, out))
    assert theirs["added_tokens"] == ours["added_tokens"] and theirs["model"] == ours["model"]
    frames = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    with edge_runtime.load(out, threads=1).session() as session:
        session.ask("Tell me when.")
        scores = [session.push(frame, k + 1.0).score for k, frame in enumerate(frames)]
    assert len(set(scores)) == 3 and all(0 < score < 1 for score in scores)


@pytest.mark.slow
def test_it_is_pulled_from_a_hub_with_the_frame_that_it_sees(published: Path, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in published.iterdir()}
    image = json.loads(files["preprocessor_config.json"])
    video = {
        "video_sampling": image.pop("video_sampling")
    }  # in a file of its own, as newer transformers writes
    files["preprocessor_config.json"] = json.dumps(image).encode()
    files["video_preprocessor_config.json"] = json.dumps(video).encode()
    with Hub({NAME: files}, cards={NAME: {"license": "apache-2.0"}}).serve() as url:
        how = ("edge_runtime", "pull", NAME, "--format", "smolvlm", "--precision", "fp32")
        done = run(*how, cwd=tmp_path, HF_ENDPOINT=url)
        assert done.returncode == 0, done.stderr
        again = run(*how, cwd=tmp_path, HF_ENDPOINT=url)
        other = run(*how, "--frame", "16:9@64", "--as", "wide", cwd=tmp_path, HF_ENDPOINT=url)
    assert "already there, nothing to do" in again.stderr
    assert other.returncode == 3 and f"give --frame {SIDE}x{SIDE}" in other.stderr
    folder = tmp_path / "cache" / "streampro-edge" / "models" / NAME.rpartition("/")[2]
    manifest = json.loads((folder / "bundle.json").read_text())
    assert manifest["origin"]["frame"] == f"{SIDE}x{SIDE}" and manifest["license"] == "apache-2.0"
    assert manifest["parity"]["evictions"] > 0


def test_a_plan_needs_config_json_alone(published: Path, tmp_path: Path) -> None:
    shutil.copy(published / "config.json", tmp_path)
    done = export(tmp_path, "--plan")
    assert done.exit_code == 0, done.output
    assert f"frame {SIDE}x{SIDE}, 16 visual tokens" in done.output
    assert "64 turns" in done.output and "200 turns" not in done.output


@pytest.mark.parametrize("frame", ["16:9@64", "384x224", "1:1@128"])
@pytest.mark.parametrize("rest", [("--plan",), ("--format", "smolvlm")])
def test_another_frame_is_refused_and_the_right_one_named(
    published: Path, tmp_path: Path, frame: str, rest: tuple[str, ...]
) -> None:
    done = export(published, *rest, "--frame", frame, "--out", tmp_path / "bundle")
    assert done.exit_code == 3
    assert f"sees frames of {SIDE}x{SIDE} alone; give --frame {SIDE}x{SIDE}, or leave" in error_of(done)


def error_of(done: Result) -> str:
    """The one line of an error; lines of progress begin with a bracket."""
    lines = [line for line in done.output.splitlines() if not line.startswith("[")]
    assert len(lines) == 1 and lines[0].startswith("export: "), done.output
    return lines[0]


def change(folder: Path, name: str, **values: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def rename_image_token(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace("<image>", "<picture>"))


def only_a_pickle(folder: Path) -> None:
    for path in folder.glob("model*"):
        path.unlink()
    torch.save({}, folder / "pytorch_model.bin")


def cut_off_weights(folder: Path) -> None:
    path = min(folder.glob("model-*.safetensors"))
    path.write_bytes(path.read_bytes()[:-100])


def change_vision(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(folder, "config.json", vision_config=config["vision_config"] | values)


PREPROCESSOR = "preprocessor_config.json"
REFUSALS: dict[str, tuple[Callable[[Path], object], str]] = {
    "size": (
        lambda hub: change(hub, PREPROCESSOR, max_image_size={"longest_edge": 32}),
        "its processor makes images of 32 pixels, its vision tower sees 64; set max_image_size",
    ),
    "no processor": (lambda hub: (hub / PREPROCESSOR).unlink(), "preprocessor_config.json is missing"),
    "damaged": (lambda hub: (hub / PREPROCESSOR).write_text("{"), "preprocessor_config.json is not JSON"),
    "grey": (
        lambda hub: change(hub, PREPROCESSOR, image_mean=[0.5]),
        "image_mean and image_std must be 3 numbers",
    ),
    "family": (
        lambda hub: change(hub, "config.json", model_type="idefics3"),
        "(model_type idefics3), which cannot be imported",
    ),
    "tokens": (rename_image_token, "<image> must be one token"),
    "image id": (
        lambda hub: change(hub, "config.json", image_token_id=3),
        "<image> is token 267, config.json says 3",
    ),
    "pickle": (only_a_pickle, "its weights are pickles (pytorch_model.bin)"),
    "weights": (cut_off_weights, "its weights cannot be read"),
    "patches": (lambda hub: change(hub, "config.json", scale_factor=3), "cannot be joined 3 by 3"),
    "no size": (lambda hub: change_vision(hub, image_size=None), "vision_config.image_size is None"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_folder_it_cannot_take_is_refused_in_one_line(copied: Path, tmp_path: Path, name: str) -> None:
    spoil, said = REFUSALS[name]
    spoil(copied)
    done = export(copied, "--format", "smolvlm", "--out", tmp_path / "bundle")
    assert done.exit_code == 3
    assert said in error_of(done)
    assert not (tmp_path / "bundle").exists()


def test_a_preset_of_another_family_is_refused(published: Path, tmp_path: Path) -> None:
    done = export(published, "--format", "prompted", "--out", tmp_path / "bundle")
    assert done.exit_code == 3
    assert "--format prompted does not fit" in error_of(done)
