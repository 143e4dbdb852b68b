"""What a resource server says of a token that it refused: ``WWW-Authenticate`` (RFC 9110 section 11.6.1, RFC 6750 section 3; RQ-5)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

__all__ = ["MAX_CHALLENGES", "bearer_error"]

MAX_CHALLENGES: Final = 16 * 1024
"""What is longer, in characters, is not read."""

# Possessive, so that every character is looked at once; what fits neither is skipped.
_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_PIECE: Final = re.compile(rf'(?P<comma>,)|(?P<name>{_TOKEN})(?:[ \t]*+=[ \t]*+(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<plain>{_TOKEN})))?+', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_SCHEMES: Final = frozenset({"bearer", "dpop"})


def bearer_error(headers: Iterable[str]) -> str | None:
    """The ``error`` of the first Bearer or DPoP challenge that names one (``invalid_token``, ``insufficient_scope``), else ``None``.

    :param headers: the values of all ``WWW-Authenticate`` headers of the answer, or of one into which they were joined. Whatever stands in them,
        nothing is raised.
    """
    text = ",".join(headers)
    if len(text) > MAX_CHALLENGES:
        return None
    scheme, at_start = "", True
    for piece in _PIECE.finditer(text):
        if piece["comma"]:
            at_start = True
            continue
        value = piece["plain"] if piece["quoted"] is None else _ESCAPED.sub(r"\1", piece["quoted"])
        if value is None:
            if at_start:  # else it is what a scheme such as Negotiate has in place of parameters
                scheme = piece["name"].lower()
        elif scheme in _SCHEMES and piece["name"].lower() == "error":
            return value
        at_start = False
    return None
