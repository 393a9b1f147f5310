"""(IA)³'s vectors: a layer's before and after training, and what each row of a mixed batch gets."""

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from frugal import data
from frugal.errors import FrugalError, unknown
from frugal_course.calculators.answer import choice, slider
from frugal_course.explorers.view import Explorer, View
from frugal_course.figures.peft import DIVERGING
from frugal_course.figures.style import BLUE, GREEN, GREY, ORANGE, apart, beside, heading, panels

STAGES = ("after", "before")
NOBODY = "none"  # a row of no task: the model without vectors
KINDS = ("l_k", "l_v", "cross l_k", "cross l_v", "l_ff")
_LOOKS = ((ORANGE, "-"), (BLUE, "--"), (GREEN, "-."), (GREY, ":"))


def saved(folders: Mapping[str, str | Path]) -> pd.DataFrame:
    """The vectors of saved (IA)³ adapters, by task: columns task, layer, vector and values.

    layer: "encoder 0", "decoder 1", or "0" where there is one stack; vector: one of KINDS; values:
    (features,) float array. Read without torch from the layout that `peft`'s `save` writes. Raises
    FrugalError for a folder without it, and for a projection that is not a key's, a value's or a
    feed-forward's.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    rows = []
    for task, folder in folders.items():
        file = Path(folder) / "adapter_model.safetensors"
        try:
            tensors = load_file(file)
        except (OSError, SafetensorError) as error:
            raise FrugalError(f"{file}: no saved (IA)³ vectors ({error})") from error
        for name in sorted(tensors, key=_natural):
            rows.append((task, *_place(file, name, tensors[name].shape), tensors[name].ravel()))
    return pd.DataFrame(rows, columns=["task", "layer", "vector", "values"])


def _natural(name: str) -> list[str | int]:
    """Numbers count as numbers; an encoder comes before its decoder."""
    parts = re.split(r"(\d+)", name.replace("model.decoder.", "model.later."))
    return [int(part) if part.isdigit() else part for part in parts]


def _place(file: Path, name: str, shape: tuple[int, ...]) -> tuple[str, str]:
    """Layer and kind of a vector, from the name of its projection."""
    module = name.removeprefix("base_model.model.").removesuffix(".ia3_l")
    number, last = re.search(r"\d+", module), module.rpartition(".")[2]
    cross = "cross " if re.search("crossattention|EncDecAttention", module) else ""
    in_front = len(shape) == 2 and shape[0] == 1
    kind = {"k": f"{cross}l_k", "v": f"{cross}l_v"}.get(last[0])
    if module == name or number is None or (not in_front and kind is None):
        raise FrugalError(f"{file}: {name} is no (IA)³ vector of keys, values or a feed-forward")
    stack = next((f"{s} " for s in ("encoder", "decoder") if module.startswith(f"{s}.")), "")
    return f"{stack}{number.group()}", "l_ff" if in_front or kind is None else kind


def look(
    vectors: pd.DataFrame,
    rows: Sequence[str],
    *,
    layer: int = 0,
    vector: str = "l_v",
    stage: str = "after",
    row: int = 0,
) -> View:
    """The vectors of one kind in one layer, and the factor each row of a batch is multiplied with.

    vectors: as `saved` returns them
    rows:    the task of each row of the batch; NOBODY for none
    layer:   counted from 0, decoder behind encoder; vector: one of KINDS; stage: of STAGES, all
             vectors being ones before training; row: the one that the sentence speaks of
    """
    layers, tasks = list(dict.fromkeys(vectors["layer"])), list(dict.fromkeys(vectors["task"]))
    if not 0 <= layer < len(layers):
        raise FrugalError(f"layer must be from 0 to {len(layers) - 1}, not {layer}")
    if not 0 <= row < len(rows):
        raise FrugalError(f"row must be from 0 to {len(rows) - 1}, not {row}")
    for name, value, known in (("stage", stage, STAGES), ("vector", vector, KINDS)):
        if value not in known:
            raise unknown(name, value, known)
    for task in set(rows) - {NOBODY}:
        if task not in tasks:
            raise unknown("task", task, [*tasks, NOBODY])
    here = vectors[(vectors["layer"] == layers[layer]) & (vectors["vector"] == vector)]
    if here.empty:
        own = vectors.loc[vectors["layer"] == layers[layer], "vector"].unique()
        raise FrugalError(f"{_named(layers[layer])} has no {vector}; its are {', '.join(own)}")
    trained = dict(zip(here["task"], here["values"], strict=True))
    ones = np.ones(len(next(iter(trained.values()))))
    spread = max(*(float(abs(v - 1).max()) for v in trained.values()), 1e-3)
    factors = {t: v if stage == "after" else ones for t, v in trained.items()} | {NOBODY: ones}
    table = pd.DataFrame(
        [
            {
                "row": i,
                "task": task,
                "least factor": float(factors[task].min()),
                "greatest factor": float(factors[task].max()),
                "mean distance from 1": float(abs(factors[task] - 1).mean()),
            }
            for i, task in enumerate(rows)
        ]
    )
    mine, task = table.iloc[row], rows[row]
    what = f"{vector} of {_named(layers[layer])}"
    moved = ", ".join(f"{t}: {abs(factors[t] - 1).mean():.4f}" for t in tasks)
    times = (
        "is multiplied by 1: nothing changes for it"
        if mine["mean distance from 1"] == 0
        else f"has its {len(ones)} features multiplied by {mine['least factor']:.3f} to "
        f"{mine['greatest factor']:.3f}"
    )
    sentence = (
        f"{stage.capitalize()} training, {what} has {len(ones):,} numbers, on average this far "
        f"from 1: {moved}. Row {row} of the batch ({'no task' if task == NOBODY else task}) "
        f"{times}. All rows pass the same matrices at once."
    )
    title = (
        f"{what}, {stage} training: row {row} {'gets ones' if task == NOBODY else f'gets {task}'}"
    )
    return View(_figure(factors, spread, rows, row, title), sentence, table)


def _named(layer: str) -> str:
    stack, _, number = layer.rpartition(" ")
    return f"{stack} layer {number}".strip()


def _figure(
    factors: Mapping[str, "np.ndarray[tuple[int], np.dtype[np.float64]]"],
    spread: float,
    rows: Sequence[str],
    row: int,
    title: str,
) -> Figure:
    figure, (at, batch) = panels(2, title, height=3.8, width=11)
    heading(at, "the vectors, each sorted")
    colours = {}
    for (task, values), (colour, line) in zip(factors.items(), _LOOKS * len(factors), strict=False):
        colour, line = (GREY, ":") if task == NOBODY else (colour, line)
        at.plot(np.sort(values), color=colour, linestyle=line, linewidth=2)
        colours[task] = colour
    lowest = sorted(factors, key=lambda task: factors[task].max())
    heights = apart([factors[task].max() for task in lowest], spread / 7)
    for task, height in zip(lowest, heights, strict=True):
        beside(at, task, len(factors[task]) * 1.02, height, colours[task], right=0)
    at.set(
        xlabel=f"{len(factors[NOBODY]):,} features, sorted",
        ylabel="factor l",
        ylim=(1 - 1.25 * spread, 1 + 1.25 * spread),
        xlim=(0, 1.3 * len(factors[NOBODY])),
        xticks=[],
    )
    at.ticklabel_format(axis="y", useOffset=False)
    grid = np.stack([factors[task] for task in rows])
    order = np.argsort(next(iter(factors.values())), kind="stable")  # one order for all rows
    drawn = batch.imshow(
        grid[:, order],
        aspect="auto",
        cmap=DIVERGING,
        vmin=1 - spread,
        vmax=1 + spread,
        interpolation="nearest",
    )
    batch.grid(visible=False)
    batch.axhspan(row - 0.5, row + 0.5, fill=False, edgecolor="black", linewidth=2)
    batch.set_yticks(range(len(rows)), [f"{i}: {task}" for i, task in enumerate(rows)])
    batch.set(xticks=[], xlabel="the same features in the order of the first task")
    heading(batch, "one batch, row by row: h ⊙ l[task]")
    figure.colorbar(drawn, ax=batch, label="factor", fraction=0.06)
    return figure


def ia3(
    vectors: pd.DataFrame | None = None,
    rows: Sequence[str | None] = (),
    **given: Any,
) -> Explorer:
    """Explore (IA)³ vectors; without any, those that were pretrained for nano-t0.

    rows: tasks of a mixed batch, None for the model without vectors; by default each task in turn
    """
    if vectors is None:
        vectors = saved({"mixture": data.ROOT / "checkpoints" / "nano-t0" / "ia3"})
    tasks = list(dict.fromkeys(vectors["task"]))
    batch = [task or NOBODY for task in rows] or [*tasks, NOBODY] * 2
    shown = functools.partial(look, vectors, batch)
    at = {"layer": 0, "vector": "l_v", "stage": "after", "row": 0, **given}
    shown(**at)  # what it refuses is said before a control is made
    last = vectors["layer"].nunique() - 1
    kinds = [kind for kind in KINDS if kind in set(vectors["vector"])]
    controls = [
        slider("layer", "layer", at["layer"], 0, last, 1),
        choice("vector", "vector", at["vector"], kinds),
        choice("stage", "training", at["stage"], STAGES),
        slider("row", "row of the batch", at["row"], 0, len(batch) - 1, 1),
    ]
    return Explorer("ia3", shown, controls)
