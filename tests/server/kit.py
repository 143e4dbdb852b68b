"""What the tests of pauth.server share: pages for the directory, and a client of the double without storage."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pauth.core.authorization import AuthorizationResponse, build_authorization_request, parse_callback, validate_callback
from pauth.core.metadata import ServerMetadata
from pauth.core.token import Token
from pauth.core.wire import HTTPRequest, HTTPResponse
from pauth.errors import PAuthError
from pauth.providers import Provider
from pauth.secret import Secret
from pauth.server.directory import ServerDirectory
from pauth.server.endpoints import ServerEndpoints
from pauth.testing import AuthorizationServer, Client, ManualClock
from pauth.transport import Transport
from tests.core import authorization_kit
from tests.core.id_token_kit import OTHER_RSA, RSA, public, sign

CALLBACK = "https://app.example/callback"
ISSUER = "https://as.example"
JWKS_URI = f"{ISSUER}/jwks"


def page(document: Any = None, *, status: int = 200, content_type: str = "application/json", body: bytes | None = None) -> HTTPResponse:
    return HTTPResponse(status, {"content-type": content_type}, json.dumps(document).encode() if body is None else body, 0.0)


def metadata_document(**changes: Any) -> dict[str, Any]:
    members = {
        "issuer": ISSUER,
        "authorization_endpoint": f"{ISSUER}/authorize",
        "token_endpoint": f"{ISSUER}/token",
        "jwks_uri": JWKS_URI,
    }
    return {**members, **changes}


def key_set(*keys: Any) -> dict[str, Any]:
    return {"keys": [public(key) for key in keys or (RSA,)]}


@dataclass
class Pages:
    """A web of answers by URL, in place of a transport. What has no page is a 404."""

    answers: dict[str, HTTPResponse | PAuthError] = field(default_factory=dict[str, HTTPResponse | PAuthError])
    asked: list[str] = field(default_factory=list[str])

    async def send(self, request: HTTPRequest) -> HTTPResponse:
        assert request.method == "GET"
        assert request.headers["Accept"] == "application/json"
        self.asked.append(request.url)
        answer = self.answers.get(request.url, page(status=404))
        if isinstance(answer, PAuthError):
            raise answer
        return answer

    def directory(self, server: ServerMetadata | str = ISSUER, *, clock: ManualClock | None = None) -> ServerDirectory:
        return ServerDirectory(self.send, server, allow_insecure_http=False, clock=clock or ManualClock())


@dataclass
class Bench:
    """One client of one server, without storage."""

    server: AuthorizationServer
    client: Client
    clock: ManualClock
    transport: Transport
    provider: Provider | None
    client_auth: str | None = None
    directory: ServerDirectory = field(init=False)
    endpoints: ServerEndpoints = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget all that was fetched, as a new process does."""
        server = self.server.issuer if self.provider is None else self.provider.metadata
        self.directory = ServerDirectory(self.transport.send, server, allow_insecure_http=False, clock=self.clock)
        self.endpoints = ServerEndpoints(
            provider=self.provider,
            directory=self.directory,
            transport=self.transport,
            client_id=self.client.client_id,
            client_secret=None if self.client.client_secret is None else Secret(self.client.client_secret),
            client_auth=self.client_auth,
            clock=self.clock,
        )

    async def log_in(self, scope: Sequence[str] = ("openid",), *, user: str = "alice", **changes: Any) -> AuthorizationResponse:
        """Begin a login and go through it in the browser; ``changes`` are to the authorization request."""
        metadata = await self.endpoints.metadata()
        assert metadata.authorization_endpoint is not None
        options: dict[str, Any] = {
            "authorization_endpoint": metadata.authorization_endpoint,
            "token_endpoint": metadata.token_endpoint,
            "client_id": self.client.client_id,
            "redirect_uri": CALLBACK,
            "scope": scope,
            "issuer": metadata.issuer,
            "use_nonce": self.endpoints.expects_id_token(metadata, scope),
            "now": self.clock.time(),
            "token_bytes": authorization_kit.canary_bytes(),
        }
        request = build_authorization_request(**options | changes)
        callback = await self.server.authorize(request.url, user=user)
        return validate_callback(parse_callback(callback), request, session_id=None, now=self.clock.time(), client_id=self.client.client_id)

    async def token(self, scope: Sequence[str] = ("openid",), *, user: str = "alice") -> Token:
        return await self.endpoints.exchange_code(await self.log_in(scope, user=user))

    def id_token(self, *, key: Any = OTHER_RSA, nonce: Secret | None = None, **claims: Any) -> str:
        """An ID token of this server for this client, signed with ``key``."""
        now = int(self.clock.time())
        valid = {"iss": self.server.issuer, "sub": "alice", "aud": self.client.client_id, "iat": now, "exp": now + 300}
        if nonce is not None:
            valid["nonce"] = nonce.reveal()
        return sign({"alg": "RS256", "kid": key.kid}, {**valid, **claims}, key=key).reveal()


def metadata_of(server: AuthorizationServer, **changes: Any) -> ServerMetadata:
    members: dict[str, Any] = {
        "issuer": server.issuer,
        "authorization_endpoint": server.authorization_endpoint,
        "token_endpoint": server.token_endpoint,
        "userinfo_endpoint": server.userinfo_endpoint,
        "revocation_endpoint": server.revocation_endpoint,
        "jwks_uri": f"{server.issuer}/jwks",
    }
    return ServerMetadata(**members | changes)


@asynccontextmanager
async def bench(
    *,
    provider: Mapping[str, Any] | None = None,
    auth_method: Any = "client_secret_basic",
    client_auth: str | None = None,
    rotation: str = "RSF",
    clock: ManualClock | None = None,
) -> AsyncGenerator[Bench]:
    """A double and a client of it.

    :param provider: members of the provider's record beside its name, ``metadata`` as changes to the double's; ``None`` to discover the server.
    """
    clock = clock or ManualClock()
    async with AuthorizationServer(rotation=rotation, clock=clock, secret_marker="CANARY-") as server:
        client = server.register_client("client-1", redirect_uris=[CALLBACK], auth_method=auth_method)
        record: Provider | None = None
        if provider is not None:
            members: dict[str, Any] = {"oidc": True, **provider, "metadata": metadata_of(server, **provider.get("metadata", {}))}
            record = Provider(name="double", **members)
        transport = Transport(clock=clock)
        made = Bench(server, client, clock, transport, record, client_auth)
        try:
            yield made
        finally:
            await made.directory.drain()
            await transport.aclose()
