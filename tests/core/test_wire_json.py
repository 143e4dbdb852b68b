from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pauth.core.wire import MAX_BODY, MAX_DEPTH, HTTPRequest, HTTPResponse, parse_json_object
from pauth.errors import MalformedResponse, Remedy

SECRET = "CANARY-access-token-1"


def nested(depth: int) -> bytes:
    """An object whose deepest container is on level ``depth``."""
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_px3_an_object_is_given_as_it_is() -> None:
    document: dict[str, Any] = {"access_token": "é\U0001f511", "expires_in": 3600, "x": [1, -2.5, None, True, {"y": ""}], "": {}}
    assert parse_json_object(json.dumps(document).encode()) == document
    assert parse_json_object(json.dumps(document, ensure_ascii=False).encode()) == document


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"null", b"true", b"1", b"1.5"])
def test_px3_only_an_object_may_be_at_the_top(body: bytes) -> None:
    with pytest.raises(MalformedResponse, match="is not an object"):
        parse_json_object(body)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b'{"a":1}x', "is not JSON"),
        (b'{"a":"\n"}', "is not JSON"),
        (b"<html></html>", "is not JSON"),
        (b'\xef\xbb\xbf{"a":1}', "is not JSON"),  # a byte order mark
        ('{"a":1}'.encode("utf-16-le"), "is not JSON"),
        ('{"a":1}'.encode("utf-16"), "is not UTF-8"),
        ('{"a":1}'.encode("utf-32"), "is not UTF-8"),
        (b'{"a":"\xff"}', "is not UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "is not UTF-8"),  # a surrogate, encoded as if it were a character
        (b'{"a":1,"a":1}', "names a member twice"),
        (b'{"a":{"b":1,"\\u0062":2}}', "names a member twice"),
        (b'{"a":NaN}', "holds NaN or Infinity"),
        (b'{"a":[-Infinity]}', "holds NaN or Infinity"),
        (b'{"a":Infinity}', "holds NaN or Infinity"),
        (b'{"a":1e999}', "too large"),
        (b'{"a":-1e999}', "too large"),
        (b'{"a":%d}' % (2**63 + 1), "too large"),
        (b'{"a":-%d}' % (2**63 + 1), "too large"),
        (b'{"a":' + b"9" * 5000 + b"}", "too large"),
        (b'{"a":' + b"9" * 21 + b"}", "too large"),
        (nested(MAX_DEPTH + 1), "nested too deeply"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "nested too deeply"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "is not JSON"),
        (b'{"a":' * 50_000, "is not JSON"),
        (b'{"a":"' + b"x" * MAX_BODY + b'"}', "is too large"),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else None,
)
def test_px1_what_json_loads_lets_through_is_refused(body: bytes, problem: str) -> None:
    with pytest.raises(MalformedResponse, match=problem) as caught:
        parse_json_object(body)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert caught.value.remedy is Remedy.FIX_CONFIGURATION


def test_px1_the_limits_themselves_are_accepted() -> None:
    assert parse_json_object(nested(MAX_DEPTH))
    assert parse_json_object(b'{"a":[%d,-%d]}' % (2**63, 2**63)) == {"a": [2**63, -(2**63)]}
    assert parse_json_object(b'{"a":"' + b"x" * (MAX_BODY - 8) + b'"}') == {"a": "x" * (MAX_BODY - 8)}


def test_px6_an_id_of_64_bit_comes_through_exactly() -> None:
    assert parse_json_object(b'{"id":9007199254740993}') == {"id": 2**53 + 1}


@pytest.mark.parametrize(
    "body",
    [
        rb'{"access_token":"\ud800"}',
        rb'{"sub":"a\udfffb"}',
        rb'{"\ud800":1}',
        rb'{"a":[{"b":["\udc00\ud800"]}]}',
        rb'{"a":{"\udead":{}}}',
    ],
)
def test_px2_a_lone_surrogate_is_refused_wherever_it_is(body: bytes) -> None:
    with pytest.raises(MalformedResponse, match="not valid Unicode"):
        parse_json_object(body)


def test_px2_a_surrogate_pair_is_a_character() -> None:
    assert parse_json_object(rb'{"a":"\ud83d\udd11"}') == {"a": "\U0001f511"}


def test_px1_a_deep_document_is_refused_in_a_thread_with_a_small_stack() -> None:
    outcome: list[type[BaseException] | None] = []

    def read() -> None:
        try:
            parse_json_object(b'{"a":' + b"[" * (MAX_BODY - 10))
        except BaseException as error:  # noqa: BLE001  # whatever it is, it must be the one
            outcome.append(type(error))

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert outcome == [MalformedResponse]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON, max_size=6), st.booleans())
def test_px1_any_json_object_round_trips(document: dict[str, Any], escape: bool) -> None:
    assert parse_json_object(json.dumps(document, ensure_ascii=escape).encode()) == document


def cut_short(document: dict[str, str], length: int) -> bytes:
    return json.dumps(document).encode()[:length]


@given(
    st.binary(max_size=200)
    | st.text(alphabet='{}[]",:\\u0d8eE+-.123456789 NaInfity\n\ufeff\ud800', max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.builds(cut_short, st.dictionaries(st.text(), st.text()), st.integers(0, 80))
)
@example(b'{"a":' * 50_000)
@example(b'{"a":-' + b"1" * 4301 + b"}")
def test_px1_nothing_but_malformed_response_escapes(body: bytes) -> None:
    try:
        document = parse_json_object(body)
    except MalformedResponse as error:
        assert error.__cause__ is None  # noqa: PT017  # the fuzz asks what escapes, not whether something does
        assert error.__context__ is None  # noqa: PT017
    else:
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8")


@pytest.mark.parametrize("body", [f'{{"access_token":"{SECRET}",}}', f'{{"{SECRET}":1,"{SECRET}":2}}', f'{{"access_token":["{SECRET}\\ud800"]}}'])
def test_sh5_a_refusal_shows_nothing_of_the_document(body: str) -> None:
    # The canary plugin also looks through the locals of every frame of pauth that the error passed.
    with pytest.raises(MalformedResponse) as caught:
        parse_json_object(body.encode())
    assert SECRET not in str(caught.value) + repr(caught.value.__dict__)


def test_sh1_requests_and_responses_print_no_content() -> None:
    request = HTTPRequest("POST", f"https://as.example/token?x={SECRET}", {"Authorization": SECRET}, SECRET.encode())
    response = HTTPResponse(200, {"set-cookie": SECRET}, SECRET.encode(), 0.0)
    assert repr(request) == "<HTTPRequest POST>"
    assert repr(response) == "<HTTPResponse 200>"
    assert HTTPRequest("GET", "https://as.example/").headers == {}
