"""The authorization endpoint and the user agent that walks through it."""

from __future__ import annotations

import html

import pytest

from pauth.errors import AuthorizationError
from pauth.testing import authorize, faults
from tests.testing.kit import CALLBACK, CHALLENGE, Driver, callback_params, driving


async def refused(driver: Driver, url: str) -> dict[str, str]:
    """The parameters with which the browser comes back at once, without a consent page."""
    answer = await driver.send("GET", url)
    assert answer.status == 303
    assert answer.headers["Location"].startswith(f"{CALLBACK}?")
    return callback_params(answer.headers["Location"])


async def test_a_login_gives_code_state_and_iss(driver: Driver) -> None:
    callback = await driver.server.authorize(driver.authorization_url(), user="alice")
    params = callback_params(callback)
    assert callback.startswith(f"{CALLBACK}?")
    assert params.keys() == {"code", "state", "iss"}
    assert params["code"].startswith("CANARY-code-alice-")
    assert params["state"] == "CANARY-state-1"
    assert params["iss"] == driver.server.issuer
    seen = [(entry.endpoint, entry.outcome, entry.user, entry.client_id) for entry in driver.server.ledger]
    assert seen == [("authorize", "consent", None, "client-1"), ("authorize", "ok", "alice", "client-1")]


async def test_iss_can_be_switched_off_mx_2() -> None:
    async with driving(iss_parameter=False) as driver:
        assert "iss" not in callback_params(await authorize(driver.authorization_url()))
        assert "iss" not in callback_params(await authorize(driver.authorization_url(), deny=True))
        assert driver.server.metadata["authorization_response_iss_parameter_supported"] is False


async def test_a_user_who_says_no(driver: Driver) -> None:
    params = callback_params(await driver.server.authorize(driver.authorization_url(), user="bob", deny=True))
    assert params["error"] == "access_denied"
    assert params["state"] == "CANARY-state-1"
    assert params["iss"] == driver.server.issuer
    assert "code" not in params
    assert driver.server.ledger[-1].outcome == "access_denied"


@pytest.mark.parametrize("allowed", [["read"], "read", {"read", "never-asked-for"}])
async def test_a_user_who_allows_less_narrows_the_scope_te_9(driver: Driver, allowed: str | list[str]) -> None:
    callback = await driver.server.authorize(driver.authorization_url(), scope=allowed)
    assert (await driver.exchange(callback_params(callback)["code"])).json["scope"] == "read"


async def test_no_state_comes_back_if_none_was_sent(driver: Driver) -> None:
    assert "state" not in callback_params(await driver.server.authorize(driver.authorization_url(state=None)))


async def test_a_callback_with_a_query_of_its_own_keeps_it(driver: Driver) -> None:
    driver.server.register_client("client-2", redirect_uris=["https://app.example/cb?tenant=7"])
    callback = await driver.server.authorize(driver.authorization_url(client_id="client-2", redirect_uri="https://app.example/cb?tenant=7"))
    assert callback.startswith("https://app.example/cb?tenant=7&code=")


async def test_the_only_redirect_uri_may_be_left_out(driver: Driver) -> None:
    assert (await driver.server.authorize(driver.authorization_url(redirect_uri=None))).startswith(CALLBACK)


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": f"{CALLBACK}/"},
        {"redirect_uri": CALLBACK.upper()},
        {"redirect_uri": f"{CALLBACK}?x=1"},
        {"redirect_uri": "https://evil.example/callback"},
        {"client_id": "nobody"},
        {"client_id": None},
    ],
)
async def test_a_wrong_client_or_redirect_uri_is_a_page_and_no_redirect(driver: Driver, changes: dict[str, str | None]) -> None:
    answer = await driver.send("GET", driver.authorization_url(**changes))
    assert answer.status == 400
    assert "Location" not in answer.headers
    assert driver.server.ledger[-1].outcome in {"invalid_client", "invalid_request"}


async def test_a_redirect_uri_has_to_be_named_if_there_are_several(driver: Driver) -> None:
    driver.server.register_client("client-2", redirect_uris=[CALLBACK, f"{CALLBACK}2"])
    assert (await driver.send("GET", driver.authorization_url(client_id="client-2", redirect_uri=None))).status == 400


@pytest.mark.parametrize("name", ["client_id", "redirect_uri"])
async def test_two_clients_or_redirect_uris_are_a_page(driver: Driver, name: str) -> None:
    answer = await driver.send("GET", f"{driver.authorization_url()}&{name}=x")
    assert (answer.status, "Location" in answer.headers) == (400, False)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": ""}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": CHALLENGE[:-1] + "="}, "invalid_request"),
        ({"scope": 'read "all"'}, "invalid_scope"),
        ({"scope": "read  write"}, "invalid_scope"),
    ],
)
async def test_a_wrong_request_goes_back_with_its_error(driver: Driver, changes: dict[str, str | None], error: str) -> None:
    params = await refused(driver, driver.authorization_url(**changes))
    assert params["error"] == error
    assert params["state"] == "CANARY-state-1"
    assert params["iss"] == driver.server.issuer
    assert driver.server.ledger[-1].outcome == error


async def test_duplicates_and_bytes_that_are_no_text_go_back_with_an_error(driver: Driver) -> None:
    assert (await refused(driver, f"{driver.authorization_url()}&scope=more"))["error"] == "invalid_request"
    assert (await refused(driver, f"{driver.authorization_url()}&x=1&x=2"))["error"] == "invalid_request"


async def test_resource_may_come_twice(driver: Driver) -> None:
    url = f"{driver.authorization_url()}&resource=https%3A%2F%2Fa.example&resource=https%3A%2F%2Fb.example"
    assert "code" in callback_params(await driver.server.authorize(url))


async def test_a_client_without_the_grant_type_is_refused(driver: Driver) -> None:
    driver.server.register_client("client-2", redirect_uris=[CALLBACK], grant_types=["client_credentials"])
    assert (await refused(driver, driver.authorization_url(client_id="client-2")))["error"] == "unauthorized_client"


async def test_pkce_can_be_left_to_the_client() -> None:
    async with driving(require_pkce=False) as driver:
        code = await driver.code(code_challenge=None, code_challenge_method=None)
        assert (await driver.exchange(code, code_verifier="")).status == 200
        assert (await refused(driver, driver.authorization_url(code_challenge_method="plain")))["error"] == "invalid_request"


async def test_the_page_escapes_what_it_shows_and_is_not_cached(driver: Driver) -> None:
    driver.server.register_client("<b>client</b>", redirect_uris=[CALLBACK])
    answer = await driver.send("GET", driver.authorization_url(client_id="<b>client</b>", login_hint='"><script>', scope="<i>"))
    page = answer.body.decode()
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    for hostile in ("<b>client</b>", '"><script>', "<i>"):
        assert hostile not in page
        assert html.escape(hostile) in page


async def test_a_page_works_once(driver: Driver) -> None:
    page = (await driver.send("GET", driver.authorization_url())).body.decode()
    handle = page.partition('name="request" value="')[2].partition('"')[0]
    form = {"request": handle, "user": "alice", "decision": "allow"}
    assert (await driver.post(driver.server.authorization_endpoint, form, {})).status == 303
    again = await driver.post(driver.server.authorization_endpoint, form, {})
    assert (again.status, driver.server.ledger[-1].outcome) == (400, "invalid_request")


async def test_a_page_without_a_user_is_refused(driver: Driver) -> None:
    with pytest.raises(AuthorizationError, match="nobody is logged in") as caught:
        await driver.server.authorize(driver.authorization_url(), user="")
    assert caught.value.status == 400


async def test_forgotten_pages_are_dropped_oldest_first_p19(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pauth.testing.authorize_endpoint._MAX_PENDING", 1)
    first = (await driver.send("GET", driver.authorization_url())).body.decode()
    second = (await driver.send("GET", driver.authorization_url())).body.decode()
    statuses: list[int] = []
    for page in (first, second):
        handle = page.partition('name="request" value="')[2].partition('"')[0]
        form = {"request": handle, "user": "alice", "decision": "allow"}
        statuses.append((await driver.post(driver.server.authorization_endpoint, form, {})).status)
    assert statuses == [400, 303]


async def test_the_user_agent_says_what_the_error_page_says(driver: Driver) -> None:
    with pytest.raises(AuthorizationError, match="invalid_request: redirect_uri is not exactly one") as caught:
        await driver.server.authorize(driver.authorization_url(redirect_uri="https://evil.example/"))
    assert caught.value.status == 400


async def test_the_user_agent_follows_redirects_inside_the_server_only(driver: Driver) -> None:
    driver.server.script("authorize", faults.status(302, headers={"Location": driver.authorization_url(state="CANARY-state-2")}))
    assert callback_params(await driver.server.authorize(driver.authorization_url()))["state"] == "CANARY-state-2"
    driver.server.script("authorize", faults.status(302, headers={"Location": "https://elsewhere.example/?x=1"}))
    assert await driver.server.authorize(driver.authorization_url()) == "https://elsewhere.example/?x=1"


async def test_the_user_agent_does_not_go_round_for_ever(driver: Driver) -> None:
    driver.server.script("authorize", faults.status(302, headers={"Location": "/authorize"}), times=None)
    with pytest.raises(AuthorizationError, match="led nowhere"):
        await driver.server.authorize(driver.authorization_url())


async def test_the_user_agent_ignores_what_is_not_its_form(driver: Driver) -> None:
    page = '<form><input type="submit"><input></form><p id="error">no</p><p>more</p>'
    driver.server.script("authorize", faults.body(page, content_type="text/html"))
    driver.server.script("authorize", faults.body(page.replace("<form>", "").replace("</form>", ""), content_type="text/html"))
    with pytest.raises(AuthorizationError, match=r"no$"):
        await driver.server.authorize(driver.authorization_url())


@pytest.mark.parametrize(
    ("registered", "given", "accepted"),
    [
        ("http://127.0.0.1/callback", "http://127.0.0.1:41234/callback", True),
        ("http://127.0.0.1/callback", "http://127.0.0.1/callback", True),
        ("http://[::1]/callback", "http://[::1]:41234/callback", True),
        ("http://127.0.0.1/callback", "http://127.0.0.1:41234/callback2", False),
        ("http://127.0.0.1/callback", "http://127.0.0.1:41234/x/callback", False),
        ("http://127.0.0.1/callback", "http://127.0.0.1:/callback", False),
        ("http://127.0.0.1/callback", "http://127.0.0.1:1@evil.example/callback", False),
        ("http://127.0.0.1:8400/callback", "http://127.0.0.1:41234/callback", False),
        ("http://127.0.0.1.evil.example/callback", "http://127.0.0.1.evil.example:1/callback", False),
        ("http://localhost/callback", "http://localhost:41234/callback", False),
        ("https://app.example/callback", "https://app.example:41234/callback", False),
    ],
)
async def test_a_redirect_to_this_machine_may_have_any_port(driver: Driver, registered: str, given: str, accepted: bool) -> None:
    """RFC 8252 section 7.3"""
    driver.server.register_client("native", redirect_uris=[registered], auth_method="none")
    answer = await driver.send("GET", driver.authorization_url(client_id="native", redirect_uri=given))
    assert answer.status == (200 if accepted else 400)
