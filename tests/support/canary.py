"""Finding secrets where they must not be (SH-1): the detectors, with no pytest in them.

Every secret in a test holds the word :data:`CANARY`. Whatever a sink gets (a log line, an error, a file …) is searched for it, plain,
in base64 (an ``Authorization: Basic`` header) and in hexadecimal.
"""

from __future__ import annotations

import base64
import contextlib
import re
import traceback
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

import pauth.errors
from pauth.secret import Secret

CANARY: Final = "CANARY"

_PACKAGE: Final = Path(pauth.errors.__file__).parent
_DEPTH: Final = 6
_EXCERPT: Final = 60


def _encodings(word: bytes) -> Iterator[bytes]:
    yield word
    yield word.hex().encode()
    yield word.hex().upper().encode()
    for shift in range(3):
        # The word's neighbours change the first and last characters of its base64: only the middle is certain.
        text = base64.b64encode(b"\0" * shift + word)
        yield text[(8 * shift + 5) // 6 : (8 * (shift + len(word))) // 6]


_PATTERN: Final = re.compile(b"|".join(re.escape(form) for form in _encodings(CANARY.encode())))


def excerpt(content: str | bytes | bytearray) -> str | None:
    """The surroundings of the first canary in ``content``, with the canary's own word masked; ``None`` if there is none."""
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else bytes(content)
    found = _PATTERN.search(raw)
    if found is None:
        return None
    around = raw[max(0, found.start() - _EXCERPT) : found.start()] + b"<canary>" + raw[found.end() : found.end() + _EXCERPT]
    return around.decode("utf-8", "replace").replace(CANARY, "<canary>")


def leaks_in_error(error: BaseException) -> Iterator[str]:
    """Every place in an exception and its chain, :data:`_DEPTH` deep, where a canary shows."""
    seen: set[int] = set()
    pending: list[tuple[BaseException, str, int]] = [(error, type(error).__name__, 0)]
    while pending:
        current, path, depth = pending.pop()
        if id(current) in seen or depth > _DEPTH:
            continue
        seen.add(id(current))
        yield from _leaks_of_one(current, path)
        members: Sequence[BaseException] = ()
        if isinstance(current, BaseExceptionGroup):
            members = cast("BaseExceptionGroup[BaseException]", current).exceptions
        for name, linked in (("__cause__", current.__cause__), ("__context__", current.__context__)):
            if linked is not None:
                pending.append((linked, f"{path}.{name}<{type(linked).__name__}>", depth + 1))
        pending.extend((member, f"{path}.exceptions<{type(member).__name__}>", depth + 1) for member in members)


def _leaks_of_one(error: BaseException, path: str) -> Iterator[str]:
    for name, show in (("str", str), ("repr", shown)):
        if hit := excerpt(show(error)):
            yield f"{path}: {name}(): {hit}"
    for name in ("args", "__dict__", "__notes__"):
        yield from _leaks_in_object(getattr(error, name, ()), f"{path}.{name}")
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(_PACKAGE):
            # what traceback.TracebackException(capture_locals=True) shows
            for local, value in frame.f_locals.items():
                if hit := excerpt(shown(value)):
                    yield f"{path}: traceback local {local!r} of {frame.f_code.co_name}() in {file.name}:{line}: {hit}"


def shown(value: object) -> str:
    """``repr(value)``, also of a value that has none (an integer of thousands of digits)."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  # a foreign repr may raise anything
        return ""


_OPAQUE: Final = (
    Secret,
    type,
    types.ModuleType,
    types.FunctionType,
    types.MethodType,
    types.FrameType,
    types.TracebackType,
    types.CodeType,
    BaseException,
)


def _leaks_in_object(root: object, path: str) -> Iterator[str]:
    """Walk what an error holds: containers and the attributes of objects. Secrets are where secrets belong, so they are not opened."""
    seen: set[int] = set()
    pending: list[tuple[object, str, int]] = [(root, path, 0)]
    while pending:
        value, where, depth = pending.pop()
        if id(value) in seen or depth > _DEPTH:
            continue
        seen.add(id(value))
        if isinstance(value, str | bytes | bytearray):
            if hit := excerpt(value):
                yield f"{where}: {hit}"
        elif not isinstance(value, _OPAQUE):
            pending.extend((inner, f"{where}{step}", depth + 1) for step, inner in _parts(value))


def _parts(value: object) -> Iterable[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, inner in cast("Mapping[object, object]", value).items():
            yield ".keys()", key
            yield f"[{type(key).__name__}]", inner
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in cast("Iterable[object]", value):
            yield "[]", inner
    else:
        for name, inner in getattr(value, "__dict__", {}).items():
            yield f".{name}", inner
        for owner in type(value).__mro__:
            slots = owner.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                with contextlib.suppress(AttributeError):  # a slot that was never set
                    yield f".{name}", getattr(value, name)


def leaks_in_files(folder: Path) -> Iterator[str]:
    """Every file below ``folder`` with a canary in its name or its bytes."""
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if hit := excerpt(name):
            yield f"file name: {hit}"
        content = b""
        with contextlib.suppress(FileNotFoundError):  # a database that is being closed removes the files beside it
            content = b"" if file.is_symlink() or not file.is_file() else file.read_bytes()
        if hit := excerpt(content):
            yield f"file {name.replace(CANARY, '<canary>')}: {hit}"
