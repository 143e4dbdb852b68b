"""What the command line keeps of each login beside its tokens: provider and client, so that ``pauth token NAME`` needs no more.

It is a record of the token store, in a namespace of its own: encrypted like the tokens (the client secret is in it), moved and re-encrypted as they
are.
"""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from pauth.cli.settings import LOGINS, normal_name
from pauth.errors import RecordUnreadable, TokenStorageError, UnknownEncryptionKey, UnsupportedRecord
from pauth.secret import Secret
from pauth.storage.base import CoordinatedTokenStorage, Record, RecordKey

__all__ = ["KnownLogin", "UnreadableLogin", "all_logins", "find_login", "forget_login", "keep_login", "read_login", "users_of"]


_PAGE: Final = 1000


@dataclass(frozen=True, slots=True, repr=False)
class KnownLogin:
    """A login as it was made."""

    name: str
    provider: str
    """The name of a preset, or the URL of an issuer."""

    client_id: str
    namespace: str
    """Where its tokens are (:attr:`.OAuth2Client.namespace`)."""

    client_secret: Secret | None = None
    public: bool = False
    """It has no secret, and nobody is asked for one."""

    client_auth: str | None = None
    scopes: tuple[str, ...] | None = None
    redirect_uri: str | None = None
    ca_file: str | None = None
    timeout: float | None = None

    def __repr__(self) -> str:
        return f"<KnownLogin {self.name!r}>"


@dataclass(frozen=True, slots=True)
class UnreadableLogin:
    """A login that was made, and of which no more is known than its name."""

    name: str
    error: TokenStorageError


async def find_login(storage: CoordinatedTokenStorage, name: str) -> KnownLogin | None:
    """What is kept of a login; ``None`` if there was none.

    :raises RecordUnreadable: it cannot be read.
    """
    name = normal_name(name)
    try:
        record = await storage.load(RecordKey(LOGINS, name))
        return None if record is None else read_login(record)
    except RecordUnreadable as error:
        failure = _named(name, error)
    raise failure


async def all_logins(storage: CoordinatedTokenStorage) -> AsyncIterator[KnownLogin | UnreadableLogin]:
    """What is kept of every login, in no order. One that cannot be read does not hide the others."""
    cursor: str | None = None
    while True:
        page = await storage.list_users(LOGINS, cursor=cursor, limit=_PAGE)
        keys = [listed.key for listed in page.items]
        for key, found in zip(keys, await storage.get_many(keys), strict=True):
            if found is not None:
                yield _login(key.user_id, found)
        cursor = page.next_cursor
        if cursor is None:
            return


async def users_of(storage: CoordinatedTokenStorage, namespace: str, name: str) -> list[str]:
    """The users of a login: of all whose tokens are in its namespace, those who are not another login's own (it is named as its user is).

    A login that cannot be read may be of this namespace too, and what is done to others must not be done to its tokens.
    """
    others = {login.name async for login in all_logins(storage) if isinstance(login, UnreadableLogin) or login.namespace == namespace} - {name}
    users: list[str] = []
    cursor: str | None = None
    while True:
        page = await storage.list_users(namespace, cursor=cursor, limit=_PAGE)
        users += [item.key.user_id for item in page.items if item.key.user_id not in others]
        cursor = page.next_cursor
        if cursor is None:
            return sorted(users)


async def keep_login(storage: CoordinatedTokenStorage, login: KnownLogin) -> None:
    """Keep what there is to know of a login, in place of what was known under its name."""
    await storage.replace(RecordKey(LOGINS, normal_name(login.name)), _members(login), expected_version=None)


async def forget_login(storage: CoordinatedTokenStorage, name: str) -> bool:
    """Forget a login, but for its tokens; gives whether there was one."""
    return await storage.remove(RecordKey(LOGINS, normal_name(name)))


def _members(login: KnownLogin) -> dict[str, Any]:
    members: dict[str, Any] = {
        "provider": login.provider,
        "client_id": login.client_id,
        "namespace": login.namespace,
        "client_secret": None if login.client_secret is None else login.client_secret.reveal(),
        "public": login.public or None,
        "client_auth": login.client_auth,
        "scopes": None if login.scopes is None else list(login.scopes),
        "redirect_uri": login.redirect_uri,
        "ca_file": login.ca_file,
        "timeout": login.timeout,
    }
    return {name: value for name, value in members.items() if value is not None}


def read_login(record: Record) -> KnownLogin:
    """The login that a record is of.

    :raises UnsupportedRecord: it is in another form; a newer version of pauth may have written it.
    """
    login = _read(record.key.user_id, record.tokens)
    del record
    if login is None:
        raise UnsupportedRecord("it is in a form that this version of pauth does not read")
    return login


def _login(name: str, found: Record | TokenStorageError) -> KnownLogin | UnreadableLogin:
    if isinstance(found, Record):
        try:
            return read_login(found)
        except UnsupportedRecord as error:
            found = error
    return UnreadableLogin(name, _named(name, found) if isinstance(found, RecordUnreadable) else found)


def _named(name: str, error: RecordUnreadable) -> RecordUnreadable:
    """The same error, which says what to do for this login: not to give it up where only the key is missing, since with that it can be read."""
    if isinstance(error, UnknownEncryptionKey):
        return UnknownEncryptionKey(
            f"what is kept of the login {name!r} cannot be read with the keys that are configured, and stays as it is: {error}"
        )
    quoted = shlex.quote(name)
    return type(error)(
        f"what is kept of the login {name!r} cannot be read ({error}); "
        f"log in again (pauth login PROVIDER --name {quoted}), or forget it (pauth logout {quoted} --local)"
    )


def _read(name: str, members: Mapping[str, Any]) -> KnownLogin | None:
    texts = {each: members.get(each) for each in ("provider", "client_id", "namespace", "client_auth", "redirect_uri", "ca_file", "client_secret")}
    needed = [texts[each] for each in ("provider", "client_id", "namespace")]
    scopes: object = members.get("scopes")
    timeout: object = members.get("timeout")
    public: object = members.get("public", False)
    if (
        not all(needed)
        or not isinstance(public, bool)
        or not all(value is None or isinstance(value, str) for value in texts.values())
        or not (scopes is None or (isinstance(scopes, list) and all(isinstance(scope, str) for scope in cast("list[object]", scopes))))
        or not (timeout is None or type(timeout) in (int, float))
    ):
        return None
    secret = texts.pop("client_secret")
    return KnownLogin(
        name=name,
        **cast("dict[str, Any]", texts),
        client_secret=None if secret is None else Secret(cast("str", secret)),
        public=public,
        scopes=None if scopes is None else tuple(cast("list[str]", scopes)),
        timeout=cast("float | None", timeout),
    )
