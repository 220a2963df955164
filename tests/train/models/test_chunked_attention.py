import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from train.models.chunked_attention import chunked_causal_attention
from train.models.compact.model import CompactConfig, CompactModel


@pytest.mark.parametrize("length", [1, 255, 256, 257, 600])
def test_chunks_attend_as_one_causal_pass(length: int) -> None:
    torch.manual_seed(0)
    query = torch.randn(2, 4, length, 16, requires_grad=True)
    key = torch.randn(2, 2, length, 16, requires_grad=True)
    value = torch.randn(2, 2, length, 16, requires_grad=True)

    ours = chunked_causal_attention(query, key, value, 16**-0.5)
    expected = scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)

    torch.testing.assert_close(ours, expected)
    weight = torch.randn_like(expected)
    for mine, theirs in zip(
        torch.autograd.grad((ours * weight).sum(), [query, key, value]),
        torch.autograd.grad((expected * weight).sum(), [query, key, value]),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_a_decoder_in_bf16_stays_close_to_fp32() -> None:
    torch.manual_seed(0)
    model = CompactModel(CompactConfig(vocab_size=64, hidden_size=64, num_layers=2, num_heads=4)).eval()
    tokens = torch.randint(0, 64, (2, 300))
    with torch.no_grad():
        exact = model.decoder.model(input_ids=tokens).last_hidden_state
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model.decoder.model(input_ids=tokens).last_hidden_state
    assert (exact - rounded).norm() / exact.norm() < 0.05
