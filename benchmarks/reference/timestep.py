"""The yardstick: the same checkpoint in eager PyTorch, with the cache transformers gives it.

This is what a model does that leaves training and is simply run: fp32, EfficientNet-Lite0 and projector as
modules, a DynamicCache that grows with the stream, one forward call per timestep. It shares no code with the
runtime but the frames, the token ids and :class:`edge_runtime.bundle.stream_format.TurnEncoder`. The folder
is read by :mod:`benchmarks.reference.folder`, as for a checkpoint that answers a benchmark.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from benchmarks.reference.folder import IMAGE_MEAN, IMAGE_STD, TOKENIZER, load_torch_checkpoint
from edge_runtime.bundle.stream_format import TurnEncoder
from edge_runtime.bundle.tokenizer import Tokenizer
from train.models.cache_argument import CACHE_ARGUMENT


class TorchEager:
    """A checkpoint folder (``config.json``, ``model.safetensors``, ``tokenizer.json``) as one stream."""

    def __init__(self, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._checkpoint = load_torch_checkpoint(folder)
        self.stream_format = self._checkpoint.stream_format
        self.encoder = TurnEncoder(self.stream_format, Tokenizer(folder / TOKENIZER).encode)
        self._pending: list[int] = []

    @torch.inference_mode()
    def start(self, query: str) -> None:
        """A new stream with a query asked before its first timestep."""
        self._cache = DynamicCache()
        self._trace: Tensor | None = None
        self._append([*self.encoder.prefix_ids(), *self.encoder.query_ids(query)], None)
        self._pending = []

    @torch.inference_mode()
    def step(self, frame: np.ndarray, index: int) -> tuple[float, dict[str, float]]:
        """One silent timestep: frame uint8 [224, 224, 3] -> score and milliseconds (vision, append,
        total).
        """
        begin = perf_counter()
        pixels = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
        pixels = (pixels - IMAGE_MEAN) / IMAGE_STD
        visual, self._trace = self._checkpoint.visual_tokens(pixels, self._trace)
        seen = perf_counter()
        logits = self._append([*self._pending, *self.encoder.turn_ids(index)], visual[0])
        pair = logits[[self.encoder.silence_id, self.encoder.response_id]].softmax(0)
        score = float(pair[1])
        end = perf_counter()
        self._pending = self.encoder.silence_ids()
        timing = {"vision": seen - begin, "append": end - seen, "total": end - begin}
        return score, {key: seconds * 1e3 for key, seconds in timing.items()}

    @property
    def rows(self) -> int:
        """Rows of the cache."""
        return int(self._cache.get_seq_length())

    def _append(self, ids: list[int], visual: Tensor | None) -> Tensor:
        index = torch.tensor(ids)
        embeddings = self._checkpoint.decoder.get_input_embeddings()(index)  # [S, D]
        if visual is not None:
            embeddings[index == self.encoder.image_id] = visual
        output = self._checkpoint.decoder(
            inputs_embeds=embeddings[None], **{CACHE_ARGUMENT: self._cache}, use_cache=True, logits_to_keep=1
        )
        return output.logits[0, -1]
