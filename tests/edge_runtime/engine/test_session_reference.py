"""A stream's decisions, against a second implementation of the timestep over plain PyTorch."""

import numpy as np
import pytest

from tests.edge_runtime.engine.stream import QUERY, middle, run

torch = pytest.importorskip("torch")
from export.families.reference.decoder import TorchStreamingDecoder  # noqa: E402

torch.set_num_threads(1)


class Reference:
    """The timestep written a second time: lists of segments, a torch cache, text decided token by token."""

    def __init__(self, model, decoder, threshold):
        self.model, self.threshold = model, threshold
        self.stream_format, self.encoder = model.stream_format, model.encoder
        self.decoder = TorchStreamingDecoder(decoder)
        self.table = torch.from_numpy(np.asarray(model.embedding, dtype=np.float32))
        self.segments = []  # [kind, name, slots]
        self.pending, self.queue, self.active = [], [], []
        self._append(self.encoder.prefix_ids())
        self.segments.append(["prefix", "", self.decoder.rows])

    def _append(self, ids, visual=None):
        slots = self.table[torch.tensor(ids)]
        if visual is not None:
            slots[torch.tensor(ids) == self.encoder.image_id] = torch.from_numpy(visual[0])
        return self.decoder.append(slots).numpy()

    def _evict(self, gone):
        kept, slot = [], 0
        for segment in self.segments:
            if segment not in gone:
                kept.append((slot, slot + segment[2]))
            slot += segment[2]
        self.decoder.evict(kept)
        self.segments = [s for s in self.segments if s not in gone]

    def ask(self, name, text):
        self.active.append(name)
        self.queue.append((name, self.encoder.query_ids(text)))

    def remove(self, name):
        self.active.remove(name)
        self._evict([s for s in self.segments if s[1] == name])

    def step(self, visual, index):
        turns = [s for s in self.segments if s[0] == "turn"]
        if len(turns) == self.stream_format.window_turns:
            self._evict(turns[: self.stream_format.evict_turns])
        if self.pending:
            self.segments[-1][2] += len(self.pending)
        chunk = list(self.pending)
        for name, ids in self.queue:
            chunk += ids
            self.segments.append(["query", name, len(ids)])
        self.queue = []
        turn = self.encoder.turn_ids(index)
        self.segments.append(["turn", str(index), len(turn)])
        logits = self._append([*chunk, *turn], visual)
        pair = torch.tensor([logits[self.encoder.silence_id], logits[self.encoder.response_id]])
        score = float(pair.softmax(0)[1]) if self.active else 0.0
        self.pending = self.encoder.silence_ids()
        if not self.active or score < self.threshold:
            return score, None
        text = [self.encoder.response_id]
        while len(text) <= self.stream_format.max_response_tokens:
            logits = self._append(text[-1:]) + self.model.text_bias
            if len(text) == 1:
                logits[self.encoder.stop_id] = -np.inf
            token = int(logits.argmax())
            if token == self.encoder.stop_id:
                break
            text.append(token)
        written = self.decoder.rows - sum(s[2] for s in self.segments)
        self.segments[-1][2] += written
        self.pending = [*text[written:], *self.encoder.response_end_ids]
        return score, self.model.tokenizer.decode(text[1:])


@pytest.mark.parametrize("brevity", [0.0, 8.0])
def test_decisions_and_texts_are_the_reference_ones_over_many_evictions(
    model, tiny_model, tokens, monkeypatch, brevity
):
    """Texts that run to the limit, and texts that mostly end by themselves."""
    bias = model.text_bias.copy()
    bias[model.encoder.stop_id] = brevity
    monkeypatch.setattr(model, "text_bias", bias)
    with model.session(threshold=1.0) as probe:
        probe.ask(QUERY)
        threshold = middle(run(probe, tokens, 40))
    session = model.session(threshold=threshold)
    reference = Reference(model, tiny_model.model.decoder, threshold)
    lengths = []
    for k in range(70):
        if k == 5:
            session.ask(QUERY)
            reference.ask("q1", QUERY)
        if k == 23:
            session.ask("Alert me when the dog crosses the street.", id="dog")
            reference.ask("dog", "Alert me when the dog crosses the street.")
        if k == 47:
            session.remove("q1")
            reference.remove("q1")
        decision = session.push_tokens(tokens[k % 60], k)
        score, text = reference.step(tokens[k % 60], k)
        assert decision.score == pytest.approx(score, abs=1e-3)
        assert decision.text == text
        assert decision.speak == decision.response == (text is not None)
        if decision.speak:
            lengths.append(len(decision.tokens))
    assert 10 < len(lengths) < 60
    assert (min(lengths) < model.stream_format.max_response_tokens) == (brevity > 0)
    assert decision.query == "dog"
