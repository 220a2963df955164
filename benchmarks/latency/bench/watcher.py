"""The timestep that is measured: what ``edge-run`` does with a picture, each stage timed by itself."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from benchmarks.latency.bench.open_loop import Arrival
from edge_runtime.model import Model

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
    """One model, ``streams`` sessions with one question each. For one thread.

    ``speak_every``: each stream is made to speak at every so-manieth timestep and is silent otherwise, so
    that the share of text does not hang on what a clip happens to show; 0: never.
    """

    def __init__(self, model: Model, streams: int, speak_every: int) -> None:
        self.model = model
        self._speak_every = speak_every
        self._sessions = [model.session(threshold=1.0) for _ in range(streams)]
        self._visions = [model.open_vision() for _ in range(streams)]
        self._first = [0] * streams
        """Timestep of each stream's frame 0."""
        self._steps = [0] * streams
        for session in self._sessions:
            session.ask(QUERY)

    @property
    def rows(self) -> list[int]:
        """Rows of the cache in use, per stream."""
        return [session.rows for session in self._sessions]

    def next_run(self) -> None:
        """Frame 0 of what comes is each stream's next timestep."""
        self._first = list(self._steps)

    def step(self, arrival: Arrival) -> Sample:
        """Decide on a frame. Raises BackendError when the engine fails."""
        clock, stream = time.monotonic, arrival.stream
        session, vision = self._sessions[stream], self._visions[stream]
        index = self._first[stream] + arrival.number
        speaks = self._speak_every and index % self._speak_every == self._speak_every - 1
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
        if arrival.started is None:  # capture, transport and decoding are one to whoever gets the picture
            stages["decode"] = (arrival.ready - arrival.due) * 1e3
        else:
            stages["late"] = (arrival.started - arrival.due) * 1e3
            stages["decode"] = (arrival.ready - arrival.started) * 1e3
        first = per_token = None
        if "first_token" in timing:
            first = (encoded - arrival.due) * 1e3 + timing["first_token"]
            # After the first token come the others and, unless the text was cut short, its end.
            stopped = len(decision.tokens) < self.model.protocol.max_response_tokens
            if further := len(decision.tokens) - 1 + stopped:
                per_token = (timing["total"] - timing["first_token"]) / further
        return Sample(stream, arrival.due, decided, stages, first, per_token)

    def close(self) -> None:
        for session in self._sessions:
            session.close()
