"""Object slots as visual tokens: the projector, and a tiny training on generated detections."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from click.testing import CliRunner

from tests.train.models.perception.blob_detector import blob_detector
from tests.train.tiny_config import ONE_LAYER
from train.__main__ import main
from train.config.errors import RecipeError
from train.data.dataset import Source
from train.errors import TrainingError
from train.models.checkpoint import load_checkpoint
from train.models.compact.model import CompactConfig, CompactModel
from train.models.compact.slots import SlotProjector, SlotVision
from train.models.inherit import inherited
from train.models.perception.features import width
from train.models.perception.nanodet import CLASSES
from train.models.perception.vision import DETECTOR
from train.models.perception.zones import ZONES
from train.models.tokenizer import train_tokenizer
from train.sft.recipe import SFTRecipe
from train.sft.run import initial_model, run_sft
from train.synthetic.detections.generate import GenerateConfig, generate

SLOTS = 10


@pytest.mark.parametrize("group", [1, 2])
def test_a_token_for_every_group_of_slots_and_one_for_the_frame(group: int) -> None:
    torch.manual_seed(0)
    projector = SlotProjector(SLOTS, group, 32)
    features = torch.randn(3, SLOTS + 1, width(len(CLASSES), zones=0))
    tokens = projector(features)
    assert tokens.shape == (3, SLOTS // group + 1, 32)
    changed = features.clone()
    changed[:, 5] += 1
    moved = (projector(changed) - tokens).abs().amax((0, 2)) > 1e-6
    assert moved.nonzero().flatten().tolist() == [5 // group]  # a token depends on its own slots alone


def test_zones_that_are_added_change_nothing_at_first() -> None:
    torch.manual_seed(0)
    model = CompactModel(replace(ONE_LAYER, slots=SLOTS))
    features = torch.randn(3, SLOTS + 1, width(len(CLASSES)))
    before = model.projector(features)
    model.add_zones(ZONES)
    assert model.config.zones == ZONES
    torch.testing.assert_close(model.projector(features), before)
    model.projector(features).sum().backward()
    for network in (model.projector.slot, model.projector.frame):
        assert network.linear.weight.grad[:, -ZONES:].abs().max() > 0  # but they can be learned
    with pytest.raises(TrainingError, match="the clips have 106 features a slot, the model reads 110"):
        model.projector(features[..., :-ZONES])


def test_zones_are_for_slots_alone() -> None:
    for change in ({"zones": 4}, {"zones": 3, "slots": SLOTS}):
        with pytest.raises(ValueError, match="zones must be 0, or 4 for a model with slots"):
            replace(ONE_LAYER, **change)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scout")
    return generate(GenerateConfig("train", 1, 4, folder))


@pytest.fixture
def slot_recipe(sft_recipe: SFTRecipe, data: Path, tmp_path: Path) -> SFTRecipe:
    records = [json.loads(line) for line in data.read_text().splitlines()]
    texts = [record["query"]["text"] for record in records]
    tokenizer = tmp_path / "slots.json"
    train_tokenizer(texts, 1300).save(str(tokenizer))
    return replace(
        sft_recipe,
        tokenizer=str(tokenizer),
        model=replace(ONE_LAYER, slots=SLOTS, slots_per_token=2),
        protocol=replace(sft_recipe.protocol, frame_tokens=SLOTS // 2 + 1, max_response_tokens=4),
        data=replace(sft_recipe.data, train=(Source(data),)),
        run=replace(sft_recipe.run, batch_size=2, steps=2),
    )


def test_a_tiny_model_learns_from_slots_and_is_scored(
    slot_recipe: SFTRecipe, data: Path, tmp_path: Path
) -> None:
    assert run_sft(slot_recipe)
    folder = slot_recipe.output / "checkpoint"
    checkpoint = load_checkpoint(folder)
    assert checkpoint.config["vision"] == {"name": "nanodet-slots"}
    assert checkpoint.model.frame_tokens == SLOTS // 2 + 1
    arguments = ["score", str(folder), str(data), "--judge", "keywords", "--questions", "3", "--json"]
    result = CliRunner().invoke(main, [*arguments, "--cache", str(tmp_path / "cache")])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)[str(data)]

    # A model without zones learns them, by a recipe that says so.
    wanted = {"init": str(folder), "model": {"zones": ZONES}}
    assert inherited(wanted)["model"] == {"slots": SLOTS, "zones": ZONES}
    further = replace(
        slot_recipe, init=str(folder), output=tmp_path / "zones", model=CompactConfig(slots=1, zones=4)
    )
    assert run_sft(further)
    learned = load_checkpoint(tmp_path / "zones" / "checkpoint").model
    assert learned.config == replace(checkpoint.model.config, zones=ZONES)
    assert learned.projector.slot.linear.weight.shape[1] == 2 * width(len(CLASSES))
    assert "learns 4 zones; their weights start at zero" in (tmp_path / "zones" / "train.log").read_text()
    with pytest.raises(ValueError, match=r"model\.zones is 0, but the model is that of init"):
        inherited({"init": str(tmp_path / "zones" / "checkpoint"), "model": {"zones": 0}})


def test_every_checkpoint_holds_the_detector_that_the_recipe_names(
    slot_recipe: SFTRecipe, tmp_path: Path
) -> None:
    detector = tmp_path / "blobs.onnx"
    onnx.save(blob_detector(), detector)
    first = replace(slot_recipe, detector=detector)
    assert run_sft(first)
    folder = first.output / "checkpoint"
    assert (folder / DETECTOR).read_bytes() == detector.read_bytes()
    recorded = json.loads((folder / "config.json").read_text())["vision"]
    assert recorded["sha256"] == hashlib.sha256(detector.read_bytes()).hexdigest()

    detector.unlink()  # the checkpoint has its own
    second = replace(slot_recipe, init=str(folder), output=tmp_path / "second")
    assert run_sft(second)
    last = second.output / "checkpoint"
    assert (last / DETECTOR).read_bytes() == (folder / DETECTOR).read_bytes()
    assert json.loads((last / "config.json").read_text())["vision"] == recorded


def test_a_checkpoint_that_lost_its_detector_still_says_which_it_was(tmp_path: Path) -> None:
    vision = SlotVision.beside(tmp_path, "0" * 64)
    assert vision.record() == {"name": "nanodet-slots", "sha256": "0" * 64}
    onnx.save(blob_detector(), tmp_path / DETECTOR)
    with pytest.raises(
        ValueError, match=r"detector\.onnx: sha256 is \w+, the checkpoint was trained with 000"
    ):
        SlotVision.beside(tmp_path, "0" * 64).prepare(tmp_path)


def test_a_detector_that_cannot_be_used_ends_training_before_it_starts(
    slot_recipe: SFTRecipe, sft_recipe: SFTRecipe, tmp_path: Path
) -> None:
    detector = tmp_path / "detector.onnx"
    with pytest.raises(RecipeError, match=r"detector: .*detector\.onnx: cannot be read as ONNX"):
        initial_model(replace(slot_recipe, detector=detector))
    onnx.save(blob_detector(), detector)
    assert initial_model(replace(slot_recipe, detector=detector))[0].vision == SlotVision(detector)
    with pytest.raises(RecipeError, match=r"detector: only a model with model\.slots"):
        initial_model(replace(sft_recipe, detector=detector))
