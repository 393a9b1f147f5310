"""The record of our own Table 1 (`data/results/table1.csv`): how it is written, and what it says.

A row is a run of `table1`: one way on one task with one draw of labels. Rows of several precisions
may stand beside each other; what is said of ways is of one, and never of a part of their draws.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frugal import data, stats
from frugal.engine import presets, runs
from frugal.errors import FrugalError, reason
from frugal.fewshot import table1_plan

CALIBRATED = ", calibrated"  # behind the name of a way that is prompted
RECORD = data.ROOT / "results" / "table1.csv"
# By what follows.
USED = ["task", "way", "draw", "accuracy", "hits", "examples", "flops_per_query", "precision"]
# What is compared over tasks: T-Few and its rivals, and what each loss adds.
PAIRS = (
    ("ia3", "icl-16"),
    ("ia3", "icl-16" + CALIBRATED),
    ("ia3", "icl-4"),
    ("ia3", "icl-64"),
    ("ia3", "zero-shot"),
    ("ia3", "zero-shot" + CALIBRATED),
    ("ia3", "head"),
    ("ia3", "lora"),
    ("ia3", "bitfit"),
    ("ia3", "layernorm"),
    ("ia3", "full"),
    ("icl-16" + CALIBRATED, "icl-16"),
    ("ia3", "L_LM"),
    ("ia3", "L_LM + L_LN"),
    ("ia3", "L_LM + L_UL"),
)


def records(store: runs.Store, wanted: Sequence[runs.RunSpec]) -> list[dict[str, Any]]:
    """The runs that are done, as `data/results/table1.csv` keeps them, sorted.

    A run of a prompted way is two rows: as it is, and calibrated.
    """
    machine, found = presets.machine(), []
    for spec in wanted:
        if not store.done(spec.id):
            continue
        took, result = store.machine(spec.id), store.result(spec.id)
        other = result.pop("calibrated", None)
        about = {
            "shots": spec.params["shots"],
            "lr": spec.params["recipe"].get("lr"),
            "seconds": round(took["seconds"], 2),
            "precision": spec.params["precision"],
            "backbone": spec.params["backbone"],
            "preset": spec.preset,
            "date": took["started"][:10],
            "machine": machine,
            "versions": spec.inputs["versions"],
            "spec": spec.id,
        }
        named = {k: spec.params[k] for k in ("task", "way", "draw")}
        for suffix, of in (("", result), (CALIBRATED, other)):
            if of:
                accuracy = {"accuracy": of.pop("score")}
                found.append({**named, "way": named["way"] + suffix, **accuracy, **of, **about})
    return sorted(found, key=lambda row: [row[k] for k in ("task", "way", "precision", "draw")])


def kept(file: Path | None, wanted: Sequence[runs.RunSpec]) -> pd.DataFrame:
    """The rows that `file` has of these runs, as text: what need not be run again.

    None where there is no such file. Raises FrugalError, which names the line, for a row that none
    of these runs makes, that was changed, or that is there twice.
    """
    if file is None or not file.exists():
        return pd.DataFrame(columns=["spec", *USED], dtype=str)
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise FrugalError(f"{file}: not a table of runs: {reason(error)}") from error
    if missing := [name for name in ("spec", *USED) if name not in table]:
        raise FrugalError(f"{file}: not a table of runs: no column {missing[0]}")
    by = {spec.id: spec for spec in wanted}
    for line, row in enumerate(table.to_dict("records"), start=2):
        if problem := _problem(row, by.get(row["spec"])):
            raise FrugalError(f"{file}, line {line}: {problem}")
    if (twice := table.duplicated(["spec", "way"])).any():
        raise FrugalError(f"{file}, line {twice.idxmax() + 2}: its run is there twice")
    for run, rows in table.groupby("spec")["way"].size().items():
        if rows != 1 + (by[str(run)].params["kind"] == "prompt"):
            raise FrugalError(f"{file}: of run {run} one row of two is there; take that one out")
    return table


def _problem(row: Mapping[str, str], spec: runs.RunSpec | None) -> str:
    """Why a row is not what its run left, if it is not."""
    if spec is None:
        made = row.get("versions", "libraries that are not named")
        return (
            f"none of these runs makes this row: its model, task, preset or libraries ({made}) are "
            "others; name another file"
        )
    said = [row["task"], row["way"].removesuffix(CALIBRATED), row["draw"], row["precision"]]
    if said != [str(spec.params[name]) for name in ("task", "way", "draw", "precision")]:
        return f"it was changed: {', '.join(said)} is not what run {spec.id} is of"
    try:
        right = stats.unpacked(row["hits"], int(row["examples"])).mean()
        return "" if float(row["accuracy"]) == right else "its accuracy is not that of its hits"
    except ValueError as error:
        return str(error)


def joined(file: Path | None, store: runs.Store, wanted: Sequence[runs.RunSpec]) -> pd.DataFrame:
    """What `file` keeps of these runs and what `store` has of the others, as text, sorted."""
    mine = kept(file, wanted)
    there = set(mine["spec"])
    new = pd.DataFrame(records(store, [spec for spec in wanted if spec.id not in there]))
    new = new.map(lambda value: "" if value is None or value != value else str(value))
    table = pd.concat([part for part in (mine, new) if len(part)] or [mine], ignore_index=True)
    by = ["task", "way", "precision", "draw"]
    key = {"key": lambda column: column.astype(int) if column.name == "draw" else column}
    return table.sort_values(by, ignore_index=True, **key)


def recorded(file: Path = RECORD, precision: str = "", *, plan: str = "table1") -> pd.DataFrame:
    """The rows that `records` made, of one precision; none where nothing is recorded.

    precision: by default the one of most rows; of a way that cannot have it, those in float32
    """
    if not file.exists():
        return pd.DataFrame(columns=USED)
    rows, ways = pd.read_csv(file, dtype={"hits": str}), table1_plan.frozen(plan=plan).ways

    def chosen(asked: str) -> "pd.Series[bool]":
        own = {n + s: way.precision(asked) for n, way in ways.items() for s in ("", CALIBRATED)}
        return rows["precision"] == rows["way"].map(own)

    every = sorted(rows["precision"].unique(), key=lambda name: name == "float32")
    most = max(every, key=lambda name: chosen(name).sum(), default="float32")
    return rows[chosen(precision or most)]


def hits(rows: pd.DataFrame, task: str, way: str) -> NDArray[np.bool_]:
    """(draws, texts) which texts were answered rightly, as `stats.compare` takes them."""
    mine = rows[(rows["task"] == task) & (rows["way"] == way)].sort_values("draw")
    found = [stats.unpacked(*row) for row in zip(mine["hits"], mine["examples"], strict=True)]
    return np.stack(found) if found else np.empty((0, 0), dtype=bool)


def differences(
    rows: pd.DataFrame,
    ours: str,
    theirs: str,
    *,
    among: pd.DataFrame | None = None,
    plan: str = "table1",
) -> dict[str, stats.Difference]:
    """By task, what `ours` answers rightly less what `theirs` does, paired by text.

    Of the tasks on which both ways have all their draws. among: the rows of theirs, if others
    """
    frozen, found = table1_plan.frozen(plan=plan), {}
    for task in frozen.tasks:
        sides = [hits(rows, task, ours), hits(rows if among is None else among, task, theirs)]
        wanted = [frozen.ways[way.removesuffix(CALIBRATED)].draws for way in (ours, theirs)]
        if [len(side) for side in sides] == wanted:
            found[task] = stats.compare(*(s[0] if len(s) == 1 else s for s in sides))
    return found


def against_float32(way: str, file: Path = RECORD) -> tuple[str, dict[str, stats.Difference]]:
    """The record's own precision and, by task, what it answers rightly less what float32 does.

    Of the tasks on which a way has all draws in both, paired by draw and text. None where the
    record's own is float32, or the way has no other.
    """
    low, high = recorded(file), recorded(file, "float32")
    low = low[(low["way"] == way) & (low["precision"] != "float32")]
    name = "float32" if low.empty else str(low["precision"].iloc[0])
    return name, differences(low, way, way, among=high)


def means(rows: pd.DataFrame, *, plan: str = "table1") -> pd.DataFrame:
    """Mean accuracies, a row a task and a column a way; NaN where not all draws are recorded."""
    frozen = table1_plan.frozen(plan=plan)
    by = rows.groupby(["task", "way"])["accuracy"].agg(["mean", "size"]).reset_index()
    draws = by["way"].map(lambda way: frozen.ways[way.removesuffix(CALIBRATED)].draws)
    table = by[by["size"] == draws].pivot(index="task", columns="way", values="mean")
    names = [name + suffix for name in frozen.ways for suffix in ("", CALIBRATED)]
    return table.reindex(
        index=[task for task in frozen.tasks if task in table.index],
        columns=[name for name in names if name in table.columns],
    )


def verdicts(rows: pd.DataFrame, ours: str, theirs: str) -> pd.DataFrame:
    """A row a task on which both ways are recorded, the clearest gain first.

    Columns: task, ours and theirs (mean accuracies), ours_flops and theirs_flops (of a query),
    difference, low, high, and verdict, which says these in points.
    """
    records = []
    for task, found in differences(rows, ours, theirs).items():
        mine = rows[rows["task"] == task].groupby("way")[["accuracy", "flops_per_query"]].mean()
        records.append(
            {
                "task": task,
                "ours": mine.loc[ours, "accuracy"],
                "theirs": mine.loc[theirs, "accuracy"],
                "ours_flops": mine.loc[ours, "flops_per_query"],
                "theirs_flops": mine.loc[theirs, "flops_per_query"],
                "difference": found.difference,
                "low": found.low,
                "high": found.high,
                "verdict": str(found),
            }
        )
    columns = ["task", "ours", "theirs", "ours_flops", "theirs_flops", "difference", "low", "high"]
    table = pd.DataFrame(records, columns=[*columns, "verdict"])
    return table.sort_values("difference", ascending=False, ignore_index=True)


def over_tasks(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each pair of PAIRS that is recorded: the mean difference over its tasks.

    Columns: ours, theirs, tasks (how many are recorded), planned (how many there are to be),
    difference (these tasks taken as given), sample (as a sample of tasks like them), flops (of a
    query of theirs, in those of ours: mean ratio).
    """
    plan, records = table1_plan.frozen(), []
    flops = rows.groupby(["task", "way"])["flops_per_query"].mean()
    for ours, theirs in PAIRS:
        each = differences(rows, ours, theirs)
        if not each:
            continue
        enough = len(each) >= stats.FEWEST
        also = any(plan.ways[way.removesuffix(CALIBRATED)].also for way in (ours, theirs))
        records.append(
            {
                "ours": ours,
                "theirs": theirs,
                "tasks": len(each),
                "planned": len(plan.also if also else plan.tasks),
                "difference": str(stats.average([*each.values()])),
                "sample": str(stats.average([*each.values()], sample=True)) if enough else "",
                "flops": fmean(flops[task, theirs] / flops[task, ours] for task in each),
            }
        )
    columns = ["ours", "theirs", "tasks", "planned", "difference", "sample", "flops"]
    return pd.DataFrame(records, columns=columns)
