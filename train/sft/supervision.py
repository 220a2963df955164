"""Which supervision of the decoder's inside a recipe asks for, and the targets that it needs."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from benchmarks.metric.annotations import Annotation
from edge_runtime.bundle.stream_format import TurnEncoder
from train.config.errors import RecipeError
from train.data.dataset import MakeAuxiliary
from train.data.encode import Encoded
from train.data.timeline import Timeline
from train.models.base import StreamModel
from train.models.compact.model import CompactModel
from train.sft.attention_supervision import AttentionSupervision, AuxiliaryTargets, AuxiliaryTargetWriter
from train.sft.attention_targets import turn_truth
from train.sft.event_supervision import EventSupervision, event_targets
from train.sft.recipe import EventSupervisionSettings, SFTRecipe
from train.synthetic.sprites.scenes.scene import SIZE


def supervision(recipe: SFTRecipe, model: StreamModel) -> AttentionSupervision | EventSupervision | None:
    """What the recipe asks for beside the loss of decisions and texts; None: nothing.

    Raises RecipeError where that is not possible.
    """
    if recipe.event_supervision is not None:
        return _event_supervision(recipe, recipe.event_supervision, model)
    if recipe.attention_supervision is None:
        return None
    data, run = recipe.data, recipe.run
    if not isinstance(model, CompactModel):
        raise RecipeError(
            f"attention_supervision is for the compact family, not {model.family}; leave it out"
        )
    if recipe.protocol.fps != 1.0 or data.queries_per_session != 1:
        raise RecipeError(
            "attention_supervision needs protocol.fps 1 and data.queries_per_session 1; leave it out"
        )
    if run.fsdp != "no" or run.gradient_checkpointing or recipe.lora is not None:
        raise RecipeError(
            "attention_supervision excludes run.fsdp, run.gradient_checkpointing and lora; leave it out"
        )
    return AttentionSupervision(model.decoder, recipe.attention_supervision)


def _event_supervision(
    recipe: SFTRecipe, settings: EventSupervisionSettings, model: StreamModel
) -> EventSupervision:
    if not isinstance(model, CompactModel) or not model.config.slots or recipe.attention_supervision:
        raise RecipeError(
            "event_supervision is for models with slots, without attention_supervision; leave one of them out"
        )
    if recipe.run.fsdp != "no" or recipe.run.gradient_checkpointing or recipe.lora is not None:
        raise RecipeError(
            "event_supervision excludes run.fsdp, run.gradient_checkpointing and lora; leave it out"
        )
    return EventSupervision(model.decoder, settings)


def make_auxiliary(
    recipe: SFTRecipe, encoder: TurnEncoder, model: StreamModel, tokenizer: Tokenizer
) -> MakeAuxiliary | None:
    if recipe.event_supervision is not None:
        return event_targets
    if recipe.attention_supervision is None or not isinstance(model, CompactModel):
        return None
    writer = AuxiliaryTargetWriter(encoder, tokenizer)
    centres = [SIZE * share for share in model.config.region_centres()]

    def make(
        questions: Sequence[Annotation],
        timeline: Timeline,
        timesteps: tuple[int, ...],
        first: int,
        encoded: Encoded,
    ) -> AuxiliaryTargets:
        truth = turn_truth(questions[0], timesteps, centres)
        return writer.targets(truth.part(first, len(encoded.turns)), encoded)

    return make
