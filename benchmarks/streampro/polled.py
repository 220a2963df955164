"""Offline models: polled at each timestep, over an OpenAI-compatible server (paper section 4, Wait rule).

A model that answers once about a finished video is made to decide when to speak, by the requests that also
cameras send: :mod:`edge_runtime.engine.endpoint.protocol`. How many frames are sent and how large are
settings.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.metric.annotations import Annotation, Prediction, Response
from benchmarks.metric.llm.client import OpenAIClient
from benchmarks.streampro.clip_pool import ClipPool
from benchmarks.streampro.clips import timestep_frames
from edge_runtime.bundle.stream_format import StreamFormat
from edge_runtime.engine.endpoint.protocol import (
    AskedQuestion,
    SeenFrame,
    data_url,
    is_new,
    messages,
    read_answer,
)

REQUEST_FIELDS: dict[str, Any] = {"temperature": 0, "max_tokens": 128}
"""Fields of each request; for a server that does not know one, the client's ``extra`` leaves it out."""

STREAM_FORMAT = StreamFormat(fps=1.0)
"""Frames and labels are those of the streaming models, at the paper's rate."""


class PolledRunner(ClipPool):
    """Answers questions with a server's model. ``frames``: how many of the last frames each request holds.

    ``frame_size``: longer side in pixels from which frames are shrunk. ``workers``: clips at a time; the
    questions of one clip are asked one after the other.
    """

    def __init__(
        self, client: OpenAIClient, *, frames: int = 32, frame_size: int = 448, workers: int = 1
    ) -> None:
        super().__init__(workers)
        self._client = client
        self._frames, self._frame_size = frames, frame_size

    def stop(self) -> None:
        """Also ends pauses between requests; the client is of no use afterwards."""
        super().stop()
        self._client.stop()

    def answer_clip(
        self, clip: Path, questions: Sequence[Annotation]
    ) -> Iterator[tuple[Annotation, Prediction]]:
        """Each question on one clip with its prediction, in order. Raises as ``OpenAIClient.ask`` does."""
        frames: list[SeenFrame] = []
        for index, frame in timestep_frames(clip, STREAM_FORMAT.fps):
            self.check()
            url = data_url(frame, self._frame_size)
            frames.append(SeenFrame(STREAM_FORMAT.interval(index)[1], STREAM_FORMAT.label(index), url))
        for question in questions:
            yield question, self._answer(question, frames)

    def _answer(self, question: Annotation, frames: Sequence[SeenFrame]) -> Prediction:
        responses: list[Response] = []
        asked = AskedQuestion(question.query.text, question.query.time)
        seen: deque[SeenFrame] = deque(maxlen=self._frames)
        for frame in frames:
            self.check()
            seen.append(frame)
            if frame.end < question.query.time:
                continue
            last = responses[-1].text if responses else None
            said = self._client.ask(
                messages(asked, seen, last), read_answer, {"question": question.id, "time": frame.end}
            )
            if said and is_new(said, last):
                responses.append(Response(frame.end, said))
        return Prediction(question.id, tuple(responses))
