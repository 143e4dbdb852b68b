"""Server metadata (RFC 8414, OpenID Connect Discovery): where it is looked for, and what it must be before anything of it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pauth.core.urls import check_endpoint, url_problem
from pauth.core.wire import HTTPResponse, is_json_type, media_type, parse_json_object, parse_retry_after
from pauth.errors import ConfigurationError, MalformedResponse, ProviderUnavailable, UntrustedServer

__all__ = ["ServerMetadata", "check_pkce", "parse_metadata", "parse_metadata_response", "well_known_urls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMetadata:
    """What pauth knows about an authorization server, under the names of RFC 8414 section 2. ``None`` means that the server did not say."""

    issuer: str | None = None
    token_endpoint: str
    authorization_endpoint: str | None = None
    userinfo_endpoint: str | None = None
    revocation_endpoint: str | None = None
    introspection_endpoint: str | None = None
    device_authorization_endpoint: str | None = None
    jwks_uri: str | None = None
    scopes_supported: tuple[str, ...] | None = None
    code_challenge_methods_supported: tuple[str, ...] | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] | None = None
    revocation_endpoint_auth_methods_supported: tuple[str, ...] | None = None
    id_token_signing_alg_values_supported: tuple[str, ...] | None = None
    authorization_response_iss_parameter_supported: bool = False
    """The server puts ``iss`` into every authorization response, so one without it is refused (RFC 9207 section 2.4)."""


def well_known_urls(issuer: str, *, allow_insecure_http: bool = False) -> tuple[str, ...]:
    """Where the metadata of ``issuer`` may be, in the order to try (MD-2).

    RFC 8414 section 3.1 inserts the well-known part before the issuer's path; OpenID Connect Discovery section 4 appends it. The host never changes.

    :raises ConfigurationError: ``issuer`` is not an https URL without query and fragment (see :func:`~pauth.core.wire.check_endpoint`).
    """
    check_endpoint(issuer, name="issuer", allow_insecure_http=allow_insecure_http)
    if "?" in issuer:
        raise ConfigurationError("the issuer must not have a query (RFC 8414 section 2)")
    scheme, _, rest = issuer.partition("://")
    host, _, path = rest.partition("/")
    origin = f"{scheme}://{host}"
    path = f"/{path}".rstrip("/")
    candidates = (
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}/.well-known/openid-configuration{path}",
        f"{origin}{path}/.well-known/openid-configuration",
    )
    return tuple(dict.fromkeys(candidates))  # without a path the last two are one


def parse_metadata(
    document: Mapping[str, Any], *, issuer: str, expected_issuer: str | None = None, allow_insecure_http: bool = False
) -> ServerMetadata:
    """The metadata in ``document``, fetched from a well-known URL of ``issuer``.

    Members that pauth does not use are ignored; ``null`` counts as absent.

    :param issuer: the configured issuer. The document must name the very same one, code point for code point (RFC 8414 section 3.3; MD-1).
    :param expected_issuer: the issuer the document must name instead, for servers known to send another (a tenant template, for one).
    :raises UntrustedServer: another issuer, or an endpoint that requests must not be sent to (MD-3). If the issuer is ``https:``, so must be every
        endpoint, whatever ``allow_insecure_http`` says (NW-3).
    :raises MalformedResponse: a member of the wrong type, or no token endpoint.
    """
    wanted = issuer if expected_issuer is None else expected_issuer
    named = _text(document, "issuer")
    if named is None:
        raise MalformedResponse("the server's metadata names no issuer; describe the server with a Provider")
    if named != wanted:
        slash = " (the two differ by a trailing slash)" if named.rstrip("/") == wanted.rstrip("/") else ""
        raise UntrustedServer(
            f"the server's metadata names another issuer than the configured one{slash}; correct the issuer, or describe the server with a Provider"
        )

    def endpoint(name: str) -> str | None:
        url = _text(document, name)
        if url is None:
            return None
        problem = url_problem(url, allow_insecure_http=allow_insecure_http)
        if problem is None and issuer[:6].lower() == "https:" and url[:6].lower() != "https:":
            problem = "must be an https: URL, as the issuer is one"
        if problem is not None:
            raise UntrustedServer(f"the {name} in the server's metadata {problem}")
        return url

    token_endpoint = endpoint("token_endpoint")
    if token_endpoint is None:
        raise MalformedResponse("the server's metadata names no token_endpoint; describe the server with a Provider")
    return ServerMetadata(
        issuer=named,
        token_endpoint=token_endpoint,
        authorization_endpoint=endpoint("authorization_endpoint"),
        userinfo_endpoint=endpoint("userinfo_endpoint"),
        revocation_endpoint=endpoint("revocation_endpoint"),
        introspection_endpoint=endpoint("introspection_endpoint"),
        device_authorization_endpoint=endpoint("device_authorization_endpoint"),
        jwks_uri=endpoint("jwks_uri"),
        scopes_supported=_texts(document, "scopes_supported"),
        code_challenge_methods_supported=_texts(document, "code_challenge_methods_supported"),
        token_endpoint_auth_methods_supported=_texts(document, "token_endpoint_auth_methods_supported"),
        revocation_endpoint_auth_methods_supported=_texts(document, "revocation_endpoint_auth_methods_supported"),
        id_token_signing_alg_values_supported=_texts(document, "id_token_signing_alg_values_supported"),
        authorization_response_iss_parameter_supported=_flag(document, "authorization_response_iss_parameter_supported"),
    )


def parse_metadata_response(
    response: HTTPResponse, *, issuer: str, expected_issuer: str | None = None, allow_insecure_http: bool = False
) -> ServerMetadata | None:
    """The metadata in the answer of one of :func:`well_known_urls` (MD-7).

    ``None`` if the answer says that there is none at this URL, so that the next one may be tried: any status but 200 (a redirect is not followed), or
    a 200 that is not JSON, as web applications give for paths they do not know.

    :raises ProviderUnavailable: 429 or 5xx; the metadata may be there later.
    :raises MalformedResponse: see :func:`parse_metadata`, or broken JSON.
    :raises UntrustedServer: see :func:`parse_metadata`.
    """
    if response.status == 429 or response.status >= 500:
        raise ProviderUnavailable(
            f"the server answered {response.status} when asked for its metadata; try again later",
            status=response.status,
            retry_after=parse_retry_after(response.headers.get("retry-after"), now=response.requested_at, date=response.headers.get("date")),
        )
    if response.status != 200 or not is_json_type(media_type(response.headers)):
        return None
    document = parse_json_object(response.body)
    return parse_metadata(document, issuer=issuer, expected_issuer=expected_issuer, allow_insecure_http=allow_insecure_http)


def check_pkce(metadata: ServerMetadata, *, required: bool = False) -> None:
    """Refuse a server whose metadata rules PKCE with S256 out, instead of going on without (PK-3; RFC 9700 section 2.1).

    :param required: refuse also if the metadata does not say anything about PKCE, as the MCP specification asks.
    :raises UntrustedServer: ``code_challenge_methods_supported`` is there without ``S256``, or is missing and ``required``.
    """
    methods = metadata.code_challenge_methods_supported
    if (methods is None and required) or (methods is not None and "S256" not in methods):
        raise UntrustedServer(
            "the server's metadata does not offer PKCE with S256, and pauth does not fall back to less; turn PKCE off only on purpose"
        )


def _text(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    if value is None or isinstance(value, str):
        return value
    raise MalformedResponse(f"the {name} in the server's metadata is not a string; describe the server with a Provider")


def _texts(document: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    value = document.get(name)
    if value is None:
        return None
    if isinstance(value, list):
        items = cast("list[object]", value)
        texts = tuple(item for item in items if isinstance(item, str))
        if len(texts) == len(items):
            return texts
    raise MalformedResponse(f"the {name} in the server's metadata is not a list of strings; describe the server with a Provider")


def _flag(document: Mapping[str, Any], name: str) -> bool:
    value = document.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise MalformedResponse(f"the {name} in the server's metadata is not true or false; describe the server with a Provider")
