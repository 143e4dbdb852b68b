"""What is done to a process at a failpoint: ``PAUTH_FP=name:action@n`` acts when the place ``name`` is reached for the n-th time.

Actions: ``kill`` (SIGKILL to itself), ``stop`` (SIGSTOP to itself, until somebody continues it), ``sleep`` (the whole process, for ``:seconds``),
``raise`` (an error that nobody expects), ``enospc`` (the disk is full), ``cut`` (from here on its store takes no writes). Several orders are
separated by commas.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["ACTIONS", "FAILPOINTS", "Injected", "Nemesis", "Order", "parse_orders"]

FAILPOINTS: Final = (
    "before_lease",
    "after_lease",
    "after_intent",
    "before_send",
    "mid_send",
    "after_send",
    "mid_response",
    "after_response",
    "before_commit",
    "mid_commit",
    "after_commit",
    "before_release",
)
ACTIONS: Final = ("kill", "stop", "sleep", "raise", "enospc", "cut")

_ORDER: Final = re.compile(r"(?P<name>[a-z_]+):(?P<action>[a-z]+)(?::(?P<seconds>[0-9.]+))?(?:@(?P<at>[0-9]+))?")


class Injected(Exception):
    """An error that no code expects."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to do where, and when."""

    name: str
    action: str
    at: int = 1
    seconds: float = 1.0


def parse_orders(text: str) -> list[Order]:
    """The orders that a value of ``PAUTH_FP`` means.

    :raises ValueError: it means nothing, so the test would not do what it says.
    """
    orders: list[Order] = []
    for part in filter(None, text.split(",")):
        found = _ORDER.fullmatch(part.strip())
        if found is None or found["name"] not in FAILPOINTS or found["action"] not in ACTIONS:
            raise ValueError(f"{part!r} is no failpoint order; write name:action@n, as after_send:kill@1")
        orders.append(Order(found["name"], found["action"], int(found["at"] or 1), float(found["seconds"] or 1.0)))
    return orders


class Nemesis:
    """Carries out orders. An instance is a hook for :func:`pauth.failpoints.arm`.

    :param tell: is told of an order before it is carried out.
    :param cut: cuts this process off from its store.
    """

    def __init__(self, orders: list[Order], *, tell: Callable[[Order], None], cut: Callable[[], None]) -> None:
        self._tell = tell
        self._cut = cut
        self._reached: Counter[str] = Counter()
        self.orders = list(orders)

    def __call__(self, name: str) -> None:
        self._reached[name] += 1
        for order in self.orders:
            if order.name == name and order.at == self._reached[name]:
                self._tell(order)
                self._act(order)

    def order(self, text: str) -> None:
        """Replace the orders; places count anew."""
        self.orders = parse_orders(text)
        self._reached.clear()

    def waits_for(self, name: str) -> bool:
        """Whether there is an order for a place whose time may still come."""
        return any(order.name == name and order.at > self._reached[name] for order in self.orders)

    def _act(self, order: Order) -> None:
        if order.action == "kill":
            signal.pthread_kill(threading.get_ident(), signal.SIGKILL)  # to this thread, which goes no step further
        elif order.action == "stop":
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        elif order.action == "sleep":
            time.sleep(order.seconds)
        elif order.action == "cut":
            self._cut()
        elif order.action == "enospc":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        else:
            raise Injected(order.name)
