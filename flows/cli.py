"""The command ``mlc``: its commands, its errors and its exit codes.

Each command is a module of :mod:`flows.commands`, named as it is typed, with a function ``command`` and ``EXAMPLES``,
which its help shows. Heavy imports stand inside the functions, so that ``mlc --help`` answers at once.
"""

import contextlib
import errno
import logging
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from flows.commands import (
    compare,
    compare_methods,
    deploy,
    doctor,
    edit,
    evaluate,
    export,
    gc,
    import_,
    judge,
    keep,
    languages,
    layers,
    look,
    plan,
    power,
    promote,
    rollback,
    run,
    runs,
    show,
    status,
    translate,
    ui,
    why,
)
from flows.commands import filter as filter_
from flows.terminal.help import Command, examples_in_help, paragraphs, with_plain_types
from flows.terminal.mistakes import typed_wrongly
from flows.terminal.options import remove_empty_outputs
from flows.terminal.output import USER_MISTAKE, print_error, terminal
from flows.terminal.proxies import loopback_past_proxies
from flows.terminal.quiet import NO_BARS, NO_TELEMETRY, set_unless_set
from flows.terminal.stopped import ending_in_order
from mlc.errors import UserError
from mlc.extras import missing_package
from mlc.packages import VERSION
from mlc.stopping import hearing_signals

DEFECT = 1
DETAILED_MISTAKE = 1
"""Of a user's mistake where 2 says that something would run; as other tools have it that know such plans."""
INTERRUPTED = 130
COMMANDS = (
    run,
    plan,
    why,
    keep,
    status,
    runs,
    show,
    compare,
    compare_methods,
    gc,
    export,
    import_,
    power,
    promote,
    rollback,
    deploy,
    ui,
    look,
    translate,
    layers,
    filter_,
    judge,
    evaluate,
    edit,
    languages,
    doctor,
)
EXAMPLES = ("mlc doctor", "mlc run quickstart", "mlc ui", "mlc plan -h")
HINTS = {
    "busy workspace": "`mlc run --wait SECONDS` waits, --workspace names another folder",
    "full workspace": "`mlc gc` removes what no recent run needs",
    "language list": "`mlc languages`",
    "output": "--out",
    "pair columns": "--source-column, --target-column, --from and --to",
    "promotion by force": "--force --reason 'why'",
    "promotion reason": "--reason",
    "prompt limit": "--limit",
    "references": "--references",
    "signals": "--signals",
    "text column": "--column",
    "work pool": "--pool, --pool-type",
    "work pool template": "--template",
    "workspace": "--workspace",
}
"""What helps on the command line, by what an error is about."""


class Commands(TyperGroup):
    """A user's mistake is one line on standard error, and exit code 2."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The options of the command as a whole."""
        return with_plain_types(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Understands the options before the name of the command."""
        nothing = not args
        try:
            return super().parse_args(ctx, args)
        except TyperException as error:
            if nothing:
                # Its message is the help.
                raise
            print_error(typed_wrongly(error))
            raise typer.Exit(USER_MISTAKE) from None

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that was typed."""
        try:
            return super().invoke(ctx)
        except TyperException as error:
            print_error(typed_wrongly(error))
            raise typer.Exit(USER_MISTAKE) from None
        except UserError as error:
            told = f"{str(error).removesuffix('.')} ({HINTS[error.about]})." if error.about in HINTS else str(error)
            print_error(told)
            raise typer.Exit(USER_MISTAKE) from None
        except ImportError as error:
            if (sentence := missing_package(error)) is None:
                raise
            print_error(sentence)
            raise typer.Exit(USER_MISTAKE) from None
        except OSError as error:
            if error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
                raise
            print_error("A path cannot be used, because it is too long or its links go in a circle: name another one.")
            raise typer.Exit(USER_MISTAKE) from None
        finally:
            remove_empty_outputs()


app = typer.Typer(
    name="mlc",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog=examples_in_help(EXAMPLES),
)


def _register(module: ModuleType) -> None:
    """Makes a command of a module."""
    text, examples = paragraphs(module.command.__doc__), examples_in_help(module.EXAMPLES)
    app.command(name_of(module), cls=Command, help=text, epilog=examples)(module.command)


def name_of(module: ModuleType) -> str:
    """What a command is typed as."""
    return module.__name__.rpartition(".")[2].rstrip("_").replace("_", "-")


for module in COMMANDS:
    _register(module)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"mlc {VERSION}")
        raise typer.Exit


@app.callback()
def mlc(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Make a language model that is safe in English safe in other languages."""


def main() -> None:
    """Entry point of the command."""
    if not terminal.is_terminal:
        # Bars of downloads and of loading are for people; in a log they are noise.
        set_unless_set(NO_BARS)
    # Also for the commands that import Prefect and start no server.
    set_unless_set(NO_TELEMETRY)
    loopback_past_proxies()
    try:
        with hearing_signals(), ending_in_order():
            app()
        code = 0
    except plan.WouldRun:
        code = plan.WOULD_RUN
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else DEFECT
        if code == USER_MISTAKE and plan.DETAILED_EXITCODE in sys.argv:
            code = DETAILED_MISTAKE
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:
        code = DEFECT
        print_error(str(_told(error)))
    _leave(code)


def _told(error: Exception) -> Exception:
    """A defect of ours: its traceback, which a bug report needs, may quote prompts and goes to a file."""
    from tasks.runtime.unexpected import Unexpected, unexpected

    return error if isinstance(error, Unexpected) else unexpected(error, "mlc", Path(tempfile.gettempdir()))


def _leave(code: int) -> NoReturn:
    # Native libraries that are torn down while threads of Prefect still run print pages of false alarms about leaks.
    # Everything that must reach a disk or a server is there by now.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError, ValueError):
            stream.flush()
    logging.shutdown()
    os._exit(code)


if __name__ == "__main__":
    main()
