"""One client's dealings with one authorization server: build, send, parse, for each endpoint. Knows nothing of storage."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable, Sequence

from pauth.clock import Clock
from pauth.core.callback import AuthorizationResponse
from pauth.core.client_auth import ClientAuth, client_auth_named
from pauth.core.device import (
    Poll,
    build_device_authorization_request,
    build_device_token_request,
    parse_device_authorization_response,
    parse_device_token_response,
)
from pauth.core.grants import (
    build_client_credentials_request,
    build_code_request,
    build_refresh_request,
    can_refresh,
    parse_token_response,
)
from pauth.core.metadata import ServerMetadata
from pauth.core.pending_device import DeviceAuthorization, check_device_binding
from pauth.core.quirks import Quirks, RevocationStyle
from pauth.core.revocation import build_revocation_requests, parse_revocation_response
from pauth.core.token import Token, was_issued_by
from pauth.core.userinfo import UserInfo, build_userinfo_request, parse_userinfo_response
from pauth.core.wire import HTTPRequest
from pauth.errors import AmbiguousExchange, ConfigurationError, ProviderUnavailable, ReauthorizationRequired
from pauth.providers import Provider
from pauth.secret import Secret
from pauth.server.directory import ServerDirectory
from pauth.server.identity import IdTokenChecker
from pauth.transport import Transport

__all__ = ["ServerEndpoints"]

_log = logging.getLogger("pauth.server.endpoints")


class ServerEndpoints:
    """Sends one client's requests to one server's endpoints and gives back what the answers mean."""

    def __init__(
        self,
        *,
        provider: Provider | None,
        directory: ServerDirectory,
        transport: Transport,
        client_id: str,
        client_secret: Secret | None,
        client_auth: str | None,
        clock: Clock,
    ) -> None:
        self._provider = provider
        self._directory = directory
        self._transport = transport
        self._client_id = client_id
        self._client_secret = client_secret
        self._client_auth = client_auth
        self._clock = clock
        self.quirks: Quirks = provider.quirks if provider is not None else Quirks()
        """How the server deviates from the RFCs."""
        self._identity = IdTokenChecker(directory, client_id=client_id, quirks=self.quirks, oidc=provider is None or provider.oidc, clock=clock)

    async def metadata(self) -> ServerMetadata:
        """The server's metadata; discovered first, if only the issuer is known."""
        return await self._directory.metadata()

    async def exchange_code(self, response: AuthorizationResponse) -> Token:
        """Spend an authorization code (RFC 6749 section 4.1.3). It is sent once, whatever happens (AX-12).

        :raises AuthorizationError: the login was begun with another token endpoint than the present one; the code was not sent (MX-1).
        :raises AmbiguousExchange: the code was sent and no usable answer came back.
        """
        request = response.request
        # Whatever may fail on its own account is done before the code is spent.
        metadata = await self.metadata()
        await self._identity.prepare_login(metadata, request.scope)
        sent = build_code_request(
            token_endpoint=metadata.token_endpoint,
            response=response,
            client_id=self._client_id,
            client_secret=self._client_secret,
            client_auth=self._authenticate_at_token_endpoint(metadata),
            quirks=self.quirks,
        )
        token: Token | None = None
        status: int | None = None
        try:
            token = await self._token(
                sent,
                requested_scope=request.scope,
                issuer=request.issuer,
                token_endpoint=request.token_endpoint,
                secrets=[secret for secret in (response.code, request.code_verifier) if secret is not None],
            )
        except ProviderUnavailable as error:
            if not error.request_sent:
                raise
            status = error.status
        if token is None:
            raise AmbiguousExchange(
                "the authorization code was sent but no usable answer came back; it is not sent again, so let the user log in again",
                status=status,
            )
        return await self._identity.of_login(token, metadata=metadata, scope=request.scope, nonce=request.nonce, code=response.code)

    async def prepare_refresh(self, token: Token) -> Callable[[float | None], Awaitable[Token]]:
        """The request for the successor of ``token`` (RFC 6749 section 6), ready to be sent.

        Whatever may fail on its own account is done here, before the refresh token is spent.

        :returns: sends it and gives the answer; takes the moment (monotonic seconds) at which it has to give up, if there is one.
        """
        metadata = await self.metadata()
        jwks = await self._identity.keys_for_refresh(token, metadata=metadata)
        request = build_refresh_request(
            token_endpoint=metadata.token_endpoint,
            token=token,
            client_id=self._client_id,
            client_secret=self._client_secret,
            client_auth=self._authenticate_at_token_endpoint(metadata),
            quirks=self.quirks,
            issuer=metadata.issuer,
        )

        async def send(deadline: float | None) -> Token:
            new = await self._token(
                request,
                requested_scope=token.scope,
                issuer=metadata.issuer,
                token_endpoint=metadata.token_endpoint,
                previous=token,
                deadline=deadline,
            )
            return self._identity.of_refresh(new, token, metadata=metadata, jwks=jwks)

        return send

    async def refresh(self, token: Token) -> Token:
        """The successor of ``token``."""
        send = await self.prepare_refresh(token)
        return await send(None)

    async def client_credentials(self, *, scope: Sequence[str], resource: Sequence[str]) -> Token:
        """A token for the client itself (RFC 6749 section 4.4)."""
        metadata = await self.metadata()
        sent = build_client_credentials_request(
            token_endpoint=metadata.token_endpoint,
            client_id=self._client_id,
            client_secret=self._client_secret,
            client_auth=self._authenticate_at_token_endpoint(metadata),
            quirks=self.quirks,
            scope=scope,
            resource=resource,
        )
        return await self._token(sent, requested_scope=tuple(scope), issuer=metadata.issuer, token_endpoint=metadata.token_endpoint)

    async def start_device(self, *, scope: Sequence[str], resource: Sequence[str], user_id: str | None) -> DeviceAuthorization:
        """Begin a login on another device (RFC 8628 section 3.1).

        :raises ConfigurationError: the server has no device authorization endpoint.
        """
        metadata = await self.metadata()
        if metadata.device_authorization_endpoint is None:
            raise ConfigurationError("this server has no device authorization endpoint; log in with a browser on this machine instead")
        await self._identity.prepare_login(metadata, scope)
        sent = build_device_authorization_request(
            device_authorization_endpoint=metadata.device_authorization_endpoint,
            client_id=self._client_id,
            client_secret=self._client_secret,
            client_auth=self._authenticate_at_token_endpoint(metadata),
            quirks=self.quirks,
            scope=scope,
            resource=resource,
        )
        started = parse_device_authorization_response(
            await self._transport.send(sent),
            quirks=self.quirks,
            issuer=metadata.issuer,
            token_endpoint=metadata.token_endpoint,
            client_id=self._client_id,
            requested_scope=scope,
            now=self._clock.time(),
            secrets=self._secrets(sent, None),
            allow_insecure_http=self._transport.allow_insecure_http,
        )
        return dataclasses.replace(started, user_id=user_id)

    async def check_device(self, authorization: DeviceAuthorization | None) -> DeviceAuthorization:
        """Give back a pending device login if it was started by this client at this server.

        :raises InvalidStateError: it was not, or there is none.
        """
        metadata = await self.metadata()
        return check_device_binding(authorization, issuer=metadata.issuer, token_endpoint=metadata.token_endpoint, client_id=self._client_id)

    async def poll_device(self, authorization: DeviceAuthorization) -> Token | Poll:
        """Ask once whether the user has decided (RFC 8628 section 3.4). A token it gives has to go through :meth:`accept_device`.

        :raises AuthorizationError: the user said no, or the code has expired.
        """
        metadata = await self.metadata()
        # Whatever may fail on its own account is done before the device code is spent.
        await self._identity.prepare_login(metadata, authorization.scope)
        sent = build_device_token_request(
            authorization=authorization,
            client_id=self._client_id,
            client_secret=self._client_secret,
            client_auth=self._authenticate_at_token_endpoint(metadata),
        )
        response = await self._transport.send(sent)
        secrets = self._secrets(sent, None)
        return parse_device_token_response(response, authorization=authorization, quirks=self.quirks, now=self._clock.time(), secrets=secrets)

    async def accept_device(self, token: Token, authorization: DeviceAuthorization) -> Token:
        """``token``, with the subject its ID token names.

        :raises UntrustedServer: the ID token is missing or breaks a rule.
        """
        return await self._identity.of_login(token, metadata=await self.metadata(), scope=authorization.scope)

    def refreshable(self, token: Token) -> bool:
        """Whether there is something in ``token`` to refresh it with."""
        return can_refresh(token, self.quirks)

    def expects_id_token(self, metadata: ServerMetadata, scope: Sequence[str]) -> bool:
        """Whether a login with ``scope`` gives an ID token that can be checked."""
        return self._identity.expected(metadata, scope)

    async def renew_for_revocation(self, token: Token) -> Token | None:
        """The successor of ``token``, where only that can be revoked; else ``None``.

        GitHub, Slack and Facebook take the access token alone to revoke a grant, and only a valid one.
        """
        if self.quirks.revocation_style is RevocationStyle.RFC7009 or token.refresh_token is None or not token.is_expired(self._clock.time()):
            return None
        try:
            return await self.refresh(token)
        except ReauthorizationRequired:
            return None  # dead, or another server's

    async def revoke(self, token: Token) -> None:
        """Revoke ``token`` at the server, its refresh token first (RFC 7009). Does nothing where the server has no revocation endpoint."""
        metadata = await self.metadata()
        if metadata.revocation_endpoint is None:
            _log.info("the server has no revocation endpoint; its tokens live on until they expire")
            return
        if not was_issued_by(token, token_endpoint=metadata.token_endpoint, issuer=metadata.issuer):
            _log.warning("a token of another server than the one configured now is deleted without being revoked; it is not sent to this one")
            return
        if self.quirks.revocation_style is not RevocationStyle.RFC7009 and token.refresh_token is not None and token.is_expired(self._clock.time()):
            return  # it could not be renewed: the grant is dead already
        requests = build_revocation_requests(
            metadata=metadata,
            token=token,
            client_id=self._client_id,
            client_secret=self._client_secret,
            client_auth=self._authenticate_at_token_endpoint(metadata),
            quirks=self.quirks,
        )
        for request in requests:
            response = await self._transport.send(request)
            parse_revocation_response(response, quirks=self.quirks, token=token, now=self._clock.time(), secrets=self._secrets(request, token))

    async def user_info(self, token: Token) -> UserInfo:
        """What the userinfo endpoint says about the user of ``token`` (OpenID Connect Core section 5.3)."""
        metadata = await self.metadata()
        if metadata.userinfo_endpoint is None:
            raise ConfigurationError("this server has no userinfo endpoint")
        if not was_issued_by(token, token_endpoint=metadata.token_endpoint, issuer=metadata.issuer):
            raise ReauthorizationRequired(
                "the stored token was issued by another server than the one configured now, so it is not sent there; log in again",
                reason="issuer_changed",
            )
        request = build_userinfo_request(userinfo_endpoint=metadata.userinfo_endpoint, token=token)
        response = await self._transport.send(request)
        # the subject of a validated ID token, if there was one, must be the one named here (ID-16)
        return parse_userinfo_response(
            response, quirks=self.quirks, now=self._clock.time(), expected_subject=token.subject, secrets=self._secrets(request, token)
        )

    def _authenticate_at_token_endpoint(self, metadata: ServerMetadata) -> ClientAuth:
        return client_auth_named(self._client_auth or self._usual_client_auth(metadata))

    def _usual_client_auth(self, metadata: ServerMetadata) -> str:
        if self._client_secret is None:
            return "none"
        if self._provider is not None:
            return self._provider.client_auth
        # RFC 8414 section 2: client_secret_basic is what a server supports that says nothing
        supported = metadata.token_endpoint_auth_methods_supported
        if supported is not None and "client_secret_basic" not in supported and "client_secret_post" in supported:
            return "client_secret_post"
        return "client_secret_basic"

    def _secrets(self, request: HTTPRequest, token: Token | None) -> list[Secret]:
        """What a server's error text must not repeat to anybody (SH-9)."""
        _, _, credentials = request.headers.get("Authorization", "").partition(" ")  # HTTP Basic holds the client's secret in base64
        known = [self._client_secret, Secret(credentials)]
        if token is not None:
            known += (token.access_token, token.refresh_token, token.id_token)
        return [secret for secret in known if secret is not None]

    async def _token(
        self,
        request: HTTPRequest,
        *,
        requested_scope: Sequence[str],
        issuer: str | None,
        token_endpoint: str,
        previous: Token | None = None,
        secrets: Sequence[Secret] = (),
        deadline: float | None = None,
    ) -> Token:
        response = await self._transport.send(request, deadline=deadline)
        return parse_token_response(
            response,
            quirks=self.quirks,
            requested_scope=requested_scope,
            issuer=issuer,
            token_endpoint=token_endpoint,
            now=self._clock.time(),
            previous=previous,
            secrets=[*self._secrets(request, previous), *secrets],
        )
