"""What the token endpoint demands of a request, and how it answers."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlencode

import pytest

from pauth.testing import AuthorizationServer, token_hash
from tests.testing.kit import CALLBACK, FORM, Driver, basic, driving

CLIENT_CREDENTIALS = {"grant_type": "client_credentials"}


async def test_a_code_becomes_tokens(driver: Driver) -> None:
    answer = await driver.exchange(await driver.code(scope="read write"))
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json.keys() == {"access_token", "token_type", "expires_in", "refresh_token", "scope"}
    assert answer.json["token_type"] == "Bearer"
    assert answer.json["expires_in"] == 3600
    assert answer.json["scope"] == "read write"
    assert answer.json["access_token"].startswith("CANARY-at-alice-")
    assert answer.json["refresh_token"].startswith("CANARY-rt-alice-")


async def test_lifetimes_are_told_if_there_are_any() -> None:
    async with driving(access_token_lifetime=None, refresh_token_lifetime=60.0) as driver:
        tokens = await driver.login()
        assert "expires_in" not in tokens
        assert tokens["refresh_token_expires_in"] == 60
        driver.clock.advance(1e9)
        assert (await driver.use(tokens["access_token"])).status == 200
        assert (await driver.refresh(tokens["refresh_token"])).error == "invalid_grant"


async def test_a_refresh_token_lives_from_its_own_issue() -> None:
    async with driving(refresh_token_lifetime=60.0) as driver:
        refresh_token = (await driver.login())["refresh_token"]
        for _ in range(3):
            driver.clock.advance(59.0)
            refresh_token = (await driver.refresh(refresh_token)).json["refresh_token"]


async def test_a_client_without_the_refresh_grant_gets_no_refresh_token(driver: Driver) -> None:
    driver.client = driver.server.register_client("client-2", "CANARY-secret-2", redirect_uris=[CALLBACK], grant_types=["authorization_code"])
    assert "refresh_token" not in await driver.login()


async def test_a_code_used_twice_revokes_what_came_of_it_ax_12(driver: Driver) -> None:
    code = await driver.code()
    tokens = (await driver.exchange(code)).json
    assert (await driver.exchange(code)).error == "invalid_grant"
    assert driver.server.family_revoked("alice")
    assert (await driver.use(tokens["access_token"])).status == 401
    assert (await driver.refresh(tokens["refresh_token"])).error == "invalid_grant"


async def test_a_code_lives_a_minute(driver: Driver) -> None:
    early, late = await driver.code(), await driver.code()
    driver.clock.advance(59.9)
    assert (await driver.exchange(early)).status == 200
    driver.clock.advance(0.2)
    assert (await driver.exchange(late)).error == "invalid_grant"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code": "CANARY-code-unknown"}, "invalid_grant"),
        ({"code": ""}, "invalid_request"),
        ({"redirect_uri": f"{CALLBACK}/"}, "invalid_grant"),
        ({"redirect_uri": ""}, "invalid_grant"),
        ({"code_verifier": "CANARY-another-verifier-0123456789-0123456789"}, "invalid_grant"),
        ({"code_verifier": "CANARY-short"}, "invalid_grant"),
        ({"code_verifier": "CANARY-not-unreserved-é-0123456789-0123456789-"}, "invalid_grant"),
        ({"code_verifier": ""}, "invalid_grant"),
    ],
)
async def test_a_code_is_bound_to_its_request_and_a_wrong_exchange_leaves_it(driver: Driver, changes: dict[str, str], error: str) -> None:
    code = await driver.code()
    wrong = await driver.exchange(code, **changes)
    assert (wrong.status, wrong.error) == (400, error)
    assert (await driver.exchange(code)).status == 200


async def test_a_code_is_bound_to_its_client(driver: Driver) -> None:
    code, owner = await driver.code(), driver.client
    driver.client = driver.server.register_client("client-2", "CANARY-secret-2", redirect_uris=[CALLBACK])
    assert (await driver.exchange(code)).error == "invalid_grant"
    driver.client = owner
    assert (await driver.exchange(code)).status == 200


@pytest.mark.parametrize(("redirect_uri", "status"), [("", 200), (CALLBACK, 200), (f"{CALLBACK}/", 400)])
async def test_a_redirect_uri_that_was_not_sent_need_not_be_repeated(driver: Driver, redirect_uri: str, status: int) -> None:
    code = await driver.code(redirect_uri=None)
    assert (await driver.exchange(code, redirect_uri=redirect_uri)).status == status


async def test_a_verifier_without_a_challenge_is_a_downgrade() -> None:
    async with driving(require_pkce=False) as driver:
        code = await driver.code(code_challenge=None, code_challenge_method=None)
        assert (await driver.exchange(code)).error == "invalid_grant"


async def test_client_credentials(driver: Driver) -> None:
    answer = await driver.post(driver.server.token_endpoint, {**CLIENT_CREDENTIALS, "scope": "read read write"})
    assert answer.json.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert answer.json["scope"] == "read write"
    assert (await driver.use(answer.json["access_token"])).json == {"user": None, "client_id": "client-1", "scope": "read write"}
    assert (await driver.post(driver.server.token_endpoint, CLIENT_CREDENTIALS)).json["scope"] == ""


async def test_a_public_client_has_no_credentials(driver: Driver) -> None:
    driver.server.register_client("public", auth_method="none")
    answer = await driver.post(driver.server.token_endpoint, {**CLIENT_CREDENTIALS, "client_id": "public"}, {})
    assert (answer.status, answer.error) == (400, "unauthorized_client")


@pytest.mark.parametrize(
    ("form", "error"),
    [({}, "invalid_request"), ({"grant_type": "password"}, "unsupported_grant_type"), ({"grant_type": "refresh_token"}, "invalid_request")],
)
async def test_grant_types(driver: Driver, form: dict[str, str], error: str) -> None:
    answer = await driver.post(driver.server.token_endpoint, form)
    assert (answer.status, answer.error) == (400, error)


async def test_a_client_is_held_to_its_grant_types(driver: Driver) -> None:
    driver.client = driver.server.register_client("client-2", "CANARY-secret-2", grant_types=["authorization_code"])
    assert (await driver.post(driver.server.token_endpoint, CLIENT_CREDENTIALS)).error == "unauthorized_client"


# Form of the request (TE-2)


async def test_only_post_is_taken(driver: Driver) -> None:
    for method in ("GET", "PUT"):
        answer = await driver.send(method, driver.server.token_endpoint)
        assert (answer.status, answer.error, answer.headers["Allow"]) == (405, "invalid_request", "POST")


async def send_raw(driver: Driver, body: bytes, headers: Mapping[str, str] = FORM, query: str = "") -> tuple[int, str | None]:
    headers = {**basic("client-1", "CANARY-client:secret+%é"), **headers}
    answer = await driver.send("POST", driver.server.token_endpoint + query, data=body, headers=headers)
    return answer.status, answer.error


async def test_the_form_has_to_be_a_form_without_duplicates(driver: Driver) -> None:
    good = urlencode(CLIENT_CREDENTIALS).encode()
    refused = (400, "invalid_request")
    assert await send_raw(driver, good, {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}) == (200, None)
    assert await send_raw(driver, good + b"&resource=a&resource=b") == (200, None)
    assert await send_raw(driver, good + b"&grant_type=client_credentials") == refused
    assert await send_raw(driver, good + b"&x=1&x=2") == refused
    assert await send_raw(driver, good, {"Content-Type": "application/json"}) == refused
    assert await send_raw(driver, good, query="?grant_type=client_credentials") == refused
    assert await send_raw(driver, b"\xff") == refused
    assert await send_raw(driver, b"a=%ff") == refused
    assert await send_raw(driver, b"&".join(b"a%d=1" % number for number in range(201))) == refused


# Client authentication (TE-3)


async def test_basic_form_encodes_both_halves(driver: Driver) -> None:
    client = driver.server.register_client("id:with+%", "CANARY-a:b%+é")
    assert client.client_secret is not None
    assert (await driver.post(driver.server.token_endpoint, CLIENT_CREDENTIALS, basic(client.client_id, client.client_secret))).status == 200
    raw = base64.b64encode(f"{client.client_id}:{client.client_secret}".encode()).decode()
    assert (await driver.post(driver.server.token_endpoint, CLIENT_CREDENTIALS, {"Authorization": f"Basic {raw}"})).error == "invalid_client"


async def test_basic_may_repeat_the_client_id_in_the_body_but_not_another(driver: Driver) -> None:
    assert (await driver.post(driver.server.token_endpoint, {**CLIENT_CREDENTIALS, "client_id": "client-1"})).status == 200
    answer = await driver.post(driver.server.token_endpoint, {**CLIENT_CREDENTIALS, "client_id": "client-2"})
    assert (answer.status, answer.error) == (400, "invalid_request")


@pytest.mark.parametrize(
    "value",
    [
        basic("client-1", "CANARY-wrong")["Authorization"],
        basic("nobody", "CANARY-client:secret+%é")["Authorization"],
        "Bearer CANARY-x",
        "Basic",
        "Basic ???",
        f"Basic {base64.b64encode(b'no-colon').decode()}",
        f"Basic {base64.b64encode(b'a:CANARY-%ff').decode()}",
        f"Basic {base64.b64encode(b'CANARY:' + bytes([255])).decode()}",
    ],
)
async def test_failed_basic_authentication_is_challenged(driver: Driver, value: str) -> None:
    answer = await driver.post(driver.server.token_endpoint, CLIENT_CREDENTIALS, {"Authorization": value})
    assert (answer.status, answer.error) == (401, "invalid_client")
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert answer.headers["Cache-Control"] == "no-store"


async def test_two_authentication_methods_are_refused(driver: Driver) -> None:
    answer = await driver.post(driver.server.token_endpoint, {**CLIENT_CREDENTIALS, "client_secret": "CANARY-client:secret+%é"})
    assert (answer.status, answer.error) == (400, "invalid_request")


async def test_two_authorization_headers_are_refused(driver: Driver) -> None:
    headers = [*FORM.items(), *basic("client-1", "CANARY-client:secret+%é").items(), ("Authorization", "Basic CANARY")]
    answer = await driver.send("POST", driver.server.token_endpoint, data=urlencode(CLIENT_CREDENTIALS).encode(), headers=headers)
    assert (answer.status, answer.error) == (400, "invalid_request")


async def test_a_client_has_to_use_the_method_registered_for_it(driver: Driver) -> None:
    """Each registered method against each method used, with the right secret."""
    secret = "CANARY-secret-2"
    results: dict[tuple[str, str], int] = {}
    methods: tuple[Literal["client_secret_basic", "client_secret_post", "none"], ...] = ("client_secret_basic", "client_secret_post", "none")
    for registered in methods:
        driver.server.register_client("it", None if registered == "none" else secret, auth_method=registered)
        in_body = {"grant_type": "refresh_token", "refresh_token": "CANARY-rt", "client_id": "it"}
        for used, form, headers in (
            ("client_secret_basic", in_body, basic("it", secret)),
            ("client_secret_post", {**in_body, "client_secret": secret}, {}),
            ("none", in_body, dict[str, str]()),
        ):
            answer = await driver.post(driver.server.token_endpoint, form, headers)
            results[registered, used] = answer.status
            assert ("WWW-Authenticate" in answer.headers) == (answer.status == 401 and used == "client_secret_basic")
    assert {pair for pair, status in results.items() if status == 400} == {(method, method) for method in methods}  # past authentication
    assert {status for (registered, used), status in results.items() if registered != used} == {401}


async def test_no_client_at_all(driver: Driver) -> None:
    answer = await driver.post(driver.server.token_endpoint, CLIENT_CREDENTIALS, {})
    assert (answer.status, answer.error) == (401, "invalid_client")
    assert driver.server.ledger[-1].client_id is None


async def test_tokens_name_their_user_in_legal_characters_and_injectively(driver: Driver) -> None:
    users = ["alice", "al~69ce", "é/ü", "a b", "a-b", "../../x", "a\r\nb"]
    tokens = [(await driver.login(user))["access_token"] for user in users]
    assert len({token.rpartition("-")[0] for token in tokens}) == len(users)
    for user, token in zip(users, tokens, strict=True):
        assert (await driver.use(token)).json["user"] == user
        assert driver.server.uses[-1].access_token == token_hash(token)


async def test_secrets_are_made_up_unless_given() -> None:
    server = AuthorizationServer(secret_marker="CANARY-")
    assert server.register_client().client_id != server.register_client().client_id
    made_up = server.register_client("x").client_secret
    assert made_up is not None
    assert made_up.startswith("CANARY-client-secret-x-")
    assert server.register_client("x", auth_method="none").client_secret is None
