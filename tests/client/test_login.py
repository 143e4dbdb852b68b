"""Logins that succeed: every form in which a callback may come, and whose tokens they give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from multidict import MultiDict, MultiDictProxy
from starlette.datastructures import QueryParams

from pauth import ConfigurationError, InvalidStateError, Login, MemoryTokenStorage, Token, UserInfoError
from pauth.errors import InvalidUserId
from pauth.testing import faults
from tests.client.kit import SESSION, Bench, query_of, record_of


def pairs(url: str) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(url).query)


FORMS: dict[str, Callable[[str], Any]] = {
    "URL": lambda url: url,
    "relative URL": lambda url: url.removeprefix("https://app.example"),
    "query string": lambda url: urlsplit(url).query,
    "query string with its mark": lambda url: f"?{urlsplit(url).query}",
    "mapping": lambda url: dict(pairs(url)),
    "pairs": pairs,
    "iterator": lambda url: iter(pairs(url)),
    "aiohttp": lambda url: MultiDictProxy(MultiDict(pairs(url))),
    "Starlette": lambda url: QueryParams(urlsplit(url).query),
}


@pytest.mark.parametrize("form", FORMS)
async def test_a_callback_in_every_form(bench: Bench, form: str) -> None:
    client = bench.client()
    callback = await bench.callback(client, session_id=SESSION)
    login = await client.handle_callback(FORMS[form](callback), session_id=SESSION)
    assert isinstance(login, Login)
    assert login.user_id == login.token.subject == "alice"
    assert login.token.has_scope("openid", "profile", "email")
    stored = await client.get_token("alice")
    assert stored.access_token == login.token.access_token
    assert bench.exchanges() == 1


async def test_exchange_code_is_the_same_for_who_parsed_the_callback_already(bench: Bench) -> None:
    client = bench.client()
    params = query_of(await bench.callback(client, session_id=SESSION))
    token = await client.exchange_code(params["code"], params["state"], iss=params["iss"], session_id=SESSION)
    assert isinstance(token, Token)
    assert (await client.get_token("alice")).access_token == token.access_token


async def test_exchange_code_checks_what_handle_callback_checks(bench: Bench) -> None:
    """AX-1, AX-2"""
    client = bench.client()
    params = query_of(await bench.callback(client, session_id=SESSION))
    with pytest.raises(InvalidStateError, match="another browser session"):
        await client.exchange_code(params["code"], params["state"], iss=params["iss"], session_id="CANARY-browser-session-2")
    with pytest.raises(InvalidStateError, match="no login is pending"):
        await client.exchange_code(params["code"], params["state"], iss=params["iss"], session_id=SESSION)
    assert bench.exchanges() == 0


async def test_the_repr_of_a_login(bench: Bench) -> None:
    login = await bench.log_in(bench.client())
    assert repr(login) == f"<Login {login.token!r}>"
    assert "alice" not in repr(login)
    assert str(login.token) in f"{login}"


# Whose tokens they are


@pytest.mark.parametrize(("start", "end"), [("u1", None), (None, "u1"), ("u1", "u1")])
async def test_the_user_is_named_at_the_start_or_at_the_end(bench: Bench, start: str | None, end: str | None) -> None:
    """AX-6"""
    client = bench.client()
    callback = await bench.callback(client, user_id=start)
    login = await client.handle_callback(callback, user_id=end)
    assert login.user_id == "u1"
    assert login.token.subject == "alice"  # who it is at the server is kept as well
    assert (await client.get_token("u1")).access_token == login.token.access_token


async def test_a_login_for_one_user_cannot_be_completed_for_another(bench: Bench) -> None:
    """AX-6"""
    client = bench.client()
    callback = await bench.callback(client, user_id="u1")
    with pytest.raises(InvalidStateError, match="another user"):
        await client.handle_callback(callback, user_id="u2")
    assert bench.exchanges() == 0


@pytest.mark.parametrize("bad", ["", "\ud800", "x" * 1025])
async def test_an_impossible_user_id_is_refused_before_anything_happens(bench: Bench, bad: str) -> None:
    """PX-5: the pending login is still there for the right id."""
    client = bench.client()
    with pytest.raises(InvalidUserId):
        await client.get_authorization_url(user_id=bad)
    callback = await bench.callback(client)
    with pytest.raises(InvalidUserId):
        await client.handle_callback(callback, user_id=bad)
    assert (await client.handle_callback(callback, user_id="u1")).user_id == "u1"


async def test_without_a_name_it_is_the_subject_of_the_id_token(bench: Bench) -> None:
    """No userinfo request is made for it."""
    assert (await bench.log_in(bench.client(scopes=["openid"]))).user_id == "alice"
    assert bench.server.ledger.count(endpoint="userinfo") == 0


async def test_without_an_id_token_it_is_the_subject_at_the_userinfo_endpoint(bench: Bench) -> None:
    """A plain OAuth provider."""
    client = bench.client(bench.provider(userinfo_endpoint=bench.server.userinfo_endpoint))
    login = await bench.log_in(client)
    assert (login.user_id, login.token.subject, login.token.id_token) == ("alice", "alice", None)
    assert bench.server.ledger.count(endpoint="userinfo") == 1
    assert (await client.get_token("alice")).subject == "alice"


async def test_when_nobody_says_who_logged_in_nothing_is_sent(bench: Bench) -> None:
    client = bench.client(bench.provider())
    with pytest.raises(ConfigurationError, match="name the user with user_id"):
        await bench.log_in(client)
    assert bench.exchanges() == 0
    assert (await client.handle_callback(await bench.callback(client), user_id="u1")).user_id == "u1"


async def test_a_userinfo_endpoint_that_refuses_at_login_is_told(bench: Bench) -> None:
    """The token has no scope for it, and pauth has no name to store it under."""
    client = bench.client(bench.provider(userinfo_endpoint=bench.server.userinfo_endpoint), scopes=["read"])
    with pytest.raises(UserInfoError, match="ask for it at login") as caught:
        await bench.log_in(client)
    assert caught.value.status == 403


async def test_a_second_login_replaces_the_first(bench: Bench) -> None:
    storage = MemoryTokenStorage(clock=bench.clock)
    client = bench.client(token_storage=storage)
    first, second = await bench.log_in(client), await bench.log_in(client)
    assert (await client.get_token("alice")).access_token == second.token.access_token != first.token.access_token
    record = await record_of(storage, client, "alice")
    assert record is not None
    assert record.version == 2


async def test_a_failed_second_login_leaves_the_first(bench: Bench) -> None:
    client = bench.client()
    first = await bench.log_in(client)
    bench.server.script("token", faults.status(400, {"error": "invalid_grant"}))
    callback = await bench.callback(client)
    with pytest.raises(Exception, match="log in again"):
        await client.handle_callback(callback)
    assert (await client.get_token("alice")).access_token == first.token.access_token
