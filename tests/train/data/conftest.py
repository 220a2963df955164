"""The encoder of a small tokenizer."""

import pytest

from edge_runtime.bundle.stream_format import StreamFormat, TurnEncoder
from train.models.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def encoder():
    tokenizer = train_tokenizer(["The cat enters."], 1300)
    stream_format = StreamFormat(system_prompt="Watch.")
    return TurnEncoder(stream_format, lambda text: tokenizer.encode(text, add_special_tokens=False).ids)
