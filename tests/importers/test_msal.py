"""Token caches of MSAL, as the library wrote them."""

from __future__ import annotations

import copy
import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pauth import Providers
from pauth.core.token import was_issued_by
from pauth.importers import Entry, FoundToken, MsalUserId, Problem, Skipped, from_msal
from tests.importers.kit import NOW, check_hostile, members, said, vector

CACHES: dict[str, Any] = vector("msal")["caches"]
WHOLE: dict[str, Any] = CACHES["several accounts, scopes and applications"]
TENANT = "11111111-2222-3333-4444-555555555555"
ALICE, BOB = f"aaaa.{TENANT}", f"bbbb.{TENANT}"


def read(cache: Any = WHOLE, *, client_id: str = "client-1", user_id: MsalUserId = "home_account_id") -> list[Entry]:
    return list(from_msal(cache, client_id=client_id, user_id=user_id))


def tokens(entries: list[Entry]) -> dict[str, Any]:
    return {entry.user_id: said(entry.token) for entry in entries if isinstance(entry, FoundToken)}


def reasons(entries: list[Entry], kind: type[Problem | Skipped]) -> list[str]:
    return [entry.reason for entry in entries if isinstance(entry, kind)]


def edited(section: str, number: int = 0, **changes: Any) -> dict[str, Any]:
    """The cache with one of its entries changed."""
    cache = copy.deepcopy(WHOLE)
    list(cache[section].values())[number].update(changes)
    return cache


def test_each_account_has_its_newest_tokens() -> None:
    entries = read()
    found = tokens(entries)
    assert {user: {name: value for name, value in token.items() if name != "id_token"} for user, token in found.items()} == {
        ALICE: {
            "access_token": "CANARY-ms-access-3",  # it lasts longer than the first one
            "token_type": "Bearer",
            "refresh_token": "CANARY-ms-refresh-3",
            "scope": "Mail.Read email openid profile",
            "scope_assumed": False,
            "issued_at": NOW,
            "expires_at": NOW + 5000,
            "token_endpoint": f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token",
        },
        BOB: {
            "access_token": "CANARY-ms-access-2",
            "token_type": "Bearer",
            "refresh_token": "CANARY-ms-refresh-2",
            "scope": "User.Read email openid profile",
            "scope_assumed": False,
            "issued_at": NOW,
            "expires_at": NOW + 3599,
            "token_endpoint": f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token",
        },
    }
    assert all(token["id_token"] for token in found.values())
    assert reasons(entries, Problem) == []


def test_nothing_is_left_out_without_a_word() -> None:
    entries = read()
    skipped = reasons(entries, Skipped)
    assert skipped.count("it belongs to another client_id") == 3  # client-2: an access, a refresh and an ID token
    assert sum("to the application" in reason for reason in skipped) == 1
    assert sum("further access token" in reason for reason in skipped) == 1
    credentials = sum(len(WHOLE[section]) for section in ("AccessToken", "RefreshToken"))
    used = sum(1 + ("refresh_token" in token) for token in tokens(entries).values())
    assert used + len(skipped) - 1 == credentials  # the ID token of client-2


def test_a_refresh_token_alone_is_enough() -> None:
    """A day later MSAL has dropped the access tokens."""
    found = tokens(read(CACHES["a day later"]))
    assert {user: token["refresh_token"] for user, token in found.items()} == {ALICE: "CANARY-ms-refresh-3", BOB: "CANARY-ms-refresh-2"}
    assert {token["expires_at"] for token in found.values()} == {0.0}
    assert found[ALICE]["scope"] == "User.Read email openid profile"


def test_the_tokens_of_another_application() -> None:
    assert tokens(read(client_id="client-2"))[ALICE]["refresh_token"] == "CANARY-ms-refresh-5"


@pytest.mark.parametrize(
    ("user_id", "users"),
    [
        ("home_account_id", {ALICE, BOB}),
        ("local_account_id", {"aaaa", "bbbb"}),
        ("username", {"alice@contoso.example", "bob@contoso.example"}),
        ("sub", {"CANARY-sub-aaaa", "CANARY-sub-bbbb"}),
    ],
)
def test_users_by_any_of_their_names(user_id: MsalUserId, users: set[str]) -> None:
    assert set(tokens(read(user_id=user_id))) == users


@pytest.mark.parametrize("cache", [json.dumps(WHOLE), json.dumps(WHOLE).encode()])
def test_a_cache_as_text(cache: str | bytes) -> None:
    assert tokens(read(cache)) == tokens(read())


def test_an_empty_cache_has_nothing() -> None:
    assert read("{}") == []


def test_tokens_are_of_the_preset() -> None:
    metadata = Providers.MICROSOFT.metadata
    assert not isinstance(metadata, str)
    assert metadata.token_endpoint is not None
    for entry in read():
        if isinstance(entry, FoundToken):
            assert was_issued_by(entry.token, token_endpoint=metadata.token_endpoint, issuer=metadata.issuer)


@pytest.mark.parametrize("name", ["login.windows.net", "STS.windows.net", "login.microsoft.com"])
def test_other_names_of_the_public_cloud(name: str) -> None:
    cache = json.loads(json.dumps(WHOLE).replace("login.microsoftonline.com", name))
    assert {token["token_endpoint"] for token in tokens(read(cache)).values()} == {f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"}


def test_the_refresh_token_of_another_cloud_is_not_for_this_one() -> None:  # MD-4
    cache = json.loads(json.dumps(WHOLE).replace("login.microsoftonline.com", "login.partner.microsoftonline.cn"))
    assert {token["token_endpoint"] for token in tokens(read(cache)).values()} == {
        f"https://login.partner.microsoftonline.cn/{TENANT}/oauth2/v2.0/token"
    }


@pytest.mark.parametrize("environment", ["CANARY host", "evil.example/x", "a..b", "localhost", "h" * 254 + ".example", "[::1]", "u@h.example"])
def test_an_environment_that_is_no_host_is_a_problem(environment: str) -> None:
    entries = read(json.loads(json.dumps(WHOLE).replace("login.microsoftonline.com", environment)))
    assert tokens(entries) == {}
    assert reasons(entries, Problem) == ["its environment is no host name"] * 2


@pytest.mark.parametrize("realm", [None, 7, "a/b", "", "x" * 300])
def test_a_strange_tenant_does_not_reach_the_url(realm: object) -> None:
    token = tokens(read(edited("AccessToken", 1, realm=realm)))[BOB]
    assert token["token_endpoint"] == "https://login.microsoftonline.com/common/oauth2/v2.0/token"


@pytest.mark.parametrize(
    "changes", [{"token_type": "pop"}, {"token_type": "ssh-cert"}, {"secret": None}, {"secret": "CANARY x"}, {"token_type": "dpop"}]
)
def test_an_access_token_that_cannot_be_used_leaves_the_refresh_token(changes: dict[str, Any]) -> None:
    entries = read(edited("AccessToken", 1, **changes))
    assert tokens(entries)[BOB]["expires_at"] == 0.0
    assert tokens(entries)[BOB]["refresh_token"] == "CANARY-ms-refresh-2"
    assert sum("no Bearer token" in reason for reason in reasons(entries, Skipped)) == 1


def test_of_two_refresh_tokens_the_newer_is_taken() -> None:
    cache = copy.deepcopy(WHOLE)
    (older,) = (entry for entry in WHOLE["RefreshToken"].values() if entry["secret"] == "CANARY-ms-refresh-2")
    cache["RefreshToken"]["another"] = {**older, "secret": "CANARY-newer", "last_modification_time": str(int(NOW) + 60)}
    entries = read(cache)
    assert tokens(entries)[BOB]["refresh_token"] == "CANARY-newer"
    assert sum("an older refresh token" in reason for reason in reasons(entries, Skipped)) == 1


def test_an_account_with_an_id_token_only_is_a_problem() -> None:
    entries = read({"IdToken": WHOLE["IdToken"]})
    assert reasons(entries, Problem) == ["it has neither an access token nor a refresh token"] * 2


@pytest.mark.parametrize("user_id", ["username", "local_account_id", "sub"])
def test_an_account_without_that_name_is_a_problem(user_id: MsalUserId) -> None:
    cache = {"RefreshToken": WHOLE["RefreshToken"]}
    assert (
        reasons(read(cache, user_id=user_id), Problem)
        == [f"its account has no {user_id} that can be a user id; choose another one with user_id="] * 2
    )


@pytest.mark.parametrize("secret", ["CANARY", "a.b", "a.!.c", "a.e30.c", "a.W10.c", "a.Kg.c", 7, "a.eyJzdWIiOiAiIn0.c", "a b.c.d", "a.A.c"])
def test_an_id_token_without_a_subject_names_nobody(secret: object) -> None:
    entries = read(edited("IdToken", 1, secret=secret), user_id="sub")
    assert list(tokens(entries)) == ["CANARY-sub-aaaa"]
    assert len(reasons(entries, Problem)) == 1


@pytest.mark.parametrize(("cache", "why"), [("CANARY", "it is not JSON"), ("[]", "it is no JSON object"), (7, "it is no JSON object")])
def test_what_is_no_cache_is_a_problem(cache: Any, why: str) -> None:
    assert reasons(read(cache), Problem) == [why]


@pytest.mark.parametrize("section", ["AccessToken", "RefreshToken", "IdToken", "Account"])
@pytest.mark.parametrize("content", [["CANARY"], {"x": "CANARY"}])
def test_a_broken_section_is_a_problem_and_the_rest_is_read(section: str, content: object) -> None:
    entries = read({**WHOLE, section: content})
    assert reasons(entries, Problem)[0] == "it is no JSON object"
    assert len(tokens(entries)) == 2 if section != "RefreshToken" else tokens(entries)


def test_one_broken_entry_costs_only_itself() -> None:
    cache = copy.deepcopy(WHOLE)
    cache["AccessToken"] = {"broken": "CANARY", **cache["AccessToken"]}
    cache["Account"]["broken"] = None
    cache["Account"]["nobody's"] = {"home_account_id": 7, "environment": None}
    entries = read(cache)
    assert tokens(entries) == tokens(read())
    assert [(entry.where, entry.reason) for entry in entries if isinstance(entry, Problem)] == [
        ("AccessToken 1", "it is no JSON object"),
        ("Account 3", "it is no JSON object"),
    ]


def _ours(entry: Any) -> Any:
    known: dict[str, Any] = {"home_account_id": "a.b", "environment": "login.example.com"}
    return {**known, **cast("dict[str, Any]", entry), "client_id": "client-1"} if isinstance(entry, dict) else entry


_NAMES = (
    "secret",
    "home_account_id",
    "environment",
    "realm",
    "target",
    "token_type",
    "expires_on",
    "cached_at",
    "last_modification_time",
    "username",
)
_ENTRY: st.SearchStrategy[Any] = members(*_NAMES).map(_ours)
_SECTION: st.SearchStrategy[Any] = st.dictionaries(st.text(max_size=3), _ENTRY, max_size=3) | _ENTRY


@given(
    st.dictionaries(st.sampled_from(["AccessToken", "RefreshToken", "IdToken", "Account", "AppMetadata"]), _SECTION, max_size=4) | _ENTRY,
    st.sampled_from(["home_account_id", "local_account_id", "username", "sub"]),
)
def test_hostile_caches(cache: Any, user_id: MsalUserId) -> None:
    check_hostile(from_msal(cache, client_id="client-1", user_id=user_id))
