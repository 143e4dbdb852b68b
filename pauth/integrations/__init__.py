"""What connects pauth with other libraries; a module each, which needs its extra and is imported by who uses it.

====================================  ===========================================================================
``pauth.integrations.fastapi``        ``WebLogin``: routes to log in and out, dependencies for user and token
``pauth.integrations.aiohttp``        the same for ``aiohttp.web``; ``TokenMiddleware`` for ``aiohttp.ClientSession``
``pauth.integrations.httpx``          ``TokenAuth`` for ``httpx.AsyncClient``, ``SyncTokenAuth`` for ``httpx.Client``
``pauth.integrations.requests``       ``TokenAuth``
``pauth.integrations.opentelemetry``  metrics and spans
====================================  ===========================================================================

The rules that several share stand in modules without any library: where a token may go (``_origins``), when one is refreshed because it was refused
(``_bearer``), how a browser is logged in (``_flow``).
"""
