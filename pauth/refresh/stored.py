"""What stands in a record: a token, the state of the grant behind it, and what is known of attempts to refresh it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Final, cast

from pauth.core.token import Token, token_from_dict, token_to_dict

__all__ = ["NO_ATTEMPTS", "Attempts", "StoredGrant", "read_grant", "write_grant"]

_ENDED: Final = "grant_ended"
_ATTEMPTS: Final = "refresh_attempts"
_FARTHEST: Final = 1e12
_OURS: Final = frozenset({_ENDED, _ATTEMPTS, "expires_in", *(each.name for each in fields(Token))})
"""The members of a record that are written anew each time. ``expires_in``, which others write, is true of one token only."""

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def _nothing() -> Mapping[str, Any]:  # before Python 3.12 a mappingproxy has no hash, and a dataclass refuses it as a plain default
    return _NOTHING


@dataclass(frozen=True, slots=True)
class Attempts:
    """What whoever refreshes next has to know of the attempts so far to refresh this very token. It holds no secret.

    The intent to send a refresh token is written here before it is sent. So who finds a record with an attempt :attr:`under_way`, and has the lease
    on it, knows that the other one died or was cut off, and that the refresh token may have been used up.
    """

    attempt_id: str | None = None
    """The latest attempt."""

    under_way: bool = False
    """Nobody has written down how it ended."""

    deadline: float = 0.0
    """When the latest attempt will certainly have ended: seconds since the Unix epoch, on the clock of who made it."""

    retry_of: str | None = None
    """The attempt that the latest one repeats, if that may have used up the refresh token."""

    suspect: str | None = None
    """The latest attempt that may have used up the refresh token, though we have no successor of it."""

    unanswered: int = 0
    """How often the refresh token was sent and no answer came, not counting an attempt that is under way."""

    lost_at: float | None = None
    """When the first of these attempts was made: seconds since the Unix epoch."""

    failures: int = 0
    """How many attempts have failed in a row."""

    retry_at: float = 0.0
    """Before this moment (seconds since the Unix epoch, on the clock of who failed) nobody shall try again."""

    pause: float = 0.0
    """How long that was, in seconds, for who has another clock."""

    refusal: str | None = None
    """With which code the server refused the client, or wants to see the user, if that is why."""

    user_wanted: bool = False
    """It is the user whom the server wants to see."""


NO_ATTEMPTS: Final = Attempts()


@dataclass(frozen=True, slots=True)
class StoredGrant:
    """A token and, once its grant cannot be used any more, the reason."""

    token: Token
    ended: str | None = None
    """Why no token of it is handed out: ``invalid_grant`` or ``ambiguous_rotation`` (the server refused the refresh token), or ``revoked`` (a
    revocation is under way)."""

    attempts: Attempts = NO_ATTEMPTS
    others: Mapping[str, Any] = field(default_factory=_nothing, repr=False)
    """Members that this version does not know: a newer pauth, or another program, keeps them with the grant. They stay until the next login (P18)."""


def read_grant(tokens: Mapping[str, Any]) -> StoredGrant:
    """The grant in a record's ``tokens``, also one that another library wrote.

    :raises UnsupportedRecord: there is no usable token in it.
    """
    ended = tokens.get(_ENDED)
    attempts = _read_attempts(tokens.get(_ATTEMPTS))
    try:
        token = token_from_dict(tokens)
        others = _NOTHING if tokens.keys() <= _OURS else {name: value for name, value in tokens.items() if name not in _OURS}
    finally:
        del tokens  # SH-5
    return StoredGrant(token, None if ended is None else str(ended), attempts, others)


def write_grant(grant: StoredGrant) -> dict[str, Any]:
    """The ``tokens`` of a record for ``grant``; what :func:`read_grant` reads."""
    tokens = {**grant.others, **token_to_dict(grant.token)}
    if grant.ended is not None:
        tokens[_ENDED] = grant.ended
    if grant.attempts is not NO_ATTEMPTS:
        attempts = grant.attempts
        members = {name: getattr(attempts, name) for name in Attempts.__slots__}
        tokens[_ATTEMPTS] = {name: value for name, value in members.items() if value != getattr(NO_ATTEMPTS, name)}
    return tokens


def _read_attempts(value: object) -> Attempts:
    if not isinstance(value, Mapping) or not value:
        return NO_ATTEMPTS
    members = cast("Mapping[str, Any]", value)
    return Attempts(
        attempt_id=_text(members.get("attempt_id")),
        under_way=members.get("under_way") is True,
        deadline=_time(members.get("deadline")) or 0.0,
        retry_of=_text(members.get("retry_of")),
        suspect=_text(members.get("suspect")),
        unanswered=_count(members.get("unanswered")),
        lost_at=_time(members.get("lost_at")),
        failures=_count(members.get("failures")),
        retry_at=_time(members.get("retry_at")) or 0.0,
        pause=_time(members.get("pause")) or 0.0,
        refusal=_text(members.get("refusal")),
        user_wanted=members.get("user_wanted") is True,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value < 1_000_000 else 0


def _time(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and type(value) is not bool and 0 <= value <= _FARTHEST else None
