"""Where a login's routes are, seen from outside: everything follows from the redirect URI, nothing from a request's headers (WS-6)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pauth.core.urls import url_problem
from pauth.errors import ConfigurationError

__all__ = ["Routes", "routes_of"]

_NAME: Final = r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+"  # no dot segment
_PATH: Final = re.compile(rf"((?:/{_NAME})*)/({_NAME}/?)")
_PREFIX: Final = re.compile(rf"(?:/{_NAME})*")
_OTHERS: Final = ("login", "logout", "disconnect")


@dataclass(frozen=True, slots=True)
class Routes:
    """The paths of a login: those that browsers see, which stand side by side, and where they are mounted in the application."""

    redirect_uri: str
    folder: str
    """The path they have in common, for browsers: ``""`` or ``/auth``."""

    tail: str
    """What the callback is called below it, as the redirect URI says."""

    prefix: str
    """The path they have in common, in the application: the same, unless a proxy in front changes it."""

    @property
    def secure(self) -> bool:
        """Whether browsers come by https."""
        return self.redirect_uri.lower().startswith("https:")

    @property
    def login(self) -> str:
        """Where a login begins."""
        return f"{self.folder}/login"

    @property
    def logout(self) -> str:
        """Where the browser's session ends."""
        return f"{self.folder}/logout"

    @property
    def disconnect(self) -> str:
        """Where the user's tokens of this provider are given up."""
        return f"{self.folder}/disconnect"

    @property
    def callback(self) -> str:
        """Where the callback comes, in the application."""
        return f"{self.prefix}/{self.tail}"

    def for_browsers(self, path: str, root: str = "", mount: str = "") -> str:
        """A path of the application, perhaps with its query, as browsers see it.

        What a proxy takes away, or another application that this one is mounted in, is what the redirect URI has before ``prefix``. Where the two
        do not end alike nobody can tell, and the path stays as it is; so does one that is whole already.

        :param root: what stands in front as far as the server knows. Some have put it there (uvicorn), some have not.
        :param mount: what the page's application is mounted at, in others of this server; ``path`` has it.
        """
        outside = self.folder.removesuffix(self.prefix)
        whole = path if _is_below(path, root) else root + path
        is_whole = not self.folder.endswith(self.prefix) or _is_below(whole, outside)
        return whole if is_whole else outside + whole.removeprefix(root).removeprefix(_common(outside, mount))

    @property
    def paths(self) -> frozenset[str]:
        """All of them, for browsers."""
        return frozenset({self.login, self.logout, self.disconnect, f"{self.folder}/{self.tail}"})


def routes_of(redirect_uri: str | None, prefix: str | None) -> Routes:
    """The routes beside a client's redirect URI.

    :param prefix: where they are mounted, if not where the redirect URI says.
    :raises ConfigurationError: there is no redirect URI, it is not one of a web site, or its path leaves no place for the others.
    """
    problem = "missing" if redirect_uri is None else url_problem(redirect_uri, allow_insecure_http=True)
    if redirect_uri is None or problem:
        raise ConfigurationError(
            f"the client's redirect_uri is {problem}: logins in a web application need one, such as https://app.example/auth/callback"
        )
    parts = urlsplit(redirect_uri)
    path = _PATH.fullmatch(parts.path)
    if path is None or parts.query or path[2].rstrip("/") in _OTHERS:
        raise ConfigurationError(
            f"the path of the redirect_uri has to end with a name of its own for the callback (not {', '.join(_OTHERS)}), with nothing after it: "
            "https://app.example/auth/callback; the other routes stand beside it"
        )
    if prefix is not None and not _PREFIX.fullmatch(prefix):
        raise ConfigurationError('prefix has to be a path such as "/auth", or empty')
    return Routes(redirect_uri, path[1], path[2], path[1] if prefix is None else prefix)


def _common(outside: str, mount: str) -> str:
    """What ``mount`` begins with and ``outside`` ends with: the login is mounted there, and so is the page, perhaps deeper."""
    names = mount.split("/")
    beginnings = ("/".join(names[:count]) for count in range(len(names), 0, -1))
    return next(each for each in beginnings if outside.endswith(each))  # the last of them is empty


def _is_below(path: str, folder: str) -> bool:
    return f"{path.partition('?')[0]}/".startswith(f"{folder}/")
