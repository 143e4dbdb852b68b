"""Named places in a refresh at which the tests may act: kill this process, stop it, raise. In production nothing is armed.

In order: ``before_lease``, ``after_lease``, ``after_intent``, ``before_send``, ``mid_send``, ``after_send``, ``mid_response``, ``after_response``,
``before_commit``, ``mid_commit``, ``after_commit``, ``before_release``.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["arm", "failpoint"]

_hook: Callable[[str], None] | None = None


def arm(hook: Callable[[str], None] | None) -> None:
    """Call ``hook`` with the name of each place that is reached from now on; ``None``: nothing happens there any more."""
    global _hook  # noqa: PLW0603  # one for the process, as the processes are what the tests kill
    _hook = hook


def failpoint(name: str) -> None:
    """The place ``name`` is reached."""
    if _hook is not None:
        _hook(name)
