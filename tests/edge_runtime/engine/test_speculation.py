"""Verified drafts: the text, the cache and the decisions are those of greedy decoding, token by token."""

from dataclasses import replace

import numpy as np
import pytest

from edge_runtime.engine.decoder import CachedDecoder
from edge_runtime.engine.drafts import Drafts
from edge_runtime.engine.model import Model

pytest.importorskip("torch")
from export.bundle_writer import export_model
from export.decoder.targets import Target
from export.options import ExportOptions

TOLERANCE = 1e-4


class Counter:
    """Counts what drafts came to, over all streams."""

    def __init__(self, monkeypatch):
        self.drafted = self.saved = 0
        judge = Drafts.judge

        def counted(drafts, drafted, saved):
            self.drafted += drafted
            self.saved += saved
            judge(drafts, drafted, saved)

        monkeypatch.setattr(Drafts, "judge", counted)


@pytest.fixture
def counter(monkeypatch):
    return Counter(monkeypatch)


def bundle(tiny_model, folder, lowering, monkeypatch, **options):
    """Of long texts. Every lowering lets choose the rows of its logits here."""
    monkeypatch.setattr(Target, "chooses_rows", True)
    target = "ort-cpu" if lowering == "ort-gqa" else "tensorrt"
    source = tiny_model.source()
    source = replace(source, stream_format=replace(source.stream_format, max_response_tokens=24))
    chosen = ExportOptions(target=target, lowerings=(lowering,), context_rows=448, **options)
    return export_model(source, folder, chosen)


CASES = {
    "int8": ("ort-gqa", {"precision": "int8"}),
    "fp32": ("ort-gqa", {"precision": "fp32"}),
    "int8 cache": ("ort-gqa", {"precision": "int8", "kv": "int8"}),
    "native-kv": ("native-kv", {"precision": "fp16"}),
    "legacy-kv": ("legacy-kv", {"precision": "fp32"}),
}


@pytest.fixture(scope="module", params=list(CASES))
def model(request, tiny_model, tmp_path_factory):
    lowering, options = CASES[request.param]
    folder = tmp_path_factory.mktemp("speculation") / "bundle"
    with pytest.MonkeyPatch.context() as monkeypatch:
        bundle(tiny_model, folder, lowering, monkeypatch, **options)
    return Model(folder, threads=1, backend="cpu")


def watch(model, frames, words, *, drafted):
    """A stream that responds at every timestep, with texts that repeat themselves when only few words may
    be used; it evicts, and a query leaves and another comes.
    """
    with model.session(threshold=0.0) as session:
        if not drafted:
            session._drafts.propose = lambda ids, most: []
        asked = session.ask("Tell me each step as it is finished.")
        decisions = []
        for k, tokens in enumerate(frames):
            if k == len(frames) // 2:
                session.remove(asked)
                session.ask("What does the person do?")
            decisions.append(session.push_tokens(tokens, k))
        return decisions, session._decoder.cached_slots(session.slots)


def frames_of(model, count, seed):
    rng = np.random.default_rng(seed)
    size = (1, model.stream_format.frame_tokens, model.bundle.model.hidden_size)
    return [rng.standard_normal(size).astype(np.float32) * 2 for _ in range(count)]


def with_words(model, seed, count):
    """The same model, whose texts are made of ``count`` words: fewer words repeat more."""
    bias = model.text_bias.copy()
    rng = np.random.default_rng(seed)
    allowed = rng.choice(np.flatnonzero(np.isfinite(bias)), count, replace=False)
    kept = np.full_like(bias, -np.inf)
    kept[allowed] = 0.0
    kept[model.encoder.stop_id] = bias[model.encoder.stop_id]
    return kept


@pytest.mark.parametrize(("seed", "words"), [(0, 3), (1, 8), (2, 40), (3, None)])
def test_decisions_are_those_of_greedy_decoding(model, monkeypatch, counter, seed, words):
    if words is not None:
        monkeypatch.setattr(model, "text_bias", with_words(model, seed, words))
    frames = frames_of(model, 30, seed)
    greedy, expected = watch(model, frames, words, drafted=False)
    assert counter.drafted == 0
    drafted, found = watch(model, frames, words, drafted=True)
    assert [d.tokens for d in drafted] == [d.tokens for d in greedy]
    assert [d.text for d in drafted] == [d.text for d in greedy]
    np.testing.assert_allclose([d.score for d in drafted], [d.score for d in greedy], atol=0.02)
    assert max(len(d.tokens) for d in greedy) >= 20
    for ours, theirs in zip(found, expected, strict=True):  # the same slots, and what they hold
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=0.15 * np.abs(theirs).max())
    assert counter.drafted > 0
    if words in (3, 8) and model.bundle.precision == "fp32":  # random weights decide narrowly
        assert counter.saved > 0.3 * counter.drafted


def generate(model, decoder, prompt, drafts, *, max_tokens=24, first=None, stop=0.0):
    bias = model.text_bias.copy()
    bias[model.encoder.stop_id] = stop
    return decoder.generate(
        [model.encoder.response_id] if first is None else first,
        len(prompt),
        stop_id=model.encoder.stop_id,
        max_tokens=max_tokens,
        bias=bias,
        is_blank=lambda ids: not model.tokenizer.decode(ids),
        drafts=drafts,
    )


@pytest.fixture(scope="module")
def fp32(tiny_bundle_fp32):
    return Model(tiny_bundle_fp32, threads=1)


def prompt_of(model, seed, count=40):
    rng = np.random.default_rng(seed)
    special = {*model.tokenizer.special_ids, model.encoder.image_id}
    return [i for i in rng.integers(0, model.tokenizer.vocab_size, 3 * count) if i not in special][:count]


@pytest.mark.parametrize("seed", range(12))
def test_a_draft_may_be_right_in_part(fp32, counter, seed):
    """The greedy text, with a mistake at a place that changes, is what is drafted."""
    rng = np.random.default_rng(seed)
    prompt = prompt_of(fp32, seed)
    decoder = fp32.open_decoder()
    decoder.append(prompt, 0)
    stop, most = float(rng.choice([-np.inf, 0.0, 6.0])), int(rng.integers(1, 25))
    expected = generate(fp32, decoder, prompt, None, max_tokens=most, stop=stop)
    for wrong in range(len(expected.ids) + 1):
        known = [*expected.ids]
        known[wrong:] = [(token + 1) % 50 for token in known[wrong:]]
        drafts = Drafts(())
        drafts.remember(known)
        drafts.begin([])
        found = generate(fp32, decoder, prompt, drafts, max_tokens=most, stop=stop)
        assert (found.ids, found.slots, found.stopped) == (expected.ids, expected.slots, expected.stopped)
    assert counter.drafted > 0 or most == 1


def test_a_right_draft_saves_calls(fp32, monkeypatch):
    prompt = prompt_of(fp32, 3)
    decoder = fp32.open_decoder()
    decoder.append(prompt, 0)
    calls = []
    for name in ("append", "verify"):
        method = getattr(CachedDecoder, name)
        monkeypatch.setattr(
            CachedDecoder, name, lambda *given, method=method: calls.append(1) or method(*given)
        )
    expected = generate(fp32, decoder, prompt, None, stop=-np.inf)
    assert len(calls) == len(expected.ids) == 24
    drafts = Drafts(())
    drafts.remember(expected.ids)
    drafts.begin([])
    calls.clear()
    assert generate(fp32, decoder, prompt, drafts, stop=-np.inf).ids == expected.ids
    assert len(calls) <= 7


def test_a_text_that_nothing_announces(fp32, counter):
    prompt = prompt_of(fp32, 5)
    decoder = fp32.open_decoder()
    first = decoder.append(prompt, 0).copy()
    expected = generate(fp32, decoder, prompt, None, first=first, stop=-np.inf)
    drafts = Drafts(())
    drafts.remember(expected.ids)
    drafts.begin([])
    found = generate(fp32, decoder, prompt, drafts, first=first, stop=-np.inf)
    assert (found.ids, found.slots) == (expected.ids, expected.slots)
    assert counter.saved > 0


def test_a_choice_that_rounding_could_change_is_made_alone(fp32, monkeypatch):
    prompt = prompt_of(fp32, 7)
    decoder = fp32.open_decoder()
    decoder.append(prompt, 0)
    expected = generate(fp32, decoder, prompt, None, stop=-np.inf)
    decoder._margin = 1e9
    drafts = Drafts(())
    drafts.remember(expected.ids)
    drafts.begin([])
    alone = []
    append = CachedDecoder.append
    monkeypatch.setattr(CachedDecoder, "append", lambda *given: alone.append(len(given[1])) or append(*given))
    found = generate(fp32, decoder, prompt, drafts, stop=-np.inf)
    assert (found.ids, found.slots) == (expected.ids, expected.slots)
    assert alone == [1] * 24  # every token after all


def test_logits_of_every_row_are_those_of_single_steps(fp32):
    prompt, ids = prompt_of(fp32, 1), prompt_of(fp32, 2, 16)
    one, other = fp32.open_decoder(), fp32.open_decoder()
    one.append(prompt, 0)
    other.append(prompt, 0)
    rows = one.verify(ids, len(prompt))
    assert rows.shape == (16, fp32.bundle.model.vocab_size)
    for number, token in enumerate(ids):
        expected = other.append([token], len(prompt) + number)
        np.testing.assert_allclose(rows[number], expected, atol=TOLERANCE)
    assert one.append(ids[:1], len(prompt)).shape == (fp32.bundle.model.vocab_size,)
    with pytest.raises(ValueError, match="at most 16"):
        one.verify([*ids, 1], len(prompt))


def test_a_bundle_without_the_input_decodes_token_by_token(tiny_model, tmp_path, monkeypatch, counter):
    monkeypatch.setattr(Target, "chooses_rows", False)
    tiny_model.export(tmp_path / "old", "int8")
    model = Model(tmp_path / "old", threads=1, backend="cpu")
    assert model.open_decoder().most_rows == 1
    frames = frames_of(model, 6, 0)
    decisions, _ = watch(model, frames, None, drafted=True)
    assert counter.drafted == 0 and all(decision.tokens for decision in decisions)
