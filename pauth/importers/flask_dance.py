"""The table that Flask-Dance keeps tokens in: a model with its ``OAuthConsumerMixin`` (Flask-Dance 7.1).

A row has ``provider`` (the blueprint's name), ``created_at`` (UTC, without saying so), ``token`` (JSON: the dict of requests-oauthlib) and, in most
applications, ``user_id``. A refresh replaces the row.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pauth.core.token import Token
from pauth.errors import ConfigurationError
from pauth.importers.entries import Entry, FoundToken, Problem, iso_moment, json_object, user_id_of
from pauth.importers.token_dicts import read_token_dict
from pauth.secret import Secret
from pauth.storage.arguments import absolute_path

_MISSING: Final = [name for name in ("sqlalchemy", "greenlet") if find_spec(name) is None]
if TYPE_CHECKING or not _MISSING:
    import sqlalchemy as sql
    from sqlalchemy import URL
    from sqlalchemy.event import listen
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

__all__ = ["from_flask_dance"]

_PAGE = 256

_PLAIN: Final = frozenset({str, int, bool, float, bytes, bytearray, memoryview})
"""Of these text and whole numbers are user ids and the others are none; of all else the text is one, of a UUID for example."""


async def from_flask_dance(
    database: AsyncEngine | str | os.PathLike[str],
    *,
    provider: str,
    table: str = "flask_dance_oauth",
    user_column: str | None = "user_id",
    user_id: str | None = None,
) -> AsyncGenerator[Entry, None]:
    """The tokens in a table of Flask-Dance, by user.

    One query reads them, in one snapshot. Whatever else uses the database may go on, but the program that *refreshes* these tokens has to be stopped
    first: what it refreshes afterwards is not in the import, and at many servers the imported refresh token is then dead.

    :param database: the application's database: an engine of SQLAlchemy, or the path of a SQLite file, which is opened to read only. (Beside one
        in WAL mode SQLite makes its ``-wal`` and ``-shm`` files, if they are not there.)
    :param provider: the blueprint's name; rows of others are left alone.
    :param table: the table's name.
    :param user_column: the column that says whose a row is; ``None`` if there is none.
    :param user_id: whose the rows are that do not say it: those with ``NULL``, or all without such a column. ``None`` makes them problems.
    :raises ConfigurationError: there is no such database, table or column; or SQLAlchemy or aiosqlite is missing.
    """
    if _MISSING:
        raise ConfigurationError(f"reading Flask-Dance's table needs {_MISSING[0]}, which is not installed: pip install 'pauth[sql]'")
    owned, failure = not isinstance(database, AsyncEngine), ""
    place = database if isinstance(database, AsyncEngine) else Secret(os.fspath(database))
    del database  # SH-5: by mistake it is a URL, with a password
    engine = place if isinstance(place, AsyncEngine) else _engine_of_file(place)
    try:
        async with engine.connect() as connection:
            rows = await connection.stream(_query(table, user_column, provider), execution_options={"yield_per": _PAGE})
            number = 0
            async for row in rows:
                number += 1
                entry = _read(number, row, user_id)
                del row  # SH-5: nothing of it stays here for a traceback to show
                yield entry
    except SQLAlchemyError as error:  # it may hold the URL of the database
        failure = type(error).__name__
    finally:
        if owned:
            await engine.dispose()
    if failure:
        whose = (
            "" if user_column is None else f", and the column {user_column!r} for its users; a table without has user_column=None (--no-user-column)"
        )
        raise ConfigurationError(f"the table {table!r} could not be read ({failure}): check the database, the table's name{whose}")


def _engine_of_file(path: Secret) -> AsyncEngine:
    """An engine that only reads: what is not there must not be made."""
    if "://" in path.reveal():
        raise ConfigurationError("this is a URL, not the path of a SQLite file; give an engine: create_async_engine(url)")
    if find_spec("aiosqlite") is None:
        raise ConfigurationError("reading a SQLite file needs aiosqlite, which is not installed: pip install 'pauth[sql]'")
    name = Path(absolute_path(path.reveal())).as_uri()
    engine = create_async_engine(URL.create("sqlite+aiosqlite", database=name, query={"mode": "ro", "uri": "true"}))
    listen(engine.sync_engine, "connect", _read_any_text)
    return engine


def _read_any_text(connection: Any, record: object) -> None:
    """Let text that is not UTF-8 be the problem of its row: sqlite3 itself ends the whole query for it."""
    del record
    connection.driver_connection.text_factory = _text


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")  # no two become one, and what was escaped is neither a token nor a user id


def _query(table: str, user_column: str | None, provider: str) -> Any:
    """The rows of one provider. JSON and times as text: what one row holds must not end the reading of all."""
    names = ["provider", "created_at", "token", *([] if user_column is None else [user_column])]
    columns: list[sql.ColumnClause[Any]] = [sql.column(name) for name in names]
    source = sql.table(table, *columns)
    whose = sql.literal(None) if user_column is None else source.c[user_column]
    return sql.select(whose, sql.cast(source.c.token, sql.Text), sql.cast(source.c.created_at, sql.Text)).where(source.c.provider == provider)


def _read(number: int, row: Any, default: str | None) -> Entry:
    whose, data, created_at = row
    where = f"row {number}"
    if whose is None and default is None:
        return Problem(where, "it is nobody's: its user is NULL, or in no column; say whose it is with user_id= (--user)")
    user_id = user_id_of(default if whose is None else whose if type(whose) in _PLAIN else str(whose))
    if user_id is None:
        return Problem(where, "its user id is empty, too long or no text")
    members = json_object(data)
    token: Token | str = members if isinstance(members, str) else read_token_dict(members, issued_at=iso_moment(created_at))
    return Problem(where, token, user_id) if isinstance(token, str) else FoundToken(where, user_id, token)
