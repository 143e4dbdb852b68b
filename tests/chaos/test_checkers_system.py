"""K7, K8, K9, K10 find what was planted, and nothing where nothing was."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.checkers_system import k7_progress, k8_rate, k9_canary, k10_resources
from tests.chaos.samples import call, clean, exchange


def test_a_clean_history_passes(tmp_path: Path) -> None:
    run = clean()
    assert k7_progress(run, bound=1.0, healed=0.0) == []
    assert k8_rate(run, begin=0.0, end=60.0, per_user=2, total=2) == []
    assert k10_resources(run) == []
    (tmp_path / "log").write_text("all is well", encoding="utf-8")
    assert k9_canary(tmp_path) == []


# --- K7


def test_k7_finds_a_call_that_never_returned_though_its_process_lived() -> None:
    run = clean()
    run.calls.append(call(5.0, None))
    assert k7_progress(run, bound=1.0) == ["K7: get_token of alice by p1 never returned"]
    run.deaths = {"p1": 6.0}
    assert k7_progress(run, bound=1.0) == []


def test_k7_finds_a_call_that_took_too_long() -> None:
    run = clean()
    run.calls.append(call(5.0, 7.5, "at0"))
    assert k7_progress(run, bound=2.0) == ["K7: get_token of alice by p1 took 2.5 s"]


def test_k7_finds_an_error_after_all_was_well_again_but_lets_users_be_sent_to_the_login() -> None:
    run = clean()
    run.calls += [call(30.0, 30.1, error="ProviderUnavailable"), call(31.0, 31.1, error="ReauthorizationRequired", reason="ambiguous_rotation")]
    assert k7_progress(run, bound=1.0) == []
    assert k7_progress(run, bound=1.0, healed=29.0) == ["K7: get_token of alice by p1 raised ProviderUnavailable though all was well again"]


# --- K8


def test_k8_finds_too_many_requests_of_one_user_and_of_all() -> None:
    run = clean()
    run.exchanges = [exchange(100.0 + n, "rt1", outcome="fault:status") for n in range(5)]
    run.exchanges += [exchange(102.0, "rtb", outcome="fault:status", user="bob")]
    assert k8_rate(run, begin=99.0, end=200.0, per_user=4, total=6) == ["K8: 5 refresh requests of alice in 60 s"]
    assert k8_rate(run, begin=99.0, end=200.0, per_user=5, total=5) == ["K8: 6 refresh requests in 60 s"]
    assert k8_rate(run, begin=99.0, end=200.0, per_user=3, total=4, window=2.0) == []
    assert k8_rate(run, begin=101.0, end=103.0, per_user=3, total=4) == []


# --- K9


@pytest.mark.parametrize(
    "content", [b"token=CANARY-at-alice", base64.b64encode(b"id:CANARY-secret"), b"CANARY-rt".hex().encode()], ids=["plain", "base64", "hexadecimal"]
)
@pytest.mark.plaintext_files
def test_k9_finds_a_secret_in_any_file_sh_1(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "p1.log").write_bytes(b"2026 " + content)
    (found,) = k9_canary(tmp_path)
    assert found.startswith("K9: file logs/p1.log")


# --- K10


@pytest.mark.parametrize(("name", "what"), [("fds", "open files"), ("tasks", "tasks"), ("threads", "threads")])
def test_k10_finds_what_was_left_open(name: str, what: str) -> None:
    run = clean()
    base = getattr(run.usages[0], name)
    allowed = 1 if name == "fds" else 0
    run.usages[1] = replace(run.usages[1], **{name: base + allowed})
    assert k10_resources(run) == []
    run.usages[1] = replace(run.usages[1], **{name: base + allowed + 1})
    assert k10_resources(run) == [f"K10: p1 had {base + allowed} {what}, and has {base + allowed + 1}"]


def test_k10_finds_growth_where_it_is_looked_for() -> None:
    run = clean()
    run.usages[1] = replace(run.usages[1], memory=50 << 20)
    assert k10_resources(run) == []
    assert k10_resources(run, memory=64 << 20) == []
    assert k10_resources(run, memory=32 << 20) == ["K10: p1 has grown by 50 MiB"]
