"""A tiny checkpoint with object slots: random weights, and a detector that sees red and green blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from transformers import LlamaForCausalLM

from export.validation.parity_stream import Step
from tests.train.models.perception.blob_detector import blob_detector, moving_blobs
from train.models.checkpoint import save_checkpoint
from train.models.compact.model import CompactConfig, CompactModel
from train.models.compact.slots import SlotVision

if TYPE_CHECKING:
    from tests.conftest import TinyModel

SLOTS = 10
CONTEXT_ROWS = 384


def write_slot_checkpoint(folder: Path, tiny_model: TinyModel) -> Path:
    """Write the checkpoint ``folder``, with the stream format and the tokenizer of ``tiny_model``."""
    detector = folder.with_name("blobs.onnx")
    onnx.save(blob_detector(), detector)
    config = CompactConfig(
        vocab_size=2048,
        hidden_size=64,
        intermediate_size=128,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        slots=SLOTS,
        slots_per_token=2,
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(7)
    model = CompactModel(config, LlamaForCausalLM(config.llama()))
    with torch.no_grad():
        for name, weight in model.decoder.named_parameters():
            if weight.ndim == 2:
                weight.normal_(std=0.3 if "embed" in name else weight.shape[1] ** -0.5)
        model.projector.out_norm.weight.fill_(0.3)
    torch.random.set_rng_state(state)
    model.vision = SlotVision(detector)
    stream_format = replace(tiny_model.stream_format, frame_tokens=model.frame_tokens)
    save_checkpoint(folder, model, tiny_model.tokenizer, stream_format, ["OU"], {}, {})
    return folder


def blob_steps(count: int) -> Iterator[Step]:
    """Frames in which blocks move, with two questions."""
    questions = {1: "What does the person do?", 9: "Tell me each step as it is finished."}
    frames = np.concatenate([moving_blobs(30)] * (1 + count // 30))
    for index, frame in enumerate(frames[:count]):
        yield Step(frame, questions.get(index))


def odd_frames() -> dict[str, list[NDArray[np.uint8]]]:
    """Frames of cameras that see nothing, or far too much."""
    generator = np.random.default_rng(1)
    crowd = np.full((416, 416, 3), 60, np.uint8)
    for index in range(100):
        y, x = 40 * (index // 10) + 8, 40 * (index % 10) + 8
        crowd[y : y + 24, x : x + 24] = (230, 10, 20) if index % 2 else (10, 220, 20)
    moving = moving_blobs(6)
    return {
        "black": [np.zeros((240, 416, 3), np.uint8)] * 3,
        "overexposed": [np.full((240, 416, 3), 255, np.uint8)] * 3,
        "frozen": [moving[3]] * 6,
        "upside-down": [np.ascontiguousarray(frame[::-1]) for frame in moving],
        "very wide": [generator.integers(0, 255, (3, 4000, 3), dtype=np.uint8)] * 3,
        "very tall": [generator.integers(0, 255, (4000, 2, 3), dtype=np.uint8)] * 3,
        "of another size": [
            generator.integers(0, 255, size, dtype=np.uint8) for size in ((1, 1, 3), (90, 7, 3))
        ],
        "of 100 objects": [crowd, *[generator.permutation(crowd) for _ in range(3)]],
    }
