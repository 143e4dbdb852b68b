"""The connection ends after every possible number of bytes of the token endpoint's answer (P2, P4, P5, P8): in one process, on a manual clock."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

import pytest

from pauth import OAuth2Client
from pauth.core.metadata import ServerMetadata
from pauth.core.quirks import Rotation, RotationClass
from pauth.core.token import Token
from pauth.errors import PAuthError, ReauthorizationRequired
from pauth.providers import Provider
from pauth.storage import MemoryTokenStorage
from pauth.testing import faults
from tests.refresh.kit import World, passing, stored, world

TIMEOUT: Final = 15.0
SHORTEST: Final = 300
"""Bytes that an answer has at least, with its head: fewer would mean that nothing was cut."""


@asynccontextmanager
async def client_of(made: World, rotation: str) -> AsyncGenerator[tuple[OAuth2Client, MemoryTokenStorage], None]:
    storage, server = MemoryTokenStorage(clock=made.clock), made.server
    metadata = ServerMetadata(issuer=server.issuer, authorization_endpoint=server.authorization_endpoint, token_endpoint=server.token_endpoint)
    known = Rotation(RotationClass[rotation], 3600.0 if rotation == "RG" else None)
    async with made.client(storage, provider=Provider(name="double", metadata=metadata, rotation=known), timeout=TIMEOUT) as client:
        yield client, storage


async def lasting_answer(made: World, client: OAuth2Client) -> Token | ReauthorizationRequired:
    """What a caller is given who comes back for as long as he is told to."""
    while True:
        try:
            token: Token = await passing(made.clock, client.get_token("alice"))
        except ReauthorizationRequired as error:
            return error
        except PAuthError as error:
            if not error.retryable:
                raise
            made.clock.advance(max(error.retry_after or 0.0, 0.5))
        else:
            return token


@pytest.mark.parametrize("rotation", ["RU", "RG", "RSF"])
async def test_an_answer_cut_at_any_byte_costs_nothing_or_a_login_that_says_why(rotation: str) -> None:
    """Where the server takes the old refresh token again the caller gets a token; where it does not, the reason; a third request is never made."""
    strict = rotation == "RSF"
    async with world(rotation=rotation, grace=3600.0) as made, client_of(made, rotation) as (client, storage):
        await made.log_in(client)
        given: Token | ReauthorizationRequired | None = None
        length = -1
        for length in count():
            made.expire()
            before = len(made.refreshes)
            made.server.script("token", faults.cut(length), when=lambda request: request.grant_type == "refresh_token")
            given = await lasting_answer(made, client)
            sent = made.refreshes[before:]
            if len(sent) == 1:
                break  # it had all of the answer
            assert len(sent) == 2, length
            assert sent[0].refresh_token_in == sent[1].refresh_token_in
            assert await stored(storage) is not None
            if strict:
                assert isinstance(given, ReauthorizationRequired), length
                assert given.reason == "ambiguous_rotation"
                assert sent[1].at - sent[0].at >= TIMEOUT, "P2: not before the deadline of the first request"
                await made.log_in(client)
            else:
                assert isinstance(given, Token), length
        assert isinstance(given, Token)
        assert length > SHORTEST
