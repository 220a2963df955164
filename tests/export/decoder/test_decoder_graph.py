"""The graph module against transformers, eagerly; its ONNX form against both is tested with the bundle."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from transformers import LlamaConfig  # noqa: E402

from export.decoder.graph import DecoderGraph, DecoderShape, rotary_tables  # noqa: E402
from export.decoder.lowerings.ort import OrtLowering  # noqa: E402
from export.decoder.parts import llama_parts  # noqa: E402
from export.decoder.targets import LOWERINGS  # noqa: E402
from export.errors import ExportError  # noqa: E402
from export.families.reference.decoder import full_logits  # noqa: E402

ROWS = 64


@pytest.mark.parametrize("lowering", LOWERINGS.values(), ids=list(LOWERINGS))
def test_chunks_through_the_static_cache_equal_one_pass(tiny_model, lowering):
    graph = DecoderGraph(llama_parts(tiny_model.model.decoder), lowering, ROWS)
    stream = torch.randn(30, graph.shape.hidden_size, generator=torch.Generator().manual_seed(0))
    expected = full_logits(tiny_model.model.decoder, stream)
    cache = graph.example_inputs()[3]
    for tensor in cache:
        tensor.fill_(1e4)  # rows not written yet must never be read
    start = 0
    for length in (11, 1, 7, 1, 10):
        chunk = stream[start : start + length][None]
        positions = torch.arange(start, start + length).reshape(1, 1, -1)
        logits, *written = graph(chunk, positions, torch.tensor([start]), cache)
        if lowering.name == "legacy-kv":  # only the chunk's rows, packed
            for tensor, rows in zip(cache, written[0], strict=True):
                tensor[0, :, start : start + length] = rows
        else:
            cache = written
        start += length
        torch.testing.assert_close(logits[0], expected[start - 1], atol=1e-4, rtol=0)


def test_names_follow_the_contract(tiny_model):
    graph = DecoderGraph(llama_parts(tiny_model.model.decoder), OrtLowering(), ROWS)
    assert graph.input_names() == [
        *("inputs_embeds", "position_ids", "write_index"),
        *("past_k.0", "past_v.0", "past_k.1", "past_v.1"),
    ]
    assert graph.output_names() == ["logits", "present_k.0", "present_v.0", "present_k.1", "present_v.1"]


@pytest.mark.parametrize("lowering", LOWERINGS.values(), ids=list(LOWERINGS))
def test_half_precision_stays_close_and_gives_float_logits(tiny_model, lowering):
    outputs = []
    for dtype in (torch.float32, torch.float16):
        graph = DecoderGraph(llama_parts(tiny_model.model.decoder), lowering, ROWS, dtype)
        embeddings, positions, index, cache = graph.example_inputs(9)
        embeddings = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(1))
        assert cache[0].dtype == dtype
        outputs.append(graph(embeddings, positions, index, cache)[0])
    assert outputs[1].dtype == torch.float32
    assert 0 < (outputs[0] - outputs[1]).abs().max() < 0.03


def test_legacy_outputs_are_packed(tiny_model):
    graph = DecoderGraph(llama_parts(tiny_model.model.decoder), LOWERINGS["legacy-kv"], ROWS)
    assert graph.output_names() == ["logits", "new_kv"]
    assert graph(*graph.example_inputs(5))[1].shape == (4, 2, 5, 16)  # [2 L, K, S, Dh]


def test_the_model_is_not_changed(tiny_model):
    graph = DecoderGraph(llama_parts(tiny_model.model.decoder), OrtLowering(), ROWS)
    weight = tiny_model.model.decoder.lm_head.weight
    assert graph.lm_head.data_ptr() != weight.data_ptr()
    assert weight.requires_grad


def test_rotary_tables_are_those_of_llama():
    shape = DecoderShape(64, 1, 4, 2, 16, 10000.0, 100, 4, 8)
    cos, sin = rotary_tables(shape)
    assert cos.shape == sin.shape == (8, 8)
    assert cos[3, 0] == pytest.approx(torch.cos(torch.tensor(3.0)).item())
    assert sin[5, 4] == pytest.approx(torch.sin(torch.tensor(5 * 10000.0**-0.5)).item())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "type 'linear'"),
        ({"attention_bias": True}, "without biases"),
        ({"hidden_act": "gelu"}, "with silu"),
    ],
)
def test_a_decoder_the_graph_does_not_have_is_refused(changes, message):
    with pytest.raises(ExportError, match=message):
        DecoderShape.of(LlamaConfig(hidden_size=64, num_attention_heads=4, **changes), ROWS)
