"""The commands and how they end. `main` is the entry point; what a command does lies in a module of its name.

answer-first serve                          answer-first inspect artifacts/default
answer-first score "usb c cable" "HDMI"     answer-first doctor
"""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cli.bench_command import bench
from cli.calibrate_command import calibrate
from cli.capacity_command import capacity
from cli.doctor_command import doctor
from cli.errors import FAILED, INTERRUPTED, CliError
from cli.explain_command import explain
from cli.inspect_command import inspect
from cli.others import export, loadtest
from cli.score_command import score
from cli.score_dataset_command import score_dataset
from cli.serve_command import serve

app = typer.Typer(
    name="answer-first",
    help="Score how relevant documents are to a query: the first token is the grade, the reason comes when asked.",
    epilog="Start with `answer-first doctor`, then `answer-first serve` and a browser at http://localhost:8080/.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
# What goes behind the command's own options is handed on as it is, `--help` included.
_HAND_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

app.command(rich_help_panel="Online", context_settings=_HAND_ON)(serve)
app.command(rich_help_panel="Online")(score)
app.command(rich_help_panel="Online")(explain)
app.command(rich_help_panel="Look and check")(inspect)
app.command(rich_help_panel="Look and check")(doctor)
app.command(rich_help_panel="Look and check")(bench)
app.command(rich_help_panel="Look and check", context_settings=_HAND_ON, add_help_option=False)(loadtest)
app.command(rich_help_panel="Offline")(calibrate)
app.command(rich_help_panel="Offline", context_settings=_HAND_ON, add_help_option=False)(export)
app.command(rich_help_panel="Offline")(score_dataset)
app.command(rich_help_panel="Offline")(capacity)


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        from service.version import VERSION  # noqa: PLC0415 - a command loads what it needs

        typer.echo(f"answer-first {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", help="Say which version this is.", is_eager=True, callback=_tell_version)
    ] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an unexpected error came from.")] = False,
) -> None:
    _shown.traceback = traceback


class _Shown:
    """Whether an unexpected error is shown with its traceback."""

    traceback = False


_shown = _Shown()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status. Whatever goes wrong is one line on stderr."""
    try:
        app(list(sys.argv[1:] if arguments is None else arguments), prog_name="answer-first")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILED
    except BrokenPipeError:  # whoever read our output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing fails at exit for want of a reader
        return 0
    except (KeyboardInterrupt, Exception) as error:
        return _end(error)
    return 0


def _end(error: BaseException) -> int:
    from relevance.errors import RelevanceError  # noqa: PLC0415 - `--help` does without

    if isinstance(error, CliError):
        return _say(str(error), error.status)
    if isinstance(error, KeyboardInterrupt):
        return _say("interrupted", INTERRUPTED)
    if isinstance(error, RelevanceError | OSError):
        return _say(str(error), FAILED)
    if _shown.traceback:
        raise error
    return _say(f"unexpected {type(error).__name__}: {error} (--traceback shows where)", FAILED)


def _say(message: str, status: int) -> int:
    typer.echo(f"answer-first: {' '.join(message.split())}", err=True)
    return status
