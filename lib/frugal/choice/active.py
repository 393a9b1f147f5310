"""Which texts to label, before any has a label: those that are unlike each other, or unsure.

Choosing costs a pass over the texts, and no label. What it brings is recorded in
data/results/active.csv (`make active`), against labels for texts at random.
"""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from frugal import data, stats
from frugal.budgets.distill import ClassTeacher, right
from frugal.costs import check
from frugal.encoders import classifier, linear
from frugal.encoders.encoder import shuffled
from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError
from frugal.fewshot import choices
from frugal.tasks import Task
from frugal.tasks.texts import classes

RECORD = data.ROOT / "results" / "active.csv"
ROUNDS = 20  # of k-means, at most
CHOOSERS = ("random", "unsure", "farthest", "typical")


def unsure(scores: Tensor, count: int) -> list[int]:
    """The `count` texts whose best two choices score most alike: uncertainty by the margin.

    scores: (texts, most choices), -inf where there are fewer, as a model ranks them zero-shot;
        two choices at least
    """
    _enough(len(scores), count)
    best = scores.topk(2, dim=1).values
    margins = best[:, 0] - best[:, 1]
    return torch.argsort(margins, stable=True)[:count].tolist()


def farthest(states: Tensor, count: int) -> list[int]:
    """Texts each as far as can be from those before it: the greedy k-centre.

    The first is the one next to the mean. states: (texts, d)
    Source: Gonzalez 1985; for labels, Sener & Savarese, ICLR 2018.
    """
    _enough(len(states), count)
    apart = _far(states, states.mean(0, keepdim=True))[:, 0]
    chosen = [int(apart.argmin())]
    near = _far(states, states[chosen])[:, 0]
    for _ in range(count - 1):
        near[chosen] = -1  # no text twice, even where two are the same
        chosen.append(int(near.argmax()))
        near = torch.minimum(near, _far(states, states[chosen[-1:]])[:, 0])
    return chosen


def typical(states: Tensor, count: int, seed: int = 0) -> list[int]:
    """Of each of `count` clusters (k-means) the text that is nearest to its centre.

    Starts from texts that `seed` draws, by k-means++. states: (texts, d)
    """
    _enough(len(states), count)
    generator = torch.Generator().manual_seed(seed)
    first = [int(torch.randint(len(states), (1,), generator=generator))]
    near = _far(states, states[first])[:, 0]
    while len(first) < count:
        near[first] = 0
        odds = near if near.any() else torch.ones_like(near).index_fill(0, torch.tensor(first), 0)
        first.append(int(torch.multinomial(odds, 1, generator=generator)))
        near = torch.minimum(near, _far(states, states[first[-1:]])[:, 0])
    centres = states[first].clone()
    for _ in range(ROUNDS):
        own = _far(states, centres).argmin(1)
        moved = torch.zeros_like(centres).index_add(0, own, states)
        sizes = torch.bincount(own, minlength=count)[:, None]
        moved = torch.where(sizes > 0, moved / sizes.clamp(min=1), centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    chosen: list[int] = []
    for column in _far(states, centres).T:
        column[chosen] = torch.inf  # one text for each
        chosen.append(int(column.argmin()))
    return chosen


def _far(one: Tensor, other: Tensor) -> Tensor:
    """(n, m) squared distances."""
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist").square()


def _enough(texts: int, count: int) -> None:
    if check.whole("count", count, least=1) > texts:
        raise FrugalError(f"count: {count} texts to label, but there are {texts}")


def study(
    task: Task, lm: Backbone, encoder: Backbone, *, labels: int, pool: int, draws: int, limit: int
) -> pd.DataFrame:
    """How many test texts a linear head gets right whose labels were chosen in each way.

    pool: texts to choose from, half of those that are scored zero-shot once, drawn anew for each
        of `draws`; "random" takes the first ones drawn

    Columns: task, chooser, draw, labels, pool, accuracy, hits (`stats.packed`), examples.
    """
    texts = task.draw(min(2 * pool, task.drawable), seed=0)
    queries = task.test(limit)
    of = classes([*texts, *queries])
    model = classifier.new(encoder, len(of), "head")
    states, _ = model.states([e.prompt for e in texts])
    scored = choices.score(lm, texts)
    scores = scored.table(scored.mean_logp)
    rows = []
    for draw in range(draws):
        order = shuffled(len(texts), draw)[:pool]
        picked = {
            "random": [*range(labels)],
            "unsure": unsure(scores[order], labels),
            "farthest": farthest(states[order], labels),
            "typical": typical(states[order], labels, draw),
        }
        for chooser in CHOOSERS:
            student = ClassTeacher(model, of)
            shots = [texts[order[i]] for i in picked[chooser]]
            linear.fit(model, [e.prompt for e in shots], student.targets(shots))
            hits = right(student, queries)[0].numpy()
            found = (float(hits.mean()), stats.packed(hits), len(hits))
            rows.append((task.name, chooser, draw, labels, len(order), *found))
    columns = ["task", "chooser", "draw", "labels", "pool", "accuracy", "hits", "examples"]
    return pd.DataFrame(rows, columns=columns)


def recorded() -> pd.DataFrame:
    """The rows of data/results/active.csv, as `study` gives them."""
    return pd.read_csv(RECORD, dtype={"hits": str})


def against_random(runs: pd.DataFrame) -> dict[tuple[str, str], stats.Difference]:
    """Each chooser less random choice, by task and chooser; their intervals hold all at once."""
    found = {
        key: np.stack([stats.unpacked(r.hits, r.examples) for r in rows.itertuples()])
        for key, rows in runs.sort_values("draw").groupby(["task", "chooser"])
    }
    others = [key for key in found if key[1] != "random"]
    return {
        (task, who): stats.compare(found[task, who], found[task, "random"], of=len(others))
        for task, who in others
    }
