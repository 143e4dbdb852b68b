"""A login on another device that is under way (RFC 8628): what its user is shown, and what is kept until they have decided."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from pauth.errors import InvalidStateError, UnsupportedRecord
from pauth.secret import Secret

__all__ = ["DeviceAuthorization", "DeviceLogin", "check_device_binding"]

_START_AGAIN: Final = "start the login again"


@dataclass(frozen=True, slots=True, repr=False)
class DeviceLogin:
    """A login that waits for its user on another device: show them :attr:`verification_uri` and :attr:`user_code`.

    Give it to :meth:`OAuth2Client.complete_device_login`. The device code itself stays in the client's pending storage.
    """

    user_code: str
    """What the user types there, or compares if they opened :attr:`verification_uri_complete`. Printable ASCII."""

    verification_uri: str
    """Where the user goes: an ``https`` URL, short enough to be typed."""

    verification_uri_complete: str | None
    """The same with the code in it, for a QR code or a link, where the server gives one. Show :attr:`user_code` all the same (section 3.3.1)."""

    expires_at: float
    """Until when the user can decide: seconds since the Unix epoch."""

    handle: Secret
    """Names the pending login. Who has it can complete the login in this client."""

    def __repr__(self) -> str:
        return f"<DeviceLogin expires_at={self.expires_at:.0f}>"


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class DeviceAuthorization:
    """What the server gave at the start, and what it is bound to (DV-4). Frozen; its repr shows no secret; :meth:`to_dict` is what a store keeps."""

    device_code: Secret
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    expires_at: float
    """Seconds since the Unix epoch."""

    interval: float
    """Seconds between two polls, at least."""

    issuer: str | None
    token_endpoint: str
    client_id: str
    scope: tuple[str, ...]
    user_id: str | None = None
    """Whose account the tokens are for, if that was known at the start (AX-6)."""

    def __repr__(self) -> str:
        return f"<DeviceAuthorization scope={' '.join(self.scope)!r} expires_at={self.expires_at:.0f}>"

    def to_dict(self) -> dict[str, Any]:
        """The authorization as JSON data, **device code included**: for an encrypted store, nothing else."""
        return {
            "device_code": self.device_code.reveal(),
            "user_code": self.user_code,
            "verification_uri": self.verification_uri,
            "verification_uri_complete": self.verification_uri_complete,
            "expires_at": self.expires_at,
            "interval": self.interval,
            "issuer": self.issuer,
            "token_endpoint": self.token_endpoint,
            "client_id": self.client_id,
            "scope": list(self.scope),
            "user_id": self.user_id,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DeviceAuthorization:
        """The authorization that :meth:`to_dict` wrote. Members it does not know are ignored.

        :raises UnsupportedRecord: a member is missing or of the wrong type.
        """
        read = _read_stored(data)
        del data
        if read is None:
            raise UnsupportedRecord(f"a pending device login is stored in a form that this version of pauth does not read; {_START_AGAIN}")
        return read


def _read_stored(data: Mapping[str, Any]) -> DeviceAuthorization | None:
    texts = [data.get(name) for name in ("device_code", "user_code", "verification_uri", "token_endpoint", "client_id")]
    optional = [data.get(name) for name in ("verification_uri_complete", "issuer", "user_id")]
    numbers = [data.get(name) for name in ("expires_at", "interval")]
    scope: object = data.get("scope")
    if (
        not all(isinstance(text, str) for text in texts)
        or not all(text is None or isinstance(text, str) for text in optional)
        or not all(type(number) in (int, float) and math.isfinite(cast("float", number)) for number in numbers)
        or not isinstance(scope, list)
        or not all(isinstance(item, str) for item in cast("list[object]", scope))
    ):
        return None
    return DeviceAuthorization(
        device_code=Secret(data["device_code"]),
        user_code=data["user_code"],
        verification_uri=data["verification_uri"],
        verification_uri_complete=optional[0],
        expires_at=float(data["expires_at"]),
        interval=float(data["interval"]),
        issuer=optional[1],
        token_endpoint=data["token_endpoint"],
        client_id=data["client_id"],
        scope=tuple(cast("list[str]", scope)),
        user_id=optional[2],
    )


def check_device_binding(
    authorization: DeviceAuthorization | None, *, issuer: str | None, token_endpoint: str, client_id: str
) -> DeviceAuthorization:
    """Give back a pending device login if it is this client's at this server (DV-4).

    :raises InvalidStateError: there is none, or it was started with another client or server.
    """
    if authorization is None:
        raise InvalidStateError(f"this device login is not pending: it was completed already, has expired, or was never started here; {_START_AGAIN}")
    if (authorization.issuer, authorization.token_endpoint, authorization.client_id) != (issuer, token_endpoint, client_id):
        raise InvalidStateError(f"the device login was started with another client, provider or token endpoint; {_START_AGAIN}")
    return authorization
