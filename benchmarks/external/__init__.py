"""What other projects measure, computed from their own files, and converters between their formats and ours.

``python -m benchmarks.external pauc|ovo-forward|streamingbench|timediff`` scores predictions and sets trivial
baselines beside them; ``python -m benchmarks.external convert`` turns annotations of one format into another.
None of these numbers is StreamPro-F1, which is :mod:`benchmarks.streampro`.
"""
