"""The client: every room behind one object. Each method reads build, send, parse, store."""

from __future__ import annotations

import json
import os
import secrets
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self, TypeAlias

import platformdirs

from pauth.clock import Clock, SystemClock
from pauth.core.authorization import build_authorization_request
from pauth.core.callback import AuthorizationResponse, CallbackParams, parse_callback, validate_callback
from pauth.core.client_auth import client_auth_named
from pauth.core.metadata import check_pkce
from pauth.core.pending import AuthorizationRequest, check_user, pending_id
from pauth.core.pending_device import DeviceLogin
from pauth.core.quirks import Rotation, RotationClass, authorization_scope
from pauth.core.token import Token
from pauth.core.urls import check_endpoint
from pauth.core.userinfo import UserInfo
from pauth.device_login import DeviceLogins
from pauth.errors import ConfigurationError, InvalidStateError, PAuthError, Remedy, UserInfoError
from pauth.events import EventStream
from pauth.login import Login
from pauth.providers import Provider, provider_named
from pauth.refresh.coordinator import RefreshCoordinator
from pauth.refresh.flight import uninterruptible
from pauth.refresh.policy import RefreshPolicy
from pauth.secret import Secret
from pauth.server.directory import ServerDirectory
from pauth.server.endpoints import ServerEndpoints
from pauth.storage.adapters import coordinated
from pauth.storage.base import AsyncTokenStorage, BaseTokenStorage, CoordinatedTokenStorage, RecordKey, check_user_id
from pauth.storage.memory import MemoryTokenStorage
from pauth.storage.url import storage_from_url
from pauth.transport import Transport

__all__ = ["Login", "OAuth2Client"]

TokenStorage: TypeAlias = AsyncTokenStorage | BaseTokenStorage | str
"""What a client takes as its storage: a storage object, or the URL of one."""


class OAuth2Client:
    """An OAuth 2.0 client at one provider: logs users in, keeps their tokens, and hands out valid ones.

    :param provider: a preset (``Providers.GITHUB``), its name (``"github"``), a :class:`Provider` of your own, or the URL of an issuer whose metadata
        is then fetched (RFC 8414, OpenID Connect Discovery).
    :param client_id: as registered with the provider.
    :param client_secret: as registered; none for a public client.
    :param redirect_uri: where the provider sends the browser back to, exactly as registered.
    :param scopes: what to ask for at a login that does not say; the provider's usual ones by default.
    :param token_storage: where tokens are kept: a storage, or its URL (``"sqlite+aiosqlite:///tokens.db"``). In memory by
        default, gone with the process.
    :param pending_storage: where logins wait for their callback; the token storage by default. A class with only the three plain methods cannot keep
        them, so with it they wait in this process's memory: give a storage here if callbacks may reach another process.
    :param namespace: separates the records of clients that share a storage; the provider's and client's identity by default.
    :param client_auth: how the client authenticates (``client_secret_basic``, ``client_secret_post``, ``none``), if not in the provider's usual way.
    :param refresh_policy: how early tokens are refreshed.
    :param timeout: seconds for one whole HTTP exchange.
    :param login_timeout: seconds a user has between the redirect to the provider and the callback; at most 3600.
    :param ssl_context: for a private CA or a client certificate.
    :param proxy: URL of an HTTP proxy; the environment's settings are not read.
    :param allow_insecure_http: permit plain ``http:`` to other hosts than this machine. Dangerous: tokens and secrets travel readable.
    :param events: where it is told what happens; a stream of its own by default (:attr:`events`).
    :param journal: the folder for rotated tokens that the store does not take, encrypted with the store's key, until it does; by default the one that
        the environment variable ``PAUTH_JOURNAL`` names, or one among the user's own state. ``False`` for none.
    :raises ConfigurationError: an argument is unusable.

    One client serves any number of users and tasks; keep it for the life of the program and close it with :meth:`aclose` or ``async with``.
    """

    def __init__(
        self,
        provider: Provider | str,
        client_id: str,
        client_secret: str | Secret | None = None,
        redirect_uri: str | None = None,
        scopes: Sequence[str] | None = None,
        token_storage: TokenStorage | None = None,
        *,
        pending_storage: TokenStorage | None = None,
        namespace: str | None = None,
        client_auth: str | None = None,
        refresh_policy: RefreshPolicy | None = None,
        timeout: float = 15.0,
        login_timeout: float = 600.0,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        allow_insecure_http: bool = False,
        events: EventStream | None = None,
        journal: str | Path | Literal[False] | None = None,
        clock: Clock | None = None,
    ) -> None:
        # SH-5: a traceback with locals shows these arguments, and the URLs may hold passwords.
        client_secret, hidden_proxy = _hidden(client_secret), _hidden(proxy)
        stores = [_hidden(storage) if isinstance(storage, str) else storage for storage in (token_storage, pending_storage)]
        del proxy, token_storage, pending_storage
        if not client_id:
            raise ConfigurationError("client_id is empty; take it from the provider's page where the application is registered")
        if client_auth is not None or client_secret is not None:  # a misfit is told now, not at the end of the first login
            client_auth_named(client_auth or "client_secret_basic")(client_id, client_secret)
        self._clock = clock or SystemClock()
        if isinstance(provider, str) and "://" not in provider:
            provider = provider_named(provider)
        known = None if isinstance(provider, str) else provider
        server = provider if isinstance(provider, str) else provider.metadata
        self._issuer = check_endpoint(server, name="issuer", allow_insecure_http=allow_insecure_http) if isinstance(server, str) else server.issuer
        identity = self._issuer or ("" if known is None else known.name)
        self._client_id = client_id
        self._redirect_uri = redirect_uri
        self._scopes = _texts("scopes", scopes) if scopes is not None else () if known is None else known.default_scopes
        self._login_timeout = login_timeout
        self._allow_insecure_http = allow_insecure_http
        self._namespace = json.dumps([identity, client_id]) if namespace is None else namespace
        self._transport = Transport(
            timeout=timeout,
            ssl_context=ssl_context,
            proxy=None if hidden_proxy is None else hidden_proxy.reveal(),
            allow_insecure_http=allow_insecure_http,
            clock=self._clock,
        )
        self._directory = ServerDirectory(self._transport.send, server, allow_insecure_http=allow_insecure_http, clock=self._clock)
        self._server = ServerEndpoints(
            provider=known,
            directory=self._directory,
            transport=self._transport,
            client_id=client_id,
            client_secret=client_secret,
            client_auth=client_auth,
            clock=self._clock,
        )
        self._closed = False
        self._owned: list[CoordinatedTokenStorage] = []
        self._storage = self._open(MemoryTokenStorage(clock=self._clock) if stores[0] is None else stores[0])
        self._pending = self._storage if stores[1] is None else self._open(stores[1])
        policy = refresh_policy or RefreshPolicy()
        self._policy = policy
        self._endpoint = server if isinstance(server, str) else server.token_endpoint
        self._tokens = RefreshCoordinator(
            self._storage,
            self._server.prepare_refresh,
            refreshable=self._server.refreshable,
            policy=policy,
            clock=self._clock,
            namespace=self._namespace,
            rotation=Rotation() if known is None else known.rotation or Rotation(RotationClass.NR),
            endpoint=self._endpoint,
            timeout=timeout,
            events=events,
            journal=_journal_folder(journal),
        )
        # what is in memory is shared with other clients, whose policies may differ
        self._cached: Callable[[str], Token | None] = self._tokens.cached.get if policy.cache_age else _nothing_cached
        self._devices = DeviceLogins(server=self._server, pending=self._pending, tokens=self._tokens, namespace=self._namespace, clock=self._clock)

    @property
    def namespace(self) -> str:
        """Separates this client's records from those of others on the same storage (:class:`~pauth.storage.base.RecordKey`)."""
        return self._namespace

    @property
    def endpoint(self) -> str:
        """Names the server, whose clients share a breaker and a refresher's rate: its issuer, or if it is not discovered its token endpoint."""
        return self._endpoint

    @property
    def redirect_uri(self) -> str | None:
        """Where the provider sends the browser back to, as it was given."""
        return self._redirect_uri

    @property
    def token_storage(self) -> CoordinatedTokenStorage:
        """The storage of this client, with everything that operators need; one with three methods has an adapter around it."""
        return self._storage

    @property
    def refresh_policy(self) -> RefreshPolicy:
        """How early tokens are refreshed."""
        return self._policy

    @property
    def events(self) -> EventStream:
        """What happens to the tokens, for logs, metrics and audit records."""
        return self._tokens.events

    async def get_authorization_url(
        self,
        *,
        scope: Sequence[str] | None = None,
        user_id: str | None = None,
        session_id: str | None = None,
        resource: Sequence[str] = (),
        extra_params: Mapping[str, str] | None = None,
    ) -> str:
        """Begin a login: the URL to send the user's browser to (RFC 6749 section 4.1.1).

        PKCE, ``state`` and ``nonce`` are in it and are kept for the callback.

        :param scope: what to ask for, if not the client's ``scopes``.
        :param user_id: whose account the tokens are for, if that is known already; the callback cannot give them to another.
        :param session_id: an id of the user's browser session that only that browser has (a cookie's value). The callback is accepted only with
            the same one, so that nobody can complete a login in another person's browser. Leave it out only where there is no browser session.
        :param resource: the resource servers the token is for (RFC 8707).
        :param extra_params: more parameters for the provider (``prompt``, ``login_hint``), in place of the preset's own; none that pauth sets.
        :raises ConfigurationError: an argument is unusable, or the server has no authorization endpoint.
        :raises ProviderError: the metadata of an issuer could not be had.
        """
        session = _hidden(session_id)
        del session_id
        self._check_open()
        if user_id is not None:
            check_user_id(user_id)
        asked = self._scopes if scope is None else _texts("scope", scope)
        metadata = await self._server.metadata()
        if metadata.authorization_endpoint is None:
            raise ConfigurationError("this server has no authorization endpoint; only client credentials can be used with it")
        quirks = self._server.quirks
        if quirks.pkce:
            check_pkce(metadata)
        sent_scope, params = authorization_scope(quirks, asked)
        request = build_authorization_request(
            authorization_endpoint=metadata.authorization_endpoint,
            token_endpoint=metadata.token_endpoint,
            client_id=self._client_id,
            redirect_uri=self._redirect_uri,
            scope=sent_scope,
            scope_separator=quirks.scope_separator,
            issuer=metadata.issuer,
            iss_required=metadata.authorization_response_iss_parameter_supported,
            pkce=quirks.pkce,
            use_nonce=quirks.nonce and self._server.expects_id_token(metadata, asked),
            resource=resource,
            extra_params={**dict(params), **(extra_params or {})},
            user_id=user_id,
            session_id=None if session is None else session.reveal(),
            now=self._clock.time(),
            lifetime=self._login_timeout,
            token_bytes=secrets.token_bytes,
            allow_insecure_http=self._allow_insecure_http,
        )
        await self._pending.put_pending(pending_id(request.state), request.to_dict(), expires_at=request.expires_at)
        return request.url

    async def handle_callback(
        self,
        callback: str | Mapping[str, str] | Iterable[tuple[str, str]],
        *,
        user_id: str | None = None,
        session_id: str | None = None,
    ) -> Login:
        """Complete a login: check the callback, exchange its code and store the tokens.

        :param callback: the URL the browser came back to, its query string, or its parameters as the web framework gives them. It serves once,
            whatever comes of it.
        :param user_id: whose account the tokens are for; if it is named neither here nor at the start, the subject that the server names.
        :param session_id: as given to :meth:`get_authorization_url`.
        :raises InvalidStateError: the callback belongs to no pending login of this client and this browser session. No request was made.
        :raises AuthorizationError: the user or the server refused, or the callback is malformed. No request was made.
        :raises TokenError: the token endpoint refused the code.
        :raises ProviderError: the server gave no usable answer.
        :raises TokenStorageError: the tokens could not be stored.
        """
        session = _hidden(session_id)
        del session_id
        try:
            params = parse_callback(callback)
        finally:
            del callback  # SH-5: it holds the code and the state
        return await self._complete(params, user_id=user_id, session=session)

    async def exchange_code(
        self, code: str | Secret, state: str | Secret, *, user_id: str | None = None, session_id: str | None = None, iss: str | None = None
    ) -> Token:
        """Complete a login whose callback was parsed already: :meth:`handle_callback` for a ``code`` and ``state`` (and ``iss``, where one came).

        :raises PAuthError: as :meth:`handle_callback`.
        """
        params, session = CallbackParams(code=_hidden(code), state=_hidden(state), iss=iss), _hidden(session_id)
        del code, state, session_id  # SH-5
        return (await self._complete(params, user_id=user_id, session=session)).token

    async def start_device_login(
        self, *, scope: Sequence[str] | None = None, user_id: str | None = None, resource: Sequence[str] = ()
    ) -> DeviceLogin:
        """Begin a login on another device (RFC 8628): show the user where to go and the code, then call :meth:`complete_device_login`.

        :param scope: as in :meth:`get_authorization_url`, like ``user_id`` and ``resource``.
        :raises ConfigurationError: the server has no device authorization endpoint.
        :raises TokenError: the server refused.
        :raises ProviderError: the server gave no usable answer.
        """
        self._check_open()
        if user_id is not None:
            check_user_id(user_id)
        asked = self._scopes if scope is None else _texts("scope", scope)
        return await self._devices.start(scope=asked, resource=_texts("resource", resource), user_id=user_id)

    async def complete_device_login(self, login: DeviceLogin, *, user_id: str | None = None) -> Login:
        """Wait until the user has decided on the other device, and store the tokens. Cancelling it ends the login; it can be called once.

        :param user_id: as in :meth:`handle_callback`.
        :raises AuthorizationError: the user refused, or did not decide in time.
        :raises InvalidStateError: this login is not pending in this client.
        :raises PAuthError: as :meth:`handle_callback`.
        """
        self._check_open()
        if user_id is not None:
            check_user_id(user_id)
        return await self._devices.complete(login, user_id=user_id)

    async def get_token(self, user_id: str) -> Token:
        """A valid token of the user: the stored one, or a refreshed one, which is stored before it is given.

        However many callers ask at once, one refresh is sent. If it fails in passing while the stored token is still valid, that one is given.

        :raises ReauthorizationRequired: there is no grant, or it is dead; the user has to log in. Nothing was deleted.
        :raises ProviderUnavailable: the token has expired and the server did not answer; try again.
        :raises TokenError: the server refused this client; fix its configuration.
        :raises TokenStorageError: the store failed.
        """
        try:
            token = self._cached(user_id)
        except TypeError:  # not hashable: what it is instead of a str is said below
            token = None
        return await self._tokens.get(self._key(user_id)) if token is None else token

    def get_token_nowait(self, user_id: str) -> Token | None:
        """A valid token of the user, if one is in memory; ``None`` if the store or the server has to be asked: then await :meth:`get_token`.

        Neither waits nor blocks. A token stays in memory for :attr:`RefreshPolicy.cache_age` seconds.
        """
        return self._cached(user_id)

    async def refresh(self, user_id: str, *, if_version: str | None = None) -> Token:
        """A token of the user that is newer than any given before this call, whatever the stored one's expiry.

        :param if_version: the :attr:`Token.version` of a token that a resource server has refused (HTTP 401): refresh only if that is still the
            stored one, else give the newer one. So of many callers with the same refused token one causes a refresh.
        :raises PAuthError: as :meth:`get_token`.
        """
        return await self._tokens.refresh(self._key(user_id), if_version=if_version)

    async def keep_fresh(self, user_id: str, *, within: float = 0.0) -> bool:
        """Refresh the user's token if it is due, or will be within so many seconds, for nobody in particular: what a :class:`TokenRefresher` does.

        :returns: whether it was refreshed, and by this process.
        :raises PAuthError: as :meth:`get_token`.
        """
        return await self._tokens.keep_fresh(self._key(user_id), within=within)

    async def get_user_info(self, user_id: str) -> UserInfo:
        """What the provider says about the user now (OpenID Connect Core section 5.3, or the provider's own endpoint).

        A token that the endpoint refuses is refreshed once (RFC 6750 section 3.1).

        :raises UserInfoError: the endpoint refused, or named another user than the tokens belong to.
        :raises PAuthError: as :meth:`get_token`.
        """
        token, refreshed = await self.get_token(user_id), False
        while True:
            try:
                return await self._server.user_info(token)
            except UserInfoError as error:
                if error.status != 401:
                    raise
            if refreshed or not self._server.refreshable(token):
                raise UserInfoError("the userinfo endpoint refuses the user's access token; log in again", status=401, remedy=Remedy.LOG_IN_AGAIN)
            token, refreshed = await self.refresh(user_id, if_version=token.version), True

    async def revoke(self, user_id: str) -> None:
        """Log the user out: revoke the tokens at the server where it can (RFC 7009), then delete them from the store.

        From the first moment no token of this user is handed out. If the server does not answer, the record stays out of use and the error is
        raised; call again. Does nothing for a user without tokens.

        :raises ProviderUnavailable: the server did not answer.
        :raises TokenError: the server refused to revoke.
        :raises TokenStorageError: the store failed.
        """
        await self._tokens.end(self._key(user_id), self._server.revoke, renew=self._server.renew_for_revocation)

    async def get_client_token(self, *, scope: Sequence[str] = (), resource: Sequence[str] = ()) -> Token:
        """A new token for this client itself, not for a user (``client_credentials``, RFC 6749 section 4.4). It is not stored.

        :raises TokenError: the server refused.
        :raises ProviderError: the server gave no usable answer.
        """
        self._check_open()
        return await self._server.client_credentials(scope=_texts("scope", scope), resource=_texts("resource", resource))

    async def aclose(self) -> None:
        """Refuse new calls, wait for refreshes under way, then close connections, and the storage if it was given as a URL. May be called again."""
        self._closed = True
        self._cached = _nothing_cached
        try:
            await self._directory.drain()
            await self._tokens.drain()  # last, and nothing is awaited before the transport refuses: no refresh can begin and be cut off
        finally:
            await self._transport.aclose()
            while self._owned:
                await self._owned.pop().aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigurationError("this client is closed; make a new one")

    def _open(self, storage: Secret | AsyncTokenStorage | BaseTokenStorage) -> CoordinatedTokenStorage:
        if not isinstance(storage, Secret):
            return coordinated(storage, clock=self._clock)
        opened = storage_from_url(storage.reveal(), clock=self._clock)
        self._owned.append(opened)
        return opened

    def _key(self, user_id: str) -> RecordKey:
        self._check_open()
        return RecordKey(self._namespace, user_id)

    async def _complete(self, params: CallbackParams, *, user_id: str | None, session: Secret | None) -> Login:
        self._check_open()
        if user_id is not None:
            check_user_id(user_id)
        name = pending_id(params.state)
        pending = await self._pending.take_pending(name)
        try:
            request = None if pending is None else AuthorizationRequest.from_dict(pending)
        finally:
            del pending  # SH-5
        if request is not None and request.issuer != self._issuer:  # AX-5; where there is no issuer, the token endpoint must be the same (MX-1)
            raise InvalidStateError("the login was started with another provider; start the login again")
        response = validate_callback(
            params,
            request,
            session_id=None if session is None else session.reveal(),
            now=self._clock.time(),
            client_id=self._client_id,
        )
        owner = check_user(response.request, user_id)
        try:
            # A browser that goes away must not cost the user the tokens that its code was spent for.
            login: Login = await self._tokens.shielded(("login", name), lambda: self._exchange(response, owner))
        except PAuthError as error:
            if error.retryable:
                error.remedy = Remedy.LOG_IN_AGAIN
                error.message += "; this callback cannot be used again: start the login again"
                error.args = (error.message,)
            raise
        return login

    async def _exchange(self, response: AuthorizationResponse, user_id: str | None) -> Login:
        if user_id is None:
            metadata = await self._server.metadata()
            if metadata.userinfo_endpoint is None and not self._server.expects_id_token(metadata, response.request.scope):
                raise ConfigurationError("this server does not say who logged in: name the user with user_id, at the start or at the callback")
        with uninterruptible():  # nor must a program that ends: the code is spent
            token = await self._server.exchange_code(response)
            if user_id is None:
                user_id = token.subject or (await self._server.user_info(token)).subject
                token = replace(token, subject=user_id)
            await self._tokens.login(RecordKey(self._namespace, user_id), token)  # also while the client is being closed
        return Login(user_id, token)


def _nothing_cached(user_id: str) -> None:
    del user_id


def _journal_folder(given: str | Path | Literal[False] | None) -> Path | None:
    if given is False:
        return None
    named = os.environ.get("PAUTH_JOURNAL", "") if given is None else given
    return Path(named) if named else platformdirs.user_state_path("pauth") / "journal"


def _hidden(value: str | Secret | None) -> Secret | None:
    return value if value is None or isinstance(value, Secret) else Secret(value)


def _texts(name: str, values: Sequence[str]) -> tuple[str, ...]:
    if isinstance(values, str):  # a str is a sequence of str too: of its letters
        raise ConfigurationError(f"{name} must be a list of str, not one str: write [{name}]")
    return tuple(values)
