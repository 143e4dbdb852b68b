"""Metadata and keys are kept for a while, fetched once however many ask, and used a little longer when the server is down (MD-5)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pauth.core.wire import HTTPRequest, HTTPResponse
from pauth.errors import MalformedResponse, ProviderUnavailable, UntrustedServer
from pauth.server.directory import ServerDirectory
from pauth.testing import ManualClock
from tests.core.id_token_kit import OTHER_RSA, RSA
from tests.server.kit import ISSUER, JWKS_URI, Pages, key_set, metadata_document, page

OAUTH = f"{ISSUER}/.well-known/oauth-authorization-server"
DOWN = ProviderUnavailable("down")
HOUR = 3600.0

Ask = Callable[[ServerDirectory], Awaitable[object]]
_METADATA: tuple[str, Ask] = OAUTH, ServerDirectory.metadata
_KEYS: tuple[str, Ask] = JWKS_URI, lambda directory: directory.jwks(JWKS_URI)
both = pytest.mark.parametrize(("url", "ask"), [_METADATA, _KEYS], ids=["metadata", "keys"])


def _pages() -> Pages:
    return Pages({OAUTH: page(metadata_document()), JWKS_URI: page(key_set())})


@both
async def test_md5_a_document_is_kept_for_an_hour(url: str, ask: Ask) -> None:
    pages, clock = _pages(), ManualClock()
    directory = pages.directory(clock=clock)
    first = await ask(directory)
    clock.advance(HOUR - 1)
    assert await ask(directory) is first
    assert pages.asked == [url]
    clock.advance(1)
    assert await ask(directory) is not first
    assert pages.asked == [url, url]


@both
async def test_p11_a_jump_of_the_wall_clock_does_not_matter(url: str, ask: Ask) -> None:
    pages, clock = _pages(), ManualClock()
    directory = pages.directory(clock=clock)
    first = await ask(directory)
    clock.set_wall_time(clock.time() + 10 * HOUR)
    assert await ask(directory) is first
    assert pages.asked == [url]


@both
async def test_md5_an_old_document_is_used_while_the_server_is_down_and_the_server_is_left_alone_for_a_minute(url: str, ask: Ask) -> None:
    pages, clock = _pages(), ManualClock()
    directory = pages.directory(clock=clock)
    first = await ask(directory)
    clock.advance(HOUR)
    good, pages.answers[url] = pages.answers[url], DOWN
    for _ in range(3):
        assert await ask(directory) is first
    assert len(pages.asked) == 2
    clock.advance(59)
    assert await ask(directory) is first
    assert len(pages.asked) == 2
    clock.advance(1)
    pages.answers[url] = good
    assert await ask(directory) is not first
    assert len(pages.asked) == 3


@both
@pytest.mark.parametrize("status", [429, 503])
async def test_md5_a_server_error_counts_as_down(url: str, ask: Ask, status: int) -> None:
    pages, clock = _pages(), ManualClock()
    directory = pages.directory(clock=clock)
    first = await ask(directory)
    clock.advance(HOUR)
    pages.answers[url] = page(status=status)
    assert await ask(directory) is first


async def test_md1_a_new_document_that_fails_a_check_is_not_covered_by_the_old_one() -> None:
    pages, clock = _pages(), ManualClock()
    directory = pages.directory(clock=clock)
    await directory.metadata()
    clock.advance(HOUR)
    pages.answers[OAUTH] = page(metadata_document(issuer="https://evil.example"))
    with pytest.raises(UntrustedServer):
        await directory.metadata()


async def test_md5_an_old_document_is_used_while_the_server_has_lost_its_own() -> None:
    pages, clock = _pages(), ManualClock()
    directory = pages.directory(clock=clock)
    known = await directory.metadata()
    clock.advance(HOUR)
    pages.answers.clear()  # 404 everywhere
    assert await directory.metadata() == known


class _Gate:
    """Holds every request until it is opened."""

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.opened = asyncio.Event()
        self.arrived = asyncio.Event()

    async def send(self, request: HTTPRequest) -> HTTPResponse:
        self.arrived.set()
        await self.opened.wait()
        return await self.pages.send(request)

    def directory(self) -> ServerDirectory:
        return ServerDirectory(self.send, ISSUER, allow_insecure_http=False, clock=ManualClock())


@both
async def test_p1_many_callers_make_one_fetch(url: str, ask: Ask) -> None:
    gate = _Gate(_pages())
    directory = gate.directory()

    async def call() -> object:
        return await ask(directory)

    calls = [asyncio.create_task(call()) for _ in range(1000)]
    await gate.arrived.wait()
    gate.opened.set()
    documents = await asyncio.gather(*calls)
    assert all(document is documents[0] for document in documents)
    assert gate.pages.asked == [url]


@both
async def test_many_callers_of_a_failing_fetch_get_an_error_each(url: str, ask: Ask) -> None:
    gate = _Gate(Pages({url: DOWN}))
    directory = gate.directory()

    async def call() -> object:
        return await ask(directory)

    calls = [asyncio.create_task(call()) for _ in range(10)]
    await gate.arrived.wait()
    gate.opened.set()
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert len({id(error) for error in errors}) == 10
    assert all(isinstance(error, ProviderUnavailable) for error in errors)
    assert gate.pages.asked == [url]


async def test_p14_a_caller_who_leaves_does_not_stop_the_fetch_and_drain_waits_for_it() -> None:
    gate = _Gate(_pages())
    directory = gate.directory()
    leaving = asyncio.create_task(directory.metadata())
    await gate.arrived.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    draining = asyncio.create_task(directory.drain())
    gate.opened.set()
    await draining
    assert gate.pages.asked == [OAUTH]
    await directory.drain()


# --- Keys -------------------------------------------------------------------------------------------------------------------------------------------


async def test_jw9_an_unknown_kid_fetches_the_keys_again_at_most_once_a_minute() -> None:
    pages, clock = _pages(), ManualClock()
    directory = pages.directory(clock=clock)
    await directory.jwks(JWKS_URI)
    for _ in range(10_000):
        await directory.jwks(JWKS_URI, unknown_kid=True)
    assert len(pages.asked) == 2
    clock.advance(59)
    await directory.jwks(JWKS_URI, unknown_kid=True)
    assert len(pages.asked) == 2
    clock.advance(1)
    await directory.jwks(JWKS_URI, unknown_kid=True)
    assert len(pages.asked) == 3


async def test_jw9_the_minute_also_runs_when_the_fetch_failed() -> None:
    pages, clock = _pages(), ManualClock()
    directory = pages.directory(clock=clock)
    old = await directory.jwks(JWKS_URI)
    pages.answers[JWKS_URI] = DOWN
    for _ in range(5):
        assert await directory.jwks(JWKS_URI, unknown_kid=True) is old
    assert len(pages.asked) == 2


async def test_jw10_new_keys_replace_old_ones() -> None:
    pages, clock = _pages(), ManualClock()
    directory = pages.directory(clock=clock)
    assert [key.kid for key in (await directory.jwks(JWKS_URI)).keys] == ["rsa"]
    pages.answers[JWKS_URI] = page(key_set(RSA, OTHER_RSA))
    assert [key.kid for key in (await directory.jwks(JWKS_URI)).keys] == ["rsa"]
    assert [key.kid for key in (await directory.jwks(JWKS_URI, unknown_kid=True)).keys] == ["rsa", "other"]
    assert [key.kid for key in (await directory.jwks(JWKS_URI)).keys] == ["rsa", "other"]


async def test_keys_asked_for_by_an_unknown_kid_first_of_all_are_fetched_once() -> None:
    pages = _pages()
    await pages.directory().jwks(JWKS_URI, unknown_kid=True)
    assert pages.asked == [JWKS_URI]


@pytest.mark.parametrize("content_type", ["application/json", "application/jwk-set+json", "Application/JSON; charset=utf-8"])
async def test_te4_key_sets_are_json(content_type: str) -> None:
    pages = Pages({JWKS_URI: page(key_set(), content_type=content_type)})
    assert len((await pages.directory().jwks(JWKS_URI)).keys) == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(page(key_set(), content_type="text/html"), id="HTML"),
        pytest.param(page(key_set(), content_type=""), id="no type"),
        pytest.param(page(key_set(), status=404), id="404"),
        pytest.param(page(key_set(), status=302), id="a redirect (MD-7)"),
        pytest.param(page(body=b"{"), id="broken JSON"),
        pytest.param(page(key_set() | {"padding": "x" * 256 * 1024}), id="too large (JW-8)"),
    ],
)
async def test_jw8_what_is_no_key_set_is_refused(answer: HTTPResponse) -> None:
    with pytest.raises(MalformedResponse):
        await Pages({JWKS_URI: answer}).directory().jwks(JWKS_URI)


async def test_jw8_a_document_without_keys_is_refused() -> None:
    with pytest.raises(UntrustedServer):
        await Pages({JWKS_URI: page({})}).directory().jwks(JWKS_URI)
