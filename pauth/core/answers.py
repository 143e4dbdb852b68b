"""Reading an endpoint's answer: is it JSON, is it an error, and which one.

Nothing in this module raises. Errors are returned, and raised by the caller from a frame in which no token lies open: a traceback that shows local
variables stays harmless (SH-5). The order of judgement is that of TE-8: the status decides on 429 and 5xx, then the ``error`` code, and the text of
a description only where a provider's record says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, cast

from pauth.core.quirks import Quirks
from pauth.core.wire import HTTPResponse, is_json_type, media_type, parse_form, parse_json_object, parse_retry_after, safe_text
from pauth.errors import MalformedResponse, ProviderError, ProviderUnavailable
from pauth.secret import Secret

__all__ = ["ServerError", "read_answer", "unavailable"]

_TRANSIENT_STATUSES: Final = frozenset({408, 425, 429})
_TRANSIENT_ERRORS: Final = frozenset({"server_error", "temporarily_unavailable"})
"""Codes of the authorization endpoint (RFC 6749 section 4.1.2.1) that some servers use at the others too."""

_MAX_CODE: Final = 80


@dataclass(frozen=True, slots=True)
class ServerError:
    """An error that the server stated, its text made printable and known secrets masked (AX-10, SH-9)."""

    code: str
    description: str | None
    transient: bool = False


def unavailable(response: HTTPResponse, *, endpoint: str, now: float, error: ServerError | None = None) -> ProviderUnavailable:
    """The error for an answer that says "not now"."""
    said = f"HTTP {response.status}" if error is None else f"{error.code} (HTTP {response.status})"
    return ProviderUnavailable(
        f"the {endpoint} is unavailable at the moment: it answered {said}; try again later",
        error=None if error is None else error.code,
        error_description=None if error is None else error.description,
        status=response.status,
        retry_after=parse_retry_after(response.headers.get("retry-after"), now=now, date=response.headers.get("date")),
    )


def read_answer(
    response: HTTPResponse, *, endpoint: str, quirks: Quirks, now: float, secrets: Iterable[Secret] = ()
) -> dict[str, Any] | ServerError | ProviderError:
    """What the ``endpoint`` (its name, for messages) answered: the members of a good answer, the error it stated, or why there is neither.

    An error member makes a 2xx answer an error (TE-7).
    """
    status = response.status
    if status in _TRANSIENT_STATUSES or status >= 500:
        return unavailable(response, endpoint=endpoint, now=now)
    if status < 200 or 300 <= status < 400:
        kind = "a redirect, which is never followed" if status >= 300 else "an answer that is not final"
        return MalformedResponse(f"the {endpoint} sent {kind} (HTTP {status}); check its URL", status=status)
    document = _read_document(response, endpoint, quirks)
    if isinstance(document, MalformedResponse):
        return document
    if status < 300 and not _is_error(document, quirks):
        return document
    error = _read_error(document, quirks, secrets)
    if error is None:
        return MalformedResponse(f"the {endpoint} answered HTTP {status} without an error code (RFC 6749 section 5.2); check its URL", status=status)
    if error.transient or error.code in _TRANSIENT_ERRORS or error.code in quirks.transient_errors:
        return unavailable(response, endpoint=endpoint, now=now, error=error)
    return error


def _read_document(response: HTTPResponse, endpoint: str, quirks: Quirks) -> dict[str, Any] | MalformedResponse:
    media = media_type(response.headers)
    try:
        if is_json_type(media):
            return parse_json_object(response.body)
        if quirks.form_responses and media == "application/x-www-form-urlencoded":
            return dict(parse_form(response.body))
        problem = "its content type is not JSON"
    except MalformedResponse as error:
        problem = error.message
    return MalformedResponse(
        f"the {endpoint} answered HTTP {response.status} with something that cannot be read: {problem}; check its URL", status=response.status
    )


def _is_error(document: dict[str, Any], quirks: Quirks) -> bool:
    if quirks.ok_member is not None and document.get(quirks.ok_member, True) is not True:
        return True
    error = document.get("error")
    return error is not None and error != ""


def _read_error(document: dict[str, Any], quirks: Quirks, secrets: Iterable[Secret]) -> ServerError | None:
    code: object = document.get("error")
    description: object = document.get("error_description")
    transient = False
    if quirks.error_object and isinstance(code, dict):
        members = cast("dict[str, Any]", code)
        number = members.get("code")
        code = str(number) if isinstance(number, int) else number
        description = members.get("message")
        transient = members.get("is_transient") is True
    known = tuple(secrets)
    text = safe_text(code, secrets=known, limit=_MAX_CODE)
    return None if text is None else ServerError(text, safe_text(description, secrets=known), transient)
