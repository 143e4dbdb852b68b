"""``pauth providers``: the presets."""

from __future__ import annotations

from typing import Any

import click

from pauth.cli.common import Given, common_options
from pauth.cli.output import table
from pauth.core.quirks import RotationClass
from pauth.providers import Provider, Providers

__all__ = ["providers"]


@click.command(short_help="List the presets, and where to register with each.")
@common_options
def providers(given: Given) -> None:
    """List the presets, and where an application is registered with each.

    Any other provider with OpenID Connect discovery or RFC 8414 metadata is named by the URL of its issuer.
    """
    presets = Providers.all()
    rows = [
        (preset.name, preset.title, "yes" if _has_device_grant(preset) else "-", " ".join(preset.default_scopes), preset.docs_url)
        for preset in presets
    ]
    given.output.result([_document(preset) for preset in presets], table(("NAME", "PROVIDER", "--DEVICE", "SCOPES", "REGISTER AT"), rows))


def _has_device_grant(preset: Provider) -> bool:
    return preset.metadata.device_authorization_endpoint is not None


def _document(preset: Provider) -> dict[str, Any]:
    return {
        "name": preset.name,
        "title": preset.title,
        "docs_url": preset.docs_url,
        "issuer": preset.metadata.issuer,
        "default_scopes": list(preset.default_scopes),
        "client_auth": preset.client_auth,
        "pkce": preset.quirks.pkce,
        "device": _has_device_grant(preset),
        "refresh_tokens": preset.rotation is not None,
        "rotates_refresh_tokens": preset.rotation is not None and preset.rotation.class_ is not RotationClass.NR,
        "notes": list(preset.notes),
    }
