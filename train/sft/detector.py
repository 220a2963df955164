"""The detector that a recipe names, for a model with object slots."""

from __future__ import annotations

from train.config.errors import RecipeError
from train.models.base import StreamModel
from train.models.compact.slots import SlotVision
from train.sft.recipe import SFTRecipe


def with_detector(model: StreamModel, recipe: SFTRecipe) -> StreamModel:
    """Give ``model`` the detector that the recipe names; every checkpoint of the run then holds it.

    Raises RecipeError for a file that is no detector, and for a model that has no slots.
    """
    if recipe.detector is None:
        return model
    if not isinstance(model.vision, SlotVision):
        raise RecipeError(
            "detector: only a model with model.slots looks through a detector; leave the key out"
        )
    vision = SlotVision(recipe.detector)
    try:
        vision.prepare(recipe.output)
    except ValueError as error:
        raise RecipeError(f"detector: {error}") from error
    model.vision = vision
    return model
