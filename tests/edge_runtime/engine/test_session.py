"""A stream's decisions, against a second implementation of the timestep over plain PyTorch."""

import threading
import time
from collections import Counter

import numpy as np
import pytest

import edge_runtime
from edge_runtime.backends.ort import OrtHostCache
from edge_runtime.engine.model import Model
from edge_runtime.errors import BackendError, ConfigError, EdgeError, SourceError

torch = pytest.importorskip("torch")
from export.validation.torch_reference import TorchStreamingDecoder  # noqa: E402

QUERY = "Tell me each step as it is finished."


@pytest.fixture(scope="module")
def model(tiny_bundle_fp32):
    torch.set_num_threads(1)
    return Model(tiny_bundle_fp32, threads=1)


@pytest.fixture
def session(model):
    with model.session() as session:
        yield session


@pytest.fixture(scope="module")
def tokens(model):
    """Visual tokens of 60 frames that differ."""
    rng = np.random.default_rng(0)
    size = (1, model.stream_format.frame_tokens, model.bundle.model.hidden_size)
    return [rng.standard_normal(size).astype(np.float32) * 2 for _ in range(60)]


def frame(value=0, size=(224, 224)):
    return np.random.default_rng(value).integers(0, 256, (*size, 3), dtype=np.uint8)


def run(session, tokens, count, first=0):
    return [session.push_tokens(tokens[k % len(tokens)], k) for k in range(first, first + count)]


def middle(decisions):
    """A threshold that about half of these decisions reach."""
    return float(np.median([d.score for d in decisions]))


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


def test_a_silent_timestep_is_one_call_and_so_is_an_evicting_one(model, tokens, monkeypatch):
    calls, step = [], OrtHostCache.step
    monkeypatch.setattr(OrtHostCache, "step", lambda *arguments: calls.append(1) or step(*arguments))
    session = model.session(threshold=1.0)
    session.ask(QUERY)
    for k in range(40):
        calls.clear()
        assert not session.push_tokens(tokens[k], k).speak
        assert len(calls) == 1


def test_before_a_query_the_model_only_watches(model, tokens):
    session = model.session(threshold=0.0)
    for decision in run(session, tokens, 3):
        assert (decision.speak, decision.score, decision.text, decision.query) == (False, 0.0, None, None)
    session.ask(QUERY)
    decision = session.push_tokens(tokens[3], 3)
    assert decision.speak
    assert decision.query == "q1"
    session.remove("q1")
    assert not session.push_tokens(tokens[4], 4).speak


def test_watching_before_the_query_matters(model, tokens):
    scores = []
    for first in (0, 3):
        session = model.session(threshold=1.0)
        run(session, tokens, 5 - first, first)
        session.ask(QUERY)
        scores.append(session.push_tokens(tokens[5], 5).score)
    assert scores[0] != scores[1]


def test_a_response_always_says_something_and_ends(model, tokens):
    session = model.session(threshold=0.0)
    session.ask(QUERY)
    for decision in run(session, tokens, 50):
        assert decision.speak
        assert decision.text.strip()
        assert 1 <= len(decision.tokens) <= model.stream_format.max_response_tokens
        assert decision.text == model.tokenizer.decode(decision.tokens)


def test_nothing_but_blanks_is_silence(model, tokens, monkeypatch):
    blank = model.tokenizer.encode(" ")[0]
    bias = np.full_like(model.text_bias, -np.inf)
    bias[[blank, model.encoder.stop_id]] = 0.0
    session = model.session(threshold=0.0)
    silent = model.session(threshold=1.0)
    for each in (session, silent):
        each.ask(QUERY)
    monkeypatch.setattr(model, "text_bias", bias)
    for k in range(5):  # the cache goes on as after a real silence
        decision = session.push_tokens(tokens[k], k)
        assert (decision.speak, decision.text, decision.tokens) == (False, None, ())
        assert decision.score == pytest.approx(silent.push_tokens(tokens[k], k).score, abs=1e-6)


def test_time_is_what_is_pushed(session):
    session.ask(QUERY)
    assert session.push(frame(), 0.0) is None
    assert session.push(None, 0.5) is None  # not even looked at
    decision = session.push(frame(), 0.9)
    assert (decision.time, decision.interval) == (1.0, (0.0, 1.0))
    assert session.push(frame(), 1.2) is None
    assert session.push(frame(), 7.0).interval == (6.0, 7.0)
    assert {"preprocess", "vision", "append", "decision", "total"} <= set(decision.timing)
    assert all(ms >= 0 for ms in decision.timing.values())


def test_push_is_vision_and_push_tokens(model):
    vision = model.open_vision()
    one, other = model.session(), model.session()
    for session in (one, other):
        session.ask(QUERY)
    for k in range(4):
        picture = frame(k, (120, 200))
        assert one.push(picture, k + 1.0) == other.push_tokens(vision.see(picture), k)


def test_a_recorded_stream_gives_the_same_decisions_again(model, tokens):
    session = model.session(threshold=0.5)
    session.ask(QUERY)
    first = run(session, tokens, 30)
    session.reset()
    assert session.queries == {}
    assert session.ask(QUERY) == "q1"
    assert run(session, tokens, 30) == first
    session.reset(keep_queries=True)
    assert session.queries == {"q1": QUERY}
    assert run(session, tokens, 30) == first
    other = model.session(threshold=0.5)
    other.ask(QUERY)
    assert run(other, tokens, 30) == first


def test_a_removed_query_is_forgotten(model, tokens):
    """One query removed before its first timestep leaves no trace at all."""
    plain, changed = model.session(), model.session()
    for session in (plain, changed):
        session.ask(QUERY)
    extra = changed.ask("How many red cars passed by?")
    changed.remove(extra)
    assert changed.queries == plain.queries == {"q1": QUERY}
    assert run(changed, tokens, 20) == run(plain, tokens, 20)
    changed.ask("How many red cars passed by?", id="cars")
    changed.push_tokens(tokens[20], 20)
    slots = changed._window.pinned_slots
    changed.remove("cars")
    assert changed._window.pinned_slots < slots
    assert changed.push_tokens(tokens[21], 21).query == "q1"


@pytest.mark.parametrize("failing_call", [1, 2, 3])
def test_a_failing_step_leaves_the_session_as_it_was(model, tokens, failing_call):
    """At the decision, at the first and at a later text token; with an eviction due."""
    picture = frame(3)
    expected, session = model.session(threshold=0.0), model.session(threshold=0.0)
    for each in (expected, session):
        each.ask(QUERY)
        run(each, tokens, 12)
        each.ask("What does the person do?")
    cache = session._decoder._cache
    step, calls = cache.step, 0

    def fail_once(embeddings, start):
        nonlocal calls
        calls += 1
        if calls == failing_call:
            raise BackendError("decoder graph: out of memory")
        return step(embeddings, start)

    cache.step = fail_once
    with pytest.raises(BackendError):
        session.push(picture, 13.0)
    assert session.push(picture, 13.0) == expected.push(picture, 13.0)
    assert run(session, tokens, 20, 13) == run(expected, tokens, 20, 13)


def test_a_bad_frame_changes_nothing(model):
    expected, session = model.session(), model.session()
    for each in (expected, session):
        each.ask(QUERY)
        each.push(frame(1), 1.0)
    with pytest.raises(SourceError, match="uint8"):
        session.push(frame(2).astype(np.float32), 2.0)
    with pytest.raises(SourceError, match="seconds"):
        session.push(frame(2), float("nan"))
    assert session.push(frame(2), 2.0) == expected.push(frame(2), 2.0)


def test_a_full_cache_evicts_before_it_overflows(tiny_bundle_fp32, tokens):
    """Responses so long that slots run out before the window's turns do."""
    model = Model(tiny_bundle_fp32, threads=1)
    session = model.session(threshold=0.0)
    session._window.max_turns = 1000
    session.ask(QUERY)
    evictions = 0
    for decision in run(session, tokens, 60):
        assert session._window.slots <= session._window.capacity
        evictions += "evict" in decision.timing
    assert evictions >= 3


def test_far_timesteps_work(session, tokens):
    session.ask(QUERY)
    for k in [*range(20_000, 20_040), 1_000_000, 99_999_999]:
        decision = session.push_tokens(tokens[k % 60], k)
    assert decision.time == 100_000_000.0
    assert 0.0 <= decision.score <= 1.0


def test_timesteps_only_go_forward(session, tokens):
    session.push_tokens(tokens[0], 5)
    for index in (5, 4, -1):
        with pytest.raises(ConfigError, match="after the last"):
            session.push_tokens(tokens[0], index)
    with pytest.raises(ConfigError, match="shape"):
        session.push_tokens(tokens[0][0], 6)


def test_questions_that_cannot_be_asked(session):
    with pytest.raises(ConfigError, match="empty"):
        session.ask(" \n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        session.ask("caf\udce9")
    with pytest.raises(ConfigError, match=r"at most \d+ fit"):
        session.ask("word " * 400)
    session.ask(QUERY, id="a")
    with pytest.raises(ConfigError, match="in use"):
        session.ask(QUERY, id="a")
    with pytest.raises(ConfigError, match=r"nothing.*active: a"):
        session.remove("nothing")
    with pytest.raises(ConfigError, match="beside 1 active"):
        session.ask("word " * 85)
    assert session.queries == {"a": QUERY}


def test_as_many_queries_as_fit_leave_room_for_the_stream(model, tokens):
    session = model.session(threshold=0.0)
    asked = 0
    with pytest.raises(ConfigError, match="fit"):
        while True:
            session.ask(QUERY)
            asked += 1
    assert asked >= 3
    run(session, tokens, 40)
    assert session._window.turns > 1


def test_ids_are_given_in_order_and_never_twice(session):
    assert session.ask(QUERY) == "q1"
    assert session.ask(QUERY, id="q2") == "q2"
    assert session.ask(QUERY) == "q3"
    session.remove("q1")
    assert session.ask(QUERY) == "q4"


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_threshold_is_a_probability(model, session, threshold):
    with pytest.raises(ConfigError, match=r"0\.\.1"):
        model.session(threshold=threshold)
    with pytest.raises(ConfigError, match=r"0\.\.1"):
        session.threshold = threshold


def test_speaks_from_the_threshold_on(model, tokens):
    session = model.session(threshold=1.0)
    session.ask(QUERY)
    decisions = run(session, tokens, 8)
    session.reset(keep_queries=True)
    session.threshold = decisions[0].score
    assert session.push_tokens(tokens[0], 0).speak


def test_a_closed_session_says_so(model, tokens):
    session = model.session()
    session.close()
    session.close()
    for call in (
        lambda: session.push(frame(), 1.0),
        lambda: session.push_tokens(tokens[0], 0),
        lambda: session.ask(QUERY),
        lambda: session.remove("q1"),
        session.reset,
    ):
        with pytest.raises(EdgeError, match="closed"):
            call()


def test_sessions_run_in_parallel_on_one_model(model, tokens):
    def watch(results, number):
        with model.session(threshold=0.5) as session:
            session.ask(QUERY)
            results[number] = run(session, tokens, 30)

    results = {}
    threads = [threading.Thread(target=watch, args=(results, n)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1] == results[2]


def test_asking_from_another_thread_never_falls_into_a_step(model, tokens):
    session = model.session(threshold=1.0)
    stop = threading.Event()

    def meddle():
        while not stop.is_set():
            session.remove(session.ask(QUERY))
            time.sleep(0.001)

    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        kinds = Counter()
        for k in range(30):
            session.push_tokens(tokens[k], k)
            kinds.update(segment.kind for segment in session._window.segments)
    finally:
        stop.set()
        thread.join()
    assert kinds["prefix"] == 30


def test_open_by_folder(tiny_bundle):
    with edge_runtime.open(tiny_bundle, threads=1, threshold=0.0) as session:
        session.ask(QUERY)
        decision = session.push(frame(0, (48, 64)), 1.0)
    assert isinstance(decision, edge_runtime.Decision)
    assert decision.response
