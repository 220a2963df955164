"""The reference must itself be right: streaming equals one pass, and evicted rows are really gone."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from export.families.reference.decoder import TorchStreamingDecoder, full_logits  # noqa: E402


@pytest.fixture
def stream(tiny_model):
    generator = torch.Generator().manual_seed(3)
    return 0.3 * torch.randn(150, tiny_model.model.config.hidden_size, generator=generator)


@pytest.mark.parametrize("capacity", [None, 200])
def test_streaming_in_chunks_equals_one_pass_without_cache(tiny_model, stream, capacity):
    decoder = TorchStreamingDecoder(tiny_model.model.decoder, capacity=capacity)
    expected = full_logits(tiny_model.model.decoder, stream)
    start = 0
    for length in [40, 1, 12, 1, 1, 13, 30, 52]:
        logits = decoder.append(stream[start : start + length])
        start += length
        assert decoder.rows == start
        torch.testing.assert_close(logits, expected[start - 1], atol=1e-3, rtol=0)


@pytest.mark.parametrize("capacity", [None, 200])
def test_evicted_rows_leave_first_layer_as_if_never_seen(tiny_model, stream, capacity):
    """A first layer's keys depend on their own token and position alone, so they can be computed afresh."""
    decoder = TorchStreamingDecoder(tiny_model.model.decoder, capacity=capacity)
    decoder.append(stream)
    kept = [(0, 10), (35, 60), (100, 150)]
    decoder.evict(kept)
    fresh = TorchStreamingDecoder(tiny_model.model.decoder)
    fresh.append(torch.cat([stream[a:b] for a, b in kept]))
    assert decoder.rows == fresh.rows == 85
    torch.testing.assert_close(decoder._layers[0].keys, fresh._layers[0].keys, atol=1e-5, rtol=0)
    torch.testing.assert_close(decoder._layers[0].values, fresh._layers[0].values, atol=1e-5, rtol=0)
    # Deeper rows remember what they have attended to: that is the point of keeping them.
    assert not torch.allclose(decoder._layers[1].keys, fresh._layers[1].keys, atol=1e-3)


def test_growing_and_preallocated_caches_agree_after_evictions(tiny_model, stream):
    decoders = [TorchStreamingDecoder(tiny_model.model.decoder, capacity=c) for c in (None, 120)]
    for step in range(40):
        chunk = stream[3 * step : 3 * step + 3]
        a, b = (decoder.append(chunk) for decoder in decoders)
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
        if step % 9 == 8:
            for decoder in decoders:
                decoder.evict([(0, 4), (10, decoder.rows)])
    assert decoders[0].rows == decoders[1].rows == 120 - 4 * 6


def test_truncated_rows_are_forgotten(tiny_model, stream):
    decoder = TorchStreamingDecoder(tiny_model.model.decoder)
    decoder.append(stream[:20])
    decoder.append(stream[20:30])
    decoder.truncate(20)
    expected = full_logits(tiny_model.model.decoder, torch.cat([stream[:20], stream[90:95]]))
    torch.testing.assert_close(decoder.append(stream[90:95]), expected[-1], atol=1e-4, rtol=0)


def test_reset_forgets_everything(tiny_model, stream):
    decoder = TorchStreamingDecoder(tiny_model.model.decoder, capacity=64)
    first = decoder.append(stream[:9])
    decoder.append(stream[9:40])
    decoder.reset()
    assert decoder.rows == 0
    torch.testing.assert_close(decoder.append(stream[:9]), first)


@pytest.mark.parametrize("kept", [[(5, 3)], [(0, 5), (4, 8)], [(0, 21)], [(-1, 4)]])
def test_wrong_ranges_are_refused(tiny_model, stream, kept):
    decoder = TorchStreamingDecoder(tiny_model.model.decoder)
    decoder.append(stream[:20])
    with pytest.raises(ValueError, match="kept ranges"):
        decoder.evict(kept)


def test_rows_beyond_the_capacity_are_refused(tiny_model, stream):
    decoder = TorchStreamingDecoder(tiny_model.model.decoder, capacity=16)
    decoder.append(stream[:16])
    with pytest.raises(ValueError, match="17 rows do not fit"):
        decoder.append(stream[16:17])
