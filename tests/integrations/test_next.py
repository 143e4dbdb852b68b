"""Where a login may end: on this site."""

from __future__ import annotations

import json
import subprocess
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pauth import ConfigurationError, MemoryTokenStorage, OAuth2Client, Providers
from pauth.integrations._paths import MAX_PATH, local_path, path_with_query
from tests.integrations.web_kit import REDIRECT_URI, Sites, login_of
from tests.support import npm

GOOD = [
    "/",
    "/account",
    "/account/",
    "/a/b-c_d.e~f/0",
    "/a.b/..c/d..",
    "/search?q=a%20b&next=https%3A%2F%2Fother.example%2F",
    "/search?q=a+b//c@d;e",
    "/?x",
    "/app#/inbox/1",
    "/%C3%A4",
    "/a!$&'()*+,=:b",
]

BAD = [
    "",
    " ",
    "account",
    "?x=1",
    "#x",
    ".",
    "..",
    "./account",
    "../account",
    "http://evil.example",
    "https://evil.example/",
    "https:evil.example",
    "https:/evil.example",
    "HTTPS://evil.example",
    "//evil.example",
    "///evil.example",
    "////evil.example",
    "//evil.example/%2e%2e",
    "//evil.example\\@app.example",
    "/\\evil.example",
    "/\\/evil.example",
    "\\/evil.example",
    "\\\\evil.example",
    "\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r/evil.example",
    "/\r\nSet-Cookie: a=b",
    "\t//evil.example",
    "\x00//evil.example",
    "/\x00/evil.example",
    "/\x0b/evil.example",
    "/ /evil.example",
    " //evil.example",
    "/%09/evil.example",
    "/%0a/evil.example",
    "/%0D%0ASet-Cookie:%20a=b",
    "/a%00b",
    "/a?b=%0d%0aSet-Cookie:x",
    "/%2fevil.example",
    "/%2Fevil.example",
    "/%5cevil.example",
    "/%5C%5Cevil.example",
    "/%252fevil.example",
    "%2f%2fevil.example",
    "/a//evil.example",
    "/a/%2fevil.example",
    "/.//evil.example",
    "/..//evil.example",
    "/a/..//evil.example",
    "/%2e%2e//evil.example",
    "/./evil",
    "/../evil",
    "/a/..",
    "/a/%2e%2e/b",
    "/@evil.example",
    "/a@evil.example",
    "/%40evil.example",
    "@evil.example",
    "/;@evil.example",
    "/;/evil.example",
    "javascript:alert(1)",
    "JavaScript:alert(1)",
    "java\nscript:alert(1)",
    "/javascript:alert(1)\\",
    "data:text/html,x",
    "vbscript:x",
    "file:///etc/passwd",
    "mailto:x@evil.example",
    "/a b",
    '/"onmouseover=x',
    "/<script>",
    "/{a}",
    "/a^b",
    "/a`b",
    "/%",
    "/%zz",
    "/%u002f",
    "/ä",
    "/／evil.example",
    "／／evil.example",
    "/\u2028/evil.example",
    "/\u202eevil",
    "/\ud800",
    "/evil\ufe0e",
    "/" + "a" * MAX_PATH,
]


@pytest.mark.parametrize("path", GOOD)
def test_a_path_of_this_site_is_taken_as_it_is(path: str) -> None:
    assert local_path(path) == path


@pytest.mark.parametrize("path", BAD)
def test_all_else_is_not(path: str) -> None:
    """WS-4"""
    assert local_path(path) is None


def test_the_corpus_is_large_enough() -> None:
    assert len(set(BAD)) >= 60


OWN = ["/auth/login", "/auth/login?next=/auth/login", "/auth/logout", "/auth/disconnect", "/auth/callback?code=x#y"]
ODD = ["", "next", "next=", "next=/a&next=/b", "Next=/a", "&" * 100, "next=/a&" + "x=1&" * 100, "%ff=%fe", "next=%2", "x" * 7000]


async def test_a_login_ends_at_home_instead(sites: Sites) -> None:
    """WS-4: of these, of a login's own routes, and of a query that names none or two."""
    browser = await sites.browser(after_login="/home")
    queries = [*(f"next={quote(path, safe='')}" for path in BAD + OWN if path != "/\ud800"), *ODD]
    ends = {query: (await browser.log_in(f"/auth/login?{query}")).headers["Location"] for query in queries}
    assert {query: end for query, end in ends.items() if end != "/home"} == {}


@pytest.mark.parametrize("option", ["after_login", "after_logout"])
@pytest.mark.parametrize("path", ["", "https://app.example/", "//evil.example", "home"])
def test_the_configured_ends_are_paths_too(option: str, path: str) -> None:
    client = OAuth2Client(Providers.GITHUB, "id", "CANARY-secret", REDIRECT_URI, token_storage=MemoryTokenStorage())
    with pytest.raises(ConfigurationError, match=f"{option} has to be a path of this site"):
        login_of("fastapi", client, **{option: path})


def whatwg(paths: list[str]) -> list[str]:
    """The origin and path of each, as a browser's parser (WHATWG) resolves it on a page of the site."""
    program = """
      const paths = JSON.parse(require('fs').readFileSync(0, 'utf8'));
      const resolved = paths.map((path) => { const url = new URL(path, 'https://app.example/auth/callback'); return url.origin + url.pathname; });
      console.log(JSON.stringify(resolved));
    """
    output = subprocess.run([str(npm.node()), "-e", program], input=json.dumps(paths), capture_output=True, text=True, check=True).stdout
    resolved: list[str] = json.loads(output)
    return resolved


PIECES = st.sampled_from(
    [
        "/",
        "//",
        "\\",
        "@",
        "evil.example",
        ".",
        "..",
        "%2f",
        "%5c",
        "%2e",
        "%09",
        "%40",
        ":",
        "http:",
        "javascript:",
        "a",
        "?",
        "#",
        ";",
        "\t",
        " ",
        "%",
        "&",
    ]
)
PATHS = st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=8).map(lambda text: f"/{text}")


@settings(max_examples=20)  # of 200 each, since it starts a program
@given(st.lists(PATHS, min_size=200, max_size=200))
def test_a_browser_stays_on_the_site_and_nothing_is_left_for_it_to_make_of_the_path(paths: list[str]) -> None:
    """WS-4: what is let through resolves to this origin in a browser's own parser, to the very path that was written, decoded once or not."""
    taken = [path for path in [*paths, *GOOD] if local_path(path) is not None]
    bare = [path.partition("#")[0].partition("?")[0] for path in taken]
    assert whatwg(taken) == [f"https://app.example{path}" for path in bare]
    assert [each for each in whatwg([unquote(path) for path in bare]) if not each.startswith("https://app.example/")] == []


@given(st.text().filter(lambda text: not any(0xD800 <= ord(letter) < 0xE000 for letter in text)))
def test_a_request_s_own_path_is_written_as_a_url(path: str) -> None:
    written = path_with_query(path, "a=1")
    assert written.isascii() and written.endswith("?a=1") and unquote(written.removesuffix("?a=1")) == path
