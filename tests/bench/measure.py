"""How `make bench` measures: the sides of a work take turns, and a row says who was faster.

A peer is measured in every precision it runs in, and the faster one counts. A work's rows are
written as soon as they are measured; those that are there, of this machine and day, are kept.
"""

import datetime
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pandas as pd
import torch

from frugal.engine import files, presets

OWN = "ours"  # as a peer: the same work in float32
FLOAT = "float32"
Row = dict[str, Any]
Key = TypeVar("Key", bound=Hashable)


class Answer(NamedTuple):
    """What a side computed: numbers that both must agree on, and what a precision could change."""

    values: torch.Tensor
    gradient: torch.Tensor | None = None
    predictions: torch.Tensor | None = None


class Work(NamedTuple):
    """Something to measure, by its name in the table."""

    name: str
    rows: Callable[[], list[Row]]


def turns(sides: Mapping[Key, Callable[[], Any]], repeats: int) -> tuple[dict[Key, float], Any]:
    """Median seconds of each side, and its last answer.

    They take turns, so that a slow minute of the machine slows all; where there is more than one
    turn, there is another that only warms up.
    """
    seconds: dict[Key, list[float]] = {key: [] for key in sides}
    answers = {}
    for _ in range(repeats + (repeats > 1)):
        for key, run in sides.items():
            started = time.perf_counter()
            answers[key] = run()
            seconds[key].append(time.perf_counter() - started)
    return {key: statistics.median(s[-repeats:]) for key, s in seconds.items()}, answers


def compare(
    work: str,
    peer: str,
    theirs: Mapping[str, Callable[[], Answer]],
    ours: Mapping[str, Callable[[], Answer]],
    goals: Mapping[tuple[str, str], float],
    repeats: int,
    tolerance: float,
) -> list[Row]:
    """A row for each precision of ours: against the peer's fastest, and against our own float32.

    theirs, ours: by precision
    goals:        ratio by peer and our precision; "fastest" is whichever of ours is
    tolerance:    so far, relative and absolute, both sides' answers in float32 agree
    """
    sides = {("theirs", p): run for p, run in theirs.items()}
    sides |= {("ours", p): run for p, run in ours.items()}
    seconds, answers = turns(sides, repeats)
    one, other = (answers[side, FLOAT] for side in ("ours", "theirs"))
    gap = (one.values - other.values).abs().max()
    assert torch.allclose(one.values, other.values, rtol=tolerance, atol=tolerance), (work, gap)
    every = (f"{peer if who == 'theirs' else who} {p}" for who, p in sides)
    print(f"{work}: " + ", ".join(map("{} {:.2f} s".format, every, seconds.values())))
    best = min(theirs, key=lambda p: seconds["theirs", p])
    fastest = min(ours, key=lambda p: seconds["ours", p])
    found = []
    for precision in ours:
        mine = seconds["ours", precision]
        for whose, of, theirs_s in (
            (peer, best, seconds["theirs", best]),
            (OWN, FLOAT, seconds["ours", FLOAT]),
        ):
            if whose == OWN and precision == FLOAT:
                continue
            goal = goals.get((whose, precision))
            if goal is None and precision == fastest:
                goal = goals.get((whose, "fastest"))
            alike = {} if precision == FLOAT else same(answers["ours", precision], one)
            found.append(row(work, whose, of, precision, theirs_s, mine, goal, repeats) | alike)
    return found


def same(answer: Answer, reference: Answer) -> dict[str, float]:
    """Share of predictions that are the reference's, and cosine of the gradients."""
    found = {}
    if answer.predictions is not None:
        found["same_predictions"] = (answer.predictions == reference.predictions).double().mean()
    if answer.gradient is not None:
        found["gradient_cosine"] = torch.cosine_similarity(
            answer.gradient.double(), reference.gradient.double(), dim=0
        )
    return {name: round(float(value), 4) for name, value in found.items()}


def row(
    work: str,
    peer: str,
    peer_precision: str,
    precision: str,
    peer_s: float,
    ours_s: float,
    goal: float | None,
    repeats: int,
) -> Row:
    """One line of the table."""
    return {
        "work": work,
        "peer": peer,
        "peer_precision": peer_precision,
        "precision": precision,
        "peer_s": round(peer_s, 4),
        "ours_s": round(ours_s, 4),
        "ratio": round(peer_s / ours_s, 3),
        "goal": None if goal is None else round(goal, 3),
        "repeats": repeats,
    }


COLUMNS = [
    *("work", "peer", "peer_precision", "precision", "peer_s", "ours_s", "ratio", "goal"),
    *("repeats", "same_predictions", "gradient_cosine", "date", "machine", "torch"),
]


def run(works: Iterable[Work], out: Path | None, *, only: str = "", again: bool = False) -> None:
    """Measure what of `works` has `only` in its name, and keep the table `out` up to date.

    What it has of this machine and day is measured only `again`; without `out` nothing is kept.
    """
    works = list(works)
    today = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{presets.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
    }
    wanted = [work for work in works if only in work.name]
    if not wanted:
        raise SystemExit(f"no work has {only!r} in its name: {', '.join(w.name for w in works)}")
    for work in wanted:
        there = read(out)
        mine = [r for r in there if r["work"] == work.name]
        if mine and not again and all(r[k] == v for r in mine for k, v in today.items()):
            print(f"{work.name}: measured today")
            continue
        rows = [r | today for r in work.rows()]
        for r in rows:
            print(line(r), flush=True)
        if out:
            kept = [r for r in there if r["work"] != work.name]
            write(out, kept + rows, [w.name for w in works])


def line(r: Row) -> str:
    """A row, for whoever watches."""
    shown = [f"{r['precision']} against {r['peer']} {r['peer_precision']}:"]
    if "ours_s" in r:
        shown += [f"{r['ours_s']:.3f} s against {r['peer_s']:.3f} s,"]
    shown += [f"ratio {r['ratio']:.3g}"] + ([f"(goal {r['goal']:.3g})"] if r["goal"] else [])
    shown += [f"{name} {r[name]}" for name in ("same_predictions", "gradient_cosine") if name in r]
    return "  " + " ".join(shown)


def read(out: Path | None) -> list[Row]:
    """The table's rows; those from before there were precisions are of float32."""
    if not out or not out.exists():
        return []
    table = pd.read_csv(out)
    for name in ("peer_precision", "precision"):
        table[name] = table[name].fillna(FLOAT) if name in table else FLOAT
    rows: list[Row] = table.to_dict("records")
    return rows


def write(out: Path, rows: list[Row], order: list[str]) -> None:
    """The whole table, works in this order; what is no work any more goes."""
    rows = sorted((r for r in rows if r["work"] in order), key=lambda r: order.index(r["work"]))
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    files.write(out, table.to_csv(index=False))
