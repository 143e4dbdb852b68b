"""tools/gen_sync.py: what it makes of each kind of member, and what it does not let pass."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools.gen_sync import BY_HAND, FOLDER, MODULES, Generator, main
from tools.sync_source import Mistake
from tools.sync_writer import ClassFace, FunctionFace, Module

ROOT = Path(__file__).parents[2]

SOURCE = '''\
"""Async things."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

__all__ = ["Helper", "Thing", "Token", "each", "work"]


class Token(str):
    """What a thing gives."""


class Base:
    """A base."""

    async def inherited(self) -> int:
        """From the base."""
        return 1


class Thing(Base):
    """A thing: closed with :meth:`aclose`.

    :param name: its name.
    :raises ValueError: it has none.
    """

    def __init__(self, name: str, secret: str | None = None, *, context: ssl.SSLContext | None = None) -> None:
        self.name = name
        self.secret = secret
        self.closed = False
        self.entered: list[object] = []
        self.cache: dict[str, Token] = {}

    @property
    def loud(self) -> str:
        """Its name, louder."""
        return self.name.upper()

    def plain(self, times: int = 1) -> str:
        """Nothing to wait for."""
        return self.name * times

    async def get(self, user_id: str) -> Token:
        """A token,
        on two lines."""
        await asyncio.sleep(0)
        self.cache[user_id] = Token(f"{self.name} for {user_id}")
        return self.cache[user_id]

    def get_nowait(self, user_id: str) -> Token | None:
        """The token, if it is there."""
        return self.cache.get(user_id)

    async def send(
        self,
        code: str,
        *rest: int,
        timeout: float = 1.0,  # noqa: ASYNC109
        **options: Mapping[str, Any],
    ) -> Sequence[Any]:
        """Something secret."""
        sent = (code, rest, timeout, options)
        del code
        return sent

    async def forget(self, user_id: str, password: str) -> None:
        """Nothing comes back."""
        self.cache.pop(user_id, None)

    async def count(self, most: int) -> AsyncIterator[int]:
        """Numbers."""
        for number in range(most):
            yield number

    def items(self) -> AsyncIterator[str]:
        """Not a generator itself."""
        return self._items()

    async def _items(self) -> AsyncIterator[str]:
        yield self.name

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[str]:
        """Held for a while."""
        yield f"{key} held"

    async def decide(self, answer: str) -> str:
        """Takes long."""
        return f"{self.name} {answer}"

    async def spend(self, code: str) -> str:
        """Serves once."""
        return f"{self.name} {code}"

    async def left_out(self) -> None:
        """Without a twin."""

    async def aclose(self) -> None:
        """Close it."""
        self.closed = True

    async def __aenter__(self) -> Self:
        self.entered.append(asyncio.current_task())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.entered.append(asyncio.current_task())
        await self.aclose()


class Helper:
    """Works with a thing.

    :raises ValueError: never.
    """

    def __init__(self, thing: Thing) -> None:
        self.thing = thing

    async def help(self, thing: Thing) -> Thing:
        """Help it."""
        assert thing is self.thing
        return thing

    async def aclose(self) -> None:
        """Close it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


async def work(thing: Thing, secret: str, *, on_progress: Mapping[str, int] | None = None, another_long_name_of_an_argument: str = "default") -> int:
    """Work on it."""
    return len(secret)


async def each(thing: Thing, most: int = 3) -> AsyncIterator[str]:
    """One after the other.

    Indented as it was.
    """
    for number in range(most):
        yield thing.name * number
'''

THING = ClassFace(
    sources=(("pauth/things.py", "Base"), ("pauth/things.py", "Thing")),
    name="SyncThing",
    hidden=("secret",),
    secret=("password",),
    patient=("decide",),
    once=("spend",),
    left_out=("left_out",),
    listings=(("pauth/things.py", "each"),),
    words=((":meth:`aclose`", ":meth:`close`"),),
    turn=5,
)
HELPER = ClassFace(sources=(("pauth/things.py", "Helper"),), name="SyncHelper", unwrapped=(("thing", "behind"),), types=(("Thing", "SyncThing"),))
WORK = FunctionFace("pauth/things.py", "work", secret=("secret",))
TABLE = (Module("_things.py", "Things.", (THING,)), Module("_more.py", "More of them.", (HELPER, WORK)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / "pauth/things.py").write_text(SOURCE, encoding="utf-8")
    return tmp_path


def generator(root: Path, table: tuple[Module, ...] = TABLE, by_hand: frozenset[str] = frozenset()) -> Generator:
    return Generator(root, table, by_hand)


@pytest.fixture
def made(root: Path, monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """What the generated files define, and their source."""
    generator(root).write()
    found: dict[str, Any] = {}
    for name, file in (("pauth.things", "pauth/things.py"), ("pauth.sync._things", FOLDER / "_things.py"), ("pauth.sync._more", FOLDER / "_more.py")):
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], module, raising=False)
        exec(compile((root / file).read_text(encoding="utf-8"), str(root / file), "exec"), module.__dict__)
        found |= module.__dict__
    return types.SimpleNamespace(**found)


def test_each_kind_of_member_becomes_what_it_should(made: types.SimpleNamespace) -> None:
    thing = made.SyncThing("name", "CANARY-secret", deadline=30.0)
    inner = thing._async
    assert (inner.secret, thing.loud, thing.plain(2), thing.inherited()) == ("CANARY-secret", "NAME", "namename", 1)
    assert thing.send("CANARY-code", 1, 2, timeout=3.0, more=4) == ("CANARY-code", (1, 2), 3.0, {"more": 4})
    assert thing.forget("alice", "CANARY-password") is None
    assert (list(thing.count(3)), list(thing.items()), list(thing.each(2))) == ([0, 1, 2], ["name"], ["", "name"])
    with thing.hold("key") as held:
        assert held == "key held"
    assert made.SyncThing.closes_in_turn == 5
    assert not hasattr(thing, "left_out")
    thing.close()
    assert inner.closed


def test_a_context_is_held_in_one_task_if_the_source_does_more_than_close(made: types.SimpleNamespace) -> None:
    with made.SyncThing("name") as thing:
        assert isinstance(thing, made.SyncThing)
        inner = thing._async
    assert inner.closed
    assert len(inner.entered) == 2
    assert inner.entered[0] is inner.entered[1]


def test_what_is_there_is_given_without_a_hop(made: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop is not even there."""
    thing = made.SyncThing("name")
    assert thing.get("alice") == "name for alice"
    monkeypatch.setattr("pauth.sync._portal.current", lambda: pytest.fail("a hop"))
    assert thing.get("alice") == "name for alice"
    assert thing.get_nowait("bob") is None


def test_a_face_is_given_to_a_face(made: types.SimpleNamespace) -> None:
    thing = made.SyncThing("name")
    with made.SyncHelper(thing) as helper:
        assert helper._async.thing is thing._async
        assert helper.help(thing._async) is thing._async
    assert made.work(thing, "CANARY") == 6


def test_signatures_and_docstrings_stand_as_in_the_source(root: Path) -> None:
    generator(root).write()
    things = (root / FOLDER / "_things.py").read_text(encoding="utf-8")
    assert things.startswith(
        '# Generated by tools/gen_sync.py: change its sources, and run it again.\n# - the text of pauth/things.py\n"""Things."""\n'
    )
    assert '        """A token,\n        on two lines."""\n' in things
    assert (
        "        code: str,\n        *rest: int,\n        timeout: float = 1.0,\n        **options: Mapping[str, Any],\n    ) -> Sequence[Any]:\n"
        in things
    )
    assert '        """One after the other.\n\n        Indented as it was.\n        """\n' in things
    assert "    def count(self, most: int) -> SyncIterator[int]:\n" in things
    assert "    def hold(self, key: str) -> SyncContext[str]:\n" in things
    assert "A thing: closed with :meth:`close`.\n\n    :param name: its name.\n    :param deadline: seconds" in things
    assert "        del code  # SH-5\n" in things
    assert "        return self._wait_out(self._async.decide(answer))\n" in things
    assert "        return self._wait_once(self._async.spend(code))\n" in things
    more = (root / FOLDER / "_more.py").read_text(encoding="utf-8")
    assert "    def help(self, thing: SyncThing) -> SyncThing:\n" in more
    assert "from pauth.sync._things import SyncThing\n" in more


# --- drift


def test_nothing_to_say_of_what_was_just_written(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], generator(root)) == 0
    assert capsys.readouterr().out.split() == ["_things.py", "_more.py"]
    assert main([], generator(root)) == 0
    assert main(["--check"], generator(root)) == 0
    assert capsys.readouterr().out == ""


DRIFTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "an edit": (
        lambda root: edit(root / FOLDER / "_things.py", "Nothing comes back.", "Something"),
        r"pauth/sync/_things\.py:\d+ is not what its source says",
    ),
    "appended text": (lambda root: edit(root / FOLDER / "_more.py", None, "\n# more\n"), r"pauth/sync/_more\.py:\d+ is not"),
    "a line less": (lambda root: edit(root / FOLDER / "_more.py", "    return wait(waiting)\n", ""), r"pauth/sync/_more\.py:\d+ is not"),
    "a missing file": (lambda root: (root / FOLDER / "_more.py").unlink(), r"pauth/sync/_more\.py:1 is not"),
    "an orphan": (
        lambda root: shutil.copy(root / FOLDER / "_more.py", root / FOLDER / "_old.py"),
        r"pauth/sync/_old\.py was generated once, and nothing writes it any more",
    ),
    "a stranger": (
        lambda root: stranger(root / FOLDER / "_new.py"),
        r"pauth/sync/_new\.py is neither generated nor in BY_HAND",
    ),
    "a stranger in a folder, named as one by hand": (
        lambda root: stranger(root / FOLDER / "more" / "_hand.py"),
        r"pauth/sync/more/_hand\.py is neither generated nor in BY_HAND",
    ),
    "a stub": (lambda root: stranger(root / FOLDER / "_more.pyi"), r"pauth/sync/_more\.pyi is neither generated nor in BY_HAND"),
    "another signature": (lambda root: edit(root / "pauth/things.py", "most: int = 3", "most: int = 4"), r"pauth/sync/_things\.py:\d+ is not"),
    "another docstring": (lambda root: edit(root / "pauth/things.py", "Work on it.", "Work hard."), r"pauth/sync/_more\.py:\d+ is not"),
    "a new method": (
        lambda root: edit(
            root / "pauth/things.py",
            "    async def left_out",
            '    async def new(self) -> int:\n        """New."""\n        return 1\n\n    async def left_out',
        ),
        r"pauth/sync/_things\.py:\d+ is not",
    ),
}


def stranger(file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text("", encoding="utf-8")


def edit(file: Path, old: str | None, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old is None or old in text
    file.write_text(text + new if old is None else text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize("drift", DRIFTS)
def test_every_drift_is_found_and_most_are_mended(root: Path, capsys: pytest.CaptureFixture[str], drift: str) -> None:
    by_hand = frozenset({"_hand.py"})
    generator(root).write()
    stranger(root / FOLDER / "_hand.py")
    assert generator(root, by_hand=by_hand).problems() == []
    make, expected = DRIFTS[drift]
    make(root)
    assert main(["--check"], generator(root, by_hand=by_hand)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert re.match(expected, lines[0])
    generator(root, by_hand=by_hand).write()
    assert generator(root, by_hand=by_hand).problems() == (lines if "stranger" in drift or drift == "a stub" else [])


def test_a_file_by_hand_that_is_not_there(root: Path) -> None:
    generator(root).write()
    assert generator(root, by_hand=frozenset({"_gone.py"})).problems() == ["pauth/sync/_gone.py, in BY_HAND, is not there"]


# --- mistakes


def changed(**changes: Any) -> tuple[Module, ...]:
    """The table with another entry for the thing."""
    return (Module("_things.py", "Things.", (ClassFace(**{**vars(THING), **changes}),)),)


MISTAKES: dict[str, tuple[tuple[Module, ...], tuple[str, str], str]] = {
    "words that are not there": (changed(words=((":meth:`gone`", ""),)), ("", ""), "SyncThing: nothing is changed by ':meth:`gone`' in words"),
    "a type that is not there": (changed(types=(("Gone", "X"),)), ("", ""), "'Gone' in types"),
    "a secret that is not there": (changed(secret=("gone",)), ("", ""), "'gone' in secret"),
    "a hidden argument that is not there": (changed(hidden=("gone",)), ("", ""), "'gone' in hidden"),
    "an argument that is not there": (changed(unwrapped=(("gone", "behind"),)), ("", ""), "'gone' in unwrapped"),
    "a patient method that is not there": (changed(patient=("gone", "decide")), ("", ""), "'gone' in patient"),
    "a method for once that is not there": (changed(once=("gone", "spend")), ("", ""), "'gone' in once"),
    "a member that is not there": (changed(left_out=("gone", "left_out")), ("", ""), "'gone' in left_out"),
    "a class that is not there": (changed(sources=(("pauth/things.py", "Gone"),)), ("", ""), "things.py has no Gone"),
    "a function that is not there": ((Module("_things.py", "", (FunctionFace("pauth/things.py", "gone"),)),), ("", ""), "things.py has no gone"),
    "a constructor that raises nothing": (TABLE, ("    :raises ValueError: it has none.\n", ""), "Thing does not say what its constructor raises"),
    "no docstring": (TABLE, ('        """Nothing to wait for."""\n', ""), "things.py: plain has no docstring"),
    "a docstring on the line of its def": (
        TABLE,
        ('str:\n        """Nothing to wait for."""\n        return self.name * times\n', 'str: """Nothing"""; return ""\n'),
        "things.py: plain has no docstring of its own lines",
    ),
    "a private name": (TABLE, ("times: int = 1", "times: int = _TIMES"), "_TIMES stands in a public signature"),
    "a name from nowhere": (TABLE, ("times: int = 1", "times: Nowhere = 1"), "Nowhere stands in a public signature"),
    "a sibling of another kind": (TABLE, ("def get_nowait(self, user_id: str)", "def get_nowait(self)"), "get_nowait must take what get takes"),
    "a sibling that always answers": (TABLE, ("-> Token | None", "-> Token"), "get_nowait must take what get takes"),
    "a decorator": (TABLE, ("    def plain(self,", "    @staticmethod\n    def plain("), "no rule is for plain, as it is decorated"),
    "an awaitable": (
        TABLE,
        ("    async def __aexit__", '    def __await__(self) -> Any:\n        """Wait."""\n\n    async def __aexit__'),
        "no rule is for Thing.__await__",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_does_not_fit_is_said(root: Path, capsys: pytest.CaptureFixture[str], mistake: str) -> None:
    table, (old, new), expected = MISTAKES[mistake]
    edit(root / "pauth/things.py", old, new) if old else None
    with pytest.raises(Mistake) as caught:
        generator(root, table).texts()
    assert expected in str(caught.value)
    assert main(["--check"], generator(root, table)) == 1
    assert expected in capsys.readouterr().out


def test_an_unknown_argument_is_answered_with_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--chekc"]) == 2
    assert "--check" in capsys.readouterr().out


def test_the_projects_own_table_is_whole() -> None:
    """As the linter's session runs it."""
    done = subprocess.run([sys.executable, "tools/gen_sync.py", "--check"], check=False, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {path.name for path in (ROOT / FOLDER).glob("*.py")} == {*BY_HAND, *(module.file for module in MODULES)}
