"""Passwords and tokens must never reach a log: register them once, redact every text that is shown.

Two ways: values registered here (taken from source strings), and anything that looks like user information or
a secret query value inside a URL, registered or not. GStreamer's own debug log (GST_DEBUG) comes from C code
and does not pass here: see :func:`pipelines.gst.hush`. Credentials are given to elements as properties and
never as part of a location.
"""

from __future__ import annotations

import json
import re
import threading
from urllib.parse import quote, unquote

from edge_runtime.video.network_url import MASK, masked, possible_passwords

_SHORTEST = 3
"""Shorter values are not replaced wherever they occur, or ordinary words would fall apart; URLs still are."""

# Texts come from cameras, too: each pattern takes time in proportion to a text's length, whatever is in it.
_URL = re.compile(r"://\S+")
"""A URL from behind its scheme. Whether there are user and password is found out by reading it."""
_BARE_USER = re.compile(r"(?<![\w/.@-])[\w.-]+:(?!/)[^\s'\"]{1,500}@(?=[\w\[])")
"""The same where the scheme was forgotten: ``user:word@host/path``."""
_URL_VALUE = re.compile(
    r"(?P<key>[?&;][^=?&;\s]{0,60}?(?:pass|pwd|psw|token|secret|auth|api_?key|sig)[^=?&;\s]{0,60}=)"
    r"(?P<value>[^&\s'\"]+)",
    re.I,
)

_registered: set[str] = set()
_lock = threading.Lock()


def register(secret: str | None) -> None:
    """Remember ``secret`` (as typed, encoded and decoded) so that :func:`scrub` removes it everywhere."""
    if not secret:
        return
    forms = {secret, unquote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1]}
    with _lock:
        _registered.update(form for form in forms if len(form) >= _SHORTEST)


def known() -> bool:
    """True when there is anything to hide."""
    return bool(_registered)


def is_registered(text: str) -> bool:
    """Whether ``text`` as a whole is a secret."""
    return text in _registered


def register_url(text: str) -> None:
    """Register what may be a password in ``text``, a source as it was typed, readable or not."""
    for word in possible_passwords(text):
        register(word)
    for match in _URL_VALUE.finditer(text):  # such as password= and token=
        register(match["value"])
    register(text.partition("passphrase=")[2])  # of SRT; it may hold an &


def scrub(text: str) -> str:
    """``text`` with every registered secret and every URL's user information replaced by ``***``."""
    # Known values first: a pattern could mask a part of one and leave the rest.
    with _lock:
        secrets = sorted(_registered, key=len, reverse=True)
    for secret in secrets:
        text = text.replace(secret, MASK)
    text = _URL.sub(lambda m: masked(m[0]), text)
    text = _BARE_USER.sub(f"{MASK}@", text)
    return _URL_VALUE.sub(lambda m: f"{m['key']}{MASK}", text)
