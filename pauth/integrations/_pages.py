"""The few pages of a login, and what is said of an error: everything escaped, nothing from elsewhere, nothing kept (AX-10, AX-11, NW-5)."""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import dataclass, field
from html import escape
from typing import Final

from pauth.errors import (
    AmbiguousExchange,
    AuthorizationError,
    InvalidStateError,
    PAuthError,
    ProviderError,
    ProviderUnavailable,
    Remedy,
    TokenStorageError,
)

__all__ = ["CHALLENGE", "CSRF_FIELD", "Form", "Problem", "Reply", "page", "problem_of", "redirect"]

CSRF_FIELD: Final = "csrf_token"
"""The form field with the token that proves that a form is this site's own."""

CHALLENGE: Final = "Cookie"
"""What a 401 names as the way in (RFC 9110 section 15.5.2): logging in, which leaves a cookie."""

_STYLE: Final = "body{font:1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:4rem auto;padding:0 1rem}button{font:inherit;padding:.4rem 1rem}"
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_QUIET: Final = (("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer"), ("X-Content-Type-Options", "nosniff"))
# No form-action: a browser applies it to the redirect that follows a form too, and that one leads to the provider.
_POLICY: Final = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """An answer, in no framework's terms."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str = ""

    def with_cookies(self, *cookies: str) -> Reply:
        """The same with ``Set-Cookie`` headers."""
        return Reply(self.status, (*self.headers, *(("Set-Cookie", cookie) for cookie in cookies)), self.body)


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong, for whoever sits at the browser. The details are for the log."""

    status: int
    title: str
    text: str
    code: str | None = None
    """The provider's ``error`` code, such as ``access_denied``."""

    retry_after: float | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Form:
    """A button that posts."""

    action: str
    button: str
    fields: dict[str, str] = field(default_factory=dict[str, str])


def redirect(location: str) -> Reply:
    """See Other. ``location`` is a path of this site, or the provider's authorization URL."""
    return Reply(303, (*_QUIET, ("Location", location)))


def page(
    status: int, title: str, *texts: str, form: Form | None = None, link: tuple[str, str] | None = None, retry_after: float | None = None
) -> Reply:
    """A page of plain text, a button at most and a link at most (text, address)."""
    parts = [f"<p>{escape(text)}</p>" for text in texts]
    if form is not None:
        fields = "".join(f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in form.fields.items())
        parts.append(f'<form method="post" action="{escape(form.action)}">{fields}<button>{escape(form.button)}</button></form>')
    if link is not None:
        parts.append(f'<p><a href="{escape(link[1])}">{escape(link[0])}</a></p>')
    body = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>"
    )
    headers = [*_QUIET, ("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", _POLICY), ("X-Frame-Options", "DENY")]
    if status == 401:
        headers.append(("WWW-Authenticate", CHALLENGE))
    if retry_after is not None:
        headers.append(("Retry-After", str(math.ceil(retry_after))))
    return Reply(status, tuple(headers), body)


_AGAIN: Final = "Please start again."


def problem_of(error: PAuthError) -> Problem:
    """What a browser is told of an error: no more than the provider's code, and what to do (NW-5)."""
    again = error.remedy is Remedy.LOG_IN_AGAIN
    if isinstance(error, InvalidStateError):
        return Problem(400, "Not logged in", f"This login was not started in this browser, took too long, or is over already. {_AGAIN}")
    if isinstance(error, AuthorizationError) and again:
        return Problem(400, "Not logged in", f"The login was not completed. {_AGAIN}", code=error.error)
    if error.retryable or (again and isinstance(error, AmbiguousExchange | ProviderUnavailable | TokenStorageError)):
        text = f"Something that this site depends on does not answer. {_AGAIN}"
        return Problem(503, "Not available at the moment", text, retry_after=error.retry_after or 5.0)
    if again:
        return Problem(400, "Not logged in", f"The provider did not accept the login. {_AGAIN}", code=error.error)
    status = 502 if isinstance(error, ProviderError) else 500
    return Problem(status, "Something is wrong on this site", "This is not your fault. The reason is in the site's log.", code=error.error)
