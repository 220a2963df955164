"""Compact models so small that a test trains one in a second."""

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
