"""Runtimes that append tokens to a cache and give logits: ours and its peers, each in a process of its own.

Every engine is opened from an :class:`~benchmarks.external.runtimes.engines.base.EngineSpec` and imported
only there, so
that a peer which is not installed is named with the line that brings it, and costs the others nothing.
"""
