"""The same weights in eager PyTorch, in the two ways such models are usually run on a stream.

*Growing*: every timestep is appended to a cache that nothing leaves (as in VideoLLM-online). *Polling*: at
every timestep an offline model is asked anew, with the last frames of the stream and an empty cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from benchmarks.reference.folder import IMAGE_MEAN, IMAGE_STD, TOKENIZER, load_torch_checkpoint
from edge_runtime.bundle.stream_format import TurnEncoder
from edge_runtime.bundle.tokenizer import Tokenizer
from train.models.cache_argument import CACHE_ARGUMENT


class TorchStream:
    """A checkpoint folder. ``query`` is asked before the first timestep."""

    def __init__(self, folder: Path, query: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._checkpoint = load_torch_checkpoint(folder)
        self._decoder = self._checkpoint.decoder
        self.encoder = TurnEncoder(self._checkpoint.stream_format, Tokenizer(folder / TOKENIZER).encode)
        self._start = [*self.encoder.prefix_ids(), *self.encoder.query_ids(query)]
        self.max_positions: int = self._decoder.config.max_position_embeddings
        config = self._decoder.config
        self.row_bytes = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
        self._cache: DynamicCache | None = None
        self._trace: Tensor | None = None
        self._grown = 0

    def ids(self, first: int, end: int) -> list[int]:
        """The prompt and timesteps ``first .. end`` passed in silence: what the decoder has seen."""
        turns = [[*self.encoder.turn_ids(k), *self.encoder.silence_ids()] for k in range(first, end)]
        return [*self._start, *(token for turn in turns for token in turn)]

    @torch.inference_mode()
    def grow_to(self, timestep: int) -> None:
        """A cache as after ``timestep`` timesteps. Its rows hold noise: what a step costs depends on their
        number, and appending an hour of frames would take hours.
        """
        self._grown = len(self.ids(0, timestep))
        config = self._decoder.config
        shape = (1, config.num_key_value_heads, self._grown, config.head_dim)
        self._cache = DynamicCache()
        for layer in range(config.num_hidden_layers):
            self._cache.update(torch.randn(shape) * 0.02, torch.randn(shape), layer)
        self._trace = self._checkpoint.visual_tokens(self._pixels([np.zeros((224, 224, 3), np.uint8)]))[1]

    @torch.inference_mode()
    def growing_step(self, frame: NDArray[np.uint8], timestep: int) -> float:
        """One timestep on the cache of :meth:`grow_to`, then forgotten; milliseconds. Frame [224, 224, 3]."""
        begin = perf_counter()
        visual = self._checkpoint.visual_tokens(self._pixels([frame]), self._trace)[0]
        ids = [*self.encoder.silence_ids(), *self.encoder.turn_ids(timestep)]
        self._append(ids, visual[0], self._cache)
        taken = perf_counter() - begin
        assert self._cache is not None
        self._cache.crop(self._grown - int(self._cache.get_seq_length()))
        return taken * 1e3

    @torch.inference_mode()
    def polling_step(self, frames: Sequence[NDArray[np.uint8]], timestep: int) -> float:
        """All of ``frames``, the last at ``timestep``, through vision and decoder anew; milliseconds."""
        begin = perf_counter()
        features = self._checkpoint.backbone(self._pixels(frames))  # [n, 320, 7, 7]
        trace, visual = None, []
        for one in features.split(1):
            tokens, trace = self._checkpoint.read(one, trace)
            visual.append(tokens[0])
        self._append(self.ids(timestep + 1 - len(frames), timestep + 1), torch.cat(visual), DynamicCache())
        return (perf_counter() - begin) * 1e3

    def release(self) -> None:
        """Give the grown cache's memory back."""
        self._cache = None

    def _append(self, ids: list[int], visual: Tensor, cache: DynamicCache | None) -> Tensor:
        index = torch.tensor(ids)
        embeddings = self._decoder.get_input_embeddings()(index)  # [S, D]
        embeddings[index == self.encoder.image_id] = visual
        output = self._decoder(
            inputs_embeds=embeddings[None], **{CACHE_ARGUMENT: cache}, use_cache=True, logits_to_keep=1
        )
        logits: Tensor = output.logits[0, -1]
        return logits

    @staticmethod
    def _pixels(frames: Sequence[NDArray[np.uint8]]) -> Tensor:
        pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float()
        return (pixels - IMAGE_MEAN) / IMAGE_STD
