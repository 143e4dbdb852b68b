"""What all commands have: their common options, the settings, and how they run."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import math
import signal
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import aclosing, contextmanager, nullcontext, suppress
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import click

from pauth.cli.output import INTERRUPTED, Output, exit_code_of
from pauth.cli.settings import Config, load_config
from pauth.cli.store import Place, open_place, place_of
from pauth.errors import PAuthError, ReauthorizationRequired
from pauth.providers import Providers
from pauth.secret import Secret
from pauth.storage import CoordinatedTokenStorage

__all__ = [
    "Given",
    "Number",
    "PauthGroup",
    "common_options",
    "complete_login",
    "json_option",
    "login_argument",
    "not_empty",
    "nothing_at",
    "run_on",
    "unless_ended",
    "user_option",
]

P = ParamSpec("P")
R = TypeVar("R")

_JSON: Final = "pauth.as_json"
_JSON_IN_LINE: Final = "pauth.json_in_line"


def _told_how(context: click.Context, parameter: click.Parameter, as_json: bool) -> bool:  # noqa: FBT001  # click's signature
    """Keep for errors how they are to be printed."""
    del parameter
    context.find_root().meta[_JSON] = as_json
    return as_json


json_option: Final = click.option("--json", "as_json", is_flag=True, callback=_told_how, help="Print JSON, for programs.")


class Given:
    """What every command is given: where it prints, and what the settings say."""

    def __init__(self, *, as_json: bool, config_path: str | None, storage: Secret | None) -> None:
        self.output: Output = Output(as_json=as_json)
        self.config: Config = load_config(config_path)
        self.storage: Secret | None = storage
        """``--storage``, if it was given."""

    def run(self, work: Callable[[CoordinatedTokenStorage], Awaitable[R]], *, makes: bool = False, cleans_up: bool = False) -> R:
        """Do ``work`` in an event loop, on the storage that the settings mean, which is closed afterwards.

        :param makes: the command line's own storage, and its key, are made if they are not there yet.
        :param cleans_up: as :func:`run_on` takes it.
        :raises ReauthorizationRequired: it is not there, and is not to be made: nobody has logged in.
        """
        place = place_of(self.config, self.storage) if makes else self.existing_place()
        return run_on(open_place(place, self.config), work, cleans_up=cleans_up)  # keys are read here, where blocking harms nobody

    @property
    def is_there(self) -> bool:
        """Whether the storage that the settings mean is there. Blocks for a moment."""
        return place_of(self.config, self.storage).is_there

    def existing_place(self) -> Place:
        """Where the settings put the tokens. Blocks for a moment.

        :raises ReauthorizationRequired: it is not there: nobody has logged in.
        """
        place = place_of(self.config, self.storage)
        if not place.is_there:
            raise ReauthorizationRequired(nothing_at(place), reason="not_logged_in")
        return place


def nothing_at(place: Place) -> str:
    """What there is to say of a storage that is not there; of one that was named, where it was looked for, since the name may be wrong."""
    return "there is no login yet: pauth login PROVIDER" + ("" if place.url is None else f" (there is no storage at {place.name})")


def run_on(storage: CoordinatedTokenStorage, work: Callable[[CoordinatedTokenStorage], Awaitable[R]], *, cleans_up: bool = False) -> R:
    """Do ``work`` in an event loop, on a storage that is closed afterwards.

    :param cleans_up: it does so when a signal ends the process, too: :func:`unless_ended`.
    """

    async def session() -> R:
        if cleans_up:
            return await unless_ended(work(storage), storage.aclose)
        async with aclosing(storage):
            return await work(storage)

    return asyncio.run(session())


async def unless_ended(work: Awaitable[R], close: Callable[[], Awaitable[None]]) -> R:
    """What ``work`` gives, after ``close``. SIGTERM and SIGHUP, whose own way ends a process where it stands, cancel it as Ctrl-C does: it cleans up.

    What closes is not cancelled.

    :raises click.Abort: it was ended so.
    """
    loop, task, is_ended, is_closing = asyncio.get_running_loop(), asyncio.current_task(), False, False

    def end() -> None:
        nonlocal is_ended
        if not is_ended and not is_closing and task is not None:  # a second one must not end the cleaning
            task.cancel()
        is_ended = True

    heard = list[int]()
    for name in ("SIGTERM", "SIGHUP"):
        with suppress(AttributeError, NotImplementedError):  # Windows has no SIGHUP, and its event loops hear no signals
            number = getattr(signal, name)
            if signal.getsignal(number) is signal.SIG_DFL:  # nohup has it ignored
                loop.add_signal_handler(number, end)
                heard.append(number)
    try:
        try:
            done = await work
        finally:
            is_closing = True
            await close()
        if not is_ended:
            return done
    except asyncio.CancelledError:
        if not is_ended:
            raise
    finally:
        for number in heard:
            loop.remove_signal_handler(number)  # their own way again
    raise click.Abort


class Number(click.FloatRange):
    """A number within bounds. Of ``nan`` click says that it is within all, since it is beyond none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number that a text is.

        :raises click.BadParameter: it is none, or out of bounds.
        """
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


def not_empty(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse an empty text: it comes from a variable of a script that is not set, and who is not named must not become somebody else.

    :raises click.BadParameter: it is empty.
    """
    del context
    if value == "":
        raise click.BadParameter("it is empty; name what is meant, or leave it out", param=parameter)
    return value


def common_options(command: Callable[Concatenate[Given, P], R]) -> Callable[P, R]:
    """Give a command the options that all have."""

    @json_option
    @click.option(
        "--config", "config_path", type=click.Path(dir_okay=False), callback=not_empty, help="Use this file instead of the user's own pauth.toml."
    )
    @click.option("--storage", type=Secret, metavar="URL", help="Use the tokens in this storage: a URL, or env:NAME for a variable that holds one.")
    @click.option("--verbose", "-v", is_flag=True, help="Tell on standard error what goes on.")
    @functools.wraps(command)
    def with_options(*arguments: P.args, **options: P.kwargs) -> R:
        as_json, verbose = bool(options.pop("as_json")), options.pop("verbose")
        if verbose:
            logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stderr)
        config_path, storage = options.pop("config_path"), options.pop("storage")
        given = Given(as_json=as_json, config_path=config_path, storage=storage)  # type: ignore[arg-type]
        with nullcontext() if verbose else _warnings_told(given.output):
            return command(given, *arguments, **options)

    return with_options


class _Told(logging.Handler):
    """Tells a warning once. What the client tells as an event is left out: the command says how it ended, in words of its own."""

    def __init__(self, output: Output) -> None:
        super().__init__(logging.WARNING)
        self._output = output
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, if it is new."""
        text = record.getMessage()
        if record.name != "pauth.events" and text not in self._told:
            self._told.add(text)
            self._output.tell(text)


@contextmanager
def _warnings_told(output: Output) -> Generator[None]:
    """Print pauth's warnings as lines for people; with no handler at all, logging would print everything as it is."""
    told, logger = _Told(output), logging.getLogger("pauth")
    logger.addHandler(told)
    try:
        yield
    finally:
        logger.removeHandler(told)


def complete_login(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of logins for the shell: presets and profiles. The store is not asked: its key may be in a keyring that asks for a password."""
    del context, parameter
    names = {preset.name for preset in Providers.all()}
    with suppress(PAuthError):  # the command itself will say what is wrong with it
        names |= load_config().profiles.keys()
    return sorted(name for name in names if name.startswith(incomplete))


def login_argument(*, required: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """The argument that names a login."""
    metavar = "PROVIDER" if required else "[LOGIN]"
    return click.argument("name", required=required, metavar=metavar, callback=not_empty, shell_complete=complete_login)


user_option: Final = click.option(
    "--user", "-u", callback=not_empty, help="Whose tokens: the user id they are kept under.  [default: the login's name]"
)


class PauthGroup(click.Group):
    """The command ``pauth``: errors of pauth end it with a line and the exit code that belongs to them."""

    def make_context(self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any) -> click.Context:
        """The context of a run. What is wrong with the command line is told as JSON if that has ``--json`` in it, understood or not."""
        wants_json = "--json" in itertools.takewhile(lambda each: each != "--", args)
        try:
            context = super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            if not wants_json:
                raise
            Output(as_json=True).usage_error(error)
            code = error.exit_code
        else:
            context.meta[_JSON_IN_LINE] = wants_json
            return context
        raise click.exceptions.Exit(code)

    def invoke(self, ctx: click.Context) -> object:
        """Run a command."""
        code = INTERRUPTED
        try:
            return super().invoke(ctx)
        except PAuthError as error:
            Output(as_json=ctx.find_root().meta.get(_JSON, False)).error(error)
            code = exit_code_of(error)
        except click.ClickException as error:
            if not ctx.meta[_JSON_IN_LINE]:
                raise
            Output(as_json=True).usage_error(error)
            code = error.exit_code
        except (KeyboardInterrupt, click.Abort):
            click.echo("Interrupted.", err=True)
        return ctx.exit(code)
