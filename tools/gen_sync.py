"""Writes the sync face, ``pauth/sync/``, from the text of the async classes and functions.

    python tools/gen_sync.py            write it
    python tools/gen_sync.py --check    say what is not as it would be written; exit status 1 if anything is not

Signatures and docstrings are copied as they stand in the source; what is done is in ``pauth/sync/_face.py``, by hand. For each public member:

- a coroutine method waits for it in pauth's event loop; if it has a ``*_nowait`` sibling, that one is asked first, without a hop;
- a property or plain method is passed on, without a hop;
- an async generator becomes an iterator, an ``@asynccontextmanager`` a context manager, each of them closed in the task that began it.

A new class or function is one more entry in :data:`MODULES`. Whatever an entry says that changes nothing any more is an error.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # as a script, only this folder is there

from tools.sync_source import Mistake  # noqa: E402
from tools.sync_writer import MARK, ClassFace, FunctionFace, Module, Writer  # noqa: E402

__all__ = ["MODULES", "Generator", "main"]

FOLDER: Final = Path("pauth/sync")
BY_HAND: Final = frozenset({"__init__.py", "_executor.py", "_face.py", "_portal.py", "_streams.py"})

_STORAGE: Final = '''\
"""A token storage for code that cannot await: the three methods, and all that pauth's own storages have beyond them.

    A client, sync or async, takes it in the place of the storage behind it.

    :param storage: any storage, or its URL, which is opened and closed with this one.
    :param clock: where one that is made now takes the time from: a URL's, or what a class of three methods is wrapped in.
    :param deadline: seconds after which a call gives up (:class:`~pauth.errors.DeadlineExceeded`); ``None`` for never.
    :raises ConfigurationError: no storage, or a URL that names none.
    """'''
_OR_FACE: Final = (("CoordinatedTokenStorage", "CoordinatedTokenStorage | SyncTokenStorage"),)
_BASE: Final = "pauth/storage/base.py"

MODULES: Final = (
    Module(
        "_client.py",
        "The client, for code that cannot await.",
        (
            ClassFace(
                sources=(("pauth/client.py", "OAuth2Client"),),
                name="SyncOAuth2Client",
                hidden=("client_secret", "token_storage", "pending_storage", "proxy"),
                patient=("complete_device_login",),
                once=("handle_callback", "exchange_code"),
                words=((":meth:`aclose` or ``async with``", ":meth:`close` or ``with``"),),
            ),
        ),
    ),
    Module(
        "_refresher.py",
        "Keeping a whole store fresh, from code that cannot await.",
        (
            ClassFace(
                sources=(("pauth/refresh/refresher.py", "TokenRefresher"),),
                name="SyncTokenRefresher",
                unwrapped=(("clients", "behind_all"),),
                in_loop=("stop",),
                types=(("KeepsFresh", "SyncOAuth2Client"),),
                words=(("async with TokenRefresher(", "with SyncTokenRefresher("), ("await refresher.run()", "refresher.run()")),
                turn=0,
                deadline="None",
            ),
        ),
    ),
    Module(
        "_storage.py",
        "Token storages, for code that cannot await.",
        (
            ClassFace(
                sources=((_BASE, "AsyncTokenStorage"), (_BASE, "CoordinatedTokenStorage")),
                name="SyncTokenStorage",
                base="StorageFace",
                constructor=False,
                secret=("tokens", "payload"),
                listings=(("pauth/storage/listing.py", "iter_users"), ("pauth/storage/listing.py", "iter_expiring")),
                doc=_STORAGE,
            ),
        ),
    ),
    Module(
        "_admin.py",
        "Work on whole storages and on keys, for code that cannot await. It takes as long as there is work; callbacks are called in pauth's thread.",
        (
            FunctionFace("pauth/storage/reencryption.py", "reencrypt", unwrapped=(("storage", "coordinated"),), types=_OR_FACE),
            FunctionFace("pauth/storage/reencryption.py", "keys_in_use", unwrapped=(("storage", "coordinated"),), types=_OR_FACE),
            FunctionFace("pauth/storage/move.py", "copy_storage"),
            FunctionFace("pauth/importers/write.py", "import_tokens"),
            FunctionFace("pauth/storage/keys_provider.py", "new_wrapped_key"),
            FunctionFace("pauth/storage/keys_provider.py", "keyring_from_provider", secret=("older_keys",)),
        ),
    ),
)


class Generator:
    """All files of a folder.

    :param root: the project's folder.
    :param by_hand: the files beside them.
    """

    def __init__(self, root: Path = ROOT, modules: Sequence[Module] = MODULES, by_hand: Collection[str] = BY_HAND) -> None:
        self._root = root
        self._modules = modules
        self._by_hand = by_hand

    def texts(self) -> dict[Path, str]:
        """What each file is to hold.

        :raises Mistake: table and source do not fit each other.
        """
        folder = self._root / FOLDER
        return {folder / module.file: Writer(self._root, self._modules, module).text() for module in self._modules}

    def write(self) -> list[Path]:
        """Write what is not as it should be, and remove what nothing writes any more; those files."""
        expected = self.texts()
        changed = [path for path, text in expected.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
        for path in changed:
            path.write_text(expected[path], encoding="utf-8", newline="\n")
        orphans = [path for path in self._others(expected) if path.read_text(encoding="utf-8").startswith(MARK)]
        for path in orphans:
            path.unlink()
        return changed + orphans

    def problems(self) -> list[str]:
        """What :meth:`write` would change, and files that belong to nobody."""
        expected = self.texts()
        found: list[str] = []
        for path, text in expected.items():
            actual = path.read_text(encoding="utf-8") if path.exists() else ""
            if actual == text:
                continue
            lines = zip_longest(actual.splitlines(), text.splitlines())
            line = next((number for number, (is_there, should) in enumerate(lines, 1) if is_there != should), 0)
            found.append(f"{path.relative_to(self._root)}:{line} is not what its source says; run python tools/gen_sync.py")
        for path in self._others(expected):
            is_orphan = path.read_text(encoding="utf-8").startswith(MARK)
            what = "was generated once, and nothing writes it any more" if is_orphan else "is neither generated nor in BY_HAND"
            found.append(f"{path.relative_to(self._root)} {what}")
        found += [f"{FOLDER / name}, in BY_HAND, is not there" for name in sorted(self._by_hand) if not (self._root / FOLDER / name).exists()]
        return found

    def _others(self, expected: Collection[Path]) -> list[Path]:
        folder = self._root / FOLDER
        known = {*expected, *(folder / name for name in self._by_hand)}
        # A stub beside a module is what type checkers read in its place.
        return [path for path in sorted(folder.rglob("*.py*")) if path.suffix in {".py", ".pyi"} and path not in known]


def main(arguments: Sequence[str], generator: Generator | None = None) -> int:
    """Do what the command line says; the exit status."""
    generator = generator or Generator()
    try:
        if arguments == ["--check"]:
            found = generator.problems()
            print("\n".join(found), end="\n" if found else "")
            return min(len(found), 1)
        if arguments:
            print(__doc__)
            return 2
        for path in generator.write():
            print(path.name)
    except Mistake as mistake:
        print(mistake)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
