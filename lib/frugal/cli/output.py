"""What every command prints: one JSON object with --json, a short table without it; and the options
that all sweeps share."""

import json
import math
import sys
from typing import Annotated, Any

import typer

from frugal.engine.presets import VARIABLE

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
OnRay = Annotated[bool, typer.Option("--ray", help="On Ray: RAY_ADDRESS, or a local one.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what is left and stop.")]


def preset_option(help: str) -> Any:
    """--preset: what is given, or else the environment's, of which one line on stderr tells."""

    def told(context: typer.Context, option: typer.CallbackParam, value: str) -> str:
        source = context.get_parameter_source(str(option.name))
        if source is not None and source.name == "ENVIRONMENT" and not context.resilient_parsing:
            print(f"frugal: note: the preset is {value}, from {VARIABLE}", file=sys.stderr)
        return value

    return typer.Option(envvar=VARIABLE, show_envvar=False, callback=told, help=help)


def emit(result: dict[str, Any], as_json: bool) -> None:
    """Print `result`; numbers are not rounded in JSON, lists of records become rows in text."""
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False, allow_nan=False))
        return
    for key, value in result.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            typer.echo(f"{key}:")
            for record in value:
                typer.echo("  " + "  ".join(f"{k}={_short(v)}" for k, v in record.items()))
        else:
            typer.echo(f"{key}: {_short(value)}")


def _short(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.6g}"
    return str(value)
