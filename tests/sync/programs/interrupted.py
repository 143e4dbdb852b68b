"""A program that is interrupted in the middle of a refresh: ``interrupted.py WAY``."""

from __future__ import annotations

import signal
import sys
import threading
import time
import traceback
from types import FrameType

from tests.sync.programs.common import log_in, make_client, say

(way,) = sys.argv[1:]


def leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(3)


def tell_when_it_waits_at_its_end() -> None:
    main = threading.main_thread().ident or 0
    while True:
        frame = sys._current_frames().get(main)  # pyright: ignore[reportPrivateUsage]  # none, between the module and the handlers of its end
        if frame is not None and any(above.f_code.co_name == "end" for above, _ in traceback.walk_stack(frame)):
            break
        time.sleep(0)
    say("waiting")


signal.signal(signal.SIGTERM, leave)
client = make_client()
log_in(client)
match way:
    case "caught":
        try:
            client.refresh("alice")
        except KeyboardInterrupt:
            say("interrupted")
            say(client.refresh("alice").subject)  # waits for the same refresh, which has gone on
            client.close()
    case "with":
        with client:
            client.refresh("alice")
    case "twice":
        threading.Thread(target=tell_when_it_waits_at_its_end, daemon=True).start()
        client.refresh("alice")
    case _:
        client.refresh("alice")
