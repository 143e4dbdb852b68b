"""The type of every secret that pauth holds.

This module imports nothing from pauth.
"""

from __future__ import annotations

import hmac
from typing import Any, Final, NoReturn

__all__ = ["Secret"]

_MASK: Final = "Secret('**********')"


class Secret:
    """A string that does not print: token, code, verifier, client secret.

    It is deliberately not a ``str``: f-strings, ``%s``, ``str.join``, ``json.dumps(default=str)``, tracebacks with locals and ``repr`` show a mask.
    :meth:`reveal` gives the text, at the last inch before it is sent. Comparing two secrets takes constant time. Pickling is refused.
    """

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers without a type checker
            del value  # bytes are a secret too, and tracebacks may show locals
            raise TypeError("a Secret holds a str")
        self.__value = value

    def reveal(self) -> str:
        """The text itself. Keep the result out of logs, exceptions and long-lived variables."""
        return self.__value

    def __repr__(self) -> str:
        return _MASK

    def __str__(self) -> str:
        return _MASK

    def __format__(self, format_spec: str) -> str:
        return _MASK

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value.encode("utf-8", "surrogatepass"), other.__value.encode("utf-8", "surrogatepass"))

    def __hash__(self) -> int:
        return hash((Secret, self.__value))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled; store tokens with a token storage instead")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        self.__getstate__()
