"""`frugal spaces`: draw designs, search among them, and report what the search found."""

from typing import Annotated, Any

import typer

from frugal.cli.output import Json, emit
from frugal.costs import arch as architectures
from frugal.costs.arch import Architecture
from frugal.errors import FrugalError
from frugal.spaces import sizes, space
from frugal.spaces.sizes import Sized

app = typer.Typer(help="Design spaces of parameter-efficient tuning, S0 to S4.")

DEFAULT_ARCH = "t5-base"


@app.command()
def sample(
    stage: Annotated[str, typer.Option(help="S0, S1, S2, S3 or S4, as the paper found them.")],
    layers: Annotated[
        int | None, typer.Option(min=1, help="Layers of the model, encoder and decoder together.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Designs to draw.")] = 100,
    budget: Annotated[
        float, typer.Option(help="Share of the model's parameters that is trained.")
    ] = sizes.BUDGET,
    seed: Annotated[int, typer.Option(help="Decides the draw.")] = 0,
    arch: Annotated[
        str | None,
        typer.Option(help="Whose parameters; else T5-base, or its widths at --layers layers."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Designs at random, with the sizes that meet the budget."""
    chosen = _architecture(arch, layers)
    drawn = space.stage(stage, chosen.layers + chosen.decoder_layers)
    designs = sizes.draw(drawn, chosen, count, seed=seed, budget=budget)
    emit(
        {
            "stage": stage,
            "arch": chosen.name,
            "seed": seed,
            "budget": round(budget * chosen.params),
            "space": drawn.count(),
            "designs": [_record(sized, as_json) for sized in designs],
        },
        as_json,
    )


def _record(sized: Sized, whole: bool) -> dict[str, Any]:
    """A design for a script, or the two columns of it that a person reads."""
    record: dict[str, Any] = {"text": str(sized.design), "params": sized.params}
    if whole:
        record["groups"] = [
            {"layers": list(g.layers), "methods": list(g.methods), "tuned": g.tuned}
            for g in sized.design.groups
        ]
        record["sizes"] = {str(layer): dict(of) for layer, of in sized.sizes.items()}
    return record


def _architecture(name: str | None, layers: int | None) -> Architecture:
    """The named one, or T5-base with as many layers, the larger half of them in its encoder."""
    if name is None and layers is not None:
        base = architectures.get(DEFAULT_ARCH)
        if layers == base.layers + base.decoder_layers:
            return base
        if layers < 2:
            raise FrugalError("--layers must be at least 2, or name an --arch")
        return base.replace(
            name=f"{DEFAULT_ARCH} of {layers} layers",
            layers=layers - layers // 2,
            decoder_layers=layers // 2,
        )
    found = architectures.get(name or DEFAULT_ARCH)
    has = found.layers + found.decoder_layers
    if layers not in (None, has):
        raise FrugalError(f"--layers {layers}: {found.name} has {has}")
    return found
