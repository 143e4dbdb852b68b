"""What a failed refresh means, how long to wait after it, and when to stop asking a server at all."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from pauth.core.quirks import Rotation, RotationClass
from pauth.errors import MalformedResponse, PAuthError, ProviderUnavailable, ReauthorizationRequired, UntrustedServer
from pauth.locks import ForkSafeLock
from pauth.refresh.stored import Attempts

__all__ = ["MAX_RETRY_AFTER", "Breaker", "Failure", "after_failure", "classify", "may_have_spent", "rest_left", "sends_left", "takes_again"]

MAX_RETRY_AFTER: Final = 3600.0
"""The longest wait that a server may ask for, in seconds."""

_FIRST_PAUSE: Final = 1.0
_CONFIGURATION_PAUSE: Final = 10.0
_STRICT_PAUSE: Final = 40.0
_PROBE_LAPSES: Final = 120.0
"""Seconds after which a probe that nobody has told the outcome of is forgotten: its event loop was stopped, or stayed behind in a fork."""

_UNSENT_STATUSES: Final = frozenset({408, 425, 429, 503})
"""With these a server says that it has not done what was asked (RFC 9110 sections 15.5.9 and 15.6.4, RFC 8470, RFC 6585)."""


class Failure(enum.Enum):
    """What a failed refresh means."""

    TRANSIENT = "transient"
    """The server did not do it now; it may later, with the same refresh token."""

    PERMANENT = "permanent"
    """The server says that the grant is dead."""

    AMBIGUOUS = "ambiguous"
    """The request was sent and no usable answer came: the refresh token may have been used up."""

    CONFIGURATION = "configuration"
    """The server refuses this client, or wants to see the user; the grant may be alive."""


def classify(error: PAuthError) -> Failure:
    """What ``error``, raised by a refresh request, says about the grant (P8).

    Which of a provider's codes mean a dead grant or "later" has been decided before: :attr:`.Quirks.dead_grants`, :attr:`.Quirks.transient_errors`.
    """
    if isinstance(error, ReauthorizationRequired):
        return Failure.PERMANENT if error.reason == "invalid_grant" else Failure.CONFIGURATION
    if isinstance(error, ProviderUnavailable):
        return Failure.AMBIGUOUS if error.request_sent and error.status is None else Failure.TRANSIENT
    if isinstance(error, MalformedResponse):
        # a 2xx that cannot be read may have held the new tokens; a 4xx did not, and 3xx never comes from a token endpoint
        return Failure.AMBIGUOUS if error.status is None or 200 <= error.status < 300 else Failure.CONFIGURATION
    if isinstance(error, UntrustedServer):
        # with a status it is an answer, whose tokens must not be used (TE-14); without one nothing was sent to whoever is there
        return Failure.CONFIGURATION if error.status is None else Failure.AMBIGUOUS
    return Failure.CONFIGURATION


def may_have_spent(error: PAuthError) -> bool:
    """Whether the server may have used up the refresh token before it failed. A 500 or 502 says nothing of what was done before it."""
    if isinstance(error, ProviderUnavailable):
        return error.request_sent and error.status not in _UNSENT_STATUSES
    return classify(error) is Failure.AMBIGUOUS


def after_failure(
    attempts: Attempts, error: PAuthError, *, began: float, now: float, max_backoff: float, chance: float, strict: bool = False
) -> Attempts:
    """What is known after an attempt failed, with the moment before which nobody shall try again (P10).

    :param began: when the attempt was announced: seconds since the Unix epoch, as ``now``.
    :param max_backoff: the longest pause in seconds, unless the server asks for more.
    :param chance: from 0 to 1, at random: spreads the next attempts of many.
    :param strict: the server would not take the refresh token again. If it may have been used up, the one retry is not to be wasted on an outage that
        lasts a few seconds.
    """
    kind = classify(error)
    failures = attempts.failures + 1
    pause = min(_FIRST_PAUSE * 2.0 ** min(failures - 1, 16), max_backoff) * (0.5 + 0.5 * chance)
    if kind is Failure.CONFIGURATION:
        pause = min(pause, _CONFIGURATION_PAUSE)  # who has corrected it does not want to wait long
    if kind is Failure.AMBIGUOUS and strict:
        pause = max(pause, _STRICT_PAUSE * (0.75 + 0.25 * chance))
    if error.retry_after is not None and math.isfinite(error.retry_after):
        # a little more than asked for, spread, so that not all come back in the same moment
        pause = max(pause, min(max(0.0, error.retry_after), MAX_RETRY_AFTER) * (1.0 + 0.1 * chance))
    refused = isinstance(error, ReauthorizationRequired) and kind is Failure.CONFIGURATION
    known = replace(
        attempts,
        under_way=False,
        failures=failures,
        retry_at=now + pause,
        pause=pause,
        refusal=(error.reason if isinstance(error, ReauthorizationRequired) else error.error) if kind is Failure.CONFIGURATION else None,
        user_wanted=refused,
    )
    if kind is Failure.AMBIGUOUS:
        known = replace(known, unanswered=known.unanswered + 1, lost_at=began if known.lost_at is None else known.lost_at)
    if may_have_spent(error):
        known = replace(known, suspect=attempts.attempt_id)
    return known


def rest_left(attempts: Attempts, now: float, *, seen_for: float = 0.0) -> float:
    """Seconds until somebody may try again; 0 for now.

    Clocks may differ and jump (P11): no pause lasts longer than it was meant to from the moment on at which this process first saw it.

    :param now: seconds since the Unix epoch.
    :param seen_for: seconds for which this process has known of the failure.
    """
    return max(0.0, min(attempts.retry_at - now, attempts.pause - seen_for))


def takes_again(attempts: Attempts, rotation: Rotation, *, now: float) -> bool:
    """Whether the server takes the refresh token even if an attempt so far has used it up.

    :param now: seconds since the Unix epoch.
    """
    if rotation.class_ is RotationClass.RG and rotation.grace is not None:
        return abs(now - (now if attempts.lost_at is None else attempts.lost_at)) < rotation.grace
    return rotation.class_ in {RotationClass.NR, RotationClass.RO, RotationClass.RU}


def sends_left(attempts: Attempts, rotation: Rotation, *, now: float, ambiguous_retries: int) -> bool:
    """Whether the refresh token may be sent (P2): always, where the server takes it again; else only so often.

    :param now: seconds since the Unix epoch.
    """
    return takes_again(attempts, rotation, now=now) or attempts.unanswered + attempts.under_way <= ambiguous_retries


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    open_until: float = 0.0
    """On the monotonic clock."""

    opened_at: float = 0.0
    failed_at: float = 0.0
    pause: float = 0.0
    probing_until: float = 0.0
    who: object = None
    """Whose failure was the latest."""


class Breaker:
    """Stops asking a server that fails whoever asks, but for one probe now and then. One for each token endpoint in a process. Thread-safe.

    :param monotonic: seconds from an arbitrary origin.
    :param threshold: failures in a row, of any users, after which it opens.
    :param pause: seconds for which it stays open at first; doubled at each failed probe, up to ``max_pause``.
    """

    def __init__(self, monotonic: Callable[[], float], *, threshold: int = 5, pause: float = 5.0, max_pause: float = 60.0) -> None:
        self._monotonic = monotonic
        self._threshold = threshold
        self._first_pause = pause
        self._max_pause = max_pause
        self._circuit = _Circuit()
        self._lock = ForkSafeLock()

    @property
    def is_open(self) -> bool:
        """Whether the server is asked by a probe at most."""
        return self._circuit.failures >= self._threshold

    @property
    def pause(self) -> float:
        """Seconds between probes, as things are; 0 while it is closed."""
        return self._circuit.pause

    @property
    def left(self) -> float:
        """Seconds until the next probe; 0 if it is due, or the breaker closed. Nobody becomes the probe by asking."""
        circuit = self._circuit
        return max(0.0, circuit.open_until - self._monotonic()) if circuit.failures >= self._threshold else 0.0

    def wait(self) -> float:
        """Seconds until somebody may ask: 0 for now. While it is open, 0 is given to one caller, whose request is the probe.

        That caller has to report by :meth:`succeeded`, :meth:`failed` or :meth:`gave_up`.
        """
        with self._lock:
            circuit = self._circuit
            if circuit.failures < self._threshold:
                return 0.0
            left = circuit.open_until - self._monotonic()
            if left > 0:
                return left
            if self._monotonic() < circuit.probing_until:
                return circuit.pause
            circuit.probing_until = self._monotonic() + _PROBE_LAPSES
            return 0.0

    def succeeded(self) -> float | None:
        """The server answered. Gives for how many seconds the breaker was open, if this closes it."""
        with self._lock:
            circuit, self._circuit = self._circuit, _Circuit()
        return None if circuit.failures < self._threshold else self._monotonic() - circuit.opened_at

    def heard(self, age: float) -> float | None:
        """Somebody, in whichever process, got a token so many seconds ago. Gives for how many seconds the breaker was open, if this closes it."""
        with self._lock:
            circuit = self._circuit
            newer = circuit.failures >= self._threshold and age < self._monotonic() - circuit.failed_at
        return self.succeeded() if newer else None

    def failed(self, *, retry_after: float | None, who: object = None) -> float | None:
        """The server did not answer, or said "not now". Gives for how many seconds this opens the breaker, if it does.

        :param who: whose request it was. Of failures of one user in a row one counts: he rests by himself, and must not stop everybody.
        """
        with self._lock:
            circuit = self._circuit
            was_open, circuit.probing_until = circuit.failures >= self._threshold, 0.0
            if not was_open and who is not None and circuit.who == who:
                return None
            circuit.who = who
            circuit.failed_at = self._monotonic()
            circuit.failures += 1
            if circuit.failures < self._threshold:
                return None
            if was_open and self._monotonic() < circuit.open_until:
                return None  # one that was sent before it opened
            if not was_open:
                circuit.opened_at = self._monotonic()
            circuit.pause = self._first_pause if not was_open else min(2 * circuit.pause, self._max_pause)
            circuit.open_until = self._monotonic() + max(circuit.pause, min(retry_after or 0.0, self._max_pause))
            return circuit.open_until - self._monotonic()

    def gave_up(self) -> None:
        """Nothing was learnt of the server."""
        with self._lock:
            self._circuit.probing_until = 0.0
