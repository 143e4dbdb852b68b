from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict, MultiDictProxy
from starlette.datastructures import QueryParams

from pauth.core.authorization import CallbackParams, parse_callback
from pauth.core.wire import MAX_QUERY
from pauth.errors import AuthorizationError, Remedy
from pauth.secret import Secret

CODE = "CANARY-code-1"
STATE = "CANARY-state-1-abcdefghijklmnop"
QUERY = f"code={CODE}&state={STATE}"
GOOD = CallbackParams(code=Secret(CODE), state=Secret(STATE))


@pytest.mark.parametrize(
    "callback",
    [
        QUERY,
        f"?{QUERY}",
        f"/callback?{QUERY}",
        f"https://app.example/callback?{QUERY}",
        f"http://127.0.0.1:8080/?{QUERY}",
        f"com.example.app:/callback?{QUERY}",
        f"https://app.example/callback;v=1?{QUERY}",
        f"  https://app.example/callback?{QUERY}\n",
        f"https://app.example/callback?{QUERY}#_=_",  # Facebook
        f"https://app.example/callback?{QUERY}#",
        f"{QUERY}&scope=a+b&authuser=0&hd=example.com&session_state=x",
        f"{QUERY}&error=&error_description=&access_token=",  # without a value is as good as absent
        {"code": CODE, "state": STATE},
        [("code", CODE), ("state", STATE)],
        MultiDictProxy(MultiDict({"code": CODE, "state": STATE})),
        QueryParams(QUERY),
    ],
)
def test_ax1_a_callback_in_every_form_it_comes_in(callback: Any) -> None:
    assert parse_callback(callback) == GOOD


def test_ax1_a_question_mark_in_a_value_is_a_value() -> None:
    assert parse_callback(f"code=a?b&state={STATE}").code == Secret("a?b")


def test_ax1_nothing_is_nothing() -> None:
    callbacks: list[Any] = ["", "https://app.example/callback", "/callback", "?", {}, []]
    for callback in callbacks:
        assert parse_callback(callback) == CallbackParams()


def test_ax8_iss_and_errors_are_read() -> None:
    params = parse_callback(
        {"error": "access_denied", "error_description": "No.", "error_uri": "https://as.example/help", "iss": "https://as.example", "state": STATE}
    )
    assert params == CallbackParams(
        state=Secret(STATE), iss="https://as.example", error="access_denied", error_description="No.", error_uri="https://as.example/help"
    )
    assert repr(params) == "<CallbackParams code=False state=True error='access_denied'>"
    assert parse_callback("iss=&error=%20") == CallbackParams()


class DjangoLike(dict[str, str]):
    """Keeps every value and shows the last, as Django's QueryDict does."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        super().__init__(pairs)
        self._all = pairs

    def getlist(self, name: str) -> list[str]:
        return [value for key, value in self._all if key == name]


@pytest.mark.parametrize("name", ["state", "code", "iss", "error", "id_token", "foo"])
@pytest.mark.parametrize("second", ["a", "b", ""])
def test_ax7_a_parameter_given_twice_is_refused_however_it_comes(name: str, second: str) -> None:
    pairs = [(name, "a"), ("x", "y"), (name, second)]
    text = urlencode(pairs)
    for callback in (text, f"https://app.example/cb?{text}", pairs, MultiDict(pairs), QueryParams(pairs), DjangoLike(pairs)):
        with pytest.raises(AuthorizationError, match="twice") as caught:
            parse_callback(callback)
        assert caught.value.__context__ is None
        assert caught.value.remedy is Remedy.LOG_IN_AGAIN


@pytest.mark.parametrize("name", ["access_token", "id_token", "response"])
def test_ax8_tokens_and_responses_nobody_asked_for_are_refused(name: str) -> None:
    for callback in (f"{QUERY}&{name}=CANARY-injected", {"code": CODE, "state": STATE, name: "CANARY-injected"}):
        with pytest.raises(AuthorizationError, match=name):
            parse_callback(callback)


@pytest.mark.parametrize("fragment", ["access_token=CANARY-1", QUERY, "_=_x", "_"])
def test_ax8_a_fragment_is_refused(fragment: str) -> None:
    with pytest.raises(AuthorizationError, match="fragment"):
        parse_callback(f"https://app.example/callback?{QUERY}#{fragment}")


@pytest.mark.parametrize(
    ("callback", "problem"),
    [
        ("code=%FF", "UTF-8"),
        ("code=\ud800", "Unicode"),
        ({"code": "\ud800"}, "Unicode"),
        ("&".join(f"a{n}=" for n in range(65)), "too many"),
        ({f"a{n}": "" for n in range(65)}, "too many"),
        ("code=" + "x" * MAX_QUERY, "too large"),
        ({"code": "x" * MAX_QUERY}, "too large"),
        ({"code": ["CANARY-1"]}, "not pairs of text"),
        ({"code": 1}, "not pairs of text"),
        ({1: "x"}, "not pairs of text"),
        ([("code",)], "not pairs of text"),
        ([("code", "x", "y")], "not pairs of text"),
        ([1], "not pairs of text"),
        (b"code=CANARY-1", "not pairs of text"),
        (1, "not pairs of text"),
        (None, "not pairs of text"),
    ],
)
def test_px4_ax7_a_malformed_callback_is_refused(callback: Any, problem: str) -> None:
    with pytest.raises(AuthorizationError, match=problem) as caught:
        parse_callback(callback)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert('x')</script>", "<script>alert('x')</script>"),
        ("a\r\nSet-Cookie: b=c", "a  Set-Cookie: b=c"),
        ("\u202egnp.exe \x1b[31m", "?gnp.exe ?[31m"),
        ("x" * 20_000, "x" * 200),
        (f"the state {STATE} and the code {CODE}", "the state [redacted] and the code [redacted]"),
    ],
)
def test_ax10_sh9_texts_of_the_server_are_made_harmless(text: str, shown: str) -> None:
    params = parse_callback(urlencode({"error": text, "error_description": text, "error_uri": text, "state": STATE, "code": CODE}))
    assert params.error == shown[:100]
    assert params.error_description == shown
    assert params.error_uri == shown


NAMES = st.sampled_from(["code", "state", "iss", "error", "error_description", "access_token", "a"])
VALUES = st.text(max_size=12)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_ax7_ax8_pairs_and_queries_are_read_alike(pairs: list[tuple[str, str]]) -> None:
    outcomes: list[CallbackParams | None] = []
    for callback in (pairs, urlencode(pairs, errors="surrogatepass")):
        try:
            outcomes.append(parse_callback(callback))
        except AuthorizationError as error:
            assert error.__context__ is None  # noqa: PT017
            outcomes.append(None)
    assert outcomes[0] == outcomes[1]


@given(st.text(max_size=100) | st.text(alphabet="code=state&?#_/:%41\ud800", max_size=60) | st.lists(st.text(max_size=3)))
def test_ax7_nothing_but_authorization_error_escapes(callback: Any) -> None:
    try:
        params = parse_callback(callback)
    except AuthorizationError as error:
        assert error.__context__ is None  # noqa: PT017
    else:
        assert isinstance(params, CallbackParams)


def test_sh5_a_refused_callback_is_not_shown() -> None:
    # The canary plugin looks through the locals of every frame of pauth.
    for callback in (
        f"{QUERY}&{QUERY}",
        f"https://app.example/?{QUERY}#x",
        f"{QUERY}%FF",
        {"code": CODE, "state": STATE, "id_token": "CANARY-id-token"},
    ):
        with pytest.raises(AuthorizationError):
            parse_callback(callback)
