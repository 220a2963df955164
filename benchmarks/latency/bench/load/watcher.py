"""The timestep that is measured: what ``edge-run`` does with a frame, each stage timed by itself."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.latency.bench.load.open_loop import Arrival
from edge_runtime.engine.model import Model
from edge_runtime.engine.session import StreamSession
from edge_runtime.engine.vision import VisionStream

QUERY = "Tell me each step as it is finished."
STAGES = ("late", "decode", "queue", "preprocess", "vision", "evict", "append", "decide")
"""In their order; together they are the time from the moment a frame is due to its decision."""


@dataclass(frozen=True)
class Sample:
    """One frame that was decided on."""

    stream: int
    due: float
    decided: float
    """Clock seconds."""
    stages_ms: dict[str, float] = field(default_factory=dict)
    first_token_ms: float | None = None
    """From the moment the frame was due to the first token of the text."""
    token_ms: float | None = None
    """Per further token of the text."""

    @property
    def decision_ms(self) -> float:
        return (self.decided - self.due) * 1e3


class Watcher:
    """One model and a session per stream, with one question each. For one thread.

    ``speak_every``: each stream is made to speak at every so-manieth timestep and is silent otherwise,
    so that the share of text does not hang on what a clip happens to show; 0: never.
    """

    def __init__(self, model: Model, speak_every: int) -> None:
        self.model = model
        self._speak_every = speak_every
        self._sessions: list[StreamSession] = []
        self._visions: list[VisionStream] = []
        self._first: list[int] = []
        """Timestep of each stream's frame 0."""
        self._steps: list[int] = []
        self._silent: list[int] = []
        """Timesteps since each stream last spoke."""

    @property
    def streams(self) -> int:
        return len(self._sessions)

    @property
    def full_after(self) -> int:
        """Timesteps after which a stream's window is full and has been cut back once."""
        return self.model.stream_format.window_turns + 1

    @property
    def chunk_rows(self) -> int:
        """Rows that a silent timestep appends: its turn and the decision before it."""
        encoder = self.model.encoder
        return len(encoder.turn_ids(max(self._steps, default=0))) + len(encoder.silence_ids())

    def rows(self, streams: int) -> list[int]:
        """Rows of the cache in use, of each of the first ``streams`` streams."""
        return [session.slots for session in self._sessions[:streams]]

    def add_stream(self) -> None:
        session = self.model.session(threshold=1.0)
        session.ask(QUERY)
        self._sessions.append(session)
        self._visions.append(self.model.open_vision())
        self._first.append(0)
        self._steps.append(0)
        self._silent.append(0)

    def show(self, stream: int, image: NDArray[np.uint8]) -> Sample:
        """A stream's next timestep at once, outside any timetable."""
        now = time.monotonic()
        self._first[stream] = self._steps[stream]
        return self.step(Arrival(stream, 0, now, now, image, now))

    def next_run(self) -> None:
        """Frame 0 of what comes is each stream's next timestep."""
        self._first = list(self._steps)

    def step(self, arrival: Arrival) -> Sample:
        """Decide on a frame. Raises BackendError when the engine fails."""
        clock, stream = time.monotonic, arrival.stream
        session, vision = self._sessions[stream], self._visions[stream]
        index = self._first[stream] + arrival.number
        self._silent[stream] += 1
        # By timesteps processed, not by frame numbers: the one due to speak may be a frame that was dropped.
        speaks = self._silent[stream] == self._speak_every
        if speaks:
            self._silent[stream] = 0
        session.threshold = 0.0 if speaks else 1.0
        taken = clock()
        pixels = vision.preprocess(arrival.image)
        preprocessed = clock()
        tokens = vision.encode(pixels)
        encoded = clock()
        decision = session.push_tokens(tokens, index)
        self._steps[stream] = index + 1

        timing = decision.timing
        decided = encoded + timing["decision"] / 1e3
        evict = timing.get("evict", 0.0)
        stages = {
            "queue": (taken - arrival.ready) * 1e3,
            "preprocess": (preprocessed - taken) * 1e3,
            "vision": (encoded - preprocessed) * 1e3,
            "append": timing["append"],
            "decide": max(0.0, timing["decision"] - timing["append"] - evict),
        }
        if "evict" in timing:
            stages["evict"] = evict
        if arrival.started is None:  # capture, transport and decoding are one value here
            stages["decode"] = (arrival.ready - arrival.due) * 1e3
        else:
            stages["late"] = (arrival.started - arrival.due) * 1e3
            stages["decode"] = (arrival.ready - arrival.started) * 1e3
        first = per_token = None
        if "first_token" in timing:
            first = (encoded - arrival.due) * 1e3 + timing["first_token"]
            # After the first token come the others and, unless the text was cut short, its end.
            stopped = len(decision.tokens) < self.model.stream_format.max_response_tokens
            if further := len(decision.tokens) - 1 + stopped:
                per_token = (timing["total"] - timing["first_token"]) / further
        return Sample(stream, arrival.due, decided, stages, first, per_token)

    def close(self) -> None:
        for session in self._sessions:
            session.close()
