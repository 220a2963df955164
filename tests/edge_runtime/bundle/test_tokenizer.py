"""Text to ids and back."""

import pytest

from edge_runtime.bundle.tokenizer import Tokenizer
from edge_runtime.errors import BundleError


@pytest.fixture(scope="module")
def tokenizer(tiny_bundle_fp32):
    return Tokenizer(tiny_bundle_fp32 / "tokenizer.json")


def test_special_tokens_in_text_become_their_ids_and_vanish_again(tokenizer):
    ids = tokenizer.encode("</Response> The knife is clean.<|end|>")
    assert ids[0] in tokenizer.special_ids
    assert ids[-1] in tokenizer.special_ids
    assert tokenizer.decode(ids) == "The knife is clean."


@pytest.mark.parametrize("text", ["12s-13s", "Ünïcode ✓ 漢字", "a  b", "0 10 999 1000 20000"])
def test_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_nothing_is_added(tokenizer):
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""


def test_vocabulary_counts_special_tokens(tokenizer):
    assert max(tokenizer.special_ids) < tokenizer.vocab_size


def test_a_file_that_is_no_tokenizer_is_named(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text('{"model": "nothing"}')
    with pytest.raises(BundleError, match=r"tokenizer\.json: not a tokenizer"):
        Tokenizer(path)
