"""What a token in memory takes, beyond its own text."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import orjson

from benchmarks.contender import Missing, optional
from benchmarks.tokens.peers import stored_form
from benchmarks.tokens.result import Aim, Found, Setting
from pauth.core.token import token_from_dict
from pauth.refresh.cache import Cached, TokenCache

__all__ = ["run"]

_TOKENS = 100_000
_OURS = "pauth: the cache of a client"


async def run(setting: Setting) -> Found:
    """Bytes a token, user id and all."""
    found = Found("Memory for a token", ("contender", "tokens", "bytes a token", "of these its text", "beyond it"))
    number = 100 if setting.quick else _TOKENS
    ours = 0.0
    for name, make in _CONTENDERS.items():
        setting.say(f"tokens: memory, {name}")
        try:
            whole, text = _measured(make, number)
        except Missing as missing:
            found.absent[name] = str(missing)
            continue
        found.rows.append((name, number, whole, text, whole - text))
        if name == _OURS:
            ours = whole - text
    found.aims = [Aim("a cached token: at most 600 bytes beyond its text", ours, 600, unit=" bytes")]
    return found


def _measured(make: Callable[[], Callable[[str, dict[str, Any]], object]], number: int) -> tuple[float, float]:
    keep = make()
    gc.collect()
    text = 0
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for each in range(number):
            form = _form(each)
            text += sum(len(form[name]) for name in ("access_token", "refresh_token"))
            keep(f"user-{each}", form)
            del form
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / number, text / number
    finally:
        tracemalloc.stop()


def _form(number: int) -> dict[str, Any]:
    """One as a store gives it: every text of its own."""
    form = stored_form(f"user-{number}")
    form |= {"issued_at": time.time(), "issuer": "https://login.example", "token_endpoint": "https://login.example/token", "scope": "read write"}
    read: dict[str, Any] = orjson.loads(orjson.dumps(form))
    return read


def _pauth() -> Callable[[str, dict[str, Any]], object]:
    cache = TokenCache(_TOKENS, time.monotonic)
    return lambda user, form: cache.put(user, Cached(token_from_dict(form), 1e9, 1, bytes(bytearray(16)), None))


def _dicts() -> Callable[[str, dict[str, Any]], object]:
    held: dict[str, dict[str, Any]] = {}
    return held.__setitem__


def _tuples() -> Callable[[str, dict[str, Any]], object]:
    held: dict[str, tuple[str, str, float]] = {}
    return lambda user, form: held.__setitem__(user, (form["access_token"], form["refresh_token"], form["expires_at"]))


def _authlib() -> Callable[[str, dict[str, Any]], object]:
    made = optional("authlib.oauth2.rfc6749.wrappers", "authlib").OAuth2Token
    held: dict[str, Any] = {}
    return lambda user, form: held.__setitem__(user, made(form))


def _google() -> Callable[[str, dict[str, Any]], object]:
    made = optional("google.oauth2.credentials", "google-auth[requests]").Credentials
    held: dict[str, Any] = {}

    def keep(user: str, form: dict[str, Any]) -> None:
        held[user] = made(form["access_token"], refresh_token=form["refresh_token"], token_uri=form["token_endpoint"], scopes=form["scope"].split())

    return keep


_CONTENDERS = MappingProxyType(
    {
        _OURS: _pauth,
        "a dict of tuples: two texts and a time": _tuples,
        "a dict of the dicts that were stored": _dicts,
        "Authlib: OAuth2Token": _authlib,
        "google-auth: Credentials": _google,
    }
)
