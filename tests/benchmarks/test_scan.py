"""``python -m benchmarks scan`` runs, finds what is due and nothing else, and leaves nothing behind. Nothing here is about speed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.contender import Missing
from benchmarks.scan_report import BEGIN, END
from pauth.storage import RedisTokenStorage
from tests.storage.kit import KEY
from tests.support.redis_servers import RedisServer, own_redis

__all__ = ["own_redis"]

pytestmark = pytest.mark.servers

RECORDS = 2000


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scan")
    (folder / "page.md").write_text(f"before\n{BEGIN}\nold figures\n{END}\nafter\n", encoding="utf-8")
    assert main(["scan", "--quick", f"--json={folder / 'run.json'}", f"--markdown={folder / 'page.md'}"]) == 0
    return folder


@pytest.fixture(scope="module")
def run(written: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((written / "run.json").read_text(encoding="utf-8"))
    return found


def test_each_scan_lists_what_is_due_and_nothing_else(run: dict[str, Any]) -> None:
    assert run["absent"] == []
    assert {scan["driver"] for scan in run["scans"]} == {"postgresql", "redis"} == set(run["filled"])
    for scan in run["scans"]:
        due = 0 if scan["phase"] == "again" else RECORDS * scan["share"]
        assert scan["records"] == due
        assert scan["pages"] == due // scan["limit"] + 1
        assert 0 < scan["page_median"] <= scan["page_worst"] <= scan["total"]
    shares = [scan["share"] for scan in run["scans"] if scan["driver"] == "redis"]
    assert shares == [0.0, 0.001, 0.01, 1.0, 0.01, 0.01]


def test_the_index_is_used_whatever_plan_postgresql_settles_for(run: dict[str, Any]) -> None:
    plans = [plan for _, _, plan in run["plans"]]
    assert [plan.partition(" ")[0] for plan in plans] == ["custom", "generic"] * 2
    assert all("Limit < Index Scan (pauth_tokens_expires_at)" in plan for plan in plans)
    assert all("Seq Scan" not in plan and "Sort" not in plan for plan in plans)


def test_the_server_of_redis_tells_what_it_spent(run: dict[str, Any]) -> None:
    spent = {scan["share"]: scan["server"] for scan in run["scans"] if (scan["driver"], scan["phase"]) == ("redis", "first")}
    assert 0 < spent[0.0] < spent[1.0]
    assert all(scan["server"] is None for scan in run["scans"] if scan["driver"] == "postgresql")


def test_the_page_keeps_what_is_around_its_figures(written: Path) -> None:
    page = (written / "page.md").read_text(encoding="utf-8")
    assert page.startswith(f"before\n{BEGIN}\n")
    assert page.endswith(f"\n{END}\nafter\n")
    assert "old figures" not in page
    assert "| 100.0%" in page


def test_a_server_of_the_users_is_left_as_it_was(own_redis: Callable[..., RedisServer], capsys: pytest.CaptureFixture[str]) -> None:
    server = own_redis()
    assert main(["scan", "redis", "--quick", "--url", server.url]) == 0
    assert "2,000 records were written" in capsys.readouterr().out

    async def left() -> int:
        storage = RedisTokenStorage(server.url, encryption_key=KEY, prefix="pauth-benchmark-scan")
        count = await storage.count()
        await storage.aclose()
        return count

    assert asyncio.run(left()) == 0


def test_a_server_that_is_nowhere_is_said_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def nowhere(_: Path) -> Any:
        raise Missing("no server: name one of yours")

    monkeypatch.setattr("benchmarks.scan.SERVERS", {"redis": nowhere, "postgresql": nowhere})
    assert main(["scan", "--quick"]) == 0
    assert "- redis: no server: name one of yours" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["memory"], ["--url=sqlite:///x"], ["--url=ftp://host"], ["--records=10"], ["--records=x"], ["--tasks=1"]])
def test_wrong_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["scan", *arguments])
