"""Asking the token endpoint until the user of another device has decided (RFC 8628 sections 3.4 and 3.5)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pauth.clock import Clock
from pauth.core.device import Poll, PollSchedule, device_login_expired
from pauth.core.pending_device import DeviceAuthorization
from pauth.errors import ProviderUnavailable

__all__ = ["ask_until_decided"]

T = TypeVar("T")


async def ask_until_decided(authorization: DeviceAuthorization, ask: Callable[[], Awaitable[T | Poll]], *, clock: Clock) -> T:
    """What ``ask`` gives when it is no :class:`Poll` any more. The first poll comes after one interval; none comes after the code has expired.

    :param ask: one poll; a server that does not answer is asked again, later each time (DV-2).
    :raises AuthorizationError: the user did not decide in time. What else ``ask`` raises ends the login too.
    """
    ends_at = clock.monotonic() + authorization.expires_at - clock.time()
    schedule = PollSchedule(authorization.interval)
    while True:
        left = ends_at - clock.monotonic()
        if left > schedule.wait:
            await clock.sleep(schedule.wait)
        else:
            await clock.sleep(left)
            raise device_login_expired()
        try:
            answer = await ask()
        except ProviderUnavailable as error:
            schedule = schedule.failed(error.retry_after)
            continue
        if not isinstance(answer, Poll):
            return answer
        schedule = schedule.answered(answer)
