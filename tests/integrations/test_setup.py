"""Cookies that others made, keys that change, and what a login is told when it is made."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import httpx
import pytest
from aiohttp import web
from fastapi import FastAPI

from pauth import ConfigurationError, EncryptionKey, Login, MemoryTokenStorage, OAuth2Client, Providers
from pauth.integrations import aiohttp as in_aiohttp
from pauth.integrations import fastapi as in_fastapi
from pauth.integrations._cookies import CookieSealer, cookies_of
from tests.client.kit import Bench
from tests.integrations.web_kit import HOST, KEY, REDIRECT_URI, Browser, Sites, Tls, login_of, served, site_of, web_client
from tests.support.canary_plugin import Canary

HOSTILE = [
    "",
    ";",
    "=",
    "=x",
    "a",
    "a=b; a=c",
    ";" * 1000,
    "x" * 40_000,
    "\xff\xfe=\xff",
    '"a"="b"',
    "a b=c",
    "$Version=1; a=b",
    "NAME=" + "A" * 60,
    "NAME=" + "A" * 61,
    "NAME=" + "A" * 5000,
    "NAME=" + "-_" * 100,
    "NAME=e30.e30.e30",
    "NAME={}",
    "NAME=null; NAME=null2",
]


@pytest.mark.parametrize("cookie", HOSTILE)
async def test_whatever_is_in_the_cookies_nothing_breaks(sites: Sites, cookie: str) -> None:
    """WS-8"""
    site = await sites()
    browser, other = await site.browser(), await site.browser()
    await browser.log_in()
    (name,) = browser.cookies
    header = {b"Cookie": cookie.replace("NAME", name).encode("latin-1")[:7000]}
    assert (await other.client.get("/who", headers=header)).json() is None
    assert (await other.client.get("/token", headers=header)).status_code == 401
    assert (await other.client.get("/auth/login", headers=header)).status_code == 303
    assert (await other.client.get("/auth/callback?code=x&state=y", headers=header)).status_code == 400
    assert (await other.client.get("/auth/logout", headers=header)).status_code == 303


async def test_a_session_that_comes_twice_is_nobody_s(sites: Sites) -> None:
    """WS-8: over http a neighbouring host could plant a second one."""
    site = await sites()
    browser, mallory = await site.browser(), await site.browser()
    await browser.log_in()
    await mallory.log_in(user="mallory")
    (name,) = browser.cookies
    both = f"{name}={browser.cookies[name]}; {name}={mallory.cookies[name]}"
    assert (await browser.client.get("/who", headers={"Cookie": both})).json() is None
    same = f"{name}={browser.cookies[name]}; {name}={browser.cookies[name]}"
    assert (await browser.client.get("/who", headers={"Cookie": same})).json() == "alice"


def test_cookies_are_read_as_browsers_write_them() -> None:
    assert cookies_of(["a=1; b=2", "c=3"]) == {"a": "1", "b": "2", "c": "3"}
    assert cookies_of(["a==;b=\t ; c=x=y;d"]) == {"a": "=", "b": "", "c": "x=y"}


async def test_every_byte_of_a_session_counts(bench: Bench, canary: Canary, quiet_browsers: None) -> None:
    """VC-6: changed anywhere, it is nobody's."""
    login = login_of("fastapi", web_client(bench), clock=bench.clock)
    async with site_of("fastapi", bench, canary, login) as site:
        browser = await site.browser()
        await browser.log_in()
        ((name, value),) = browser.cookies.items()
        for place in range(len(value)):
            forged = value[:place] + ("A" if value[place] != "A" else "B") + value[place + 1 :]
            user = (await browser.get("/who", cookies={name: forged})).json()
            assert user is None or place == len(value) - 1  # whose last bits may be padding
        assert (await browser.get("/who", cookies={name: value})).json() == "alice"


async def test_the_key_can_be_changed_while_people_are_logged_in(sites: Sites, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """P16: the new key in front of the old one, later alone."""
    client = web_client(bench)
    new = EncryptionKey.generate()
    old_site = await sites(sites.login(client))
    both = await sites(sites.login(client, encryption_key=[new, KEY]))
    new_only = await sites(sites.login(client, encryption_key=new.to_string().reveal()))
    browser = await old_site.browser()
    await browser.log_in()
    old = browser.cookies
    assert [(await (await site.browser()).get("/who", cookies=old)).json() for site in (old_site, both, new_only)] == ["alice", "alice", None]
    second = await both.browser()
    await second.log_in()
    assert [(await (await site.browser()).get("/who", cookies=second.cookies)).json() for site in (old_site, both, new_only)] == [
        None,
        "alice",
        "alice",
    ]
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", new.to_string().reveal())
    from_environment = await sites(sites.login(client, encryption_key=None))
    assert (await (await from_environment.browser()).get("/who", cookies=second.cookies)).json() == "alice"


def test_a_seal_is_for_one_purpose_and_never_the_same() -> None:
    sealer = CookieSealer(KEY)
    one, other = sealer.seal("a", {"x": "ä" * 10}), sealer.seal("a", {"x": "ä" * 10})
    assert one != other
    assert sealer.open("a", one) == sealer.open("a", other) == {"x": "ä" * 10}
    assert sealer.open("b", one) is None


FORM = "application/x-www-form-urlencoded"


def client_of(redirect_uri: str | None) -> OAuth2Client:
    return OAuth2Client(Providers.GITHUB, "id", "CANARY-secret", redirect_uri, token_storage=MemoryTokenStorage())


@pytest.mark.parametrize(
    "redirect_uri",
    [
        None,
        "https://app.example",
        "https://app.example/",
        "https://app.example/auth//callback",
        "https://app.example/auth/../callback",
        "https://app.example/auth/.",
        "https://app.example/auth/callback?x=1",
        "https://app.example/auth/call%20back",
        "https://app.example/auth/login",
        "https://app.example/logout",
        "https://app.example/disconnect/",
        "com.example.app:/callback",
        "https://ann@app.example/callback",
    ],
)
def test_a_redirect_uri_that_leaves_no_place_for_the_routes(redirect_uri: str | None) -> None:
    with pytest.raises(ConfigurationError, match="redirect_uri"):
        login_of("fastapi", client_of(redirect_uri))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefix": "auth"}, "prefix"),
        ({"prefix": "/auth/"}, "prefix"),
        ({"prefix": "/a/../b"}, "prefix"),
        ({"session_lifetime": 0}, "session_lifetime"),
        ({"session_lifetime": float("nan")}, "session_lifetime"),
        ({"starts_per_minute": 0}, "starts_per_minute"),
        ({"encryption_key": "CANARY-password"}, "encryption key"),
        ({"encryption_key": None}, "PAUTH_ENCRYPTION_KEY"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAUTH_ENCRYPTION_KEY", raising=False)
    with pytest.raises(ConfigurationError, match=message):
        login_of("aiohttp", client_of(REDIRECT_URI), **options)


async def test_form_post_needs_https(bench: Bench) -> None:
    with pytest.raises(ConfigurationError, match="form_post needs an https redirect_uri"):
        login_of("fastapi", client_of("http://localhost:8000/callback"), form_post=True)


def test_ax6_a_posted_callback_finds_no_session_of_another_login() -> None:
    """Its cookie is `SameSite=Lax`: a browser would not bring it, and each account be refused. The application knows its own cookies."""

    def known(request: object) -> str:
        return "alice"

    login = login_of("fastapi", client_of(REDIRECT_URI))
    for framework in ("fastapi", "aiohttp"):
        with pytest.raises(ConfigurationError, match="form_post does not go together with the session of another WebLogin"):
            login_of(framework, client_of("https://app.example/apple/callback"), form_post=True, current_user=login.user_or_none)
        login_of(framework, client_of("https://app.example/apple/callback"), form_post=True, current_user=known)


async def test_two_logins_cannot_share_a_callback(sites: Sites, bench: Bench) -> None:
    """MX-4: told when the application starts."""
    first, second = web_client(bench), bench.client(redirect_uri=REDIRECT_URI)
    with pytest.raises(ConfigurationError, match="two logins have their callback at /auth/callback"):
        await sites(sites.login(first), sites.login(second))
    login = sites.login(first)
    for _ in range(2):  # an application may be started again
        async with site_of(sites.framework, bench, sites.canary, login):
            pass


MOUNTED = {"twice at one place": ("/auth", "/auth"), "beside each other": ("/a", "/b"), "one in the other": ("", "/inside/of/it")}


@pytest.mark.parametrize("places", MOUNTED)
async def test_two_mounted_logins_cannot_share_a_callback(sites: Sites, bench: Bench, places: str) -> None:
    """MX-4: told with the first request, since what is mounted starts without knowing where."""
    first, second = web_client(bench), bench.client(redirect_uri=REDIRECT_URI)
    app: Any = FastAPI() if sites.framework == "fastapi" else web.Application()
    logins = [sites.login(first), sites.login(second)]
    for login, at in zip(logins, MOUNTED[places], strict=True):
        mount(app, login, at)
    if sites.framework == "fastapi":
        transport: httpx.AsyncBaseTransport = httpx.ASGITransport(app)
    else:
        transport = Tls(await sites.stack.enter_async_context(served(app)))
    async with httpx.AsyncClient(transport=transport, base_url=HOST) as browser:
        at = MOUNTED[places][1]
        path = f"{at}/auth/login" if sites.framework == "fastapi" or at != "/auth" else "/auth/login"
        for _ in range(2):
            if sites.framework == "fastapi":
                with pytest.raises(ConfigurationError, match=f"two logins have their callback at {REDIRECT_URI}"):
                    await browser.get(path)
            else:
                assert (await browser.get(path)).status_code == 500


def mount(app: Any, login: Any, at: str) -> None:
    """Mount a login in an application, which may be one that is mounted itself."""
    if isinstance(app, FastAPI):
        inner: Any = FastAPI()
        inner.include_router(login.router)
        app.mount(at, inner) if at else app.include_router(login.router)
    elif not at:
        login.setup(app)
    elif at == "/auth":
        app.add_subapp(at, login.sub_application())
    else:
        inner = web.Application()
        login.setup(inner)
        app.add_subapp(at, inner)


async def test_a_provider_that_posts_the_callback(sites: Sites, bench: Bench) -> None:
    """AX-9: POST only, and a cookie that comes along from another site."""
    browser = await sites.browser(form_post=True)
    started = await browser.get("/auth/login")
    assert "response_mode=form_post" in started.headers["Location"]
    (cookie,) = started.headers.get_list("set-cookie")
    assert cookie.endswith("; HttpOnly; SameSite=None; Secure")
    callback = await browser.decide(started)
    assert (await browser.get(callback)).status_code == 405
    params = dict(pair.split("=") for pair in callback.partition("?")[2].split("&"))
    body = "&".join(f"{name}={value}" for name, value in params.items())
    for content, kind, status in ((body, "text/plain", 400), ("x" * 70_000, FORM, 413), (f"{body}&code=x", FORM, 400)):
        assert (await browser.client.post("/auth/callback", content=content, headers={"Content-Type": kind})).status_code == status
    done = await browser.client.post("/auth/callback", content=body, headers={"Content-Type": FORM})
    assert (done.status_code, await browser.who()) == (303, "alice")
    assert "SameSite=Lax" in done.headers.get_list("set-cookie")[-1]


async def test_a_sub_application(bench: Bench, canary: Canary, quiet_browsers: None) -> None:
    name = web.AppKey("name", str)
    seen: list[str] = []

    async def on_login(request: Any, login: Login) -> None:
        seen.append(request.config_dict[name])

    login = in_aiohttp.WebLogin(web_client(bench), encryption_key=KEY, on_login=on_login, clock=bench.clock)
    app = web.Application()
    app[name] = "the application's own"
    app.add_subapp("/auth", login.sub_application())
    async with served(app) as port, httpx.AsyncClient(transport=Tls(port), base_url=HOST) as client:
        browser = Browser(client, bench.server, canary)
        assert (await browser.log_in()).status_code == 303
        assert (await browser.press(await browser.get("/auth/logout"))).status_code == 303
    assert seen == ["the application's own"]


def test_both_frameworks_say_the_same_of_the_options() -> None:
    said = [re.findall(r":param (\w+): (.*?)(?=\n\s*:)", kind.__doc__ or "", re.DOTALL) for kind in (in_fastapi.WebLogin, in_aiohttp.WebLogin)]
    assert said[0] == said[1]
    assert [name for name, _ in said[0]] == ["client", *(in_fastapi.WebLogin.__init__.__kwdefaults__ or {})]


@pytest.mark.parametrize("library", ["fastapi", "httpx", "requests"])
def test_who_lacks_a_library_is_told_how_to_get_it(library: str) -> None:
    program = f"import sys; sys.modules[{library!r}] = None; import pauth.integrations.{library}"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.stderr.rstrip().endswith(f"which is not installed: pip install 'pauth[{library}]'")
    assert "During handling" not in done.stderr
