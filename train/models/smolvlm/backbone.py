"""SmolVLM2 in the registry of backbones, and how a published folder becomes a first checkpoint."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.smolvlm.modeling_smolvlm import SmolVLMForConditionalGeneration
from transformers.utils import cached_file

from edge_runtime.bundle.stream_format import TurnEncoder
from edge_runtime.bundle.verification import file_sha256
from edge_runtime.errors import first_line
from train.models.chat_template import plain
from train.models.checkpoint import save_checkpoint
from train.models.registry import OUT, Backbone, BackboneError, known_fields
from train.models.smolvlm.model import FAMILY, SmolVLM, SmolVLMConfig, smolvlm_stream_format, take_apart
from train.models.smolvlm.vision import SiglipVision
from train.models.tower_file import TOWER


def build(config: dict[str, Any], folder: Path) -> SmolVLM:
    vision = SiglipVision.from_record(config["vision"], config["model"], folder)
    with no_init_weights():
        return SmolVLM(SmolVLMConfig(**known_fields(SmolVLMConfig, config["model"])), vision)


@click.command("smolvlm")
@OUT
@click.option("--from", "source", required=True, help="Hub name or folder of a SmolVLM2.")
def init_smolvlm(out: Path, source: str) -> None:
    """Start from SmolVLM2 as published: no token is added, a timestep is decided between Yes and No."""
    make_smolvlm(out, source)
    click.echo(str(out))


def make_smolvlm(out: Path, source: str) -> None:
    """Write a first checkpoint from a hub name or a folder, its vision tower beside it.

    Raises BackboneError when ``source`` can't be read, is another kind of model, or sees frames in a way that
    one graph of one size cannot.
    """
    try:
        config = AutoConfig.from_pretrained(source)
        if config.model_type != FAMILY:
            raise BackboneError(f"{source}: is of type {config.model_type}, expected {FAMILY} (SmolVLM2)")
        frames = read_frames(source, config.vision_config.image_size)
        tokenizer = AutoTokenizer.from_pretrained(source).backend_tokenizer
        stream_format = checked_format(source, tokenizer, config)
        whole = SmolVLMForConditionalGeneration.from_pretrained(
            source, dtype=torch.float32, use_safetensors=True
        )
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent) as folder:  # a checkpoint replaces `out` whole
            tower = save_tower(whole, Path(folder), frames)
            model = take_apart(whole, tokenizer, replace(tower, file=out / TOWER))
            save_checkpoint(out, model, tokenizer, stream_format, [], {"base": source}, {})
            os.replace(tower.file, out / TOWER)
    except BackboneError:
        raise
    except (OSError, ValueError) as error:
        raise BackboneError(f"{source}: {first_line(error)}") from error


@dataclass(frozen=True)
class Frames:
    """How a published processor normalises pixels of 0 to 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def read_frames(source: str, size: int) -> Frames:
    """Read the processor of ``source``, whose vision tower has one ``size``. Raises BackboneError."""
    found = _json_of(source, "preprocessor_config.json")
    whole = _json_of(source, "processor_config.json") or {}
    found = found or whole.get("image_processor")
    if found is None:
        raise BackboneError(
            f"{source}: preprocessor_config.json is missing, so how frames are normalised is not known; copy "
            "it from where the model was published"
        )
    processor = SmolVLMImageProcessorPil(**found)
    edge = dict(processor.max_image_size).get("longest_edge")
    if edge != size:
        raise BackboneError(
            f"{source}: its processor makes images of {edge} pixels, its vision tower sees {size}; set "
            f"max_image_size in preprocessor_config.json to {size}"
        )
    # Frames of a video are never split; a checkpoint without a video mode was trained on tiles.
    video = "video_sampling" in found or "video_processor" in whole
    if processor.do_image_splitting and not (video or _json_of(source, "video_preprocessor_config.json")):
        raise BackboneError(
            f"{source}: splits each image into tiles and has no video mode; set do_image_splitting to false "
            "in preprocessor_config.json to see each frame once"
        )
    mean, std = processor.image_mean, processor.image_std
    if not (
        isinstance(mean, (list, tuple)) and isinstance(std, (list, tuple)) and len(mean) == len(std) == 3
    ):
        raise BackboneError(f"{source}: preprocessor_config.json: image_mean and image_std must be 3 numbers")
    return Frames(tuple(mean), tuple(std))


def _json_of(source: str, name: str) -> dict[str, Any] | None:
    path = cached_file(
        source,
        name,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if path is None:
        return None
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise BackboneError(f"{source}: {name} is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise BackboneError(f"{source}: {name} must hold an object")
    return found


def checked_format(source: str, tokenizer: Any, config: Any) -> Any:
    """Return the stream format, checked against the tokenizer. Raises BackboneError."""
    vision = config.vision_config
    side = vision.image_size // vision.patch_size // config.scale_factor
    stream_format = smolvlm_stream_format(side**2)
    try:
        encoder = TurnEncoder(
            stream_format, lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)
        )
    except ValueError as error:
        raise BackboneError(f"{source}: {error}; is its tokenizer.json the published one?") from error
    if encoder.image_id != config.image_token_id:
        raise BackboneError(
            f"{source}: <image> is token {encoder.image_id}, config.json says {config.image_token_id}; copy "
            "both files from one revision"
        )
    return stream_format


def save_tower(whole: PreTrainedModel, folder: Path, frames: Frames) -> SiglipVision:
    """Write the frozen vision tower of a transformers model into ``folder``; returns its description."""
    path, tower = folder / TOWER, whole.model.vision_model
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in tower.state_dict().items()}
    save_file(weights, path, metadata={"format": "pt"})
    config = json.dumps(plain(tower.config))
    return SiglipVision(path, file_sha256(path), config, frames.mean, frames.std, whole.config.scale_factor)


BACKBONE = Backbone((FAMILY,), build, init_smolvlm, "export.families.smolvlm:SmolVLMFamily")
