"""Pretraining in its parts: motion, regions, words. Each is saved when done; a stopped run goes on there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.metric.annotations import read_annotations
from train.config.errors import RecipeError
from train.data.features import FeatureCache
from train.models.checkpoint import load_checkpoint, save_checkpoint
from train.models.compact.model import CompactModel
from train.pretrain.frame_captioning import FrameCaptioningSettings, train_frame_captioning
from train.pretrain.motion import MotionPretrainingSettings, pretrain_motion
from train.pretrain.regions import RegionSettings, pretrain_regions
from train.sft.recipe import SFTRecipe
from train.sft.run import initial_model

Metrics = dict[str, dict[str, float]]


def run_pretraining(
    recipe: SFTRecipe, out: Path, epochs: int, words: int, say: Callable[[str], None]
) -> Metrics:
    """Teach ``recipe``'s model, of the compact family, to see; the checkpoint ``out`` holds every part done.

    ``epochs``: of the regions; ``words``: steps, or 0; adapters learn them when the recipe has ``lora``.
    Returns each part's figures. Raises RecipeError for a model of another family or clips that were
    not generated.
    """
    model, tokenizer, metrics = _start(recipe, out, say)
    clips = sorted({a.video_path for source in recipe.data.train for a in read_annotations(source.path)})
    cache = FeatureCache(recipe.data.cache, recipe.protocol.fps, recipe.data.workers, model.vision)
    cache.ensure(clips)
    seed = recipe.seed

    def motion() -> dict[str, float]:
        return pretrain_motion(model.projector, clips, cache, MotionPretrainingSettings(seed=seed), say)

    def regions() -> dict[str, float]:
        return pretrain_regions(model, tokenizer, clips, cache, RegionSettings(epochs=epochs, seed=seed), say)

    def captioning() -> dict[str, float]:
        settings = FrameCaptioningSettings(steps=words, names_first=words // 5, seed=seed)
        return train_frame_captioning(model, tokenizer, recipe.protocol, clips, cache, settings, say)

    parts = {"regions": regions}
    if words:
        parts["words"] = captioning
    if model.config.motion:
        parts = {"motion": motion, **parts}
    for name, train in parts.items():
        if name in metrics:
            say(f"{name}: done before")
            continue
        metrics[name] = train()
        save_checkpoint(
            out, model, tokenizer, recipe.protocol, [], {"pretraining": recipe.to_dict()}, dict(metrics)
        )
    return metrics


def _start(
    recipe: SFTRecipe, out: Path, say: Callable[[str], None]
) -> tuple[CompactModel, Tokenizer, Metrics]:
    """The model as the parts done so far left it, or the recipe's own."""
    metrics: Metrics = {}
    if (out / "config.json").is_file():
        checkpoint = load_checkpoint(out, merge=recipe.lora is None)
        model, tokenizer = checkpoint.model, checkpoint.tokenizer
        if checkpoint.config["recipe"].get("pretraining") != recipe.to_dict():
            raise RecipeError(f"{out}: holds a checkpoint of another recipe; choose another --out")
        metrics = dict(checkpoint.config["metrics"])
    else:
        model, tokenizer = initial_model(recipe, say=say)
    if not isinstance(model, CompactModel):
        raise RecipeError(f"pretraining is for models of the compact family, not {model.family}; skip it")
    return model, tokenizer, metrics
