"""``pauth storage``: measure, move, re-encrypt and check a token storage."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from contextlib import aclosing
from typing import Any, Final

import click

from pauth.cli.bench import measure_storage
from pauth.cli.common import Given, Number, common_options, run_on
from pauth.cli.keys import ENVIRONMENT, KeyPlace, read_keys, save_keys
from pauth.cli.logins import read_login
from pauth.cli.output import FAILED, table
from pauth.cli.settings import LOGINS
from pauth.cli.store import key_place_of, open_place, place_of, target_of
from pauth.errors import ConfigurationError, PAuthError
from pauth.refresh.stored import read_grant
from pauth.secret import Secret
from pauth.storage import (
    CoordinatedTokenStorage,
    CopyReport,
    EncryptionKey,
    Keyring,
    Record,
    RecordKey,
    ReencryptionReport,
    copy_storage,
    keys_in_use,
    reencrypt,
)
from pauth.storage.keys import key_from

__all__ = ["storage"]

_PAGE: Final = 500
_MOST_SHOWN: Final = 20
"""Records that are named in an error report; the rest is counted."""


@click.group()
def storage() -> None:
    """Measure, move, re-encrypt and check the token storage."""


@storage.command(short_help="Measure how fast the storage is, from here.")
@click.option("--seconds", type=Number(0.01, 600), default=2.0, show_default=True, help="How long to measure each line.")
@click.option("--tasks", type=click.IntRange(1, 10_000), multiple=True, default=(1, 64), show_default=True, help="How many ask at once.")
@common_options
def bench(given: Given, *, seconds: float, tasks: tuple[int, ...]) -> None:
    """Measure how fast the storage saves and gets tokens, from here.

    It writes records of users that nobody has, and deletes them; also when it is interrupted, by Ctrl-C, SIGTERM or SIGHUP. What one that was killed
    has left behind, a later one deletes, from a minute after its end.
    """
    place = place_of(given.config, given.storage)

    with given.output.progress("measuring") as tell:
        results = given.run(lambda opened: measure_storage(opened, seconds=seconds, tasks=tasks, on_progress=tell), makes=True, cleans_up=True)
    rows = [
        (each.operation, str(each.tasks), f"{each.p50:.3f}", f"{each.p95:.3f}", f"{each.p99:.3f}", f"{each.per_second:,.0f}", f"{each.calls:,}")
        for each in results
    ]
    given.output.say(f"{place.name}: latency in milliseconds")
    given.output.result(
        {"storage": place.name, "results": [dataclasses.asdict(each) for each in results]},
        table(("OPERATION", "AT ONCE", "P50", "P95", "P99", "PER SECOND", "CALLS"), rows),
    )


@storage.command()
@click.argument("target", type=Secret, metavar="TARGET")
@click.option("--target-key-env", metavar="NAME", help="The variable with the target's encryption keys.  [default: the keys of the source]")
@click.option("--namespace", help="Only the records of this namespace.  [default: all]")
@click.option("--prefer-source", is_flag=True, help="Overwrite what differs in the target, even if it is newer.")
@click.option("--delete-missing", is_flag=True, help="Delete from the target what the source does not have.")
@common_options
def migrate(given: Given, *, target: Secret, target_key_env: str | None, namespace: str | None, prefer_source: bool, delete_missing: bool) -> None:
    """Copy everything to TARGET, and check that it arrived. The source is only read.

    TARGET is the URL of a storage, or env:NAME for a variable that holds one (with a password, write it so). Both may be used meanwhile; where both
    have a record, the one that was written later wins. It can be run again, and only copies what is new.
    """
    copy_to = target_of(target)
    source = given.existing_place()
    source_keys = None if (kept := key_place_of(source, given.config)) is None else read_keys(kept)
    keys = source_keys if target_key_env is None else _keys_in(target_key_env)
    failures: list[str] = []

    async def copy(opened: CoordinatedTokenStorage) -> CopyReport:
        async with aclosing(destination):
            with given.output.progress("copying") as tell:
                return await copy_storage(
                    opened,
                    destination,
                    namespace=namespace,
                    prefer_source=prefer_source,
                    delete_missing=delete_missing,
                    on_progress=lambda report: tell(report.checked, report.total),
                    on_failure=lambda key, error: failures.append(f"{key.user_id}: {error}"),
                )

    destination = open_place(copy_to, given.config, keys=keys)
    report = given.run(copy)
    _tell(given, failures)
    document: dict[str, Any] = {**dataclasses.asdict(report), "verified": report.verified}
    more = f", {report.removed} deleted" if report.removed else ""
    more += f", {report.only_in_target} only in the target" if report.only_in_target else ""
    given.output.result(
        document,
        f"Copied {report.copied} of {report.total} records; {report.same} are the same in both, {report.kept} newer in the target, "
        f"{report.failed} failed{more}.",
    )
    if not report.verified:
        click.get_current_context().exit(FAILED)


@storage.command("rotate-keys", short_help="Bring every record under a new key.")
@click.option("--drop-unused", is_flag=True, help="Take out the older keys under which nothing is stored any more, and rotate nothing.")
@common_options
def rotate_keys(given: Given, *, drop_unused: bool) -> None:
    """Make a new key the first one, and bring every record under it. The older keys are kept, to read with.

    Interrupted, it is run again and goes on. Keys in the environment are yours to change: put the new one in front in PAUTH_ENCRYPTION_KEYS, and
    this brings every record under it.

    Programs that run have read the keys they use: restart them, and an hour later let --drop-unused take the older keys out. Do not, if another
    storage is encrypted with the same key file.
    """
    place = place_of(given.config, given.storage)
    where = key_place_of(place, given.config)
    keys = None if where is None else read_keys(where)
    if where is None or keys is None:
        raise ConfigurationError("this storage has no key yet, or none that is configured here: set PAUTH_ENCRYPTION_KEYS")
    given.existing_place()
    in_use = run_on(open_place(place, given.config, keys=keys), keys_in_use)
    if drop_unused:
        _drop_unused(given, where, keys, in_use)
        return
    first = keys.primary.key_id.hex()
    unfinished = bool(in_use.keys() - {first})
    if where is not ENVIRONMENT and not unfinished:
        keys = Keyring([EncryptionKey.generate(), *keys.keys])
        save_keys(where, keys)  # before anything is encrypted with it
        first = keys.primary.key_id.hex()
    failures: list[str] = []

    async def rotate(opened: CoordinatedTokenStorage) -> ReencryptionReport:
        with given.output.progress("re-encrypting") as tell:
            return await reencrypt(
                opened,
                on_progress=lambda report: tell(report.checked, report.total),
                on_failure=lambda key, error: failures.append(f"{key.user_id}: {error}"),
            )

    report = run_on(open_place(place, given.config, keys=keys), rotate)
    _tell(given, failures)
    document: dict[str, Any] = {**dataclasses.asdict(report), "complete": report.complete, "key_id": first, "key_place": where.name}
    given.output.result(
        document,
        f"Key {first} ({where.name}) is the first one; {report.rewritten} records were brought under it, {report.failed} failed, "
        f"{report.remaining} are still under an older key.",
    )
    if not report.complete:
        click.get_current_context().exit(FAILED)


def _drop_unused(given: Given, where: KeyPlace, keys: Keyring, in_use: dict[str | None, int]) -> None:
    kept = [key for key in keys.keys if key is keys.primary or not isinstance(key, EncryptionKey) or key.key_id.hex() in in_use]
    dropped = [key.key_id.hex() for key in keys.keys if isinstance(key, EncryptionKey) and key not in kept]
    if dropped and where is not ENVIRONMENT:
        save_keys(where, Keyring(kept))
    verb = "may be taken out of the environment" if where is ENVIRONMENT else "taken out"
    given.output.result(
        {"dropped": dropped, "kept": len(kept), "key_place": where.name},
        f"{', '.join(dropped)}: {verb}; {len(kept)} left." if dropped else "Every key but the first is in use, or there is only one.",
    )


@storage.command(short_help="Read every record, and say which cannot be read.")
@common_options
def check(given: Given) -> None:
    """Read every record: whether it can be decrypted, is a token, and under which key it is.

    Nothing is written. Exit code 1 if a record cannot be read.
    """
    place = place_of(given.config, given.storage)
    found = given.run(lambda opened: _checked(given, opened))
    _tell(given, found.failures)
    keys = {key_id or "not encrypted by pauth": number for key_id, number in found.keys.items()}
    document = {"storage": place.name, "records": found.total, "readable": found.readable, "unreadable": found.unreadable, "keys": keys}
    under = ", ".join(f"{number} under key {key_id}" for key_id, number in keys.items())
    given.output.result(
        document, f"{place.name}: {found.total} records, {found.readable} readable, {found.unreadable} not{f'; {under}' if under else ''}."
    )
    if found.unreadable:
        click.get_current_context().exit(FAILED)


class _Checked:
    def __init__(self, total: int) -> None:
        self.total = total
        self.readable = 0
        self.failures: list[str] = []
        self.keys: Counter[str | None] = Counter()

    @property
    def unreadable(self) -> int:
        """Those of whom not even the owner can be told are among them: they are counted, and not listed."""
        return max(len(self.failures), self.total - self.readable)


async def _checked(given: Given, storage: CoordinatedTokenStorage) -> _Checked:
    found = _Checked(await storage.count())
    cursor: str | None = None
    with given.output.progress("reading") as tell:
        while True:
            page = await storage.list_users(cursor=cursor, limit=_PAGE)
            keys = [item.key for item in page.items]
            found.keys.update(item.key_id for item in page.items)
            for key, record in zip(keys, await storage.get_many(keys), strict=True):
                problem = _problem(key, record)
                if problem is None:
                    found.readable += 1
                else:
                    found.failures.append(f"{key.user_id}: {problem}")
            tell(found.readable + len(found.failures), found.total)
            cursor = page.next_cursor
            if cursor is None:
                return found


def _problem(key: RecordKey, record: Record | PAuthError | None) -> str | None:
    if isinstance(record, PAuthError):
        return str(record)
    if record is not None:
        try:
            if key.namespace == LOGINS:
                read_login(record)
            else:
                read_grant(record.tokens)
        except PAuthError as error:
            return f"what is kept of this login: {error}" if key.namespace == LOGINS else str(error)
    return None


def _keys_in(variable: str) -> Keyring:
    """The keys in an environment variable, comma separated."""
    texts = [Secret(text) for text in os.environ.get(variable, "").split(",") if text.strip()]
    if not texts:
        raise ConfigurationError(f"the environment variable {variable!r}, which is to hold encryption keys, is not set")
    return Keyring(key_from(text) for text in texts)


def _tell(given: Given, failures: list[str]) -> None:
    """Name the records that failed, once each."""
    known = list(dict.fromkeys(failures))
    for line in known[:_MOST_SHOWN]:
        given.output.tell(line)
    if len(known) > _MOST_SHOWN:
        given.output.tell(f"and {len(known) - _MOST_SHOWN} more")
