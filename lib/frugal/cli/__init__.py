"""`frugal`: every calculator and every job from a shell.

One file per chapter. Heavy imports (torch, transformers) happen inside the commands that need
them, so that a calculator answers at once. Results go to stdout, progress and logs to stderr; bad
input is one line on stderr and exit status 2, a bug of ours one line and status 1.
"""

import contextlib
import functools
import os
import re
import sys
import traceback
import warnings
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

import frugal
from frugal.cli import (
    artifacts,
    budgets,
    costs,
    doctor,
    fewshot,
    figure2,
    papers,
    pretrain,
    spaces,
    table1,
    tfew,
)
from frugal.engine import stderr
from frugal.errors import FrugalError, FrugalWarning, without_passwords

app = typer.Typer(
    help="What is the cheapest way to get a good classifier out of a language model?",
    no_args_is_help=False,  # an error to click; `main` shows it
    pretty_exceptions_enable=False,
)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"frugal {frugal.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say it.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")
    ] = False,
) -> None:
    pass


app.add_typer(artifacts.app, name="artifacts")
app.add_typer(budgets.app, name="budgets")
app.add_typer(costs.app, name="costs")
app.add_typer(papers.app, name="papers")
app.add_typer(spaces.app, name="spaces")
app.command("rank")(fewshot.rank)
app.command("tfew")(tfew.tfew)
app.command("vectors")(tfew.vectors)
app.command("figure2")(figure2.figure2)
app.command("table1")(table1.table1)
app.command("pretrain")(pretrain.pretrain)
app.command("plan")(budgets.plan)
app.command("doctor")(doctor.doctor)
for entry in entry_points(group="frugal.commands"):  # of packages that stand on this one
    entry.load()(app)


@functools.cache
def _command() -> Any:
    return typer.main.get_command(app)


def main() -> None:
    """Entry point of the console script and of `python -m frugal`: the one place where errors end.

    Exit status 2: what the user or the machine can mend, in one line; 130: interrupted; 1: a bug.
    """
    if sys.stderr is None:  # closed by who started us; print would turn to stdout instead
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    debug = "--debug" in sys.argv[1:]
    try:
        if sys.stdout is None or sys.stdout.closed:
            raise FrugalError("stdout is closed, and a result would be lost; /dev/null may be it")
        if hasattr(sys.stdout, "reconfigure"):  # a terminal of few letters shows × as \\xd7
            sys.stdout.reconfigure(errors="backslashreplace")
        warnings.showwarning = _note
        if "_FRUGAL_COMPLETE" in os.environ:  # a shell asks what may follow
            _command().main(prog_name="frugal")
        arguments = [_checked(text) for text in sys.argv[1:] if text != "--debug"]
        arguments = arguments or ["--help"]
        with _command().make_context("frugal", arguments) as context:
            _command().invoke(context)
        _flush()
        sys.exit(0)
    except SystemExit:
        raise
    except BaseException as error:
        status, message = _ending(error)
        if message:
            if debug:
                told = "".join(traceback.format_exception(error)).rstrip()
                stderr.line(without_passwords(told))
            stderr.say(_line(message))
    with contextlib.suppress(OSError, ValueError):
        _flush()
    sys.exit(status)


def _note(message: Any, category: Any, *where: Any, **more: Any) -> None:
    """A warning that is meant for the user is a line; others look as they do."""
    if issubclass(category, FrugalWarning):
        stderr.note(_line(str(message)))
    else:
        _warn(message, category, *where, **more)


_warn = warnings.showwarning


def _ending(error: BaseException) -> tuple[int, str]:
    """The exit status that an error ends with, and what is said of it."""
    if isinstance(error, typer.Exit):  # --help and --version
        return error.exit_code, ""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return 130, "interrupted"
    if isinstance(error, FrugalError):
        return 2, str(error)
    if type(error).__name__ == "SafetensorError":  # a disk that filled, or a file that was cut
        return 2, f"tensors could not be read or written: {error}"
    if hasattr(error, "format_message"):  # what the option parser raises, under any name
        return 2, error.format_message()
    if isinstance(error, BrokenPipeError):
        return 2, "its reader went away before everything was printed"
    if isinstance(error, OSError):
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if name]
        return 2, f"{' -> '.join(map(str, names)) + ': ' if names else ''}{error.strerror or error}"
    if isinstance(error, MemoryError) or _out_of_memory(error):
        return 2, f"out of memory ({error or 'MemoryError'}); fewer or shorter examples take less"
    if isinstance(error, OverflowError):
        return 2, f"a number is too large: {error}"
    if isinstance(error, UnicodeError):
        return 2, f"text that is not UTF-8: {error}"
    if isinstance(error, RecursionError):
        return 2, "what was given is nested too deeply to be read"
    return 1, (
        f"a bug of ours: {type(error).__name__}: {error} ({_place(error)}). Please report it, with "
        "what the same command prints under --debug"
    )


def _out_of_memory(error: BaseException) -> bool:
    """Whether torch lacked memory: a class of its own on a GPU, a plain RuntimeError on a CPU."""
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    )


def _place(error: BaseException) -> str:
    """The last line of ours that an error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(_PACKAGE)]
    last = (ours or frames)[-1]
    name = Path(last.filename)
    return f"{name.relative_to(_PACKAGE.parent) if ours else name}:{last.lineno}"


_PACKAGE = Path(frugal.__file__).parent


def _checked(text: str) -> str:
    """An argument that is text; `--name=~/x`, which shells leave as it is, with the home folder."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise FrugalError(f"the argument {text!r} is not UTF-8 text") from error
    if "\0" in text:
        raise FrugalError(f"the argument {text!r} has a NUL in it")
    if found := re.fullmatch(r"(--[\w-]+=)(~.*)", text, re.DOTALL):
        return found[1] + os.path.expanduser(found[2])
    return text


def _line(message: str) -> str:
    """A message as one line that a terminal can show, without passwords."""
    words = " ".join(without_passwords(message).split())
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in words)
    return line if len(line) <= 2000 else f"{line[:1000]} … {line[-900:]}"


def _flush() -> None:
    """Empty stdout; where that fails, let what is left in it go, or the exit would fail again."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
