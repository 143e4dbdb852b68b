"""SH: secrets are a type that does not print, and whatever holds one does not print it either."""

from __future__ import annotations

import ast
import copy
import dataclasses
import json
import marshal
import pickle
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pauth
from pauth import Login, MemoryTokenStorage, OAuth2Client, Secret, Token
from pauth.secret import Secret as SecretItself
from pauth.storage import Record, RecordKey
from tests.support.canary import excerpt

TEXT = "CANARY-secret-text"
SECRET = Secret(TEXT)
TOKEN = Token(SECRET, refresh_token=Secret("CANARY-rt"), id_token=Secret("CANARY-id"), scope=("a",), subject="alice")


def a_client() -> OAuth2Client:
    return OAuth2Client("github", "client-1", TEXT, proxy="http://user:CANARY-pw@proxy.example", token_storage=MemoryTokenStorage())


HOLDERS: dict[str, Callable[[], Any]] = {
    "Secret": lambda: SECRET,
    "Token": lambda: TOKEN,
    "Login": lambda: Login("alice", TOKEN),
    "Record": lambda: Record(RecordKey("", "alice"), {"access_token": TEXT}, 1, 0.0),
    "OAuth2Client": a_client,
    "list": lambda: [SECRET, TOKEN],
    "dict": lambda: {"secret": SECRET, "token": TOKEN},
}
SINKS: dict[str, Callable[[Any], object]] = {
    "repr": repr,
    "str": str,
    "format": format,
    "f-string": lambda value: f"{value} {value!r} {value!s}",
    "%s": lambda value: "%s %r" % (value, value),  # noqa: UP031
    "str.format": "{0} {0!r} {0!s}".format,
    "json": lambda value: json.dumps({"value": value}, default=str),
    "vars": lambda value: repr(getattr(value, "__dict__", "")),
}


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("holder", HOLDERS)
def test_sh1_sh3_no_way_of_printing_shows_a_secret(holder: str, sink: str) -> None:
    shown = SINKS[sink](HOLDERS[holder]())
    assert isinstance(shown, str)
    assert excerpt(shown) is None


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_sh4_nothing_that_holds_a_secret_can_be_pickled(holder: str, protocol: int) -> None:
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)) as caught:
        pickle.dumps(HOLDERS[holder](), protocol)
    assert excerpt(f"{caught.value!r}") is None


def test_sh4_a_secret_has_no_state_to_take() -> None:
    """Whichever door is tried."""
    secret: Any = SECRET
    doors: list[Callable[[], object]] = [
        secret.__getstate__,
        secret.__reduce__,
        lambda: secret.__reduce_ex__(2),
        partial(object.__reduce_ex__, secret, 2),
        lambda: marshal.dumps(secret),
        lambda: json.dumps(secret),
        lambda: ",".join([*"ab", secret]),
        lambda: "a" + secret,
        lambda: list(secret),
        lambda: dataclasses.asdict(secret),
    ]
    for door in doors:
        with pytest.raises((TypeError, ValueError)) as caught:
            door()
        assert excerpt(repr(caught.value)) is None


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_sh4_copies_within_the_process_are_allowed(copied: Callable[[Any], Any]) -> None:
    assert copied(SECRET) is SECRET
    twin = copied(TOKEN)
    assert (twin, twin.access_token.reveal()) == (TOKEN, TEXT)
    assert copied([SECRET])[0] == SECRET
    assert copied(Login("alice", TOKEN)) == Login("alice", TOKEN)


def test_sh3_asdict_shows_no_secret() -> None:
    """A mapping that cannot be changed cannot be copied either, so `asdict` refuses a token; its other members keep their masks."""
    with pytest.raises(TypeError) as caught:
        dataclasses.asdict(TOKEN)
    assert excerpt(repr(caught.value)) is None
    members = dataclasses.asdict(dataclasses.replace(TOKEN, extra={"team": "T1"}))
    assert excerpt(repr(members) + json.dumps(members, default=str)) is None
    assert members["access_token"] is SECRET


def test_sh3_a_pydantic_model_keeps_the_mask() -> None:
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Settings", __config__={"arbitrary_types_allowed": True}, secret=(Secret, ...))
    settings = model(secret=SECRET)
    assert excerpt(repr(settings)) is None
    assert excerpt(repr(settings.model_dump())) is None
    with pytest.raises(ValueError, match="serialize") as caught:
        settings.model_dump_json()
    assert excerpt(str(caught.value)) is None


@pytest.mark.parametrize("holder", HOLDERS)
def test_sh5_a_traceback_with_locals_shows_no_secret(holder: str) -> None:
    def fail(value: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        fail(HOLDERS[holder]())
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert excerpt("".join(shown.format())) is None


# What a secret is


def test_a_secret_reveals_what_it_holds() -> None:
    assert SECRET.reveal() == TEXT
    assert repr(SECRET) == str(SECRET) == f"{SECRET:>5}" == "Secret('**********')"
    assert not isinstance(SECRET, str)
    assert Secret is SecretItself
    assert (bool(SECRET), bool(Secret(""))) == (True, False)
    assert not hasattr(SECRET, "__dict__")


@pytest.mark.parametrize("value", [b"CANARY-bytes", None, 7, SECRET])
def test_a_secret_holds_text_only(value: Any) -> None:
    with pytest.raises(TypeError, match="holds a str") as caught:
        Secret(value)
    inside = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack[-1]
    assert "value" not in (inside.locals or {})


ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@given(ANY_TEXT, ANY_TEXT)
def test_sh6_secrets_compare_as_their_texts_do(one: str, other: str) -> None:
    """SH-6: also for text that is not ASCII, at which hmac.compare_digest raises, and lone surrogates."""
    assert (Secret(one) == Secret(other)) is (one == other)
    assert (Secret(one) != Secret(other)) is (one != other)
    assert Secret(one) == Secret(one)
    assert (hash(Secret(one)) == hash(Secret(other))) or one != other
    assert len({Secret(one), Secret(other), Secret(one)}) == len({one, other})


def test_sh6_a_secret_is_not_equal_to_its_text() -> None:
    """Comparing with a str would tempt to compare what was revealed."""
    assert SECRET != TEXT
    assert SECRET.__eq__(TEXT) is NotImplemented
    assert TEXT not in {SECRET: 1}


# What the sources of pauth may not do


def python_files() -> list[Path]:
    return sorted(Path(pauth.__file__).parent.rglob("*.py"))


def is_revealed(node: ast.AST) -> bool:
    """``x.reveal()``, or what a method of it gives: ``x.reveal().encode()``. Its length, or a hash of it, is no secret."""
    while isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "reveal":
            return True
        node = node.func if isinstance(node, ast.Call) else node.value
    return False


def revealed_comparisons(source: str) -> Iterator[int]:
    """Lines that compare what ``.reveal()`` gave, directly or by way of a name in the same function."""
    tree = ast.parse(source)
    for scope in [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))]:
        nodes = list(ast.walk(scope))
        assigned = [node for node in nodes if isinstance(node, ast.Assign) and is_revealed(node.value) and scope is not tree]
        names = {target.id for node in assigned for target in node.targets if isinstance(target, ast.Name)}
        for node in nodes:
            if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops):
                sides = [node.left, *node.comparators]
                if any(is_revealed(side) or (isinstance(side, ast.Name) and side.id in names) for side in sides):
                    yield node.lineno


ALLOWED = {
    "cli/demo.py": 1,  # looks for the demo's own token in a file
    "cli/store.py": 2,  # look whether a URL has a password in it
    "cli/target.py": 1,  # looks whether a secret is one line
    "importers/flask_dance.py": 1,  # looks whether a path is a URL
}


@pytest.mark.parametrize("path", python_files(), ids=lambda path: path.name)
def test_sh6_nothing_compares_revealed_secrets(path: Path) -> None:
    found = sorted(set(revealed_comparisons(path.read_text(encoding="utf-8"))))
    name = path.relative_to(Path(pauth.__file__).parent).as_posix()
    assert len(found) == ALLOWED.get(name, 0), f"{name}: lines {found}: compare Secret objects, or bytes with hmac.compare_digest"


@pytest.mark.parametrize(
    "source",
    [
        "x.reveal() == y",
        "y != x.reveal()",
        "x.reveal().encode() == y",
        "x.reveal() in names",
        "def f():\n    text = x.reveal()\n    return text == y",
    ],
)
def test_the_search_for_comparisons_finds_them(source: str) -> None:
    assert list(revealed_comparisons(source))


def test_the_search_for_comparisons_finds_no_others() -> None:
    source = "x == y\nlen(x.reveal()) == 43\nhmac.compare_digest(x.reveal().encode(), y)\ndef f():\n    text = x.reveal()\n    return z == 1\n"
    assert list(revealed_comparisons(source)) == []
