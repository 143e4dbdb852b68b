"""What Redis's errors mean. Their own text, which may hold a key, a user name or an address, is never passed on."""

from __future__ import annotations

import ssl
from typing import Final

from redis import exceptions

from pauth.errors import ConfigurationError, PAuthError, StorageUnavailable, TokenStorageError, UnsupportedRecord

__all__ = ["COMMANDS", "error_for", "error_of_row"]

COMMANDS: Final = "+get +mget +set +del +getdel +getrange +pttl +pexpire +exists +zadd +zrem +zrangebylex +time +eval +evalsha"
"""What a user of an ACL must be allowed to call, on the keys that begin with the prefix. ``+cluster|slots`` in a cluster; ``+config|get``
lets pauth look whether tokens may be evicted, ``+select`` is for another database than 0."""

_PASSES: Final = {
    "BUSY": "a script keeps it busy",
    "CLUSTERDOWN": "its cluster is down",
    "LOADING": "it loads its data",
    "MASTERDOWN": "it lost its master",
    "MISCONF": "it cannot save to its disk",
    "NOREPLICAS": "it has too few replicas",
    "OOM": "it is out of memory; what was stored is unharmed",
    "READONLY": "it has become a replica",
    "TRYAGAIN": "its cluster moves data",
}
_FORBIDDEN: Final = f"the Redis user may not do what a token storage does; allow it {COMMANDS}"
_CREDENTIALS: Final = "Redis refused the user name or password, or asks for one"


def error_for(error: BaseException, *, timeout: float) -> PAuthError:
    """What to raise in place of an error of redis-py's, the network's or a credential provider's. To be raised outside the handler."""
    if isinstance(error, PAuthError):
        return error
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
        return ConfigurationError(_CREDENTIALS)
    if _untrusted(error):
        return ConfigurationError("the certificate of the Redis server is not trusted; look at ssl_ca_certs and the host name")
    if isinstance(error, exceptions.NoPermissionError) or (isinstance(error, exceptions.ResponseError) and _is_forbidden(str(error))):
        return ConfigurationError(_FORBIDDEN)
    if isinstance(error, exceptions.AskError):
        return ConfigurationError("this Redis server is part of a cluster: write redis+cluster:// (or give a RedisCluster client)")
    if isinstance(error, exceptions.ResponseError):
        return _error_for_code(_code_of(error))
    if isinstance(error, exceptions.BusyLoadingError):
        return _error_for_code("LOADING")
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return StorageUnavailable(f"Redis did not answer within {timeout:g} seconds; what it was asked to do may still happen")
    return StorageUnavailable(f"Redis is not available ({type(error).__name__}); what it was asked to do may have happened")


def error_of_row(answer: bytes) -> PAuthError:
    """What a script's answer for one row means, where it is an error: ``"!"`` and Redis's text, which older servers put a position before."""
    text = answer[1:].decode("ascii", "replace")
    if _is_forbidden(text):
        return ConfigurationError(_FORBIDDEN)
    return _error_for_code(next((code for code in ("FOREIGN", "WRONGTYPE", *_PASSES) if code in text), "ERR"))


def _error_for_code(code: str) -> PAuthError:
    if code in _PASSES:
        return StorageUnavailable(f"Redis is not available ({code}): {_PASSES[code]}")
    if code in ("FOREIGN", "WRONGTYPE"):
        return UnsupportedRecord("a key of pauth's in Redis does not hold what this version of pauth writes")
    if code == "DB":
        return ConfigurationError("the Redis server has no database of the number in the URL; it has 0 to 15 if it was not told otherwise")
    if code in ("NOAUTH", "WRONGPASS"):
        return ConfigurationError(_CREDENTIALS)
    return TokenStorageError(f"Redis refused a command of the token storage ({code})")


def _is_forbidden(text: str) -> bool:
    # what a script may not do is said in other words, which differ between versions
    return "ACL failure" in text or "NOPERM" in text or "can't run this command" in text


_NAMES: Final[dict[type[Exception], str]] = {
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.OutOfMemoryError: "OOM",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.TryAgainError: "TRYAGAIN",
}


def _code_of(error: exceptions.ResponseError) -> str:
    # redis-py takes the code off where it has a class for it
    if type(error) in _NAMES:
        return _NAMES[type(error)]
    first = str(error).partition(" ")[0].lstrip("-")
    return first if first.isalpha() and first.isupper() else "ERR"


def _untrusted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
