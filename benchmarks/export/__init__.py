"""What an export costs in memory, disk and time, for checkpoints of published sizes with random weights."""
