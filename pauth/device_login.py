"""Logins on another device (RFC 8628): what :class:`~pauth.OAuth2Client` does for them.

The device code waits in the pending storage, under the hash of a handle that only the caller has; it is taken out once, by who completes the login,
and is gone from then on (DV-4).
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import replace

from pauth.clock import Clock
from pauth.core.device import Poll
from pauth.core.pending_device import DeviceAuthorization, DeviceLogin
from pauth.core.token import Token
from pauth.errors import AuthorizationError, ConfigurationError, InvalidStateError, ProviderUnavailable
from pauth.login import Login
from pauth.refresh.coordinator import RefreshCoordinator
from pauth.secret import Secret
from pauth.server.device import ask_until_decided
from pauth.server.endpoints import ServerEndpoints
from pauth.storage.base import CoordinatedTokenStorage, RecordKey

__all__ = ["DeviceLogins"]


class DeviceLogins:
    """The logins on other devices of one client."""

    def __init__(
        self, *, server: ServerEndpoints, pending: CoordinatedTokenStorage, tokens: RefreshCoordinator, namespace: str, clock: Clock
    ) -> None:
        self._server = server
        self._pending = pending
        self._tokens = tokens
        self._namespace = namespace
        self._clock = clock

    async def start(self, *, scope: Sequence[str], resource: Sequence[str], user_id: str | None) -> DeviceLogin:
        """See :meth:`.OAuth2Client.start_device_login`."""
        started = await self._server.start_device(scope=scope, resource=resource, user_id=user_id)
        handle = Secret(base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode("ascii"))
        await self._pending.put_pending(_pending_id(handle), started.to_dict(), expires_at=started.expires_at)
        return DeviceLogin(started.user_code, started.verification_uri, started.verification_uri_complete, started.expires_at, handle)

    async def complete(self, login: DeviceLogin, *, user_id: str | None) -> Login:
        """See :meth:`.OAuth2Client.complete_device_login`."""
        name = _pending_id(login.handle)
        kept = await self._pending.take_pending(name)
        try:
            authorization = None if kept is None else DeviceAuthorization.from_dict(kept)
        finally:
            del kept  # SH-5
        authorization = await self._server.check_device(authorization)
        owner = await self._owner(authorization, user_id)

        async def poll() -> Login | Poll:
            answer = await self._server.poll_device(authorization)
            return answer if isinstance(answer, Poll) else await self._store(answer, authorization, owner)

        # Who goes away stops the polling; but a poll that is under way may bring the tokens, and those are stored.
        return await ask_until_decided(authorization, lambda: self._tokens.shielded(("device", name), poll), clock=self._clock)

    async def _store(self, token: Token, authorization: DeviceAuthorization, owner: str | None) -> Login:
        try:
            token = await self._server.accept_device(token, authorization)
            if owner is None:
                owner = token.subject or (await self._server.user_info(token)).subject
                token = replace(token, subject=owner)
        except ProviderUnavailable as error:
            status = error.status
        else:
            await self._tokens.login(RecordKey(self._namespace, owner), token)
            return Login(owner, token)
        # The device code is spent: polling again would not bring the tokens back.
        raise AuthorizationError("the user has logged in, but the server could not be asked who that was; start the login again", status=status)

    async def _owner(self, authorization: DeviceAuthorization, user_id: str | None) -> str | None:
        if None not in (authorization.user_id, user_id) and authorization.user_id != user_id:
            raise InvalidStateError("the device login was started for another user; start the login again as this one")
        owner = user_id if authorization.user_id is None else authorization.user_id
        if owner is None:
            metadata = await self._server.metadata()
            if metadata.userinfo_endpoint is None and not self._server.expects_id_token(metadata, authorization.scope):
                raise ConfigurationError("this server does not say who logged in: name the user with user_id")
        return owner


def _pending_id(handle: Secret) -> str:
    return hashlib.sha256(b"device:" + handle.reveal().encode("utf-8", "surrogatepass")).hexdigest()
