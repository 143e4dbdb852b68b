"""An OAuth 2.0 and OpenID Connect authorization server for tests: real HTTP on loopback, in this process, misbehaving on request."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Final, Self, TypeVar

import aiohttp

from pauth.clock import Clock, SystemClock
from pauth.core.quirks import RotationClass
from pauth.errors import ConfigurationError
from pauth.testing import user_agent
from pauth.testing.authorize_endpoint import AuthorizeEndpoint
from pauth.testing.device_endpoint import DEVICE_GRANT, DeviceEndpoints
from pauth.testing.endpoints import Endpoints
from pauth.testing.faults import Fault
from pauth.testing.ledger import Ledger, ResourceLedger
from pauth.testing.messages import ENDPOINTS, Endpoint, SeenRequest
from pauth.testing.model import AuthMethod, Client, State
from pauth.testing.site import Site

__all__ = ["AuthorizationServer"]

_AUTH_METHODS: Final[tuple[AuthMethod, ...]] = ("client_secret_basic", "client_secret_post", "none")
_GRANT_TYPES: Final = ("authorization_code", "refresh_token", "client_credentials", DEVICE_GRANT)
_Fault = TypeVar("_Fault", bound=Fault)


class AuthorizationServer:
    """An authorization server with a protected resource, on 127.0.0.1 and a free port, from ``async with`` until its end.

    It enforces what a careful server enforces: exact redirect URIs (but for the port of one on this machine that was registered without), PKCE with
    S256, codes that work once and for a minute, exactly the registered client authentication, forms without duplicates, scopes that only narrow.
    Users need no accounts: whoever the browser names is logged in.

    :param rotation: what happens to a refresh token that is exchanged, as a :class:`RotationClass` or its name: ``NR`` it stays, and the answer
        has no new one; ``RO`` a new one comes and the old stays; ``RG`` the old one, if it is the previous one, still works for ``grace`` seconds,
        and using it afterwards revokes the family; ``RU`` the old one dies when a token issued for it is first used; ``RS`` it works once; ``RSF``
        it works once, and using it again revokes the family.
    :param access_token_lifetime: seconds; ``None`` for tokens that do not expire, of which no ``expires_in`` is told.
    :param refresh_token_lifetime: seconds from the issue of each refresh token; ``None`` for no end.
    :param grace: seconds, for ``RG``.
    :param clock: where the server takes the time from, for expiry and the ledgers.
    :param iss_parameter: whether authorization responses name the issuer (RFC 9207).
    :param require_pkce: whether authorization requests without a ``code_challenge`` are refused.
    :param device_interval: seconds that must lie between two polls for a device login (RFC 8628); who asks sooner is told ``slow_down``, and the
        seconds grow by five. ``None`` demands the usual five and does not tell.
    :param device_code_lifetime: seconds in which the user of the other device has to decide.
    :param secret_marker: what every code, token and client secret starts with, for tests that search logs and files for secrets.
    """

    _issuer: str | None = None  # here, so that a half-made server has a repr too

    def __init__(
        self,
        *,
        rotation: RotationClass | str = RotationClass.RSF,
        access_token_lifetime: float | None = 3600.0,
        refresh_token_lifetime: float | None = None,
        grace: float = 30.0,
        clock: Clock | None = None,
        iss_parameter: bool = True,
        require_pkce: bool = True,
        device_interval: float | None = 5.0,
        device_code_lifetime: float = 600.0,
        secret_marker: str = "",
    ) -> None:
        if not isinstance(rotation, RotationClass):
            if rotation not in RotationClass.__members__:
                raise ConfigurationError(f"rotation has to be one of {', '.join(RotationClass.__members__)}")
            rotation = RotationClass[rotation]
        self._state = State(
            rotation=rotation,
            access_token_lifetime=access_token_lifetime,
            refresh_token_lifetime=refresh_token_lifetime,
            grace=grace,
            secret_marker=secret_marker,
        )
        self._clock: Clock = SystemClock() if clock is None else clock
        self._iss_parameter = iss_parameter
        self._require_pkce = require_pkce
        self._device_interval = device_interval
        self._device_code_lifetime = device_code_lifetime
        self._devices: DeviceEndpoints | None = None
        self._site = Site(self._state, self._clock)

    def __repr__(self) -> str:
        return f"<AuthorizationServer {self._issuer or 'not started'}>"

    async def __aenter__(self) -> Self:
        self._issuer = f"http://127.0.0.1:{await self._site.start()}"
        devices = self._devices = DeviceEndpoints(
            self._state, issuer=self._issuer, interval=self._device_interval, lifetime=self._device_code_lifetime
        )
        endpoints = Endpoints(self._state, issuer=self._issuer, metadata=self.metadata, devices=devices)
        authorize = AuthorizeEndpoint(
            self._state, issuer=self._issuer, url=self.authorization_endpoint, iss_parameter=self._iss_parameter, require_pkce=self._require_pkce
        )
        self._site.handlers = {
            "metadata": endpoints.metadata,
            "jwks": endpoints.jwks,
            "authorize": authorize,
            "token": endpoints.token,
            "userinfo": endpoints.userinfo,
            "revoke": endpoints.revoke,
            "resource": endpoints.resource,
            "device_authorization": devices.start,
            "device": devices.page,
        }
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._site.stop()

    @property
    def rotation(self) -> RotationClass:
        """What happens to a refresh token that is exchanged."""
        return self._state.rotation

    # Where it is

    @property
    def issuer(self) -> str:
        """The issuer identifier: ``http://127.0.0.1:<port>``.

        :raises ConfigurationError: the server was never started.
        """
        if self._issuer is None:
            raise ConfigurationError("the server has no address before it is started: use `async with AuthorizationServer() as server`")
        return self._issuer

    @property
    def authorization_endpoint(self) -> str:
        """URL of the authorization endpoint."""
        return f"{self.issuer}/authorize"

    @property
    def token_endpoint(self) -> str:
        """URL of the token endpoint."""
        return f"{self.issuer}/token"

    @property
    def userinfo_endpoint(self) -> str:
        """URL of the userinfo endpoint."""
        return f"{self.issuer}/userinfo"

    @property
    def revocation_endpoint(self) -> str:
        """URL of the revocation endpoint."""
        return f"{self.issuer}/revoke"

    @property
    def device_authorization_endpoint(self) -> str:
        """URL of the device authorization endpoint (RFC 8628)."""
        return f"{self.issuer}/device_authorization"

    @property
    def jwks_uri(self) -> str:
        """URL of the key set that verifies ID tokens."""
        return f"{self.issuer}/jwks"

    @property
    def resource_url(self) -> str:
        """URL of a protected resource: answers 200 with the token's ``user``, ``client_id`` and ``scope``, or 401 ``invalid_token``."""
        return f"{self.issuer}/resource"

    @property
    def metadata(self) -> dict[str, Any]:
        """The server's metadata document (RFC 8414 section 2), a fresh copy."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": self.authorization_endpoint,
            "token_endpoint": self.token_endpoint,
            "userinfo_endpoint": self.userinfo_endpoint,
            "revocation_endpoint": self.revocation_endpoint,
            "device_authorization_endpoint": self.device_authorization_endpoint,
            "jwks_uri": self.jwks_uri,
            "scopes_supported": ["openid", "profile", "email"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": list(_GRANT_TYPES),
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": list(_AUTH_METHODS),
            "revocation_endpoint_auth_methods_supported": list(_AUTH_METHODS),
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": self._iss_parameter,
        }

    # Who uses it

    def register_client(
        self,
        client_id: str | None = None,
        client_secret: str | None = None,
        *,
        redirect_uris: Sequence[str] = ("https://client.example/callback",),
        auth_method: AuthMethod = "client_secret_basic",
        grant_types: Sequence[str] = _GRANT_TYPES,
    ) -> Client:
        """Register a client, or replace the one with this ``client_id``. What is not given is made up.

        :raises ConfigurationError: the authentication method is unknown, or is ``none`` with a secret.
        """
        if auth_method not in _AUTH_METHODS:
            del client_secret  # an error's traceback shows what is in its frames
            raise ConfigurationError(f"auth_method has to be one of {', '.join(_AUTH_METHODS)}")
        if auth_method == "none" and client_secret is not None:
            del client_secret
            raise ConfigurationError("a client that authenticates by no method has no secret")
        client_id = client_id or f"client-{secrets.token_hex(4)}"
        if auth_method != "none" and client_secret is None:
            client_secret = self._state.new_secret("client-secret", client_id)
        client = Client(client_id, client_secret, tuple(redirect_uris), auth_method, tuple(grant_types))
        self._state.clients[client_id] = client
        return client

    def authorize(
        self,
        url: str,
        *,
        user: str = "alice",
        scope: Collection[str] | None = None,
        deny: bool = False,
        session: aiohttp.ClientSession | None = None,
    ) -> Coroutine[Any, Any, str]:
        """Open ``url`` in a browser whose user decides at once; to be awaited: :func:`pauth.testing.authorize`."""
        return user_agent.authorize(url, user=user, scope=scope, deny=deny, session=session)

    def decide_device(self, user_code: str, *, user: str = "alice", scope: Collection[str] | None = None, deny: bool = False) -> None:
        """Decide about a device login as ``user``, who has typed ``user_code`` at the verification page; it has a page for browsers as well.

        :param scope: the scopes to allow, of those asked for, as a collection or separated by spaces; all by default.
        :param deny: say no.
        :raises ConfigurationError: no device login waits for this code.
        """
        if self._devices is None:
            raise ConfigurationError("the server was not started: use `async with AuthorizationServer() as server`")
        allowed = scope.split() if isinstance(scope, str) else scope
        self._devices.decide(user_code, user=user, scope=allowed, deny=deny, now=self._clock.time())

    # What it does wrong

    def script(self, endpoint: Endpoint, fault: _Fault, *, times: int | None = 1, when: Callable[[SeenRequest], bool] | None = None) -> _Fault:
        """Play ``fault`` on the next ``times`` requests to ``endpoint`` (``None``: on all of them) for which ``when`` says yes. Gives ``fault``.

        A request meets one fault: the first in the order of scripting that wants it.

        :raises ConfigurationError: there is no such endpoint.
        """
        if endpoint not in ENDPOINTS:
            raise ConfigurationError(f"endpoint has to be one of {', '.join(ENDPOINTS)}")
        self._site.script(endpoint, fault, times, when)
        return fault

    def clear_script(self, endpoint: Endpoint | None = None) -> None:
        """Forget the faults of ``endpoint``, or of all. Requests that already wait in one go on waiting."""
        self._site.clear_script(endpoint)

    def expire_access_tokens(self) -> None:
        """Make every access token expire now, earlier than clients were told."""
        for token in self._state.access_tokens():
            token.expires_at = self._clock.time()

    def revoke_user(self, user: str) -> None:
        """Revoke all that ``user`` has granted, as if withdrawn at the server."""
        for grant in self._state.grants_of(user):
            grant.revoked = True

    # What it saw

    @property
    def ledger(self) -> Ledger:
        """Every request to the authorization server, oldest first."""
        return self._site.ledger

    @property
    def uses(self) -> ResourceLedger:
        """Every use of an access token at the protected resource and at the userinfo endpoint, oldest first."""
        return self._site.uses

    def family_revoked(self, user: str) -> bool:
        """Whether the latest grant of ``user``, with all its tokens, has been revoked: by reuse of a token or a code, by request, or by hand."""
        grants = self._state.grants_of(user)
        return bool(grants) and grants[-1].revoked
