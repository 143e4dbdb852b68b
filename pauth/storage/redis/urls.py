"""From a URL or a client of redis-py's to what makes connections."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection, ConnectionPool, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.asyncio.connection import Connection as PlainConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from pauth.errors import ConfigurationError
from pauth.secret import Secret
from pauth.storage.redis.links import Address, ClusterLinks, Connection, Links, SingleLinks

__all__ = ["SCHEMES", "Target", "links_for"]

SCHEMES: Final = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")
"""The URL schemes of Redis. An ``s`` stands for TLS."""

_FORMS: Final = (
    "redis://[user:password@]host:6379/0, rediss://… with TLS, unix:///path, redis+cluster://host:7000,host:7001, "
    "or redis+sentinel://host:26379,host:26379/name-of-the-master/0"
)
# redis-py looks its own version up on disk whenever it makes a connection, unless the connection is to tell the server no name of a library
_OWN_NAME: Final[dict[str, None]] = {"driver_info": None, "lib_name": None, "lib_version": None}
_NAMELESS: Final[dict[str, None]] = dict.fromkeys(
    ("driver_info",) if "driver_info" in inspect.signature(AbstractConnection).parameters else ("lib_name", "lib_version")
)
_SENTINEL_OPTIONS: Final = {"sentinel_username": "username", "sentinel_password": "password"}


class Target(NamedTuple):
    """Where a storage's rows go."""

    make: Callable[[], Links]
    """Makes the links of an event loop."""

    store: tuple[str, ...] | None
    """What names the store, without a secret; ``None`` if that cannot be told."""


class _Parsed:
    """What a URL says. It does not print: a password is among the options."""

    __slots__ = ("hosts", "kind", "options", "service")

    def __init__(self, kind: str, options: dict[str, Any], hosts: list[Address], service: str) -> None:
        self.kind = kind
        self.options = options
        self.hosts = hosts
        self.service = service


def links_for(source: Secret | Redis | RedisCluster, *, timeout: float) -> Target:
    """What makes the links of an event loop, and which store they lead to.

    :raises ConfigurationError: no URL of Redis, an unknown option in it, or no client of ``redis.asyncio``.
    """
    if isinstance(source, Secret):
        return _from_url(source, timeout)
    if isinstance(source, RedisCluster):
        return _from_cluster(source, timeout)
    if isinstance(source, Redis):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers without a type checker
        return _from_pool(source.connection_pool, timeout)
    raise ConfigurationError(f"a token storage in Redis needs a URL or a client of redis.asyncio, not {type(source).__name__}")


def _from_url(url: Secret, timeout: float) -> Target:
    parsed = _parsed(url, timeout)
    if isinstance(parsed, str):
        raise ConfigurationError(parsed)
    if parsed.kind == "cluster":
        return _cluster(parsed, timeout)
    if parsed.kind == "sentinel":
        return _sentinel(parsed, timeout)
    return _from_pool(_checked(parsed.options), timeout)


def _parsed(url: Secret, timeout: float) -> _Parsed | str:
    """What the URL says, or what is wrong with it: to be raised by the caller, in whose frame no password stands (SH-5)."""
    scheme, _, rest = url.reveal().partition("://")
    if scheme not in SCHEMES:
        return f"no URL of Redis; write {_FORMS}"
    plain, _, kind = scheme.partition("+")
    hosts: list[Address] = []
    service = ""
    try:
        if not kind:
            return _Parsed(kind, _parse(url.reveal(), timeout), hosts, service)
        rest, question, query = rest.partition("?")
        network, _, path = rest.partition("/")
        userinfo, at, places = network.rpartition("@")
        hosts = [_address(place, 26379 if kind == "sentinel" else 6379) for place in places.split(",")]
        if kind == "sentinel":
            service, _, path = path.partition("/")
        options = _parse(f"{plain}://{userinfo}{at}host/{path}{question}{query}", timeout)
    except ValueError:
        return f"this URL of Redis cannot be read; write {_FORMS}"
    if kind == "sentinel" and not service:
        return f"this URL of Redis cannot be read; write {_FORMS}"
    if kind == "cluster" and options.pop("db", 0):
        return "a Redis Cluster has no database but 0; leave the number out of the URL"
    return _Parsed(kind, options, hosts, unquote(service))


def _parse(url: str, timeout: float) -> dict[str, Any]:
    defaults = {"protocol": 2, "socket_connect_timeout": timeout, "socket_timeout": None, "socket_keepalive": True}
    if url.startswith("unix:"):
        del defaults["socket_keepalive"]
    return {**defaults, **parse_url(url)}


def _address(place: str, port: int) -> Address:
    parts = urlsplit(f"//{place}")
    if not parts.hostname:
        raise ValueError("no host")
    return parts.hostname, parts.port or port


def _checked(options: Mapping[str, Any]) -> Any:
    """A pool, used only to make connections, that has made one without an error."""
    pool = _tried(options)
    del options  # SH-5: tracebacks may show locals
    if pool is None:
        raise ConfigurationError("an option in the URL of Redis is unknown or has an unusable value")
    return pool


def _tried(options: Mapping[str, Any]) -> Any:
    try:
        pool: Any = ConnectionPool(**options)
        _connector(pool)()
    except (TypeError, ValueError, OSError, RedisError):
        return None
    return pool


def _connector(pool: Any, *, apart: Mapping[str, Any] | None = None) -> Callable[[], Connection]:
    """What makes connections as a pool would make them, but for what must not be as redis-py has it.

    :param apart: options to use instead of the pool's.
    """
    # nothing is tried again: what was sent may have been done
    options = {**pool.connection_kwargs, **(apart or {}), "retry": Retry(NoBackoff(), 0)}
    if not _OWN_NAME.keys() & options.keys():
        options |= _NAMELESS
    # the pool is kept, as connections that Sentinel leads know it only weakly
    return lambda: pool.connection_class(**options)


def _listener(pool: Any, *, apart: Mapping[str, Any] | None = None) -> Callable[[], Connection]:
    """The same for connections to listen on. What redis-py does besides to those of RESP3 it refuses to do without."""
    apart = {**(apart or {}), "protocol": 2, "socket_timeout": None}
    return _connector(pool, apart=apart | {name: None for name in pool.connection_kwargs if "maint_notifications" in name})


def _from_pool(pool: Any, timeout: float) -> Target:
    return Target(lambda: SingleLinks(_connector(pool), listen=_listener(pool), timeout=timeout), _store_of(pool))


def _sentinel(parsed: _Parsed, timeout: float) -> Target:
    options = dict(parsed.options)
    tls = options.pop("connection_class", None) is SSLConnection
    # a Sentinel that does not answer must leave time to ask the next
    about = {name: options[name] for name in options if name.startswith(("ssl_", "socket_"))}
    about |= _NAMELESS | {
        "protocol": 2,
        "ssl": tls,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": timeout / 4,
        "socket_connect_timeout": timeout / 4,
    }
    about |= {name: options.pop(key) for key, name in _SENTINEL_OPTIONS.items() if key in options}
    hidden = _Hidden(options | ({"ssl": True} if tls else {}), about)
    del about
    options["connection_class"] = SSLConnection if tls else PlainConnection
    parsed.options = options
    del options
    _checked(parsed.options)

    def make() -> Links:
        manager = cast("Any", Sentinel)(parsed.hosts, sentinel_kwargs=hidden.about, **hidden.options)
        pool = manager.master_for(parsed.service).connection_pool

        async def release() -> None:
            for sentinel in manager.sentinels:
                await sentinel.aclose()

        return SingleLinks(_connector(pool), listen=_listener(pool), timeout=timeout, release=release)

    return Target(make, _sentinel_store(parsed.service, parsed.options.get("db", 0), parsed.hosts))


class _Hidden:
    """Options that do not print: a password is among them."""

    __slots__ = ("about", "options")

    def __init__(self, options: dict[str, Any], about: dict[str, Any]) -> None:
        self.options = options
        self.about = about


def _cluster(parsed: _Parsed, timeout: float) -> Target:
    pool = _checked(parsed.options)

    def connect(host: str, port: int) -> Connection:
        return _connector(pool, apart={"host": host, "port": port})()

    def listen(host: str, port: int) -> Connection:
        return _listener(pool, apart={"host": host, "port": port})()

    return Target(lambda: ClusterLinks(connect, parsed.hosts, listen=listen, timeout=timeout), ("redis+cluster", *_places(parsed.hosts)))


def _from_cluster(client: RedisCluster, timeout: float) -> Target:
    manager: Any = cast("Any", client).nodes_manager
    seeds: list[Any] = list(manager.startup_nodes.values())
    seed = seeds[0]  # which has the class and the options of connections as a pool has them

    def connect(host: str, port: int) -> Connection:
        # redis_connect_func would make it a reader of replicas
        return _connector(seed, apart={"host": host, "port": port, "redis_connect_func": None})()

    def listen(host: str, port: int) -> Connection:
        return _listener(seed, apart={"host": host, "port": port, "redis_connect_func": None})()

    addresses = [(cast("str", node.host), int(node.port)) for node in seeds]
    # no name: which nodes such a client starts from is no longer what its maker wrote once it has met the others
    return Target(lambda: ClusterLinks(connect, addresses, listen=listen, timeout=timeout, remap=manager.remap_host_port), None)


def _store_of(pool: Any) -> tuple[str, ...] | None:
    options: dict[str, Any] = pool.connection_kwargs
    database = str(options.get("db") or 0)
    if isinstance(pool, SentinelConnectionPool):
        known = [sentinel.connection_pool.connection_kwargs for sentinel in cast("Any", pool).sentinel_manager.sentinels]
        return _sentinel_store(cast("Any", pool).service_name, database, [(each["host"], each["port"]) for each in known])
    if pool.connection_class is UnixDomainSocketConnection:
        return "redis", str(options.get("path", "")), database
    if pool.connection_class in (PlainConnection, SSLConnection):
        return "redis", *_places([(options.get("host", "localhost"), options.get("port", 6379))]), database
    return None  # another class of the user's may connect to anything


def _sentinel_store(service: str, database: object, hosts: Sequence[Address]) -> tuple[str, ...]:
    return "redis+sentinel", service, str(database), *_places(hosts)


def _places(hosts: Sequence[Address]) -> list[str]:
    return sorted({f"{host.lower()}:{port}" for host, port in hosts})
