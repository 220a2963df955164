"""A loaded model: bundle, graphs, tokenizer and embedding table, shared by the sessions opened on it."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends.batcher import StepBatcher
from edge_runtime.backends.select import select_backend
from edge_runtime.backends.spinning import Spinning
from edge_runtime.bundle.knowledge import Knowledge
from edge_runtime.bundle.manifest import EMBEDDING, TOKENIZER, Bundle, read_bundle, verify_bundle
from edge_runtime.bundle.memory_plan import check_memory
from edge_runtime.bundle.tokenizer import Tokenizer
from edge_runtime.engine.decoder import CachedDecoder
from edge_runtime.engine.session import StreamSession
from edge_runtime.engine.vision import VisionStream
from edge_runtime.engine.zones import ZoneEncoder, zone_grid
from edge_runtime.errors import BundleError
from edge_runtime.video.framing import Framing
from edge_runtime.video.zone_names import ZoneNames
from edge_runtime.video.zones import Zone

EXACT_MARGIN, ROUNDED_MARGIN = 1e-3, 0.5
"""Margin between the two best logits below which a draft is not trusted, in float32 and with any rounding.

ONNX Runtime multiplies one row of attention otherwise than several, a difference of 1e-7 at first. Where
activations are rounded afterwards it grows with the depth of the model: to 0.01 for ``nano`` in int8, to 0.8
for SmolLM2-135M.
"""


class Model:
    """Immutable once loaded; its methods may be called from several threads.

    Arguments as of :func:`edge_runtime.load`. Raises BundleError, BackendError or ConfigError.
    """

    _zone_names = ZoneNames(())
    _zones: NDArray[np.float32] | None = None

    def __init__(
        self,
        name_or_folder: str | PathLike[str],
        *,
        threads: int | None = None,
        backend: str = "auto",
        spinning: Spinning = "run",
    ) -> None:
        self.bundle: Bundle = read_bundle(name_or_folder)
        check_memory(self.bundle)  # else the system may kill the process, without a word
        verify_bundle(self.bundle)
        self.stream_format = self.bundle.stream_format
        self.tokenizer = Tokenizer(self.bundle.path(TOKENIZER))
        self.embedding = _load_embedding(self.bundle)
        try:
            self.encoder = ZoneEncoder(self.stream_format, self.tokenizer.encode, self._zone_names)
        except ValueError as error:
            raise BundleError(f"{self.bundle.path(TOKENIZER)}: {error}; export the bundle again") from error
        if self.tokenizer.vocab_size > self.bundle.model.vocab_size:
            raise BundleError(
                f"{self.bundle.path(TOKENIZER)}: {self.tokenizer.vocab_size} tokens, but the model has "
                f"{self.bundle.model.vocab_size}; export the bundle again"
            )
        self.text_bias = self._text_bias()
        """[vocab] float32 added to logits while text is generated: -inf for what text must not hold."""
        engine = select_backend(backend, self.bundle, threads, spinning=spinning)
        self.backend = engine.description
        self._vision = engine.load_vision(self.bundle)
        self._decoder = engine.load_decoder(self.bundle)
        height, width = self.bundle.model.image_size
        expected = self.bundle.visual_shape
        blank = np.zeros((1, 3, height, width), dtype=np.float32)
        shape = self.open_vision().encode(blank).shape  # also warms the engine
        if shape != expected:
            raise BundleError(
                f"{self.bundle.path(self.bundle.vision.file)}: gives tokens of shape {list(shape)}, expected "
                f"{list(expected)}; export the bundle again"
            )

    @property
    def name(self) -> str:
        return self.bundle.name

    @property
    def title(self) -> str:
        """Name and precision."""
        return f"{self.bundle.name} {self.bundle.precision}"

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the frames that vision reads."""
        return self.bundle.model.image_size

    @property
    def identity(self) -> str:
        """Tells models apart: a file's events have the same ids only when the same model made them."""
        hashes = sorted((name, spec.sha256) for name, spec in self.bundle.files.items())
        return json.dumps([hashes, self.stream_format.to_dict()], sort_keys=True)

    @property
    def knowledge(self) -> Knowledge | None:
        """What it was trained for; None when it takes any question."""
        return self.bundle.knowledge

    @property
    def outage(self) -> str:
        """Empty: a bundle can always decide."""
        return ""

    def counts(self) -> dict[str, int]:
        """Empty: no server is asked."""
        return {}

    @property
    def queries_per_session(self) -> int | None:
        """Most queries a session may have at a time; None for no limit."""
        return self.bundle.queries_per_session

    @property
    def batcher(self) -> StepBatcher | None:
        """Lets sessions share calls of the decoder; None where each needs its own."""
        return self._decoder.batcher

    def session(self, *, threshold: float | None = None) -> StreamSession:
        """A new stream. ``threshold``: speak when the score reaches it, 0..1; None for the bundle's."""
        return StreamSession(self, threshold=threshold)

    def with_fps(self, fps: float) -> Model:
        """The same loaded model, deciding ``fps`` times per second of stream instead of as it was trained
        to.
        """
        if fps == self.stream_format.fps:
            return self
        changed = copy.copy(self)
        changed.stream_format = replace(self.stream_format, fps=fps)
        changed.encoder = ZoneEncoder(changed.stream_format, self.tokenizer.encode, self._zone_names)
        return changed

    def with_zones(self, zones: Sequence[Zone], framing: Framing | None = None) -> Model:
        """The same loaded model for the streams of one camera, whose questions may name ``zones``.

        ``framing``: how its frames are cropped and rotated before they are pushed. Raises ConfigError when
        the bundle knows no zones, or fewer.
        """
        if not zones:
            return self
        changed = copy.copy(self)
        changed._zones = zone_grid(self.bundle, zones, framing or Framing())
        changed._zone_names = ZoneNames([zone.name for zone in zones])
        changed.encoder = ZoneEncoder(self.stream_format, self.tokenizer.encode, changed._zone_names)
        return changed

    @property
    def zone_names(self) -> tuple[str, ...]:
        """What questions may call the zones of :meth:`with_zones`, and what the model calls them."""
        names = self._zone_names.names
        return (*names, *(f"zone {number}" for number in range(1, len(names) + 1)))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of a response, zones called as people call them."""
        return self._zone_names.for_people(self.tokenizer.decode(ids))

    def open_vision(self) -> VisionStream:
        """Frames of a new stream to visual tokens, for several sessions at a time."""
        return VisionStream(self._vision, self.bundle.model, self._zones)

    def open_decoder(self) -> CachedDecoder:
        """A decoder with an empty cache of its own."""
        return CachedDecoder(
            self._decoder.open_cache(),
            self.embedding,
            self.encoder.image_id,
            grid=self.bundle.model.visual_grid,
            deepstack=self.bundle.model.deepstack,
            margin=EXACT_MARGIN if self._computes_exactly else ROUNDED_MARGIN,
        )

    @property
    def _computes_exactly(self) -> bool:
        """Whether neither weights nor activations nor the cache are rounded below float32."""
        cache = {tensor.dtype for tensor in self.bundle.decoder.inputs if tensor.name == "past_k.0"}
        return self.bundle.precision == "fp32" and cache <= {"float32"}  # PyTorch's reference names no inputs

    def _text_bias(self) -> NDArray[np.float32]:
        bias = np.zeros(self.bundle.model.vocab_size, dtype=np.float32)
        bias[self.tokenizer.vocab_size :] = -np.inf  # padding rows of the embedding
        bias[sorted(self.tokenizer.special_ids)] = -np.inf
        bias[self.encoder.image_id] = -np.inf
        decisions = (*self.encoder.silences, *self.encoder.responses)
        # A decision may also be an ordinary word, which a text may hold.
        added = self.tokenizer.added_ids
        bias[[choice.first for choice in decisions if choice.first in added]] = -np.inf
        bias[self.encoder.stop_id] = 0.0
        return bias


def _load_embedding(bundle: Bundle) -> NDArray[np.float16]:
    path = bundle.path(EMBEDDING)
    try:
        table: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: not a numpy array ({error}); export the bundle again") from error
    expected = (bundle.model.vocab_size, bundle.model.hidden_size)
    if table.shape != expected or table.dtype != np.float16:
        raise BundleError(
            f"{path}: {table.dtype} {list(table.shape)}, expected float16 {list(expected)}; "
            "export the bundle again"
        )
    return table
