"""The detector of blocking calls is on: pauth code that blocks the event loop fails its test."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockingError

import pauth.errors


def blocking_function_of_pauth() -> Any:
    namespace: dict[str, Any] = {}
    invented = Path(pauth.errors.__file__).with_name("invented.py")
    exec(compile("import time\ndef block(): time.sleep(0)", str(invented), "exec"), namespace)
    return namespace["block"]


async def test_a_blocking_call_of_pauth_on_the_loop_is_an_error() -> None:
    with pytest.raises(BlockingError, match=r"time\.sleep"):
        blocking_function_of_pauth()()


async def test_the_same_call_in_a_worker_thread_is_fine() -> None:
    await asyncio.to_thread(blocking_function_of_pauth())


def test_the_same_call_without_a_loop_is_fine() -> None:
    blocking_function_of_pauth()()


async def test_a_test_itself_may_block() -> None:
    time.sleep(0)
