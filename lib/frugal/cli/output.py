"""What every command prints: one JSON object with --json, a short table without it; and the options
that all sweeps share."""

import json
import math
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
OnRay = Annotated[bool, typer.Option("--ray", help="On Ray: RAY_ADDRESS, or a local one.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what is left and stop.")]


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
