"""`frugal pretrain`: make nano-t0 anew."""

from pathlib import Path
from typing import Annotated

import typer

from frugal.cli.options import Json, count
from frugal.cli.options import seed as seeds
from frugal.cli.output import Outputs, emit


def pretrain(
    out: Annotated[
        Path, typer.Option(help="Folder for it; a training killed there goes on.")
    ] = Path("runs/nano-t0"),
    steps: Annotated[int | None, count(help="Fewer than the full run's.")] = None,
    seed: Annotated[int, seeds(help="Decides the decoder's start and what is drawn.")] = 0,
    as_json: Json = False,
) -> None:
    """Train nano-t0 on the mixture of prompts, then (IA)³ vectors for it; load it as a folder.

    Tasks of BIG-bench take part if that artifact was fetched.
    """
    from frugal.engine import backbones
    from frugal.pretraining import mixture, pretrain

    Outputs({}, {"--out": out})
    recipe = pretrain.Recipe.model_validate({"seed": seed} | ({"steps": steps} if steps else {}))
    prompts = mixture.load()
    loss = pretrain.pretrain(prompts, recipe, out)
    fewer = min(recipe.steps, pretrain.VECTORS.steps)
    backbone = backbones.load(str(out), truncate=True)
    trained = pretrain.vectors(
        backbone, prompts, out, pretrain.VECTORS.model_copy(update={"steps": fewer})
    )
    emit(
        {
            "folder": str(out),
            "steps": recipe.steps,
            "loss": loss[-1],
            "tasks": [c.name for c in prompts.components],
            "left_out": list(prompts.left_out),
            "vectors": str(out / "ia3"),
            "vector_params": trained.tuned.trainable_params,
            "vector_loss": trained.loss[-1],
        },
        as_json,
    )
