"""(IA)³'s vectors: a layer's before and after training, and what each row of a mixed batch gets."""

import functools
import json
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from frugal import data
from frugal.errors import FrugalError, unknown
from frugal_course.calculators.answer import Answer, Calculator, Control, State, choice, slider
from frugal_course.calculators.picture import Axis, Colour, Grid, Line, Panel, Picture

STAGES = ("after", "before")
NOBODY = "none"  # a row of no task: the model without vectors
KINDS = ("l_k", "l_v", "cross l_k", "cross l_v", "l_ff")
RECORDED = data.ROOT / "checkpoints" / "nano-t0" / "ia3"  # pretrained on a mixture of tasks
_TYPES = {"F64": ("d", 8), "F32": ("f", 4), "F16": ("e", 2)}  # of safetensors
_LOOKS: tuple[tuple[Colour, str], ...] = (
    ("orange", ""), ("blue", "dashed"), ("green", "dotted"), ("grey", "dashed"),
)  # fmt: skip


class Vector(NamedTuple):
    """A vector of a saved adapter.

    layer: "encoder 0", "decoder 1", or "0" where there is one stack; vector: one of KINDS;
    values: (features,)
    """

    task: str
    layer: str
    vector: str
    values: Sequence[float]


def saved(folders: Mapping[str, str | Path]) -> list[Vector]:
    """The vectors of saved (IA)³ adapters, by task.

    Read without torch from the layout that `peft`'s `save` writes. Raises FrugalError for a folder
    without it, and for a projection that is not a key's, a value's or a feed-forward's.
    """
    found = []
    for task, folder in folders.items():
        file = Path(folder) / "adapter_model.safetensors"
        try:
            tensors = _tensors(file.read_bytes())
        except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
            raise FrugalError(f"{file}: no saved (IA)³ vectors ({error})") from error
        for name in sorted(tensors, key=_natural):
            shape, values = tensors[name]
            found.append(Vector(task, *_place(file, name, shape), values))
    return found


def _tensors(raw: bytes) -> dict[str, tuple[tuple[int, ...], Sequence[float]]]:
    """Shapes and numbers of a safetensors file: its header's length, a JSON header, the numbers."""
    (length,) = struct.unpack("<Q", raw[:8])
    header, body = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    found: dict[str, tuple[tuple[int, ...], Sequence[float]]] = {}
    for name, about in header.items():
        if name != "__metadata__":
            first, last = about["data_offsets"]
            code, size = _TYPES[about["dtype"]]
            values = struct.unpack(f"<{(last - first) // size}{code}", body[first:last])
            found[name] = tuple(about["shape"]), values
    return found


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
    vectors: Sequence[Vector],
    rows: Sequence[str],
    *,
    layer: int = 0,
    vector: str = "l_v",
    stage: str = "after",
    row: int = 0,
) -> Answer:
    """The vectors of one kind in one layer, and the factor each row of a batch is multiplied with.

    vectors: as `saved` returns them
    rows:    the task of each row of the batch; NOBODY for none
    layer:   counted from 0, decoder behind encoder; vector: one of KINDS; stage: of STAGES, all
             vectors being ones before training; row: the one that the sentence speaks of
    """
    layers, tasks = _layers(vectors), list(dict.fromkeys(v.task for v in vectors))
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
    here = [v for v in vectors if v.layer == layers[layer]]
    trained = {v.task: [*v.values] for v in here if v.vector == vector}
    if not trained:
        own = ", ".join(dict.fromkeys(v.vector for v in here))
        raise FrugalError(f"{_named(layers[layer])} has no {vector}; its are {own}")
    ones = [1.0] * len(next(iter(trained.values())))
    spread = max(*(abs(factor - 1) for own in trained.values() for factor in own), 1e-3)
    factors = {t: v if stage == "after" else ones for t, v in trained.items()} | {NOBODY: ones}
    far = {task: fmean(abs(factor - 1) for factor in own) for task, own in factors.items()}
    table = [
        {
            "row": i,
            "task": task,
            "least factor": min(factors[task]),
            "greatest factor": max(factors[task]),
            "mean distance from 1": far[task],
        }
        for i, task in enumerate(rows)
    ]
    task = rows[row]
    what = f"{vector} of {_named(layers[layer])}"
    moved = ", ".join(f"{t}: {far[t]:.4f}" for t in trained)
    times = (
        "is multiplied by 1: nothing changes for it"
        if far[task] == 0
        else f"has its {len(ones)} features multiplied by {min(factors[task]):.3f} to "
        f"{max(factors[task]):.3f}"
    )
    sentence = (
        f"{stage.capitalize()} training, {what} has {len(ones):,} numbers, on average this far "
        f"from 1: {moved}. Row {row} of the batch ({'no task' if task == NOBODY else task}) "
        f"{times}. All rows pass the same matrices at once."
    )
    gets = "ones" if task == NOBODY else task
    title = f"{what}, {stage} training: row {row} gets {gets}"
    panels = [_sorted(factors, spread), _batch(factors, spread, rows, row)]
    return Answer(Picture(title, panels), sentence, table)


def _layers(vectors: Sequence[Vector]) -> list[str]:
    return list(dict.fromkeys(v.layer for v in vectors))


def _named(layer: str) -> str:
    stack, _, number = layer.rpartition(" ")
    return f"{stack} layer {number}".strip()


def _sorted(factors: Mapping[str, Sequence[float]], spread: float) -> Panel:
    lines = []
    for (task, own), (colour, dash) in zip(factors.items(), _LOOKS * len(factors), strict=False):
        look = ("grey", "dotted") if task == NOBODY else (colour, dash)
        lines.append(Line([*enumerate(sorted(own))], look[0], task, look[1]))  # type: ignore[arg-type]
    count = len(factors[NOBODY])
    y = Axis("factor l", 1 - 1.25 * spread, 1 + 1.25 * spread)
    x = Axis(f"{count:,} features, sorted", 0, max(count - 1, 1), ticks=[])
    return Panel("the vectors, each sorted", x, y, lines)


def _batch(
    factors: Mapping[str, Sequence[float]], spread: float, rows: Sequence[str], row: int
) -> Panel:
    first = next(iter(factors.values()))
    order = sorted(range(len(first)), key=first.__getitem__)  # one order for all rows
    values = [[factors[task][n] for n in order] for task in rows]
    ticks = [(len(rows) - 1 - i, f"{i}: {task}") for i, task in enumerate(rows)]
    return Panel(
        "one batch, by row",
        Axis("the first task's order", 0, len(first), ticks=[]),
        Axis("", -0.5, len(rows) - 0.5, ticks=ticks),
        [Grid(values, 1.0, spread, "factor", row)],
    )


def calculator(vectors: Sequence[Vector], rows: Sequence[str] = ()) -> Calculator:
    """The calculator of these vectors.

    rows: tasks of a mixed batch, NOBODY for the model without vectors; by default each in turn
    """
    tasks = list(dict.fromkeys(v.task for v in vectors))
    batch = [*rows] or [*tasks, NOBODY] * 2
    kinds = [kind for kind in KINDS if any(v.vector == kind for v in vectors)]

    def controls(state: State, moved: str) -> list[Control]:
        return [
            slider("layer", "layer", state["layer"], 0, len(_layers(vectors)) - 1, 1),
            choice("vector", "vector", state["vector"], kinds),
            choice("stage", "training", state["stage"], STAGES),
            slider("row", "row of the batch", state["row"], 0, len(batch) - 1, 1),
        ]

    shown = functools.partial(look, vectors, batch)
    return Calculator("ia3", "What (IA)³ does to a batch", shown, controls)


CALCULATOR = calculator(saved({"mixture": RECORDED}))
