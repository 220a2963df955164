"""Frames and timesteps for the tests of a session."""

import numpy as np

QUERY = "Tell me each step as it is finished."


def frame(value=0, size=(224, 224)):
    return np.random.default_rng(value).integers(0, 256, (*size, 3), dtype=np.uint8)


def run(session, tokens, count, first=0):
    return [session.push_tokens(tokens[k % len(tokens)], k) for k in range(first, first + count)]


def middle(decisions):
    """A threshold that about half of these decisions reach."""
    return float(np.median([d.score for d in decisions]))
