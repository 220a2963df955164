"""Read URLs as people write them, with passwords that are not percent-encoded.

A password may hold ``/``, ``?``, ``#``, ``@`` and ``:``, and a path may hold ``@``. Every ``@`` with a host
behind it may therefore end the user information. A URL with more than one such reading is refused: a wrong
guess would show a part of the password and send it to the DNS. ``scheme://@host/...`` has no user.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

MASK = "***"
HOW_TO_WRITE = (
    "write @ / ? # of user and password as %40 %2F %3F %23, "
    "or begin an address without them with {scheme}://@"
)

_AUTHORITY = re.compile(r"(?P<host>\[[^\s\[\]/?#@]*\]|[^\s:/?#@\[\]\\]*)(?P<port>:[0-9]*)?(?=[/?#]|$)")
_LABEL = r"[^\W_](?:[\w-]*[^\W_])?|_[\w-]*"
_LOOSE_HOST = re.compile(rf"(?:(?:{_LABEL})\.)*(?:{_LABEL})\.?")
_AT_IN_QUERY = re.compile(r"/[^?#@]*\?[\w.-]+=[^@]*@[^@/?#]*")
"""``/path?key=a@b``: what ends behind the ``@`` with no path of its own."""
_MOST_READINGS = 64
_MORE_THAN_A_NAME = re.compile(r"[=&]|[/?#].*[/?#]", re.S)


@dataclass(frozen=True)
class NetworkUrl:
    """``scheme://user:password@host:port`` and what follows."""

    scheme: str
    host: str
    """In lower case, an IPv6 address without brackets."""
    port: int | None
    authority: str
    """Host and port as written."""
    tail: str = field(repr=False)
    """Path, query and fragment as written."""
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    """None without a user, empty where the user has none."""

    @property
    def location(self) -> str:
        """The URL without user and password."""
        return f"{self.scheme}://{self.authority}{self.tail}"


class UnreadableUrlError(ValueError):
    """No host where one is needed. The message repeats nothing of the URL."""


class AmbiguousUrlError(UnreadableUrlError):
    """More than one reading."""


@dataclass(frozen=True)
class _Reading:
    start: int
    """Where the host begins, behind the ``@`` if there is one."""
    match: re.Match[str]
    is_address: bool

    @property
    def has_user(self) -> bool:
        return self.start > 0


def read_url(text: str, *, needs_host: bool = True) -> NetworkUrl:
    """The parts of ``scheme://...``, user and password decoded. Raises UnreadableUrlError."""
    scheme, found, rest = text.partition("://")
    if not found:
        raise UnreadableUrlError("no scheme such as http:// in the URL")
    scheme = scheme.lower()
    if rest.startswith("@"):
        rest = rest[1:]
        readings = [one for one in _readings(rest, strict=False) if not one.has_user]
    else:
        readings = _best(rest, strict=True) or _best(rest, strict=False)
    if not readings and not needs_host and (match := _AUTHORITY.match(rest)) and not match["host"]:
        readings = [_Reading(0, match, False)]
    if not readings:
        raise UnreadableUrlError("no host in the URL, or no port from 1 to 65535 behind it")
    if len(readings) > 1:
        raise AmbiguousUrlError("it is not clear where the password ends and the host begins")
    start, match = readings[0].start, readings[0].match
    if re.search(r"[\x00-\x1f\x7f]", rest[match.end() :]):
        raise UnreadableUrlError("a control character behind the host")
    name, _, word = rest[: start - 1].partition(":") if start else ("", "", "")
    port = match["port"] or ""
    return NetworkUrl(
        scheme,
        match["host"].strip("[]").lower(),
        int(port[1:]) if len(port) > 1 else None,
        match.group(),
        rest[match.end() :],
        decode(name) if start else None,
        decode(word) if start else None,
    )


def masked(text: str) -> str:
    """``text``, a URL or what was meant as one, without what may be user and password.

    Where more than one reading is possible everything up to the last ``@`` is taken for them.
    """
    scheme, found, rest = text.partition("://")
    end = rest.rfind("@") + 1
    if not found or not end or (rest.startswith("@") and end == 1):
        return text
    readings = _best(rest, strict=False)
    if len(readings) == 1:
        end = readings[0].start
    return f"{scheme}://{MASK}@{rest[end:]}" if end else text


def possible_passwords(text: str) -> list[str]:
    """What may be the password, encoded as written; empty when ``text`` certainly holds none."""
    rest = text.partition("://")[2] or text
    colon = rest.find(":") + 1
    readings = _best(rest, strict=False)
    if len(readings) == 1:
        ends = [readings[0].start - 1]
    else:
        ends = [index for index, letter in enumerate(rest) if letter == "@"]
    return [rest[colon:end] for end in ends[:_MOST_READINGS] if 0 < colon < end]


def decode(word: str) -> str:
    """Percent-decoded, or as it stands where that gives no text (a ``%`` that was not meant as an escape)."""
    try:
        return unquote(word, errors="strict")
    except UnicodeDecodeError:
        return word


def _best(rest: str, *, strict: bool) -> list[_Reading]:
    """The readings that make sense. An IP address is never a user's name and hardly a part of a password.

    With ``strict`` for reading; without it for showing, where a guess is not good enough.
    """
    readings = list(_readings(rest, strict=strict))
    if readings and not readings[0].has_user:
        in_query = strict and _AT_IN_QUERY.fullmatch(rest, readings[0].match.end())
        if readings[0].is_address or in_query:
            return readings[:1]
    return [one for one in readings if one.is_address] or readings


def _readings(rest: str, *, strict: bool) -> Iterator[_Reading]:
    """All, in time proportional to the length: what is masked may come from a camera."""
    colon, delimiter = rest.find(":"), re.search(r"[/?#]", rest)
    # "DOMAIN/user" may be a user's name; "host/path/a" or "host/?t=1" is none.
    named = colon >= 0 and _MORE_THAN_A_NAME.search(rest, 0, colon) is None
    start = 0
    while True:
        at = start - 1
        possible = at < 0 or (named if 0 <= colon < at else delimiter is None or at < delimiter.start())
        match = _AUTHORITY.match(rest, start)
        if possible and match and _is_port(match["port"]):
            address = _is_address(match["host"])
            if address or _is_name(match["host"], strict):
                yield _Reading(start, match, address)
        if not (start := rest.find("@", start) + 1):
            return


def _is_port(port: str | None) -> bool:
    """None, ``:`` or a colon with a number from 1 to 65535."""
    return not port or len(port) == 1 or (len(port) <= 6 and 0 < int(port[1:]) < 65536)


def _is_address(host: str) -> bool:
    bare = host[1:-1] if host.startswith("[") else host
    if host.startswith("[") is not (":" in bare):
        return False
    if host.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        return False
    return True


def _is_name(host: str, strict: bool) -> bool:
    """With ``strict`` the last label begins with a letter, as every name in the DNS does."""
    if len(host) > 253 or _LOOSE_HOST.fullmatch(host) is None:
        return False
    last = host.rstrip(".").rpartition(".")[2]
    return not strict or last[0].isalpha()


def host_and_port(host: str, port: int | None) -> str:
    """``host:port``, with an IPv6 address in brackets."""
    bracketed = f"[{host}]" if ":" in host else host
    return bracketed if port is None else f"{bracketed}:{port}"
