"""Text of others on a terminal: nothing in it is obeyed, hides or turns around what stands beside it (NA-9)."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

__all__ = ["printable"]

# A whole escape sequence (ECMA-48: CSI, then the strings OSC, DCS, SOS, PM and APC, then all others), so that nothing of it is left standing.
_ESCAPE_SEQUENCE: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]"
)
_DROPPED: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Control characters, invisible ones (bidirectional controls, zero-width joiners, tags), lone surrogates, line and paragraph separators."""


def printable(text: str) -> str:
    """``text`` without escape sequences, control and other invisible characters. A line break or tab becomes a space.

    Letters of any script stay, in the order in which they came.
    """
    if text.isascii() and text.isprintable():
        return text
    spaced = _ESCAPE_SEQUENCE.sub("", text).replace("\r\n", " ").translate(_SPACES)
    return "".join(character for character in spaced if unicodedata.category(character) not in _DROPPED)


_SPACES: Final = str.maketrans({"\n": " ", "\r": " ", "\t": " "})
