"""Many shots: what more examples in the prompt bring, and what they cost (`data/many_shots.toml`).

The record is one of `table1_record`'s kind. What k shots cost needs no run: it is counted from the
tokens of the prompts.
"""

import math
from statistics import fmean

import pandas as pd

from frugal import data, stats
from frugal.costs.prices import ApiPrice
from frugal.costs.serving import ApiQuery
from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError
from frugal.fewshot import encoding, evaluate, icl, table1_record
from frugal.fewshot.table1_plan import Frozen, Way, frozen
from frugal.fewshot.table1_record import CALIBRATED
from frugal.tasks import Task

PLAN = "many-shots"
RECORD = data.ROOT / "results" / "many_shots.csv"
# What is set against what, paired by text.
PAIRS = (
    ("icl-128", "icl-16"),
    ("icl-128", "zero-shot"),
    ("icl-16" + CALIBRATED, "icl-16"),
    ("icl-128" + CALIBRATED, "icl-128"),
    ("8 nearest", "icl-8"),
    ("8 nearest", "icl-128"),
    ("4 + 4 nearest", "8 nearest"),
    ("icl-16", "icl-16, swapped"),
    ("ia3", "icl-128"),
)


def plain(plan: Frozen) -> dict[str, Way]:
    """The ways that differ in their number of shots alone, fewest first."""
    found = {
        name: way
        for name, way in plan.ways.items()
        if way.kind == "prompt" and not (way.swapped or way.reordered)
    }
    return dict(sorted(found.items(), key=lambda item: item[1].shots or 0))


def points(preset: str = "") -> int:
    """Of a whole `curve`: each number of shots on each task, as it is and calibrated."""
    plan = frozen(preset, PLAN)
    return 2 * len(plan.tasks) * len(plain(plan))


def curve(rows: pd.DataFrame, preset: str = "") -> pd.DataFrame:
    """Accuracy against the number of shots, as they are and calibrated.

    rows: `table1_record.recorded`; of the ways that have all their draws
    Columns: task, shots, calibrated, accuracy, low, high (its 95 % interval over draws and texts).
    """
    plan, found = frozen(preset, PLAN), []
    for task in plan.tasks:
        for name, way in plain(plan).items():
            for suffix in ("", CALIBRATED):
                if len(mine := table1_record.hits(rows, task, name + suffix)) == way.draws:
                    level = stats.compare(mine[0] if way.draws == 1 else mine, 0.0)
                    ends = level.difference, level.low, level.high
                    found.append((task, way.shots, bool(suffix), *ends))
    columns = ["task", "shots", "calibrated", "accuracy", "low", "high"]
    return pd.DataFrame(found, columns=columns)


def costs(backbone: Backbone, task: Task, *, limit: int, preset: str = "") -> pd.DataFrame:
    """What a query costs behind each number of shots that `task` has; a row for each.

    Columns, means over draws: shots; prefix and query (tokens that all prompts share, the shots
    among them, and of a query behind these); flops (exact, of one query, nothing cached), cached
    (the same where the prefix's keys and values are there).
    Raises FrugalError for a model whose FLOPs have no closed form, or that caches no prefix.
    """
    if evaluate.architecture(backbone) is None or backbone.family != "causal":
        raise FrugalError(f"{backbone.name}: no prefix that could be cached has a known price")
    queries, found = task.test(limit), []
    for way in plain(frozen(preset, PLAN)).values():
        if (way.shots or 0) > task.drawable:
            continue
        draws = []
        for draw in range(way.draws):
            asked = icl.prompted(queries, task.draw(way.shots or 0, draw))
            encoded = encoding.encode(backbone, asked)
            prefix = icl.prefix(encoded)
            whole = evaluate.counted(evaluate.query_flops(backbone, encoded), backbone.name)
            own = fmean(e.start - prefix for e in encoded)
            draws.append((prefix, own, whole, icl.behind(backbone, encoded)[1]))
        front, behind, *spent = map(fmean, zip(*draws, strict=True))
        found.append((way.shots, round(front), round(behind), *spent))
    return pd.DataFrame(found, columns=["shots", "prefix", "query", "flops", "cached"])


def dollars(costs: pd.DataFrame, price: ApiPrice, queries: int) -> pd.DataFrame:
    """What `queries` take through an API behind each number of shots, answers left out.

    Columns: shots, uncached, cached (USD; one query right after the other, so that all but the
    first find the shots in the cache).
    """
    found = []
    for row in costs.itertuples():
        query = ApiQuery(price=price, prefix_tokens=row.prefix, query_tokens=row.query)
        found.append((row.shots, queries * query.uncached(), query.total(queries)))
    return pd.DataFrame(found, columns=["shots", "uncached", "cached"])


def differences(rows: pd.DataFrame) -> dict[tuple[str, str], dict[str, stats.Difference]]:
    """Each of PAIRS by task, where both are recorded whole."""
    return {
        pair: found
        for pair in PAIRS
        if (found := table1_record.differences(rows, *pair, plan=PLAN))
    }


def spread(rows: pd.DataFrame, task: str, way: str) -> float | None:
    """Standard deviation of the accuracy between draws, apart from what the texts explain.

    None where not all draws are recorded.
    """
    hits = table1_record.hits(rows, task, way)
    if len(hits) < frozen(plan=PLAN).ways[way].draws:
        return None
    parts = stats.compare(hits, 0.0).components
    return math.sqrt(max(0.0, parts.draw)) if parts else None
