"""What the pool of recorded trainings says beside the search's own verdicts.

A search trains hundreds of designs, and uses them to compare candidates. The same trainings answer
two other questions: in which half of the layers does a method help most, and would a search without
stages have found as much for the same FLOPs?

Every training's score holds the luck of its labels, which all designs of a draw share. Designs that
were drawn together (of a stage, at one place) are alike in more than that. Intervals are therefore
those of a jackknife that leaves out whole groups of them: 95 %, with Student's t.
"""

import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist, fmean
from typing import Any

import numpy as np
import pandas as pd

from frugal import stats
from frugal.costs import arch
from frugal.papers import tables
from frugal.spaces import sizes
from frugal.spaces.build import Part
from frugal.spaces.design import LETTERS, parse
from frugal.spaces.search import STAGES, Stage, papers_winner

UNDECIDED = ("S0", "S1")  # whose designs were drawn before the search had decided anything


def by_depth(runs: pd.DataFrame) -> pd.DataFrame:
    """What each method's place is worth: near the output instead of near the input.

    runs: as `record.read` gives them, an encoder's designs

    Columns: method (a letter, or "B − A"), points (of a design that has the method in the half of
    the layers near the output, less one that has it in the other half), low, high. By least squares
    over all trainings, which are 0 or 1 for each layer's methods:

        score = Σ_m (a_m n_m + b_m d_m) + (the same for "tuned at all") + task × draw + stage

    n_m is the share of layers that have method m; d_m is their depth, scaled to −1/2 if these are
    the half near the input and 1/2 if they are the other; `points` are b_m. What the search had
    decided for all designs of a stage is in that stage's effect.
    """
    own = runs.drop_duplicates(["task", "design", "seed"])  # candidates may share a design
    columns = [_places(text) for text in own["design"]]
    fixed = pd.get_dummies(own["task"] + " " + own["seed"].astype(str), dtype=float)
    stages = pd.get_dummies(own["stage"], dtype=float).iloc[:, 1:]
    x = np.hstack([np.array(columns), fixed.to_numpy(), stages.to_numpy()])
    y = 100 * own["score"].to_numpy()
    together = (own["stage"] + " " + own["seed"].astype(str)).to_numpy()

    def slopes(kept: Any) -> Any:
        found = np.linalg.lstsq(x[kept], y[kept], rcond=None)[0][: len(LETTERS)]
        return np.append(found, found[LETTERS.index("B")] - found[LETTERS.index("A")])

    points, half = stats.jackknife(slopes, together)
    names = [*LETTERS, "B − A"]
    return pd.DataFrame(
        {"method": names, "points": points, "low": points - half, "high": points + half}
    )


def _places(text: str) -> list[float]:
    """Depth of each method's layers and of all that are tuned, then the shares that have them."""
    found = parse(text)
    middle = (found.layers + 1) / 2
    near = sum(layer - middle for layer in range(1, found.layers + 1) if layer > middle)
    depth, share = [], []
    tuned = found.tuned_layers()
    for method in (*LETTERS, ""):
        mine = [layer for layer, (methods, _) in tuned.items() if method in methods]
        depth.append(sum(layer - middle for layer in mine) / near / 2)
        share.append(len(mine) / found.layers)
    return depth + share


def adjusted(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a design: its score on each task in points, less the luck of its draw of labels.

    Index: stage, candidate, won, seed, design; a column a task, and flops, of one training. Zero is
    the mean of the designs that were drawn before any decision. The luck of a draw is what all
    designs of it have in common, beside what is common to a stage (least squares).
    """
    parts = {}
    keys = ["stage", "candidate", "won", "seed", "design"]
    for task, mine in runs.groupby("task", sort=False):
        points = 100 * mine.set_index(keys)["score"]
        stage, seed = (pd.get_dummies(points.index.get_level_values(k)) for k in ("stage", "seed"))
        x = np.hstack([stage, seed]).astype(float)
        luck = np.linalg.lstsq(x, points, rcond=None)[0][stage.shape[1] :]
        own = points - (luck - luck.mean())[np.argmax(seed.to_numpy(), axis=1)]
        parts[task] = own - own.loc[list(UNDECIDED)].mean()
    found = pd.DataFrame(parts).dropna()
    first = runs.iloc[0]
    each = {text: training_flops(text, first) for text in found.index.unique("design")}
    return found.assign(flops=[each[text] for text in found.index.get_level_values("design")])


def training_flops(design: str, run: "pd.Series[Any]") -> float:
    """FLOPs of a training and its test like `run`, every text taken at the most tokens it may have.

    Frozen layers below the first tuned one run once for each training text.
    """
    shape = arch.get(run["backbone"]).replace(pooler=False)
    part = Part(sizes.solve(parse(design), shape, float(run["budget"])))
    tokens, labels, epochs = (int(run[k]) for k in ("max_tokens", "labels", "epochs"))
    step = part.flops(shape, tokens, train=True)
    ahead = part.flops(shape, tokens, train=False)
    frozen = ahead * part.frozen / shape.layers
    return labels * (epochs * (step - frozen) + frozen) + int(run["limit"]) * ahead


def against_random(pool: pd.DataFrame) -> pd.DataFrame:
    """The greedy search and a random one, by the FLOPs they have spent.

    Both choose on all tasks but one and are scored on that one, each task in turn, so that what was
    lucky in the choice does not count. The greedy search chooses among a stage's candidates, and is
    worth what the designs of its choice score on average. A random one takes the best of as many
    designs without any decision as could have been trained for the same FLOPs; where these are more
    than there are, `estimate` says what they would give if they differ as these do (normal: what
    tasks have in common is what designs differ by, the rest is chance).

    What a stage begins with was decided on all tasks, the one that scores it included: that is to
    the advantage of the greedy search.

    Columns: stage, flops (of all tasks but one), greedy, low, high (95 %), designs (that a random
    search has for it), random (expected; NaN beyond the pool), estimate; in points over the mean of
    designs without any decision
    """
    tasks = [c for c in pool.columns if c != "flops"]
    free = pool.loc[list(UNDECIDED)].reset_index().drop_duplicates(["seed", "design"])
    rows, spent = [], 0.0
    for stage in pool.index.unique("stage"):
        mine = pool.loc[stage]
        if stage not in UNDECIDED and not mine.index.get_level_values("won").any():
            break  # it is not done
        spent += mine["flops"].sum()
        scores = pd.concat(
            mine.loc[[_chosen(mine, task, tasks)], task].rename("score") for task in tasks
        )
        by_seed = scores.groupby(level="seed").mean()
        error = math.sqrt(by_seed.var() / len(by_seed) + free[tasks].mean(axis=1).var() / len(free))
        points, half = float(by_seed.mean()), stats.student_t(stats.SURE, len(by_seed) - 1) * error
        designs = int(spent / free["flops"].mean())
        fits = designs <= len(free)
        expected = fmean(_best(free, t, tasks, designs) for t in tasks) if fits else math.nan
        found = (spent * (len(tasks) - 1), points, points - half, points + half)
        rows.append((stage, *found, designs, expected, _normal(free, tasks, designs)))
    columns = ["stage", "flops", "greedy", "low", "high", "designs", "random", "estimate"]
    return pd.DataFrame(rows, columns=columns)


def _chosen(stage: pd.DataFrame, held: str, tasks: Sequence[str]) -> str:
    """The candidate with the best average on all tasks but one."""
    others = stage[[task for task in tasks if task != held]].mean(axis=1)
    return str(others.groupby(level="candidate").mean().idxmax())


def _best(pool: pd.DataFrame, held: str, tasks: Sequence[str], designs: int) -> float:
    """Expected score on the held-out task of the best of `designs`, drawn from the pool.

    The k-th best of N is the best one drawn with probability C(N − k, n − 1) / C(N, n).
    """
    chosen = pool[[task for task in tasks if task != held]].mean(axis=1)
    scores = pool[held].to_numpy()[np.argsort(-chosen.to_numpy(), kind="stable")]
    n, of = designs, len(scores)
    weights = [math.comb(of - k, n - 1) / math.comb(of, n) for k in range(1, of + 1)]
    return float(np.dot(weights, scores))


def _normal(pool: pd.DataFrame, tasks: Sequence[str], designs: int) -> float:
    """Expected worth of the best of so many designs: τ² / √(τ² + σ²/k) times the highest of n."""
    between = np.cov(pool[tasks].to_numpy().T)
    pairs = list(itertools.combinations(range(len(tasks)), 2))
    real = max(0.0, fmean(float(between[i, j]) for i, j in pairs))  # τ²
    rest = fmean(float(v) for v in between.diagonal()) - real  # σ² of one task
    seen = math.sqrt(real + rest / (len(tasks) - 1))
    highest = NormalDist().inv_cdf((designs - 0.375) / (designs + 0.25))  # Blom
    return real / seen * highest


def halving(pool: pd.DataFrame, replays: int = 2000) -> pd.DataFrame:
    """Successive halving among a stage's candidates, beside the even split of the same FLOPs.

    Two designs of each candidate are looked at; the better half of the candidates goes on with
    twice as many, until one is left or all designs are used. Each replay takes the designs in
    another order, the same for all candidates.

    Columns: stage, candidates, share (of the stage's FLOPs that halving takes); halved and even:
    how often (of 1) each picks the candidate that all designs together favour; halved_loss,
    even_loss: how many points below that one its pick lies on average
    """
    tasks = [c for c in pool.columns if c != "flops"]
    generator = np.random.default_rng(0)
    rows = []
    for stage in pool.index.unique("stage"):
        mine = pool.loc[stage]
        scores = mine[tasks].mean(axis=1).groupby(level=["candidate", "seed"]).mean().unstack()
        scores, flops = scores.dropna(axis=1).to_numpy(), mine["flops"].groupby("candidate").mean()
        count, places = scores.shape
        if count < 2 or places < 4:
            continue
        means, spent, picks = scores.mean(axis=1), [], []
        costs = flops.to_numpy()
        for _ in range(replays):
            order = scores[:, generator.permutation(places)]
            left, looked, cost = np.arange(count), 0, 0.0
            while len(left) > 1 and looked < places:
                wanted = min(2 * looked or 2, places)
                cost += costs[left].sum() * (wanted - looked)
                looked = wanted
                ranked = left[np.argsort(-order[left, :looked].mean(axis=1), kind="stable")]
                left = ranked[: 1 if looked == places else math.ceil(len(left) / 2)]
            each = max(1, round(cost / costs.sum()))  # designs a candidate, if split evenly
            picks.append((left[0], order[:, :each].mean(axis=1).argmax()))
            spent.append(cost / costs.sum() / places)
        halved, even = np.array(picks).T
        best = means.argmax()
        right = [(picked == best).mean() for picked in (halved, even)]
        lost = [(means[best] - means[picked]).mean() for picked in (halved, even)]
        rows.append((stage, count, fmean(spent), *right, *lost))
    columns = ["stage", "candidates", "share", "halved", "even", "halved_loss", "even_loss"]
    return pd.DataFrame(rows, columns=columns)


def winners(pool: pd.DataFrame) -> pd.DataFrame:
    """The paper's winner of each stage and ours, here and in the paper.

    Columns: stage, whose ("paper" or "ours"; one row where they are the same, "both"), candidate;
    points, low and high: over the mean of all candidates here, with a 95 % interval over places,
    where all candidates have the same labels; published: the same in the paper's table, which
    prints no spread (NaN where it has no such candidate). Our winner was chosen for its luck, too.
    """
    tasks = [c for c in pool.columns if c != "flops"]
    rows = []
    for stage in pool.index.unique("stage"):
        mine = pool.loc[stage]
        scores = mine[tasks].mean(axis=1).groupby(level=["candidate", "seed"]).mean().unstack()
        scores = scores.dropna(axis=1)
        over = scores - scores.mean()
        won = mine.index[mine.index.get_level_values("won")].get_level_values("candidate")
        if len(scores) < 2 or won.empty:
            continue
        ours, theirs, printed = str(won[0]), papers_winner(stage), published(stage)
        named = {"both": ours} if ours == theirs else {"paper": theirs, "ours": ours}
        for whose, candidate in named.items():
            if candidate not in over.index:
                continue
            own = over.loc[candidate]
            t = stats.student_t(stats.SURE, len(own) - 1)
            half = t * own.std() / math.sqrt(len(own))
            rows.append((stage, whose, candidate, own.mean(), own.mean() - half, own.mean() + half,
                         printed.get(candidate, math.nan)))  # fmt: skip
    columns = ["stage", "whose", "candidate", "points", "low", "high", "published"]
    return pd.DataFrame(rows, columns=columns)


def published(stage: str) -> dict[str, float]:
    """What the paper prints of a stage's candidates, in points over their mean."""
    found = printed(stage)
    mean = fmean(found.values())
    return {name: value - mean for name, value in found.items()}


def printed(stage: str) -> dict[str, float]:
    """The averages that the paper prints for T5-base, in per cent, by candidate of a stage."""
    names = {"S0": "table1_grouping", "S1": "table1_grouping", "S2": "table2_allocation"}
    names["S3"] = "table3_groups"
    rows = tables.scores(f"spaces_{names.get(stage, f'strategy_g{stage[-1]}')}")
    found = {}
    for (_, row), cells in rows.items():
        cell = cells["average"]
        if row.startswith("S_") != (stage == "S0"):  # where a stage begins
            continue
        if stage == "S0":
            name = "S0"
        elif "methods" in cell:
            name = ", ".join(cell["methods"])
        elif "groups" in cell:
            name = ", ".join(f"G{n}" for n in cell["groups"].split(","))
        else:
            name = row.lower()
        found[name] = float(cell["printed"])
    return found


def side_by_side(found: Sequence[Stage]) -> pd.DataFrame:
    """Every candidate of the paper's stages and of a search's: what is printed, and what is here.

    Columns: stage, candidate; printed and here (per cent; NaN where there is no such candidate);
    theirs, ours: whether it won there, and here
    """
    mine = {stage.name: stage for stage in found}
    rows = []
    for name in STAGES:
        own = mine.get(name)
        here = dict(own.candidates[["name", "mean"]].itertuples(index=False)) if own else {}
        theirs = printed(name)
        for candidate in dict.fromkeys([*theirs, *here]):
            rows.append(
                {
                    "stage": name,
                    "candidate": candidate,
                    "printed": theirs.get(candidate, math.nan),
                    "here": 100 * here.get(candidate, math.nan),
                    "theirs": candidate == papers_winner(name),
                    "ours": bool(own and candidate == own.winner),
                }
            )
    return pd.DataFrame(rows)


def worth_printed() -> pd.DataFrame:
    """What a method adds in each group by the paper's own tables of twelve sets of methods.

    Columns: method, group, points: the mean average of the sets with the method, less that of the
    sets without it; the paper prints no spread.
    """
    rows = []
    for group in range(1, 5):
        found = printed(f"S4-G{group}")
        for method in LETTERS:
            have = [value for name, value in found.items() if method in name.split(", ")]
            lack = [value for name, value in found.items() if method not in name.split(", ")]
            rows.append({"method": method, "group": group, "points": fmean(have) - fmean(lack)})
    return pd.DataFrame(rows)
