"""The presets, by attribute and by name."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, Literal

from pauth.errors import ConfigurationError
from pauth.providers.discord import DISCORD
from pauth.providers.facebook import FACEBOOK
from pauth.providers.github import GITHUB
from pauth.providers.google import GOOGLE
from pauth.providers.linkedin import LINKEDIN
from pauth.providers.microsoft import MICROSOFT, microsoft
from pauth.providers.record import Provider
from pauth.providers.slack import SLACK, slack
from pauth.providers.x import X

__all__ = ["Providers", "provider_named"]


class Providers:
    """The providers that pauth knows. Each is a :class:`Provider`; the link in its ``docs_url`` says how to register an application there."""

    GOOGLE: Final = GOOGLE
    GITHUB: Final = GITHUB
    FACEBOOK: Final = FACEBOOK
    X: Final = X
    TWITTER: Final = X
    MICROSOFT: Final = MICROSOFT
    LINKEDIN: Final = LINKEDIN
    DISCORD: Final = DISCORD
    SLACK: Final = SLACK

    @staticmethod
    def all() -> tuple[Provider, ...]:
        """Every preset, once, in the order of their names."""
        return tuple(sorted({id(preset): preset for preset in _PRESETS.values()}.values(), key=lambda preset: preset.name))

    @staticmethod
    def microsoft(tenant: str = "common") -> Provider:
        """Microsoft, for a tenant id, a domain, or one of ``common``, ``organizations``, ``consumers``.

        :raises ConfigurationError: ``tenant`` is none of these.
        """
        return microsoft(tenant)

    @staticmethod
    def slack(token: Literal["bot", "user", "openid"] = "bot") -> Provider:
        """Slack, keeping the app's token (``bot``), the user's (``user``), or only who the user is (``openid``).

        :raises ConfigurationError: ``token`` is none of these.
        """
        return slack(token)


_PRESETS: Final = MappingProxyType(
    {
        **{preset.name: preset for preset in (DISCORD, FACEBOOK, GITHUB, GOOGLE, LINKEDIN, MICROSOFT, SLACK, X)},
        "twitter": X,
        "microsoft-entra": MICROSOFT,
    }
)


def provider_named(name: str) -> Provider:
    """The preset called ``name``, in any case.

    :raises ConfigurationError: there is none; the message lists the names.
    """
    preset = _PRESETS.get(name.strip().lower())
    if preset is None:
        raise ConfigurationError(
            f"no provider preset has this name; there are {', '.join(sorted(_PRESETS))}; for others give a Provider or an issuer"
        )
    return preset
