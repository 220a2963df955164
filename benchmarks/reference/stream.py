"""One stream of a checkpoint in eager PyTorch, with the growing cache of transformers.

This is what a model does that leaves training and is simply run: fp32, vision and decoder as modules, a
``DynamicCache`` that grows with the stream, one forward call per chunk. It shares no code with the runtime
but frames, token ids and :class:`edge_runtime.bundle.stream_format.TurnEncoder`.
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

from benchmarks.reference.checkpoint import TOKENIZER, load_reference
from edge_runtime.bundle.stream_format import TurnEncoder
from edge_runtime.bundle.tokenizer import Tokenizer
from train.models.cache_argument import CACHE_ARGUMENT
from train.models.compact.lite0 import IMAGE_MEAN, IMAGE_SIZE, IMAGE_STD

Frame = NDArray[np.uint8]
"""[224, 224, 3], RGB."""


class EagerStream:
    """A checkpoint and the cache of one stream. ``threads``: of PyTorch, for the whole process."""

    def __init__(self, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self.reference = load_reference(folder)
        self.stream_format = self.reference.stream_format
        self.encoder = TurnEncoder(self.stream_format, Tokenizer(folder / TOKENIZER).encode)
        config = self.reference.decoder.config
        self.max_positions: int = config.max_position_embeddings
        self.row_bytes = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
        self.reset()

    @property
    def rows(self) -> int:
        """Rows of the cache."""
        return int(self._cache.get_seq_length())

    def reset(self) -> None:
        """Start a new stream; the memory of the old cache is freed."""
        self._cache = DynamicCache()
        self._previous: Tensor | None = None

    def start(self, query: str) -> None:
        """Start a new stream with a query asked before its first timestep."""
        self.reset()
        self.append(self.prompt_ids(query))

    def prompt_ids(self, query: str) -> list[int]:
        """Token ids of a stream before its first timestep."""
        return [*self.encoder.prefix_ids(), *self.encoder.query_ids(query)]

    def silent_ids(self, first: int, end: int) -> list[int]:
        """Token ids of timesteps ``first .. end`` passed in silence."""
        turns = ([*self.encoder.turn_ids(k), *self.encoder.silence_ids()] for k in range(first, end))
        return [token for turn in turns for token in turn]

    @torch.inference_mode()
    def append(self, ids: Sequence[int], visual: Tensor | None = None) -> Tensor:
        """Append ``ids`` and return the logits after the last one, [vocab].

        ``visual`` [N, V, D]: the frames of all image placeholders in ``ids``, in order.
        """
        tokens = torch.tensor([list(ids)])
        decoder = self.reference.decoder
        embeddings = decoder.get_input_embeddings()(tokens)  # [1, S, D]
        if visual is not None:
            embeddings[tokens == self.encoder.image_id] = visual.flatten(0, 1)
        output = decoder(
            inputs_embeds=embeddings, **{CACHE_ARGUMENT: self._cache}, use_cache=True, logits_to_keep=1
        )
        logits: Tensor = output.logits[0, -1]
        return logits

    def rewind(self, rows: int) -> None:
        """Forget what was appended after the first ``rows`` rows."""
        beyond = self.rows - rows
        if rows == 0:
            self._cache = DynamicCache()
        elif beyond > 0:
            self._cache.crop(-beyond)

    @torch.inference_mode()
    def see(self, frames: Sequence[Frame]) -> Tensor:
        """Convert the next frames of the stream to visual tokens [N, V, D]."""
        pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float()
        tokens = []
        for features in self.reference.backbone((pixels - IMAGE_MEAN) / IMAGE_STD).split(1):
            visual, self._previous = self.reference.visual_tokens(features, self._previous)
            tokens.append(visual)
        return torch.cat(tokens)

    def step(self, frame: Frame, index: int, before: Sequence[int] = ()) -> tuple[float, dict[str, float]]:
        """Run one timestep: its score, and milliseconds of vision, append and total.

        ``before``: token ids that go into the cache in front of it, the end of the previous turn.
        """
        begin = perf_counter()
        visual = self.see([frame])
        seen = perf_counter()
        logits = self.append([*before, *self.encoder.turn_ids(index)], visual)
        score = float(logits[[self.encoder.silence_id, self.encoder.response_id]].softmax(0)[1])
        end = perf_counter()
        timing = {"vision": seen - begin, "append": end - seen, "total": end - begin}
        return score, {key: seconds * 1e3 for key, seconds in timing.items()}

    def fill(self, rows: int) -> None:
        """Give the stream a cache of ``rows`` rows of noise, and a previous frame.

        What a step costs depends on the number of rows only, and appending an hour of frames takes hours.
        """
        self.reset()
        config = self.reference.decoder.config
        shape = (1, config.num_key_value_heads, rows, config.head_dim)
        for layer in range(config.num_hidden_layers):
            self._cache.update(torch.randn(shape) * 0.02, torch.randn(shape), layer)
        self.see([np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)])

    def probe(self, frame: Frame, index: int) -> float:
        """Run one timestep after a silent one and forget it again; milliseconds."""
        rows, previous = self.rows, self._previous
        _, timing = self.step(frame, index, self.encoder.silence_ids())
        self.rewind(rows)
        self._previous = previous
        return timing["total"]

    def poll(self, query: str, frames: Sequence[Frame], index: int) -> float:
        """Run ``frames``, the last one at timestep ``index``, through vision and decoder with an empty cache,
        as an offline model is asked anew at every timestep; milliseconds. The stream's cache is kept.
        """
        kept, self._cache, previous = self._cache, DynamicCache(), self._previous
        begin = perf_counter()
        self._previous = None
        ids = self.prompt_ids(query) + self.silent_ids(index + 1 - len(frames), index + 1)
        self.append(ids, self.see(frames))
        taken = perf_counter() - begin
        self._cache, self._previous = kept, previous
        return taken * 1e3
