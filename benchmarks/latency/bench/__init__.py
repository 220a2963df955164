"""``edge-run bench``: how fast this machine watches, measured as a camera would load it."""
