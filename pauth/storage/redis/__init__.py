"""Tokens in Redis or Valkey: one server, Sentinel, or a cluster."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from pauth.clock import Clock
from pauth.errors import ConfigurationError
from pauth.secret import Secret
from pauth.storage.arguments import check_timeout
from pauth.storage.base import Watch
from pauth.storage.driven import DrivenTokenStorage, chosen_keyring
from pauth.storage.keys import Keyring, KeySource, conceal

_MISSING: Final = find_spec("redis") is None
if TYPE_CHECKING or not _MISSING:
    from redis.asyncio import Redis, RedisCluster

    from pauth.storage.redis.driver import RedisDriver
    from pauth.storage.redis.urls import links_for

__all__ = ["RedisTokenStorage"]


class RedisTokenStorage(DrivenTokenStorage):
    """Keeps tokens in Redis 6.2 or newer, or Valkey, encrypted with AES-256-GCM.

    What is acknowledged survives a restart only as far as Redis is set up to: ``appendonly yes`` with ``appendfsync always``. After a failover to a
    replica (Sentinel, cluster) the last writes may be missing. Usable from several event loops and threads, and by any number of processes.

    ::

        storage = RedisTokenStorage("redis://localhost:6379/0", encryption_key=os.environ["TOKEN_KEY"])

    :param url: ``redis://``, ``rediss://`` (TLS), ``unix://``; ``redis+cluster://host:7000,host:7001``;
        ``redis+sentinel://user:password@host:26379,host:26379/name-of-the-master/0`` (``?sentinel_username=…&sentinel_password=…`` for the
        Sentinels' own). Options of redis-py's connections follow ``?``. Or a client of ``redis.asyncio``, of which only the settings are used: it
        stays yours to close, and may decode responses or not.
    :param encryption_key: a key, or several of which the first encrypts; by default those in ``PAUTH_ENCRYPTION_KEY`` or ``PAUTH_ENCRYPTION_KEYS``.
    :param insecure_plaintext: store tokens readable to whoever gets at the server.
    :param namespace: where the three plain methods keep their records.
    :param timeout: seconds after which an operation gives up on Redis.
    :param clock: where the time comes from.
    :param coalesce: send what waits at the same time as one command.
    :param prefix: what all keys begin with: 1 to 64 of ``A-Z a-z 0-9 _ . : -``.
    :param retention: seconds after the last write, or after the access token's expiry if that is later, at which Redis drops a record. More than the
        life of a refresh token, or users are logged out; ``None`` (the default) keeps records until they are deleted.
    :raises ConfigurationError: no usable key, URL or option, or redis-py is not installed.
    """

    def __init__(
        self,
        url: str | Secret | Redis | RedisCluster,
        *,
        encryption_key: KeySource | Keyring | None = None,
        insecure_plaintext: bool = False,
        namespace: str = "",
        timeout: float = 30.0,
        clock: Clock | None = None,
        coalesce: bool = True,
        prefix: str = "pauth",
        retention: float | None = None,
    ) -> None:
        if _MISSING:
            raise ConfigurationError("RedisTokenStorage needs redis, which is not installed: pip install 'pauth[redis]'")
        # SH-5: before anything can fail, and a traceback show locals
        encryption_key = conceal(encryption_key)
        if isinstance(url, str):
            url = Secret(url)
        keyring = chosen_keyring(encryption_key, insecure_plaintext=insecure_plaintext)
        if retention is not None and not 1 <= retention <= 10**10:
            raise ConfigurationError("retention must be a number of seconds, at least 1")
        check_timeout(timeout)
        target = links_for(url, timeout=timeout)
        driver = RedisDriver(target.make, prefix=prefix, retention=None if retention is None else round(retention * 1000), store=target.store)
        self._redis = driver
        super().__init__(driver, keyring=keyring, namespace=namespace, timeout=timeout, clock=clock, coalesce=coalesce)

    async def watch(self, changed: Callable[[bytes | None], None]) -> Watch:
        """See :meth:`.WatchableTokenStorage.watch`.

        Redis tells by itself (``CLIENT TRACKING``), on one connection more for each event loop that watches; in a cluster, one to each primary. A
        connection that dies without a word is noticed within ten seconds, a server of a cluster that takes over from another within five. A
        server that does not tell (because it is older than Redis 6, or because the user has no right to ask for it) is logged once.
        """
        if self._closed:
            raise ConfigurationError("this token storage was closed")
        return await self._redis.watch(changed)
