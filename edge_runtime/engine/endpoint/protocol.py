"""Wait or answer: how a chat model that was never trained for streams is made to decide when to speak.

At each timestep the model sees the last frames, the question and its own last answer, and is asked whether
they are enough to answer without guessing (paper section 4, Wait rule). Cameras
(:mod:`edge_runtime.engine.endpoint`) and the benchmark (:mod:`benchmarks.streampro.polled`) send these same
requests. Where the paper is silent, this project's choice: the words of the prompt, and that a repeated
answer counts as Wait also when the model repeats it all the same.
"""

from __future__ import annotations

import base64
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_runtime.bundle.stream_format import format_seconds

Message = dict[str, Any]
JPEG_QUALITY = 85

_SYSTEM_PROMPT = """\
You watch a video while it plays. You get its frames so far, {rate}, each after the interval of time \
that it stands for, such as <11s-12s>. The user has asked something that is to be answered while the video \
goes on, and you are asked again {again}.

Decide whether you have seen enough to answer at this moment without guessing:
- If you have not, or if what the user wants to hear about has not fully happened yet, reply: Wait
- If you have, but your answer would be the same as your last one, reply: Wait
- Otherwise reply with the answer alone, in one short sentence about what is new. If the user asks for a \
time, answer with the interval in seconds, such as 12s-20s.

Reply with the single word Wait or with the answer, and nothing else."""


@dataclass(frozen=True)
class SeenFrame:
    """One timestep: the seconds it ends at, its label and its frame as a data URL."""

    end: float
    label: str
    url: str


@dataclass(frozen=True)
class AskedQuestion:
    """A question, and the seconds of the stream at which it was asked."""

    text: str
    time: float


def system_prompt(fps: float = 1.0) -> str:
    """The prompt for a stream of ``fps`` timesteps a second."""
    if fps == 1.0:
        return _SYSTEM_PROMPT.format(rate="one per second", again="at every second")
    every = f"every {format_seconds(1 / fps)} seconds"
    return _SYSTEM_PROMPT.format(rate=f"one {every}", again=every)


def messages(
    question: AskedQuestion, seen: Sequence[SeenFrame], last: str | None, fps: float = 1.0
) -> list[Message]:
    """The request at the last of the ``seen`` frames; ``last``: the model's last answer."""
    content: list[dict[str, Any]] = []
    for frame in seen:
        content.append({"type": "text", "text": frame.label})
        content.append({"type": "image_url", "image_url": {"url": frame.url}})
    asked = f"Question, asked at {question.time:g}s: {question.text}"
    said = f"Your last answer: {last}" if last else "You have not answered yet."
    now = f"It is {seen[-1].end:g}s now. Wait, or the answer?"
    content.append({"type": "text", "text": f"{asked}\n{said}\n{now}"})
    return [{"role": "system", "content": system_prompt(fps)}, {"role": "user", "content": content}]


def read_answer(reply: str) -> str | None:
    """The answer in a reply, None for Wait and for silence. What a model thinks aloud is not its answer."""
    said = re.sub(r"<think>.*?(</think>|\Z)", "", reply, flags=re.DOTALL).strip()
    return None if _words(said) in ("", "wait") else said


def is_new(answer: str, last: str | None) -> bool:
    """Whether ``answer`` says anything else than the last one."""
    return _words(answer) != _words(last or "")


def data_url(frame: NDArray[np.uint8], longest: int) -> str:
    """A frame, uint8 [H, W, 3] RGB, as a JPEG data URL, its longer side at most ``longest`` pixels."""
    image = Image.fromarray(frame)
    image.thumbnail((longest, longest), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def _words(text: str) -> str:
    """Letters and digits alone, in one form."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = (c if unicodedata.category(c)[0] in "LNM" else " " for c in folded)
    return " ".join("".join(kept).split())
