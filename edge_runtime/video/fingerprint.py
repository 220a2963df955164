"""Fingerprints of TLS certificates, as browsers, cameras and ``openssl x509 -fingerprint`` write them."""

from __future__ import annotations

import re


def parse_fingerprint(text: str) -> str:
    """Read ``AB:CD:...`` or ``abcd...``, with or without ``sha256:`` before it.

    Returns 64 hexadecimal digits in lower case. Raises ValueError for anything else.
    """
    digits = re.sub(r"^sha-?256( fingerprint)?\s*[:=]|[:\s]", "", text.strip(), flags=re.IGNORECASE).lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError(
            "expected the SHA-256 fingerprint of a certificate: 64 hexadecimal digits, with or without colons"
        )
    return digits
