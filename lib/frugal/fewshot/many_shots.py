"""Many shots: what more examples in the prompt bring, and what they cost (`data/many_shots.toml`).

The record is one of `table1_record`'s kind. What k shots cost needs no run: it is counted from the
tokens of the prompts.
"""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from frugal import data, stats
from frugal.costs import flops
from frugal.costs.prices import ApiPrice
from frugal.costs.serving import ApiQuery
from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError
from frugal.fewshot import encoding, evaluate, icl, packing, table1_record
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

    Columns: shots; prefix and query (tokens of the shots and of a query, means); flops (exact, of
    one query, nothing cached), cached (the same where the shots' keys and values are there).
    Raises FrugalError for a model whose FLOPs have no closed form, or that caches no prefix.
    """
    if (shape := evaluate.architecture(backbone)) is None or backbone.family != "causal":
        raise FrugalError(f"{backbone.name}: no prefix that could be cached has a known price")
    queries = task.test(limit)
    encoded = encoding.encode(backbone, queries)
    fed = [sizes for e in encoded for sizes in packing.shapes(e)]  # one pass a query, all choices

    def each(more: int, behind: int) -> float:
        """Mean FLOPs of a query that reads so many tokens more, behind so many that are cached."""
        passes: Any = (s | {"prompt_tokens": s["prompt_tokens"] + more} for s in fed)
        return fmean(sum(flops.forward(shape, **s, context_tokens=behind).values()) for s in passes)

    found, alone = [], _tokens(backbone, [queries[0].prompt])[0]
    query = round(fmean(_tokens(backbone, [q.prompt for q in queries])))
    for way in plain(frozen(preset, PLAN)).values():
        if (way.shots or 0) > task.drawable:
            continue
        contexts = [
            icl.prompted(queries[:1], task.draw(way.shots or 0, draw))[0].prompt
            for draw in range(way.draws)
        ]
        prefix = round(fmean(_tokens(backbone, contexts))) - alone
        found.append((way.shots, prefix, query, each(prefix, 0), each(0, prefix)))
    return pd.DataFrame(found, columns=["shots", "prefix", "query", "flops", "cached"])


def _tokens(backbone: Backbone, texts: Sequence[str]) -> list[int]:
    return [len(ids) for ids in backbone.tokenizer(list(texts))["input_ids"]]


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
