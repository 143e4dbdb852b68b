"""The locks of :mod:`pauth.locks`, by the name they have in this room."""

from pauth.locks import ForkSafeLock

__all__ = ["ForkSafeLock"]
