"""Providers as data: one frozen record each, no subclasses, and a link to the provider's own page.

To add one, copy the file of the provider that is most like it. Every deviation from the RFCs is a field of :class:`~pauth.core.quirks.Quirks`.
"""

from pauth.providers.catalog import Providers, provider_named
from pauth.providers.record import Provider

__all__ = ["Provider", "Providers", "provider_named"]
