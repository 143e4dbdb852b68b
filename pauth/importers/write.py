"""Into a storage, what a reader has found.

Nothing that is there is replaced unless that is asked for, and never what somebody else wrote in the meantime: each write names the version that it
expects, 0 for "none". So an import can be stopped at any moment and run again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, cast

from pauth.errors import InvalidUserId, PAuthError, StorageUnavailable, TokenStorageError
from pauth.importers.entries import Entry, FoundToken, Problem, Skipped
from pauth.refresh.stored import StoredGrant, write_grant
from pauth.storage.adapters import coordinated
from pauth.storage.arguments import check_limit
from pauth.storage.base import AsyncTokenStorage, BaseTokenStorage, CoordinatedTokenStorage, Record, RecordKey, Write

__all__ = ["ImportReport", "import_tokens"]

_DUPLICATE: Final = "a further token of a user who came before; a client keeps one of each: import it in another namespace, or as another user"


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import has done; of a dry run, what it would do. Its repr shows neither user ids nor secrets."""

    dry_run: bool
    found: int
    """How many tokens the source had."""

    written: tuple[str, ...] = field(repr=False)
    """The users whose token was stored; of a dry run, would be."""

    same: tuple[str, ...] = field(repr=False)
    """The users who have this very token already, from an import before."""

    kept: tuple[str, ...] = field(repr=False)
    """The users who have another token, from a login or a refresh, which was left. ``overwrite=True`` replaces it."""

    problems: tuple[Problem, ...] = field(repr=False)
    """What could not be imported, and why."""

    skipped: tuple[Skipped, ...] = field(repr=False)
    """What was left out on purpose; nothing is lost by it."""

    def __str__(self) -> str:
        counts = {
            "tokens found": self.found,
            "would be written" if self.dry_run else "written": len(self.written),
            "there already": len(self.same),
            "kept as they were": len(self.kept),
            "problems": len(self.problems),
            "left out on purpose": len(self.skipped),
        }
        return ", ".join(f"{name}: {count}" for name, count in counts.items())


async def import_tokens(
    source: Iterable[Entry] | AsyncIterable[Entry],
    storage: CoordinatedTokenStorage | AsyncTokenStorage | BaseTokenStorage,
    *,
    namespace: str,
    dry_run: bool = False,
    overwrite: bool = False,
    batch: int = 256,
    on_progress: Callable[[int], object] | None = None,
) -> ImportReport:
    """Store the tokens that a reader has found, where a client will look for them.

    Before, stop the program that refreshes them today: at servers that rotate, two programs with one refresh token end the session for both.

    :param source: what one of the readers gives, :func:`~pauth.importers.from_authlib` for example; or entries of your own.
    :param storage: any storage; the one that the client is given.
    :param namespace: that client's :attr:`~pauth.OAuth2Client.namespace`.
    :param dry_run: write nothing, and report what would be written.
    :param overwrite: replace the tokens of users who have others already. What is stored while the import runs is newer, and stays all the same.
    :param batch: how many are written at once, up to 10,000.
    :param on_progress: called after each batch with how many entries are done.
    :raises ConfigurationError: ``namespace`` or ``batch`` cannot be one; or the storage serves another client.
    :raises StorageUnavailable: the storage does not answer. What was written is written; run the import again.
    """
    RecordKey(namespace, "-")  # whether it can be one is told before anything is read
    check_limit(batch)
    work = _Import(coordinated(storage), namespace, dry_run=dry_run, overwrite=overwrite)
    waiting: list[FoundToken] = []
    done = 0
    async with aclosing(_each(source)) as entries:
        async for entry in entries:
            done += 1
            if (found := work.take(entry)) is not None:
                waiting.append(found)
            if len(waiting) == batch:
                await work.write(waiting)
                waiting.clear()
                if on_progress is not None:
                    on_progress(done)
    await work.write(waiting)
    if on_progress is not None:
        on_progress(done)
    return work.report()


async def _each(source: Iterable[Entry] | AsyncIterable[Entry]) -> AsyncGenerator[Entry, None]:
    if isinstance(source, AsyncGenerator):
        async with aclosing(cast("AsyncGenerator[Entry, None]", source)):  # a database's connection is given back, however this ends
            async for entry in source:
                yield entry
    elif isinstance(source, AsyncIterable):
        async for entry in source:
            yield entry
    else:
        for entry in source:
            yield entry


class _Import:
    def __init__(self, storage: CoordinatedTokenStorage, namespace: str, *, dry_run: bool, overwrite: bool) -> None:
        self._storage = storage
        self._namespace = namespace
        self._dry_run = dry_run
        self._overwrite = overwrite
        self._found = 0
        self._seen: set[str] = set()
        self._written: list[str] = []
        self._same: list[str] = []
        self._kept: list[str] = []
        self._problems: list[Problem] = []
        self._skipped: list[Skipped] = []

    def report(self) -> ImportReport:
        return ImportReport(
            dry_run=self._dry_run,
            found=self._found,
            written=tuple(self._written),
            same=tuple(self._same),
            kept=tuple(self._kept),
            problems=tuple(self._problems),
            skipped=tuple(self._skipped),
        )

    def take(self, entry: Entry) -> FoundToken | None:
        """Note an entry; give it back if it is to be written."""
        if isinstance(entry, Problem):
            self._problems.append(entry)
        elif isinstance(entry, Skipped):
            self._skipped.append(entry)
        else:
            self._found += 1
            if entry.user_id not in self._seen:
                self._seen.add(entry.user_id)
                return entry
            self._problems.append(Problem(entry.where, _DUPLICATE, entry.user_id))
        return None

    async def write(self, tokens: Sequence[FoundToken]) -> None:
        """Write some tokens, each of another user."""
        batch = [(found, write) for found in tokens if (write := self._write_of(found)) is not None]
        there = await self._storage.get_many([write.key for _, write in batch]) if batch else []
        writes: list[tuple[FoundToken, Write]] = []
        for (found, write), record in zip(batch, there, strict=True):
            if isinstance(record, TokenStorageError):
                self._fail(found, record)
            elif record is not None and dict(record.tokens) == write.tokens:
                self._same.append(found.user_id)
            elif record is not None and not self._overwrite:
                self._kept.append(found.user_id)
            else:
                version = 0 if record is None else record.version
                writes.append((found, Write(write.key, write.tokens, version, write.expires_at)))
        if self._dry_run:
            self._written += [found.user_id for found, _ in writes]
            return
        answers = await self._storage.put_many([write for _, write in writes]) if writes else []
        for (found, _), answer in zip(writes, answers, strict=True):
            if isinstance(answer, Record):
                self._written.append(found.user_id)
            elif answer is None:  # somebody else wrote between the two
                self._kept.append(found.user_id)
            else:
                self._fail(found, answer)

    def _write_of(self, found: FoundToken) -> Write | None:
        failure: PAuthError | None = None
        try:
            return Write(RecordKey(self._namespace, found.user_id), write_grant(StoredGrant(found.token)), 0, found.token.expires_at)
        except InvalidUserId as error:
            failure = error
        self._problems.append(Problem(found.where, str(failure)))
        return None

    def _fail(self, found: FoundToken, error: TokenStorageError) -> None:
        if isinstance(error, StorageUnavailable):
            raise error
        self._problems.append(Problem(found.where, str(error), found.user_id))
