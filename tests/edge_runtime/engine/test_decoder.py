"""The cached decoder against plain PyTorch in fp32, which shares no code with it."""

import numpy as np
import onnxruntime
import pytest

from edge_runtime.backends.ort import OrtBackend
from edge_runtime.backends.ort_cache import OrtDeviceCache
from edge_runtime.bundle.manifest import load_bundle
from edge_runtime.engine.decoder import CachedDecoder
from edge_runtime.engine.model import Model
from edge_runtime.errors import BackendError
from edge_runtime.kv_cache.window import KVWindow

torch = pytest.importorskip("torch")
from export.families.reference.decoder import TorchStreamingDecoder, full_logits  # noqa: E402

TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def model(tiny_bundle_fp32):
    torch.set_num_threads(1)
    return Model(tiny_bundle_fp32, threads=1)


@pytest.fixture
def decoder(model):
    decoder = model.open_decoder()
    yield decoder
    decoder.close()


def random_ids(model, rng, count):
    """Ordinary tokens only: no placeholder among them."""
    special = {*model.tokenizer.special_ids, model.encoder.image_id}
    return [i for i in rng.integers(0, model.tokenizer.vocab_size, 3 * count) if i not in special][:count]


def embed(model, ids, visual=None):
    table = torch.from_numpy(np.asarray(model.embedding, dtype=np.float32))
    slots = table[torch.as_tensor(ids)]
    if visual is not None:
        slots[torch.as_tensor(ids) == model.encoder.image_id] = torch.from_numpy(visual)
    return slots


@pytest.mark.parametrize("sizes", [[64], [1] * 20, [16, 1, 1, 7, 12, 3, 40], [60, 12, 12, 12, 13, 1, 12]])
def test_chunks_give_what_one_forward_pass_gives(model, decoder, tiny_model, sizes):
    rng = np.random.default_rng(len(sizes))
    ids = random_ids(model, rng, sum(sizes))
    expected = full_logits(tiny_model.model.decoder, embed(model, ids)).numpy()
    slot = 0
    for size in sizes:
        logits = decoder.append(ids[slot : slot + size], slot)
        slot += size
        np.testing.assert_allclose(logits, expected[slot - 1], atol=TOLERANCE)


def test_visual_tokens_take_their_places(model, decoder, tiny_model):
    rng = np.random.default_rng(0)
    visual = rng.standard_normal((model.stream_format.frame_tokens, model.bundle.model.hidden_size)).astype(
        np.float32
    )
    ids = model.encoder.turn_ids(11)
    expected = full_logits(tiny_model.model.decoder, embed(model, ids, visual))[-1].numpy()
    np.testing.assert_allclose(decoder.append(ids, 0, visual), expected, atol=TOLERANCE)


@pytest.mark.parametrize("given", [None, -1, 1])
def test_placeholders_and_visual_tokens_must_agree(model, decoder, given):
    shape = (model.stream_format.frame_tokens + (given or 0), model.bundle.model.hidden_size)
    visual = None if given is None else np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match="visual tokens"):
        decoder.append(model.encoder.turn_ids(0), 0, visual)


def test_rows_that_do_not_fit_are_refused_before_anything_is_written(model, decoder):
    capacity = model.bundle.model.context_rows
    ids = random_ids(model, np.random.default_rng(0), 5)
    expected = decoder.append(ids, 0).copy()
    with pytest.raises(ValueError, match=f"cache of {capacity}"):
        decoder.append([5] * 3, capacity - 2)
    with pytest.raises(ValueError, match=f"cache of {capacity}"):
        decoder.append([5] * (capacity + 1), 0)
    np.testing.assert_allclose(decoder.append(ids[-1:], 4), expected, atol=1e-4)


def test_the_last_row_of_the_cache_can_be_used(model, decoder, tiny_model):
    capacity = model.bundle.model.context_rows
    ids = random_ids(model, np.random.default_rng(3), capacity)
    decoder.append(ids[:-1], 0)
    expected = full_logits(tiny_model.model.decoder, embed(model, ids))[-1].numpy()
    np.testing.assert_allclose(decoder.append(ids[-1:], capacity - 1), expected, atol=TOLERANCE)


def test_uncommitted_rows_are_overwritten(model, decoder):
    rng = np.random.default_rng(5)
    first, wrong, right = (random_ids(model, rng, count) for count in (20, 30, 9))
    decoder.append(first, 0)
    expected = decoder.append(right, 20).copy()
    decoder.append(wrong, 20)
    np.testing.assert_array_equal(decoder.append(right, 20), expected)


@pytest.mark.parametrize("device_memory", [False, True])
def test_evictions_give_what_the_reference_gives_that_evicts_the_same_rows(model, tiny_model, device_memory):
    """Ten rounds of filling and evicting, a query pinned in the middle, on both kinds of cache."""
    decoder = model.open_decoder()
    if device_memory:
        decoder = on_device_cache(model)
    reference = TorchStreamingDecoder(tiny_model.model.decoder)
    window = KVWindow(model.bundle.model.context_rows, max_turns=12, evict_turns=4)
    rng = np.random.default_rng(11)

    def append(kind, count, name=""):
        ids = random_ids(model, rng, count)
        got = decoder.append(ids, window.slots)
        window.add(kind, count, name)
        expected = reference.append(embed(model, ids)).numpy()
        np.testing.assert_allclose(got, expected, atol=TOLERANCE)
        assert reference.rows == window.slots

    append("prefix", 21)
    evictions = 0
    for turn in range(52):
        size = int(rng.integers(9, 20))
        if plan := window.plan_turn(size):
            kept, slot = [], 0
            for segment in window.segments:
                if segment not in plan.evicted:
                    kept.append((slot, slot + segment.slots))
                slot += segment.slots
            decoder.evict(plan)
            window.apply(plan)
            reference.evict(kept)
            evictions += 1
        if turn in (3, 20):
            append("query", 13, f"q{turn}")
        append("turn", size, str(turn))
    assert evictions == 10
    decoder.close()


def on_device_cache(model):
    """The cache for memory of a device, here with the processor as that device."""

    class OnCpu(OrtDeviceCache):
        device = "cpu"

    session = onnxruntime.InferenceSession(
        str(model.bundle.path("decoder.onnx")), providers=["CPUExecutionProvider"]
    )
    cache = OnCpu(session, model.bundle.model, np.float32)
    return CachedDecoder(cache, model.embedding, model.encoder.image_id)


def test_streams_on_one_model_do_not_touch_each_other(model):
    rng = np.random.default_rng(8)
    ids = random_ids(model, rng, 30)
    alone = model.open_decoder()
    expected = [alone.append(ids[k : k + 6], k).copy() for k in range(0, 30, 6)]
    one, other = model.open_decoder(), model.open_decoder()
    for number, k in enumerate(range(0, 30, 6)):
        other.append(random_ids(model, rng, 17), 17 * number)
        np.testing.assert_array_equal(one.append(ids[k : k + 6], k), expected[number])


def greedy(model, decoder, start, max_tokens, stop_bias=0.0):
    bias = model.text_bias.copy()
    bias[model.encoder.stop_id] = stop_bias
    return decoder.generate(
        [model.encoder.response_id],
        start,
        stop_id=model.encoder.stop_id,
        max_tokens=max_tokens,
        bias=bias,
        is_blank=lambda ids: not model.tokenizer.decode(ids),
    )


def test_generation_is_the_greedy_text_of_the_full_model(model, decoder, tiny_model):
    prompt = random_ids(model, np.random.default_rng(4), 25)
    decoder.append(prompt, 0)
    generated = greedy(model, decoder, 25, max_tokens=8)
    assert 1 <= len(generated.ids) <= 8
    ids = [*prompt, model.encoder.response_id]
    for token in generated.ids:
        logits = full_logits(tiny_model.model.decoder, embed(model, ids))[-1].numpy() + model.text_bias
        assert logits[token] >= logits.max() - TOLERANCE
        ids.append(token)


def test_generation_says_which_rows_it_wrote(model, decoder):
    decoder.append(random_ids(model, np.random.default_rng(4), 25), 0)
    cut = greedy(model, decoder, 25, max_tokens=5, stop_bias=-np.inf)
    assert (len(cut.ids), cut.slots, cut.stopped) == (5, 5, False)  # the last token was not appended
    stopped = greedy(model, decoder, 25, max_tokens=5, stop_bias=1e9)
    assert (len(stopped.ids), stopped.slots, stopped.stopped) == (1, 2, True)  # no empty text, however likely


def test_text_never_holds_special_tokens(model, decoder):
    decoder.append(random_ids(model, np.random.default_rng(4), 25), 0)
    generated = greedy(model, decoder, 25, max_tokens=40, stop_bias=-np.inf)
    assert not set(generated.ids) & {*model.tokenizer.special_ids}
    assert max(generated.ids) < model.tokenizer.vocab_size


def test_nan_is_an_error_and_not_a_decision(model, decoder):
    visual = np.full((model.stream_format.frame_tokens, model.bundle.model.hidden_size), np.nan, np.float32)
    with pytest.raises(BackendError, match="NaN"):
        decoder.append(model.encoder.turn_ids(0), 0, visual)


def test_an_engine_that_fails_is_reported_in_one_line(model, tiny_bundle_fp32):
    cache = OrtBackend("cpu", 1).load_decoder(load_bundle(tiny_bundle_fp32)).open_cache()
    with pytest.raises(BackendError, match="onnxruntime failed") as caught:
        cache.step(np.zeros((2, 3), np.float32), 0)  # width 3
    assert "\n" not in str(caught.value)
