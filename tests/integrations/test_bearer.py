"""A user's token on requests, whichever library makes them: where it goes, and what happens when it is refused."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import quote

import pytest
import trustme

from pauth import ProviderUnavailable, ReauthorizationRequired, Token
from pauth.integrations import _bearer
from pauth.testing import faults
from tests.client.kit import Bench
from tests.integrations.callers import Calling
from tests.integrations.resources import Resource, resource


def sent(token: Token) -> str:
    return token.auth_headers()["Authorization"]


async def test_the_token_is_in_the_header_of_each_request(bench: Bench, calling: Calling, api: Resource) -> None:
    """RQ-1; the path, query and body hold none of it, which the server looks at."""
    client = bench.client()
    token = (await bench.log_in(client)).token
    caller = calling(client, origins=api.origin)
    for method, body in (("GET", None), ("POST", b"a body"), ("PUT", b"")):
        assert (await caller.call(method, api.url(), body=body)).status == 200
    assert api.tokens() == [sent(token)] * 3
    assert [seen.body for seen in api.seen] == [b"", b"a body", b""]


async def test_the_protected_resource_of_the_server_accepts_it(bench: Bench, calling: Calling) -> None:
    client = bench.client()
    await bench.log_in(client)
    caller = calling(client, origins=bench.server.issuer)
    assert (await caller.call("GET", bench.server.resource_url)).status == 200


async def test_each_user_s_requests_have_their_own_token(bench: Bench, calling: Calling, api: Resource) -> None:
    """P13"""
    client = bench.client()
    tokens = {user: (await bench.log_in(client, user)).token for user in ("alice", "bob")}
    callers = {user: calling(client, user, origins=api.origin) for user in tokens}
    await asyncio.gather(*(callers[user].call("GET", api.url(f"/{user}")) for user in ("alice", "bob") * 4))
    assert {(seen.path, seen.token) for seen in api.seen} == {(f"/{user}", sent(token)) for user, token in tokens.items()}


async def test_another_origin_gets_the_request_but_no_token(bench: Bench, calling: Calling, api: Resource) -> None:
    """RQ-2"""
    client = bench.client()
    await bench.log_in(client)
    caller = calling(client, origins="https://api.example")
    assert (await caller.call("GET", api.url())).status == 200
    assert api.tokens() == [None]


async def test_a_header_of_the_caller_s_own_stays_as_it_is(bench: Bench, calling: Calling, api: Resource) -> None:
    client = bench.client()
    await bench.log_in(client)
    api.refuse_all = True
    caller = calling(client, origins=api.origin)
    assert (await caller.call("GET", api.url(), headers={"authorization": "Bearer of-mine"})).status == 401
    assert api.tokens() == ["Bearer of-mine"]
    assert bench.refreshes() == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_within_the_origin_keeps_the_token(bench: Bench, calling: Calling, api: Resource, status: int) -> None:
    client = bench.client()
    token = (await bench.log_in(client)).token
    caller = calling(client, origins=api.origin)
    assert (await caller.call("POST", api.url(f"/go?status={status}&to=/there"), body=b"x")).status == 200
    assert api.tokens() == [sent(token)] * 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("other", ["port", "host", "user name"])
async def test_a_redirect_to_another_origin_drops_the_token(bench: Bench, calling: Calling, api: Resource, status: int, other: str) -> None:
    """RQ-2, E22"""
    client = bench.client()
    token = (await bench.log_in(client)).token
    async with resource("localhost" if other == "host" else "127.0.0.1") as elsewhere:
        caller = calling(client, origins=api.origin)
        there = elsewhere.url("/there")
        target = there if other != "user name" else there.replace("://", f"://{api.host}:{api.port}@")
        answer = await caller.call("POST", api.url(f"/go?status={status}&to={quote(target, safe='')}"), body=b"x")
        assert answer.status == 200
        assert api.tokens() == [sent(token)]
        (seen,) = elsewhere.tokens()
        assert seen is None or (other == "user name" and seen.startswith("Basic "))  # what the redirect itself names


async def test_from_https_to_http_and_from_http_to_https_the_token_is_dropped(bench: Bench, calling: Calling, api: Resource) -> None:
    """RQ-2"""
    authority = trustme.CA()
    client = bench.client()
    token = (await bench.log_in(client)).token
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)  # pyright: ignore[reportUnknownMemberType]  # its SSLContext is pyOpenSSL's too
    async with resource(tls=tls) as secure:
        with authority.cert_pem.tempfile() as ca:
            calling.ca = ca
            for first, second in ((secure, api), (api, secure)):
                caller = calling(client, origins=first.origin)
                assert (await caller.call("GET", first.url(f"/go?to={quote(second.url('/there'), safe='')}"))).status == 200
        assert api.tokens() == [None, sent(token)]
        assert secure.tokens() == [sent(token), None]


async def test_who_sends_a_request_back_to_the_origin_does_not_get_the_token_put_on_it(bench: Bench, calling: Calling, api: Resource) -> None:
    """A stranger must not choose what is done in the user's name: not as the first hop, nor after a redirect, nor after one more at home."""
    client = bench.client()
    token = (await bench.log_in(client)).token
    async with resource("localhost") as stranger:
        caller = calling(client, origins=api.origin)
        back = quote(api.url("/delete?all=1"), safe="")
        await caller.call("GET", stranger.url(f"/go?to={back}"))
        assert api.tokens("/delete") == [None]
        via = quote(stranger.url(f"/go?to={back}"), safe="")
        await caller.call("GET", api.url(f"/go?to={via}"))
        assert api.tokens("/delete") == [None, None]
        home = quote(api.url(f"/go?to={back}"), safe="")
        await caller.call("GET", stranger.url(f"/go?to={home}"))
        assert api.tokens("/delete") == [None, None, None]
        assert set(stranger.tokens()) == {None}
        # and what is asked for directly, right afterwards, has it again
        await caller.call("GET", api.url("/delete?all=2"))
        assert api.tokens("/delete")[-1] == sent(token)


async def test_a_refused_token_is_refreshed_once_and_the_request_sent_again(bench: Bench, calling: Calling) -> None:
    """RQ-4, at the protected resource of the server that issued it"""
    client = bench.client()
    await bench.log_in(client)
    caller = calling(client, origins=bench.server.issuer)
    bench.server.expire_access_tokens()
    for _ in range(2):
        assert (await caller.call("GET", bench.server.resource_url)).status == 200
    assert bench.refreshes() == 1


async def test_the_body_is_sent_again(bench: Bench, calling: Calling, api: Resource) -> None:
    client = bench.client()
    old = (await bench.log_in(client)).token
    api.refused.add(sent(old))
    caller = calling(client, origins=api.origin)
    assert (await caller.call("POST", api.url(), body=b"a body")).status == 200
    assert [seen.body for seen in api.seen] == [b"a body", b"a body"]
    assert api.tokens() == [sent(old), sent(await client.get_token("alice"))]


async def test_a_body_that_can_be_sent_once_is_sent_once_and_the_next_request_has_a_new_token(bench: Bench, calling: Calling, api: Resource) -> None:
    """RQ-4"""
    client = bench.client()
    old = (await bench.log_in(client)).token
    api.refused.add(sent(old))
    caller = calling(client, origins=api.origin)
    assert (await caller.call("POST", api.url(), body=b"a body", once=True)).status == 401
    assert (await caller.call("POST", api.url(), body=b"a body", once=True)).status == 200
    assert [seen.body for seen in api.seen] == [b"a body", b"a body"]
    assert bench.refreshes() == 1


async def test_many_requests_that_are_refused_at_once_make_one_refresh(bench: Bench, calling: Calling, api: Resource) -> None:
    """RQ-4, P1: they name the version that was refused"""
    client = bench.client()
    old = (await bench.log_in(client)).token
    api.refused.add(sent(old))
    callers = [calling(client, origins=api.origin) for _ in range(8)]
    answers = await asyncio.gather(*(caller.call("GET", api.url()) for caller in callers))
    assert {answer.status for answer in answers} == {200}
    assert bench.refreshes() == 1


async def test_a_server_that_refuses_everything_gets_two_requests_and_costs_one_refresh(bench: Bench, calling: Calling, api: Resource) -> None:
    """RQ-4, P10: nor does the next request ask for another, whoever makes it, until a token is accepted or changes."""
    client = bench.client()
    await bench.log_in(client)
    api.refuse_all = True
    assert (await calling(client, origins=api.origin).call("GET", api.url())).status == 401
    assert (len(api.seen), bench.refreshes()) == (2, 1)
    for _ in range(3):
        assert (await calling(client, origins=api.origin).call("GET", api.url())).status == 401
    assert (len(api.seen), bench.refreshes()) == (5, 1)
    api.refuse_all = False
    caller = calling(client, origins=api.origin)
    assert (await caller.call("GET", api.url())).status == 200
    api.refused.add(sent(await client.get_token("alice")))
    assert (await caller.call("GET", api.url())).status == 200
    assert bench.refreshes() == 2


@pytest.mark.parametrize(
    ("status", "challenge"),
    [
        (401, None),
        (401, "Bearer"),
        (401, 'Bearer error="invalid_request"'),
        (401, 'Basic error="invalid_token"'),
        (403, 'Bearer error="insufficient_scope"'),
        (403, 'Bearer error="invalid_token"'),
        (400, 'Bearer error="invalid_token"'),
    ],
)
async def test_other_refusals_refresh_nothing(bench: Bench, calling: Calling, api: Resource, status: int, challenge: str | None) -> None:
    """RQ-4"""
    client = bench.client()
    await bench.log_in(client)
    api.refuse_all, api.status, api.challenge = True, status, challenge
    assert (await calling(client, origins=api.origin).call("GET", api.url())).status == status
    assert (len(api.seen), bench.refreshes()) == (1, 0)


async def test_of_a_server_that_gives_no_reason_any_401_can_be_taken_for_one(bench: Bench, calling: Calling, api: Resource) -> None:
    client = bench.client()
    old = (await bench.log_in(client)).token
    api.challenge = None
    api.refused.add(sent(old))
    assert (await calling(client, origins=api.origin, refresh_on_any_401=True).call("GET", api.url())).status == 200
    assert bench.refreshes() == 1


async def test_a_refusal_by_another_server_refreshes_nothing(bench: Bench, calling: Calling, api: Resource) -> None:
    client = bench.client()
    await bench.log_in(client)
    async with resource("localhost", refuse_all=True) as elsewhere:
        caller = calling(client, origins=api.origin)
        assert (await caller.call("GET", api.url(f"/go?to={quote(elsewhere.url(), safe='')}"))).status == 401
    assert bench.refreshes() == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_a_done_request_led_to_is_not_taken_for_it(bench: Bench, calling: Calling, api: Resource, method: str) -> None:
    """An order that was placed is not placed again because the page about it wanted a newer token."""
    client = bench.client()
    token = (await bench.log_in(client)).token
    api.refused.add(sent(token))
    caller = calling(client, origins=api.origin)
    answer = await caller.call(method, api.url("/go?status=303&to=/order"), body=b"one, please" if method == "POST" else None)
    steps = [(seen.method, seen.path) for seen in api.seen]
    if not calling.library.startswith("httpx"):  # the others let an integration see each redirect
        assert (answer.status, steps) == (200, [(method, "/go"), ("GET", "/order"), ("GET", "/order")])
    elif method == "POST":
        assert (answer.status, steps) == (401, [("POST", "/go"), ("GET", "/order")])
    else:
        assert (answer.status, steps) == (200, [("GET", "/go"), ("GET", "/order")] * 2)
    assert bench.refreshes() == 1
    assert (await caller.call("GET", api.url())).status == 200


async def test_without_a_grant_nothing_is_sent(bench: Bench, calling: Calling, api: Resource) -> None:
    caller = calling(bench.client(), origins=api.origin)
    with pytest.raises(ReauthorizationRequired):
        await caller.call("GET", api.url())
    assert api.seen == []


async def test_a_refresh_that_fails_is_the_caller_s_error(bench: Bench, calling: Calling, api: Resource) -> None:
    client = bench.client()
    await bench.log_in(client)
    api.refuse_all = True
    caller = calling(client, origins=api.origin)
    bench.server.script("token", faults.status(503), times=None)
    with pytest.raises(ProviderUnavailable):
        await caller.call("GET", api.url())
    bench.server.clear_script()
    bench.clock.advance(60)  # it is not asked again at once
    bench.server.revoke_user("alice")
    with pytest.raises(ReauthorizationRequired):
        await caller.call("GET", api.url())


async def test_what_is_remembered_of_refusals_is_bounded(bench: Bench, calling: Calling, api: Resource, monkeypatch: pytest.MonkeyPatch) -> None:
    """P19"""
    monkeypatch.setattr(_bearer, "MAX_HOPELESS", 2)
    client = bench.client()
    api.refuse_all = True
    for user in ("alice", "bob", "carol"):
        await bench.log_in(client, user)
        await calling(client, user, origins=api.origin).call("GET", api.url())
    assert [user for user, _ in _bearer.hopeless] == ["bob", "carol"]
