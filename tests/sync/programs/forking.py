"""A server that forks its workers: ``forking.py SCENARIO KIND``. What is wrong in a child is its exit status and on standard error."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from pauth import SyncTokenStorage
from pauth.errors import ConfigurationError, ReauthorizationRequired
from tests.sync.programs.common import hear, log_in, make_client, make_storage, say

CHILDREN = 8
scenario, kind = sys.argv[1:]


def fork(work: Callable[[], object]) -> int:
    """A child that does ``work`` and ends as any program does: with its finalizers."""
    child = os.fork()
    if child == 0:
        work()
        sys.exit(0)
    return child


def wait_for(children: list[int]) -> None:
    for child in children:
        _, status = os.waitpid(child, 0)
        say(os.waitstatus_to_exitcode(status))


def prefork() -> None:
    """Eight children while a refresh is under way: each does all a client does, for a user of its own."""
    for number in range(CHILDREN):
        log_in(client, f"user-{number}")
    refreshed: list[object] = []
    refreshing = threading.Thread(target=lambda: refreshed.append(client.refresh("alice").subject))
    refreshing.start()
    hear()  # it has arrived at the server

    def work(number: int) -> None:
        user = f"user-{number}"
        assert client.get_token(user).subject == user
        assert client.refresh(user).subject == user
        assert client.get_user_info(user).subject == user
        if number == 7:  # a child of a child
            wait_for_quietly(fork(lambda: client.get_token(user)))
        if number % 2:
            client.close()

    wait_for([fork(partial(work, number)) for number in range(CHILDREN)])
    say("forked")
    refreshing.join()
    say(refreshed)
    say(client.refresh("alice").subject)


def wait_for_quietly(child: int) -> None:
    assert os.waitpid(child, 0)[1] == 0


def busy() -> None:
    """Children while eight threads are in the middle of calls: no lock stays taken, whenever the fork comes."""
    storage = SyncTokenStorage(make_storage(kind, Path(os.environ["FOLDER"])))
    ended = threading.Event()

    def hammer(number: int) -> None:
        while not ended.is_set():
            storage.save_token(f"user-{number}", {"n": number})
            client.get_token("alice")

    threads = [threading.Thread(target=hammer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()

    def work() -> None:
        storage.save_token("child", {"n": 1})
        assert storage.get_token("child") == {"n": 1}
        assert client.get_token("alice").subject == "alice"

    for _ in range(8):
        wait_for_quietly(fork(work))
    ended.set()
    for thread in threads:
        thread.join()
    say("done")


def leftovers() -> None:
    """What a child does with things that are the parent's."""
    storage = SyncTokenStorage(make_storage(kind, Path(os.environ["FOLDER"])))
    closed, unused = make_client(kind), make_client(kind)
    closed.close()
    for number in range(600):
        storage.save_token(f"user-{number}", {"n": number})
    listing = storage.iter_users()
    next(listing)

    def work() -> None:
        for _ in range(255):  # they were read ahead, before the fork
            next(listing)
        for refused in (lambda: next(listing), lambda: closed.get_token("alice")):
            try:
                refused()
            except ConfigurationError as error:
                say(error)
        listing.close()
        closed.close()
        assert unused.get_token("alice").subject == "alice"
        say(sum(1 for _ in storage.iter_users()) > 600)

    wait_for([fork(work)])
    say(len(list(listing)) >= 599)
    storage.close()


def forgetful() -> None:
    """Tokens in the memory of a client itself stay in the parent: two processes would spend one refresh token."""

    def work() -> None:
        with suppress(ReauthorizationRequired):
            client.get_token("alice")
            say("found")

    wait_for([fork(work)])
    say(client.get_token("alice").subject)


def early() -> None:
    """A fork before the first call: there is no loop yet."""

    def work() -> None:
        log_in(client, "carol")
        say(client.refresh("carol").subject)

    wait_for([fork(work)])


client = make_client(kind)
if scenario != "early":
    log_in(client)
{"early": early, "prefork": prefork, "busy": busy, "leftovers": leftovers, "forgetful": forgetful}[scenario]()
