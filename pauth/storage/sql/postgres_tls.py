"""TLS to PostgreSQL for asyncpg, by the rules of libpq.

asyncpg would look for passwords and certificates in the home folder whenever it connects, on the event loop. What is given to it ready-made, it
does not look for; this is read in a worker thread.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pauth.errors import ConfigurationError

__all__ = ["MODES", "TLS_OPTIONS", "tls_attempts"]

MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
TLS_OPTIONS: Final = ("sslmode", "sslrootcert", "sslcert", "sslkey")


def tls_attempts(options: Mapping[str, str]) -> tuple[ssl.SSLContext | bool, ...]:
    """What to connect with, one after the other as long as the server refuses it. Blocks: reads files.

    :param options: :data:`TLS_OPTIONS`, of a URL. Without one, libpq's environment variable counts, then the file in the home folder.
    :raises ConfigurationError: a file is missing or cannot be used.
    """
    mode = options.get("sslmode") or os.environ.get("PGSSLMODE") or "prefer"
    if mode == "disable":
        return (False,)
    context: ssl.SSLContext | None = None
    problem = ""
    try:
        context = _context(mode, options)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        problem = type(error).__name__
    if context is None:
        raise ConfigurationError(
            f"a certificate or key for TLS to the token database cannot be used ({problem}); look at {', '.join(TLS_OPTIONS[1:])}"
        )
    if mode == "allow":
        return (False, context)
    return (context, False) if mode == "prefer" else (context,)


def _context(mode: str, options: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["postgresql"])
    context.check_hostname = mode == "verify-full"
    root = _file("sslrootcert", "PGSSLROOTCERT", "root.crt", options)
    if mode in ("allow", "prefer") or (root is None and mode == "require"):
        context.verify_mode = ssl.CERT_NONE
    elif root is None:
        raise ConfigurationError(f"sslmode={mode} needs the authority to trust: ?sslrootcert=/path/of/its/certificate, or sslrootcert=system")
    elif root == "system":
        context.load_default_certs()
    else:
        context.load_verify_locations(root)
        revoked = _file("", "PGSSLCRL", "root.crl", {})
        if revoked is not None:
            context.load_verify_locations(revoked)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    certificate = _file("sslcert", "PGSSLCERT", "postgresql.crt", options)
    if certificate is not None:
        context.load_cert_chain(certificate, _file("sslkey", "PGSSLKEY", "postgresql.key", options), password="")  # not asked for at a terminal
    return context


def _file(option: str, variable: str, name: str, options: Mapping[str, str]) -> str | None:
    found = options.get(option) or os.environ.get(variable)
    if found:
        return found
    usual = Path(os.path.expanduser("~")) / ".postgresql" / name  # noqa: PTH111  # Path.home() raises where there is none
    return str(usual) if usual.exists() else None
