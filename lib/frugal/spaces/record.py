"""A search as a table of its runs, from which all that it says can be computed again.

`make reproduce CH=4` writes the long search to `data/results/spaces_runs.csv`; whoever shows it
reads it here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from frugal import data, stats
from frugal.engine import presets, sweep
from frugal.errors import FrugalError
from frugal.spaces.search import Search, Stage, papers_winner

FILE = data.ROOT / "results" / "spaces_runs.csv"
SUMMARY = ["stage", "candidates", "runs", "every", "winner", "mean", "shrunk", "again", "second"]
SUMMARY += ["lead", "over_second", "papers", "papers_mean", "papers_again", "over_papers"]


def table(search: Search, stages: Sequence[Stage] = ()) -> pd.DataFrame:
    """A row for each run that is done, stage by stage, and a candidate's runs by place and task.

    stages: what the search reports, if that is known already

    Columns: stage, candidate, won (whether the stage is done and chose it), seed (the place of the
    design, which seeds its training), task, design, params, score, loss, seconds, and what all
    runs share: backbone, budget, labels, limit, those of the recipe, preset, date, machine, and
    classifier, the version of the training (1 before chapters 4 to 6 shared one), and precision.
    """
    parts = []
    for stage in stages or search.report():
        for candidate, runs in stage.specs.items():
            found = sweep.collect(search.store, runs)
            if not found.empty:
                version = int(runs[0].inputs.get("classifier", 1))
                precision = runs[0].params.get("precision", "float32")
                found = found.assign(classifier=version, precision=precision)
                found = found.assign(stage=stage.name, candidate=candidate)
                parts.append(found.assign(won=candidate == stage.winner))
    if not parts:
        raise FrugalError(f"{search.store.folder}: no run of the search is done")
    every = pd.concat(parts, ignore_index=True).round({"score": 6, "loss": 6, "seconds": 2})
    recipe = pd.json_normalize(every["recipe"].tolist())
    own = ["stage", "candidate", "won", "seed", "task", "design", "params", "score", "loss"]
    shared = ["seconds", "backbone", "budget", "labels", "limit"]
    return (
        every[[*own, *shared]]
        .join(recipe)
        .assign(
            preset=search.settings.preset,
            date=every["started"].str.slice(0, 10),
            machine=presets.machine(),
            classifier=every["classifier"],
            precision=every["precision"],
        )
    )


def read(file: Path = FILE) -> pd.DataFrame:
    """The table as `table` gave it; FrugalError where there is none."""
    if not file.exists():
        raise FrugalError(f"{file}: there is no recorded search; make reproduce CH=4 makes it")
    return pd.read_csv(file)


def designs(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each design that was scored on all tasks: stage, candidate, won, seed, score."""
    keys = ["stage", "candidate", "won", "seed"]
    found = runs.groupby(keys, sort=False)["score"].agg(["mean", "size"]).reset_index()
    whole = found[found["size"] == runs["task"].nunique()]
    return whole.rename(columns={"mean": "score"}).drop(columns="size").reset_index(drop=True)


def stages(runs: pd.DataFrame) -> list[Stage]:
    """What `Search.report` says, from the runs alone."""
    found = []
    for name, mine in designs(runs).groupby("stage", sort=False):
        scores = mine.groupby("candidate", sort=False)["score"].apply(list).to_dict()
        won = mine.loc[mine["won"], "candidate"]
        count = int((runs["stage"] == name).sum())
        winner = None if won.empty else str(won.iloc[0])
        table = pd.DataFrame(stats.judge(scores))
        found.append(Stage(str(name), table, count, count, winner, scores=scores))
    return found


def summary(found: list[Stage]) -> pd.DataFrame:
    """How sure each decision is: a row for each stage that is done and had something to decide.

    Columns: stage, candidates, runs (designs of each), every (mean of all candidates); winner, its
    mean, shrunk (without the winner's curse), again (how often it wins again); second (the
    runner-up), lead (over it), over_second (the same, a `stats.Difference`); papers (the paper's
    winner, "" where it is no candidate), papers_mean, papers_again, over_papers (a `Difference`;
    None where there is none)
    """
    records: list[dict[str, Any]] = []
    for stage in found:
        rows = stage.candidates.set_index("name")
        if stage.winner is None or len(rows) < 2:
            continue
        best = rows.loc[stage.winner]
        others = rows["mean"].drop(stage.winner)
        papers, leads = papers_winner(stage.name), stage.leads
        theirs = rows.reindex([papers]).iloc[0]  # NaN where it is no candidate
        records.append(
            {
                "stage": stage.name,
                "candidates": len(rows),
                "runs": int(best["runs"]),
                "every": rows["mean"].mean(),
                "winner": stage.winner,
                **{name: best[name] for name in ("mean", "shrunk", "again")},
                "second": others.idxmax(),
                "lead": best["mean"] - others.max(),
                "over_second": leads[others.idxmax()],
                "papers": papers if papers in rows.index else "",
                "papers_mean": theirs["mean"],
                "papers_again": theirs["again"],
                "over_papers": leads.get(papers),
            }
        )
    return pd.DataFrame(records, columns=SUMMARY)
