"""Scenes as an object detector sees them: training data for models that read object slots, without a pixel.

A story (:mod:`stories`) places actors in front of a :mod:`camera` and moves them; :mod:`scene` projects them
to boxes; :mod:`truth` reads off what happens in view; :mod:`detector` makes what a detector would report.
"""
