"""JSON in the reply of a language model."""

from __future__ import annotations

import json
import re
from typing import Any


def read_json_object(reply: str) -> dict[str, Any]:
    """The JSON object that a reply is, fenced as Markdown code or not; an empty one for other JSON.

    Raises ValueError for anything that is no JSON.
    """
    fenced = re.fullmatch(r"\s*```(?:json)?\s*(.*?)\s*```\s*", reply, re.DOTALL)
    try:
        data = json.loads(fenced[1] if fenced else reply)
    except (ValueError, RecursionError) as error:
        raise ValueError("no JSON object") from error
    return data if isinstance(data, dict) else {}
