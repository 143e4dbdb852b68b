"""Named places in a refresh at which tests kill, stop or disturb the process. Nothing happens at them unless a test has armed them.

A refresh reaches them in the order of :data:`NAMES`. There is no setting that arms them: it takes a call from a test in the same process.

This module imports nothing from pauth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["NAMES", "arm", "failpoint"]

NAMES: Final = (
    "before_lease",
    "after_lease",
    "after_intent",
    "before_send",
    "mid_send",
    "after_send",
    "mid_response",
    "after_response",
    "before_commit",
    "after_commit",
    "before_release",
)
"""In the order in which a refresh reaches them. ``mid_send``: there is a connection and nothing was written to it; ``after_send``: the request was
written; ``mid_response``: status and headers are here, the body is not."""

_hook: Callable[[str], None] | None = None


def arm(hook: Callable[[str], None] | None) -> None:
    """Call ``hook`` with the name of each failpoint that is reached from now on; ``None`` ends that. For tests."""
    global _hook  # noqa: PLW0603  # one process, one hook
    _hook = hook


def failpoint(name: str) -> None:
    """The place called ``name`` has been reached."""
    if _hook is not None:
        _hook(name)
