"""Options that commands share, each declared once, and the bounds of every number.

A range alone lets NaN through (it is below nothing); `_finite` does not. Every option of a number
is made here, which a test of all commands asserts, so that no command starts on nonsense.
"""

import json
import math
import os
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from frugal.engine import stderr
from frugal.engine.presets import VARIABLE
from frugal.errors import FrugalError

MOST = 10**15  # of anything that is counted: more than all tokens ever written
FILES = (".jsonl", ".json", ".csv", ".tsv")
SEEDS = 2**32 - 1  # the widest that Python, NumPy and torch all take


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


def count(*names: str, help: str, least: int = 1, most: int = MOST) -> Any:
    """An option (typer) for a whole number from `least` to `most`."""
    return typer.Option(*names, min=least, max=most, help=help)


def amount(*names: str, help: str, least: float = 0.0, most: float = 1e15) -> Any:
    """An option (typer) for a finite number from `least` to `most`."""
    return typer.Option(*names, min=least, max=most, callback=_finite, help=help)


def seed(help: str) -> Any:
    """An option (typer) for a seed, or for several."""
    return typer.Option(min=0, max=SEEDS, help=help)


def changes(given: Sequence[str] | None) -> dict[str, Any]:
    """What `--set NAME=VALUE` says, several times: values are JSON, or text where they are not."""
    found: dict[str, Any] = {}
    for text in given or []:
        name, _, value = text.partition("=")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def there(value: Any) -> Any:
    """A file, or a task's name; a file that is not there is told before anything heavy is read.

    Raises FrugalError for a name that ends as files do, where there is nothing.
    """
    for name in [value] if isinstance(value, str) else value or ():
        if name.lower().endswith(FILES) and not os.path.exists(name):
            raise FrugalError(f"{name}: No such file or directory")
    return value


def _told(context: typer.Context, option: typer.CallbackParam, value: str) -> str:
    """The preset; where it is the environment's, a note tells."""
    source = context.get_parameter_source(str(option.name))
    if source is not None and source.name == "ENVIRONMENT" and not context.resilient_parsing:
        stderr.note(f"the preset is {value}, from {VARIABLE}")
    return value


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
OnRay = Annotated[bool, typer.Option("--ray", help="On Ray: RAY_ADDRESS, or a local one.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what is left, what it costs; stop.")]
Preset = Annotated[
    str,
    typer.Option(
        envvar=VARIABLE,
        show_envvar=False,
        callback=_told,
        help="Where defaults come from: smoke, laptop, …; else FRUGAL_PRESET's.",
    ),
]
Seed = Annotated[int, seed(help="Decides which examples are drawn, and the training.")]
Limit = Annotated[int | None, count(help="Score only the first so many examples.")]
Template = Annotated[
    str, typer.Option(help=r"Prompt of a table of texts and labels, as '{text}\nLabel:'.")
]
BackboneName = Annotated[
    str | None, typer.Option("--backbone", help="Name, folder or hub id; else the preset's.")
]
Precision = Annotated[
    str | None,
    typer.Option(help="Of the model's weights: float32, bfloat16, int8, or fastest here."),
]
Truncate = Annotated[
    bool, typer.Option("--truncate", help="Cut the start of prompts that are too long.")
]
UsdPerHour = Annotated[float | None, amount(help="Of that GPU; else its listed price.")]
Mfu = Annotated[float, amount(help="Share of the GPU's peak that is reached.", most=1.0)]
