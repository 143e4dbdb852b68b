"""What goes over the wire: the request and response records, and strict readers for everything a server may send back.

All input here is hostile. Readers raise :class:`~pauth.errors.MalformedResponse` and nothing else, and no error carries a piece of the input: the
raw text lives in inner functions that return instead of raising, so that not even a traceback with locals shows a token (SH-5).
"""

from __future__ import annotations

import email.utils
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, Final, NoReturn, cast
from urllib.parse import parse_qsl, quote, quote_plus, urlencode

from pauth.core.urls import check_endpoint
from pauth.errors import ConfigurationError, MalformedResponse
from pauth.secret import Secret

__all__ = [
    "MAX_BODY",
    "MAX_DEPTH",
    "MAX_PAIRS",
    "MAX_QUERY",
    "MAX_RETRY_AFTER",
    "HTTPRequest",
    "HTTPResponse",
    "check_endpoint",
    "encode_form",
    "encode_query",
    "is_json_type",
    "media_type",
    "parse_form",
    "parse_json_object",
    "parse_query",
    "parse_retry_after",
    "read_form",
    "read_pairs",
    "safe_text",
]

MAX_BODY: Final = 1 << 18
"""The longest response body that is read: 256 KiB (TE-5). Longer ones would hold up the event loop while they are parsed."""

MAX_QUERY: Final = 1 << 16
"""The longest callback query that is read: 64 KiB."""

MAX_PAIRS: Final = 64
"""The most pairs a form or query may hold (PX-4)."""

MAX_DEPTH: Final = 32
"""The deepest nesting a JSON document may have; the document itself is level one (PX-1)."""

MAX_RETRY_AFTER: Final = 86_400.0
"""The longest wait taken from a server: 24 hours, in seconds."""

_MAX_DATE: Final = 64


@dataclass(frozen=True, slots=True, repr=False)
class HTTPRequest:
    """One request to a protocol endpoint, ready to be sent. Its headers and body may hold secrets; its repr shows neither."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None

    def __repr__(self) -> str:
        return f"<HTTPRequest {self.method}>"


@dataclass(frozen=True, slots=True, repr=False)
class HTTPResponse:
    """One whole answer. Header names are lower-case. Its body may hold secrets; its repr does not show it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    requested_at: float
    """When the request was sent: seconds since the Unix epoch. Expiry is counted from here (TE-11)."""

    def __repr__(self) -> str:
        return f"<HTTPResponse {self.status}>"


# --- JSON -------------------------------------------------------------------------------------------------------------------------------------------

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class _RefusedError(ValueError):
    """Raised by the decoder's hooks; its text is ours and holds nothing of the document."""


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _RefusedError("names a member twice")
    return members


def _no_constant(_: str) -> NoReturn:
    raise _RefusedError("holds NaN or Infinity")


def _finite_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _RefusedError("holds a number that is too large")
    return value


def _bounded_int(text: str) -> int:
    # Length first: int() of thousands of digits is slow, and above 4300 digits a ValueError of Python's own.
    if len(text) > 20 or abs(int(text)) > 1 << 63:
        raise _RefusedError("holds a number that is too large")
    return int(text)


def _shape_problem(document: dict[str, Any]) -> str | None:
    layer: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for container in layer:
            if isinstance(container, dict):
                members = cast("dict[str, Any]", container)
                children = [*members, *members.values()]
            else:
                children = cast("list[Any]", container)
            for child in children:
                if isinstance(child, (dict, list)):
                    below.append(child)
                elif isinstance(child, str) and _SURROGATE.search(child):
                    return "holds text that is not valid Unicode"
        if not below:
            return None
        layer = below
    return "is nested too deeply"


# Made once: json.loads would make one for each answer, which takes longer than reading most answers.
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique_members, parse_constant=_no_constant, parse_float=_finite_float, parse_int=_bounded_int)


def _read_json_object(body: bytes) -> dict[str, Any] | str:
    if len(body) > MAX_BODY:
        return "is too large"
    try:
        value: Any = _DECODER.decode(body.decode("utf-8"))
    except _RefusedError as refused:
        return str(refused)
    except UnicodeDecodeError:
        return "is not UTF-8"
    except (ValueError, RecursionError):
        return "is not JSON"
    if not isinstance(value, dict):
        return "is not an object"
    document = cast("dict[str, Any]", value)
    return _shape_problem(document) or document


def parse_json_object(body: bytes) -> dict[str, Any]:
    """The JSON object that ``body`` holds (PX-1, PX-2, PX-3).

    Stricter than :func:`json.loads`: UTF-8 without a byte order mark, at most :data:`MAX_BODY` bytes and :data:`MAX_DEPTH` levels, no member named
    twice, no NaN, Infinity or overflowing number, no integer beyond 2**63, no lone surrogate, and an object at the top.

    :raises MalformedResponse: for anything else.
    """
    document = _read_json_object(body)
    del body
    if isinstance(document, str):
        raise MalformedResponse(f"the server's JSON answer {document}")
    return document


# --- Forms and queries ------------------------------------------------------------------------------------------------------------------------------


def read_pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, str] | str:
    """Decoded parameters as a dict, under the rules of :func:`parse_form`; or, as a ``str``, what is wrong with them (``"are too large"``).

    It returns what is wrong so that no error passes through a frame that holds the parameters.
    """
    values: dict[str, str] = {}
    size = 0
    for count, (name, value) in enumerate(pairs):
        if count >= MAX_PAIRS:
            return "hold too many pairs"
        size += len(name) + len(value)
        if size > MAX_BODY:
            return "are too large"
        if name in values:
            return "name one of them twice"
        if _SURROGATE.search(name) or _SURROGATE.search(value):
            return "are not valid Unicode"
        values[name] = value
    return values


def read_form(text: bytes | str, limit: int) -> dict[str, str] | str:
    """The pairs of a form or query of at most ``limit`` bytes or characters; or, as a ``str``, what is wrong with them. See :func:`read_pairs`."""
    if len(text) > limit:
        return "are too large"
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")
        pairs = parse_qsl(decoded, keep_blank_values=True, errors="strict", max_num_fields=MAX_PAIRS)
    except UnicodeError:
        return "are not valid UTF-8"
    except ValueError:
        return "hold too many pairs"
    return read_pairs(pairs)


def parse_form(body: bytes | str) -> dict[str, str]:
    """The pairs of an ``application/x-www-form-urlencoded`` answer (PX-4). A pair without a value is kept as the empty string.

    :raises MalformedResponse: not UTF-8, longer than :data:`MAX_BODY`, more than :data:`MAX_PAIRS` pairs, or a name given twice.
    """
    values = read_form(body, MAX_BODY)
    del body
    if isinstance(values, str):
        raise MalformedResponse(f"the parameters of the server's form-encoded answer {values}")
    return values


def parse_query(query: str) -> dict[str, str]:
    """The pairs of a URL's query, without its ``?``: the rules of :func:`parse_form`, up to :data:`MAX_QUERY` characters.

    :raises MalformedResponse: as :func:`parse_form`.
    """
    values = read_form(query, MAX_QUERY)
    del query
    if isinstance(values, str):
        raise MalformedResponse(f"the parameters of the query {values}")
    return values


def _encode_pairs(pairs: Iterable[tuple[str, str]], *, spaces_as_plus: bool) -> str | None:
    try:
        return urlencode(list(pairs), quote_via=quote_plus if spaces_as_plus else quote, safe="")
    except UnicodeEncodeError:
        return None


_NOT_UTF8: Final = "a request parameter cannot be encoded as UTF-8: it holds a lone surrogate (bytes from the environment, perhaps)"


def encode_form(pairs: Iterable[tuple[str, str]]) -> bytes:
    """``pairs`` as an ``application/x-www-form-urlencoded`` request body (TE-2).

    :raises ConfigurationError: a name or value that UTF-8 cannot encode.
    """
    text = _encode_pairs(pairs, spaces_as_plus=True)
    del pairs
    if text is None:
        raise ConfigurationError(_NOT_UTF8)
    return text.encode("ascii")


def encode_query(pairs: Iterable[tuple[str, str]]) -> str:
    """``pairs`` as a URL query, without the ``?``. A space is ``%20``, which every server reads the same.

    :raises ConfigurationError: a name or value that UTF-8 cannot encode.
    """
    text = _encode_pairs(pairs, spaces_as_plus=False)
    del pairs
    if text is None:
        raise ConfigurationError(_NOT_UTF8)
    return text


# --- Headers ----------------------------------------------------------------------------------------------------------------------------------------


def media_type(headers: Mapping[str, str]) -> str:
    """The media type of an answer, lower-case and without parameters; empty if the server named none. Header names are lower-case."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json_type(media: str) -> bool:
    """Whether ``media`` (from :func:`media_type`) announces JSON: ``application/json`` or a ``+json`` type (TE-4)."""
    return media == "application/json" or (media.startswith("application/") and media.endswith("+json"))


def parse_retry_after(value: str | None, *, now: float, date: str | None = None) -> float | None:
    """The seconds a ``Retry-After`` header asks to wait, from either of its forms (RFC 9110 section 10.2.3).

    A date in the past gives 0. The result is at most :data:`MAX_RETRY_AFTER`. A missing or unreadable header gives ``None``.

    :param date: the answer's ``Date`` header (RFC 9110 section 6.6.1), if it has one: a date counts from it, since both are on the server's clock,
        which may differ from ours.
    """
    text = "" if value is None else value.strip(" \t")
    if text.isascii() and text.isdigit() and len(text) <= _MAX_DATE:
        return min(float(text), MAX_RETRY_AFTER)
    when, begin = _parse_date(text), None if date is None else _parse_date(date.strip(" \t"))
    return None if when is None else min(max(when - (now if begin is None else begin), 0.0), MAX_RETRY_AFTER)


def _parse_date(text: str) -> float | None:
    """The moment an HTTP date names (RFC 9110 section 5.6.7), in seconds since the Unix epoch."""
    if not text.isascii() or len(text) > _MAX_DATE:
        return None
    try:
        when = email.utils.parsedate_to_datetime(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):  # email.utils has let each of them escape, in one release or another
        return None


# --- Text of servers --------------------------------------------------------------------------------------------------------------------------------

# RFC 6749 section 4.1.2.1: %x20-21 / %x23-5B / %x5D-7E. Printable ASCII without '"' and '\\': no control, no escape sequence, no bidi override.
_ESCAPE: Final = re.compile(r"%[0-9A-F]{2}")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")
_SOFTENED: Final = str.maketrans({"\t": " ", "\r": " ", "\n": " ", '"': "'"})
_MASK: Final = "[redacted]"


def safe_text(value: object, *, secrets: Iterable[Secret] = (), limit: int = 200) -> str | None:
    """Text that a server sent, made fit for a message, a log or a terminal (AX-10, SH-9, NA-9); it still has to be escaped for HTML.

    Known ``secrets`` are masked, as they are and percent-encoded, before anything is cut; characters outside the set of RFC 6749
    section 4.1.2.1 become ``?``; the result has at most ``limit`` characters. Anything but a ``str`` with some text in it gives ``None``.
    """
    if not isinstance(value, str):
        return None
    forms = {form for secret in secrets for form in _spellings(secret.reveal())}
    for form in sorted(forms, key=len, reverse=True):  # the longest first: one secret may begin with another
        value = value.replace(form, _MASK)
    return _UNPRINTABLE.sub("?", value.translate(_SOFTENED)).strip()[:limit] or None


def _spellings(secret: str) -> set[str]:
    if not secret:
        return set()
    encoded = {quote(secret, safe="", errors="replace"), quote_plus(secret, errors="replace")}
    return {secret, *encoded, *(_ESCAPE.sub(lambda found: found.group().lower(), text) for text in encoded)}
