"""Each fault: what the client sees, what the server did, what the ledger says."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from email.utils import format_datetime

import aiohttp
import pytest

from pauth.errors import ConfigurationError
from pauth.testing import SeenRequest, faults, token_hash
from tests.testing.kit import Driver, driving, until

BROKEN = (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, aiohttp.ClientOSError)


async def logged_in(driver: Driver) -> str:
    refresh_token: str = (await driver.login())["refresh_token"]
    return refresh_token


async def assert_unapplied(driver: Driver, refresh_token: str, outcome: str) -> None:
    """The server, which forgives no reuse, has not seen ``refresh_token`` yet."""
    entry = driver.server.ledger[-1]
    assert (entry.outcome, entry.refresh_token_in, entry.access_token_out) == (outcome, token_hash(refresh_token), None)
    assert (entry.user, entry.client_id, entry.grant_type) == ("alice", "client-1", "refresh_token")
    assert (await driver.refresh(refresh_token)).status == 200


async def assert_applied(driver: Driver, refresh_token: str, outcome: str) -> None:
    """``refresh_token`` has been rotated."""
    entry = driver.server.ledger[-1]
    assert (entry.outcome, entry.refresh_token_in) == (outcome, token_hash(refresh_token))
    assert entry.refresh_token_out is not None
    assert entry.access_token_out is not None
    assert (await driver.refresh(refresh_token)).error == "invalid_grant"
    assert driver.server.family_revoked("alice")


@pytest.mark.parametrize(
    ("fault", "status", "content_type", "body", "outcome"),
    [
        (faults.status(503), 503, "text/plain; charset=utf-8", b"", "fault:status"),
        (faults.status(599), 599, "text/plain; charset=utf-8", b"", "fault:status"),
        (faults.status(500, "oops"), 500, "text/plain; charset=utf-8", b"oops", "fault:status"),
        (faults.status(502, b"\xff", {"Content-Type": "x/y"}), 502, "x/y", b"\xff", "fault:status"),
        (faults.status(400, {"error": "invalid_grant"}), 400, "application/json", b'{"error": "invalid_grant"}', "fault:status"),
        (faults.body("<html>", content_type="text/html"), 200, "text/html", b"<html>", "fault:body"),
        (faults.body(b"{", status=400), 400, "application/json", b"{", "fault:body"),
        (faults.body(b"{}", content_type=None), 200, None, b"{}", "fault:body"),
        (faults.body("a=1", headers={"X-Y": "z"}), 200, "application/json", b"a=1", "fault:body"),
        (faults.rate_limited(30), 429, "application/json", b'{"error": "slow_down"}', "fault:rate_limited"),
    ],
)
async def test_answers_instead_of_the_server(
    driver: Driver, fault: faults.Fault, status: int, content_type: str | None, body: bytes, outcome: str
) -> None:
    refresh_token = await logged_in(driver)
    driver.server.script("token", fault)
    answer = await driver.refresh(refresh_token)
    assert (answer.status, answer.body, answer.headers.get("Content-Type")) == (status, body, content_type)
    await assert_unapplied(driver, refresh_token, outcome)


async def test_headers_of_a_fault_are_sent(driver: Driver) -> None:
    date = format_datetime(datetime(2030, 1, 1, tzinfo=UTC), usegmt=True)
    for fault in (faults.rate_limited(30), faults.rate_limited(date), faults.rate_limited(None), faults.status(503, headers={"Retry-After": "5"})):
        driver.server.script("token", fault)
    seen = [(await driver.refresh("CANARY-rt")).headers.get("Retry-After") for _ in range(4)]
    assert seen == ["30", date, None, "5"]


async def test_a_connection_dropped_before_anything_happened(driver: Driver) -> None:
    refresh_token = await logged_in(driver)
    driver.server.script("token", faults.drop_before())
    with pytest.raises(BROKEN):
        await driver.refresh(refresh_token)
    await assert_unapplied(driver, refresh_token, "fault:drop_before")


@pytest.mark.parametrize("after_bytes", [0, 1, 17, 60, -1, -100])
async def test_a_reply_cut_short_after_the_request_was_applied(driver: Driver, after_bytes: int) -> None:
    refresh_token = await logged_in(driver)
    driver.server.script("token", faults.cut(after_bytes))
    with pytest.raises(BROKEN):
        await driver.refresh(refresh_token)
    await assert_applied(driver, refresh_token, "fault:cut")


async def test_a_cut_counts_head_and_body(driver: Driver) -> None:
    """Raw bytes, for an offset in the middle of the head and one in the middle of the body."""
    head = b"HTTP/1.1 200 OK\r\n"
    host, port = driver.server.issuer.removeprefix("http://").split(":")
    for after_bytes in (len(head), -1):
        driver.server.script("metadata", faults.cut(after_bytes))
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /.well-known/openid-configuration HTTP/1.1\r\nHost: x\r\n\r\n")
        received = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert received.startswith(head)
        if after_bytes < 0:
            assert received.partition(b"\r\n\r\n")[2] == json.dumps(driver.server.metadata).encode()[:after_bytes]
        else:
            assert received == head


@pytest.mark.parametrize("bytes_per_chunk", [7, 1_000_000])
async def test_a_reply_that_drips_arrives_whole(driver: Driver, bytes_per_chunk: int) -> None:
    driver.server.script("metadata", faults.drip(bytes_per_chunk, interval=0.0))
    answer = await driver.send("GET", f"{driver.server.issuer}/.well-known/openid-configuration")
    assert (answer.status, answer.json) == (200, driver.server.metadata)
    assert driver.server.ledger[-1].outcome == "ok"


async def test_a_delay_comes_before_the_request_is_applied_or_after(driver: Driver) -> None:
    refresh_token = await logged_in(driver)
    driver.server.script("token", faults.delay(0.0))
    answer = await driver.refresh(refresh_token)
    assert driver.server.ledger[-1].outcome == "ok"
    driver.server.script("token", faults.delay(0.0, applied=True))
    assert (await driver.refresh(answer.json["refresh_token"])).status == 200
    assert driver.server.ledger[-1].outcome == "ok"


async def test_a_client_that_gave_up_during_a_delay_has_been_served_all_the_same(driver: Driver) -> None:
    refresh_token = await logged_in(driver)
    held = driver.server.script("token", faults.hold(then=faults.delay(0.0)))
    task = asyncio.create_task(driver.refresh(refresh_token))
    await held.arrived.wait()
    task.cancel()
    await asyncio.wait([task])
    held.release()
    await until(lambda: driver.server.ledger.count(grant_type="refresh_token"))
    await assert_applied(driver, refresh_token, "ok")


async def test_hold_before_the_request_is_applied(driver: Driver) -> None:
    refresh_token = await logged_in(driver)
    held = driver.server.script("token", faults.hold())
    assert not held.arrived.is_set()
    task = asyncio.create_task(driver.refresh(refresh_token))
    await held.arrived.wait()
    assert driver.server.ledger.count(grant_type="refresh_token") == 0
    held.release()
    assert (await task).status == 200
    assert driver.server.ledger[-1].outcome == "ok"


async def test_hold_between_applying_and_answering(driver: Driver) -> None:
    refresh_token = await logged_in(driver)
    held = driver.server.script("token", faults.hold(applied=True))
    task = asyncio.create_task(driver.refresh(refresh_token))
    await held.arrived.wait()
    assert driver.server.ledger.count(grant_type="refresh_token", outcome="ok") == 1
    assert not task.done()
    held.release()
    assert (await task).status == 200
    assert driver.server.ledger.count(grant_type="refresh_token") == 1


async def test_hold_and_then_another_fault(driver: Driver) -> None:
    refresh_token = await logged_in(driver)
    held = driver.server.script("token", faults.hold(then=faults.status(503)))
    task = asyncio.create_task(driver.refresh(refresh_token))
    await held.arrived.wait()
    held.release()
    assert (await task).status == 503
    await assert_unapplied(driver, refresh_token, "fault:status")


async def test_hold_applied_and_then_an_answer_instead_is_one_applied_request(driver: Driver) -> None:
    refresh_token = await logged_in(driver)
    held = driver.server.script("token", faults.hold(applied=True, then=faults.status(503)))
    held.release()
    assert (await driver.refresh(refresh_token)).status == 503
    assert driver.server.ledger.count(grant_type="refresh_token") == 1
    await assert_applied(driver, refresh_token, "fault:status")


async def test_a_client_that_hung_up_gets_no_cut_reply(driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    refresh_token = await logged_in(driver)
    held = driver.server.script("token", faults.hold(then=faults.cut()))
    task = asyncio.create_task(driver.refresh(refresh_token))
    await held.arrived.wait()
    task.cancel()
    await asyncio.wait([task])
    runner = driver.server._site._runner  # pyright: ignore[reportPrivateUsage]
    assert runner is not None
    assert runner.server is not None
    connections = runner.server.connections
    await driver.http.close()  # and the connection with it
    await until(lambda: all(connection.transport is None for connection in connections))  # the server has noticed
    held.release()
    await until(lambda: driver.server.ledger.count(grant_type="refresh_token"))
    assert driver.server.ledger[-1].outcome == "fault:cut"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_server_does_not_wait_for_what_it_holds() -> None:
    async with driving() as driver:
        held = driver.server.script("token", faults.hold())
        task = asyncio.create_task(driver.refresh("CANARY-rt"))
        await held.arrived.wait()
        await driver.server.__aexit__(None, None, None)
        with pytest.raises(BROKEN):
            await task


async def test_members_left_out_or_changed(driver: Driver) -> None:
    refresh_token = await logged_in(driver)
    driver.server.script("token", faults.omit("refresh_token", "scope"))
    answer = await driver.refresh(refresh_token)
    assert answer.json.keys() == {"access_token", "token_type", "expires_in", "id_token"}
    await assert_applied(driver, refresh_token, "ok")
    driver.server.script("token", faults.override(expires_in="soon", team="t1"))
    tokens = await driver.login()
    assert (tokens["expires_in"], tokens["team"]) == ("soon", "t1")
    assert (await driver.use(tokens["access_token"])).status == 200


async def test_members_of_errors_and_of_pages_are_left_alone(driver: Driver) -> None:
    driver.server.script("token", faults.override(error="other"))
    assert (await driver.refresh("CANARY-rt")).error == "invalid_grant"
    driver.server.script("authorize", faults.omit("error"))
    assert (await driver.send("GET", driver.authorization_url())).body.startswith(b"<!doctype html>")


async def test_faults_are_consumed_in_order_and_as_often_as_told(driver: Driver) -> None:
    driver.server.script("token", faults.status(500), times=2)
    driver.server.script("token", faults.status(502))
    driver.server.script("token", faults.status(503), times=None)
    driver.server.script("userinfo", faults.status(418))
    assert [(await driver.refresh("CANARY-rt")).status for _ in range(6)] == [500, 500, 502, 503, 503, 503]
    driver.server.clear_script("token")
    assert (await driver.refresh("CANARY-rt")).status == 400
    assert (await driver.send("GET", driver.server.userinfo_endpoint)).status == 418
    assert driver.server.uses[-1].outcome == driver.server.ledger[-1].outcome == "fault:status"
    driver.server.script("userinfo", faults.status(418))
    driver.server.clear_script()
    assert (await driver.send("GET", driver.server.userinfo_endpoint)).status == 401
    driver.server.clear_script("jwks")


async def test_a_fault_may_choose_its_requests(driver: Driver) -> None:
    seen: list[SeenRequest] = []

    def of_bob(request: SeenRequest) -> bool:
        seen.append(request)
        return request.grant_type == "refresh_token" and "-bob-" in request.params["refresh_token"]

    alice, bob = await driver.login("alice"), await driver.login("bob")
    driver.server.script("token", faults.status(503), when=of_bob)
    assert (await driver.refresh(alice["refresh_token"])).status == 200
    assert (await driver.refresh(bob["refresh_token"])).status == 503
    assert (await driver.refresh(bob["refresh_token"])).status == 200
    assert len(seen) == 2
    assert seen[0].headers["content-type"] == "application/x-www-form-urlencoded"
    assert repr(seen[0]) == "<SeenRequest POST token>"


@pytest.mark.parametrize("endpoint", ["metadata", "jwks", "resource"])
async def test_every_endpoint_can_fail(driver: Driver, endpoint: str) -> None:
    urls = {
        "metadata": f"{driver.server.issuer}/.well-known/oauth-authorization-server",
        "jwks": driver.server.jwks_uri,
        "resource": driver.server.resource_url,
    }
    driver.server.script(endpoint, faults.status(503))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert (await driver.send("GET", urls[endpoint])).status == 503


async def test_a_misspelt_endpoint_is_refused(driver: Driver) -> None:
    with pytest.raises(ConfigurationError, match="authorize, token, userinfo"):
        driver.server.script("tokens", faults.drop_before())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
