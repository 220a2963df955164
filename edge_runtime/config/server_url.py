"""The address of an OpenAI-compatible server, and whether a key may travel to it."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from edge_runtime.errors import ConfigError

PATH = "/chat/completions"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_EXAMPLE = "http://127.0.0.1:8080/v1"
_LOCAL_ENDINGS = (".local", ".lan", ".internal", ".home.arpa")


def base_url(text: str) -> str:
    """The address without ``/chat/completions`` and a final slash. Raises ConfigError.

    It must hold no user, password or parameters: those would be repeated in messages.
    """
    if "@" in text or "?" in text:  # before anything that would repeat the address
        raise ConfigError(
            "the server's address must hold no user, password or parameters; set keys in the environment"
        )
    try:
        parsed = urlsplit(text)
        usable = parsed.scheme in ("http", "https") and parsed.hostname and parsed.port != 0
    except ValueError:  # of brackets or the port
        usable = False
    if not usable:
        raise ConfigError(f"{text}: expected the address of a server such as {_EXAMPLE}")
    path = parsed.path.rstrip("/").removesuffix(PATH)
    return parsed._replace(path=path, fragment="").geturl()


def api_url(text: str) -> str:
    """:func:`base_url` of an address that names its path, such as ``/v1``. Raises ConfigError."""
    url = base_url(text)
    if not urlsplit(url).path:
        raise ConfigError(f"{url}: the path is missing; most servers answer at {url}/v1")
    return url


def check_key_travels(url: str) -> str:
    """What to warn of before a key is sent to ``url``; empty when nothing is wrong.

    Without TLS a key goes to this machine, goes with a warning to a private network, and goes nowhere else:
    then ConfigError.
    """
    parsed = urlsplit(url)
    host = parsed.hostname or ""
    if parsed.scheme == "https" or host in LOOPBACK:
        return ""
    try:
        address = ipaddress.ip_address(host)
        local, loopback = address.is_private, address.is_loopback
    except ValueError:
        local, loopback = "." not in host or host.endswith(_LOCAL_ENDINGS), False
    if loopback:
        return ""
    if not local:
        raise ConfigError(
            f"{url}: the key would be sent unencrypted; use https, or a tunnel to this machine, or no key"
        )
    return f"{url}: key and frames travel unencrypted; use https if others can read this network"
