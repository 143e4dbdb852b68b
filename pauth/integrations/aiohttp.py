"""Logins in applications of aiohttp.web, and a user's token on requests of aiohttp's client."""

from __future__ import annotations

from pauth.integrations._aiohttp_client import TokenMiddleware
from pauth.integrations._aiohttp_web import WebLogin
from pauth.integrations._web import DisconnectRefused, LoginRefused

__all__ = ["DisconnectRefused", "LoginRefused", "TokenMiddleware", "WebLogin"]
