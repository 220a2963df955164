"""Offline models: polled at each timestep, over an OpenAI-compatible server (paper section 4, Wait rule).

A model that answers once about a finished video is made to decide when to speak: at each timestep after the
query it sees the last frames so far and its own last answer, and is asked whether they are enough to answer
without guessing. No, or the same answer again: Wait. Else what it says is a response at that moment. Where
the paper is silent, this project's choice: the words of the prompt, how many frames are sent and how large
(settings), and that a repeated answer counts as Wait also when the model repeats it all the same.
"""

from __future__ import annotations

import base64
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.metric.annotations import Annotation, Prediction, Response
from benchmarks.metric.judges import normalise
from benchmarks.metric.llm.client import Message, OpenAIClient
from benchmarks.streampro.clip_pool import ClipPool
from benchmarks.streampro.clips import timestep_frames
from edge_runtime.bundle.stream_format import StreamFormat

SYSTEM_PROMPT = """\
You watch a video while it plays. You get its frames so far, one per second, each after the interval of time \
that it stands for, such as <11s-12s>. The user has asked something that is to be answered while the video \
goes on, and you are asked again at every second.

Decide whether you have seen enough to answer at this moment without guessing:
- If you have not, or if what the user wants to hear about has not fully happened yet, reply: Wait
- If you have, but your answer would be the same as your last one, reply: Wait
- Otherwise reply with the answer alone, in one short sentence about what is new. If the user asks for a \
time, answer with the interval in seconds, such as 12s-20s.

Reply with the single word Wait or with the answer, and nothing else."""

REQUEST_FIELDS: dict[str, Any] = {"temperature": 0, "max_tokens": 128}
"""Fields of each request; for a server that does not know one, the client's ``extra`` leaves it out."""

JPEG_QUALITY = 85
STREAM_FORMAT = StreamFormat(fps=1.0)
"""Frames and labels are those of the streaming models, at the paper's rate."""


@dataclass(frozen=True)
class Frame:
    """One timestep: the seconds it ends at, its label and its frame as a data URL."""

    end: float
    label: str
    url: str


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
        frames: list[Frame] = []
        for index, frame in timestep_frames(clip, STREAM_FORMAT.fps):
            self.check()
            url = data_url(frame, self._frame_size)
            frames.append(Frame(STREAM_FORMAT.interval(index)[1], STREAM_FORMAT.label(index), url))
        for question in questions:
            yield question, self._answer(question, frames)

    def _answer(self, question: Annotation, frames: Sequence[Frame]) -> Prediction:
        responses: list[Response] = []
        seen: deque[Frame] = deque(maxlen=self._frames)
        for frame in frames:
            self.check()
            seen.append(frame)
            if frame.end < question.query.time:
                continue
            last = responses[-1].text if responses else None
            said = self._client.ask(
                messages(question, seen, last), read_answer, {"question": question.id, "time": frame.end}
            )
            if said and normalise(said) != normalise(last or ""):
                responses.append(Response(frame.end, said))
        return Prediction(question.id, tuple(responses))


def messages(question: Annotation, seen: Sequence[Frame], last: str | None) -> list[Message]:
    """The request at the last of the ``seen`` frames; ``last``: the model's last answer."""
    content: list[dict[str, Any]] = []
    for frame in seen:
        content.append({"type": "text", "text": frame.label})
        content.append({"type": "image_url", "image_url": {"url": frame.url}})
    asked = f"Question, asked at {question.query.time:g}s: {question.query.text}"
    said = f"Your last answer: {last}" if last else "You have not answered yet."
    now = f"It is {seen[-1].end:g}s now. Wait, or the answer?"
    content.append({"type": "text", "text": f"{asked}\n{said}\n{now}"})
    return [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": content}]


def read_answer(reply: str) -> str | None:
    """The answer in a reply, None for Wait and for silence. What a model thinks aloud is not its answer."""
    said = re.sub(r"<think>.*?(</think>|\Z)", "", reply, flags=re.DOTALL).strip()
    return None if normalise(said) in ("", "wait") else said


def data_url(frame: NDArray[np.uint8], longest: int) -> str:
    """A frame, uint8 [H, W, 3] RGB, as a JPEG data URL, its longer side at most ``longest`` pixels."""
    image = Image.fromarray(frame)
    image.thumbnail((longest, longest), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")
