"""The suite-wide secret canary (SH-1), as a pytest plugin.

At the end of every test these sinks are searched, and the test fails, naming the sink, if a secret turns up:

- log records of all loggers at DEBUG: message, traceback, arguments and extra attributes,
- warnings, also those that ``pytest.warns`` caught,
- standard output and error of the test, also what ``capsys`` and click's ``CliRunner`` read,
- every pauth error that was created: str, repr, args, attributes, notes, cause and context, and the locals of its frames inside pauth,
- every file below the test's ``tmp_path``, and in the journal of the session (``PAUTH_JOURNAL``).

What a test gets from elsewhere (the output of a subprocess) it hands to the ``canary`` fixture. A test that has files with secrets on purpose says
``@pytest.mark.plaintext_files``; no other sink can be switched off.
"""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final, cast

import pytest

from pauth.errors import PAuthError
from tests.support.canary import excerpt, leaks_in_error, leaks_in_files, shown

_STANDARD_ATTRIBUTES: Final = frozenset(vars(logging.makeLogRecord({})))


class Canary:
    """What has reached the sinks since the last test ended."""

    def __init__(self) -> None:
        self.leaks: list[str] = []
        self.errors: list[BaseException] = []

    def check(self, text: str | bytes, sink: str) -> None:
        """Search ``text``, which reached ``sink``. The test fails at its end, not here."""
        if hit := excerpt(text):
            self.leaks.append(f"{sink}: {hit}")

    def examine_errors(self) -> None:
        """Search the errors created so far, and let go of them."""
        for error in self.errors:
            self.leaks.extend(leaks_in_error(error))
        self.errors.clear()

    def take_leaks(self) -> list[str]:
        """All leaks so far, and start again with none."""
        self.examine_errors()
        found = list(dict.fromkeys(self.leaks))
        self.leaks.clear()
        return found


class _LogSink(logging.Handler):
    def __init__(self, canary: Canary) -> None:
        super().__init__(logging.DEBUG)
        self.canary = canary
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        sink = f"log record of {record.name!r} ({record.levelname})"
        self.canary.check(self.format(copy.copy(record)), sink)  # a copy: formatting caches the traceback in the record
        self.canary.check(shown(record.args), f"{sink}, args")
        for name, value in vars(record).items():
            if name not in _STANDARD_ATTRIBUTES:
                self.canary.check(shown(value), f"{sink}, extra {name!r}")


class CanaryPlugin:
    """Hooks the sinks while the session lasts."""

    def __init__(self) -> None:
        self.canary = Canary()
        self.patches = pytest.MonkeyPatch()
        self.log_sink = _LogSink(self.canary)

    def start(self) -> None:
        logging.root.addHandler(self.log_sink)
        logging.root.setLevel(logging.DEBUG)
        canary, errors = self.canary, self.canary.errors

        init_error = PAuthError.__init__

        def remember(self: PAuthError, *args: Any, **kwargs: Any) -> None:
            errors.append(self)
            init_error(self, *args, **kwargs)

        init_warning = warnings.WarningMessage.__init__

        def check_warning(self: warnings.WarningMessage, message: Any, *args: Any, **kwargs: Any) -> None:
            canary.check(str(message), "warning")
            init_warning(self, message, *args, **kwargs)

        read = cast("Callable[[Any], Any]", pytest.CaptureFixture.readouterr)  # pyright: ignore[reportUnknownMemberType]  # generic

        def check_read(self: pytest.CaptureFixture[Any]) -> Any:
            result = read(self)
            canary.check(result.out, "standard output")
            canary.check(result.err, "standard error")
            return result

        self.patches.setattr(PAuthError, "__init__", remember)
        self.patches.setattr(warnings.WarningMessage, "__init__", check_warning)
        self.patches.setattr(pytest.CaptureFixture, "readouterr", check_read)
        self._start_click()

    def _start_click(self) -> None:
        try:
            from click.testing import CliRunner
        except ImportError:  # the suite also runs without the extra
            return
        canary, invoke = self.canary, CliRunner.invoke

        def check_invoke(self: CliRunner, *args: Any, **kwargs: Any) -> Any:
            result = invoke(self, *args, **kwargs)
            canary.check(result.output_bytes if hasattr(result, "output_bytes") else result.stdout_bytes, "output of the command line")
            return result

        self.patches.setattr(CliRunner, "invoke", check_invoke)

    def stop(self) -> None:
        logging.root.removeHandler(self.log_sink)
        self.patches.undo()

    @pytest.fixture(name="canary")
    def canary_fixture(self) -> Canary:
        """Hands text from sinks that the plugin cannot see to the search: ``canary.check(text, "stdout of pauth demo")``."""
        return self.canary

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        folder = getattr(item, "funcargs", {}).get("tmp_path")
        result = yield
        # Here, not later: objects that only an error kept alive go while pytest still watches for ResourceWarning.
        self.canary.examine_errors()
        searched = [Path(os.environ.get("PAUTH_JOURNAL") or os.devnull)]
        if isinstance(folder, Path) and item.get_closest_marker("plaintext_files") is None:
            searched.append(folder)
        self.canary.leaks.extend(leak for each in searched if each.is_dir() for leak in leaks_in_files(each))
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "teardown":
            for title, content in report.sections:
                if not title.startswith("Captured log"):  # the log sink saw more of it
                    self.canary.check(content, title)
            if leaks := self.canary.take_leaks():
                lines = "\n".join(f"  - {leak}" for leak in leaks)
                known = f"\n\n{report.longreprtext}" if report.failed else ""
                report.outcome = "failed"
                report.longrepr = f"A secret reached a place where secrets must not be (SH-1):\n{lines}{known}"
        return report


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "plaintext_files: this test has files with secrets on purpose; only the canary's file sink is off")
    plugin = CanaryPlugin()
    plugin.start()
    config.add_cleanup(plugin.stop)
    config.pluginmanager.register(plugin, "pauth-canary")
