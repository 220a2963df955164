"""Tiny Qwen models with random weights, to be exported and streamed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

SETTINGS = {"system_prompt": "Speak when it is done.", "window_turns": 6, "evict_turns": 2}
ROWS = 640


class TinyQwen:
    """One of the two families as a checkpoint loads it; speaks now and then, and words depend on frames."""

    def __init__(self, family: str, folder: Path, picture: tuple[int, int] | None = None) -> None:
        import torch

        from edge_runtime.bundle.stream_format import TurnEncoder
        from export.validation.qwen_reference import QwenBackbone
        from tests.train.models.test_qwen import Tiny

        state = torch.random.get_rng_state()
        tiny = Tiny(family, tied=family == "qwen2_5_vl", folder=folder, picture=picture)
        torch.random.set_rng_state(state)
        self.model, self.tokenizer = tiny.model, tiny.tokenizer
        self.stream_format = replace(tiny.stream_format, max_response_tokens=6, **SETTINGS)
        self.encoder = TurnEncoder(
            self.stream_format, lambda text: self.tokenizer.encode(text, add_special_tokens=False).ids
        )
        self.backbone = QwenBackbone(tiny.vision)

    def export(self, out: Path, precision: str = "fp32", **options: Any) -> Path:
        from export.bundle_writer import export_model

        parts = (self.model, self.tokenizer, self.stream_format, out)
        options = {"context_rows": ROWS, "backbone": self.backbone, "precision": precision, **options}
        return export_model(*parts, **options)
