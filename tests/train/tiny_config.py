"""Compact models so small that a test trains one in a second."""

from edge_runtime.bundle.stream_format import StreamFormat
from train.models.compact.model import CompactConfig

TINY = CompactConfig(
    vocab_size=1300,
    hidden_size=32,
    intermediate_size=64,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    cell_channels=8,
)
ONE_LAYER = CompactConfig(
    vocab_size=1300,
    hidden_size=32,
    intermediate_size=48,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    cell_channels=8,
)
"""For what does not depend on depth."""
TINY_FORMAT = StreamFormat(system_prompt="Watch.", window_turns=80, evict_turns=16, max_response_tokens=2)
"""Answers of two tokens, so that an untrained model says little."""
