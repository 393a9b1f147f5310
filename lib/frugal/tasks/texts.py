"""Texts with a class or a number each: tasks as an encoder learns them.

A task of chapter 3 whose examples choose among the same answers is a classification: its prompt is
the text, its answers are the classes. Ratings are a regression: `movie-reviews-rating` and its
siblings (people's mean rating of a text, from -4 to 4), and GLUE's `stsb` from the hub.
"""

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from frugal import tasks
from frugal.engine import digests
from frugal.errors import FrugalError
from frugal.tasks import sources

STSB = sources.Source(hub="nyu-mll/glue", config="stsb", train="train", test="validation")
METRIC = {"cola": "matthews", "mrpc": "f1", "qqp": "f1"}  # GLUE's; accuracy unless named


@dataclass(frozen=True)
class TextTask:
    """What to train on and what to score.

    classes: their number; 1 for a regression
    metric:  a name of `metrics.METRICS`
    train, test: texts
    train_labels, test_labels: index of the class, or the number to predict
    """

    name: str
    classes: int
    metric: str
    train: list[str]
    train_labels: list[float]
    test: list[str]
    test_labels: list[float]

    @property
    def chance(self) -> float:
        """Score of guessing each class equally often; a correlation's is 0."""
        if self.metric == "accuracy":
            return 1 / self.classes
        if self.metric == "f1":  # precision is the share of class 1, recall a half
            share = sum(label == 1 for label in self.test_labels) / len(self.test_labels)
            return share / (0.5 + share)
        return 0.0


def load(name: str, labels: int, limit: int, seed: int) -> TextTask:
    """`labels` training texts, drawn by `seed`, and the first `limit` test texts of task `name`.

    All that there are, where they are fewer. Raises FrugalError for an unknown name, and for a
    task whose examples do not share their answers.
    """
    if labels < 1 or limit < 1:
        raise FrugalError(f"labels and limit must be at least 1, not {labels} and {limit}")
    if name in RATINGS:
        return _regression(name, RATINGS[name](), labels, limit, seed)
    task = tasks.load(name)
    # A file that keeps nothing for testing is tested on its other half.
    labels = min(labels, task.drawable if task.test_size else task.drawable // 2)
    train, test = task.draw(labels, seed), task.test(limit, shots=labels, seed=seed)
    every = [*train, *test]
    of = classes(every)

    def label(example: tasks.Example) -> float:
        return float(of.index(example.choices[example.label]))

    return TextTask(
        name,
        len(of),
        METRIC.get(name, "accuracy"),
        [e.prompt for e in train],
        [label(e) for e in train],
        [e.prompt for e in test],
        [label(e) for e in test],
    )


def classes(examples: Sequence[tasks.Example]) -> tuple[str, ...]:
    """All choices there are, in order.

    Raises FrugalError where they are more than any example offers: such examples do not choose
    among the same answers, and a classifier has one output for each.
    """
    found = {choice for example in examples for choice in example.choices}
    if len(found) > max(len(example.choices) for example in examples):
        raise FrugalError(
            f"the examples do not choose among the same answers ({len(found)} in all), so that no "
            "classifier can be trained on them"
        )
    return tuple(sorted(found))


def content(name: str) -> str:
    """A digest of what `load` draws from: two tasks of one name and one digest are the same."""
    if name not in RATINGS:
        return tasks.content(name)
    if name != "stsb":
        return digests.of(name, digests.pin("vader"))
    return _pools_digest(sources.content(STSB))


@functools.cache  # of what a process has read once
def _pools_digest(content: str) -> str:
    return digests.of(*_stsb())


Rated = Sequence[tuple[str, float]]
Pools = tuple[Rated, Rated]  # to draw from, and to test on


def _regression(name: str, pools: Pools, labels: int, limit: int, seed: int) -> TextTask:
    pool, kept = pools
    drawn = random.Random(seed).sample(pool, min(labels, len(pool)))
    texts, targets = zip(*drawn, strict=True)
    others, answers = zip(*kept[:limit], strict=True)
    return TextTask(name, 1, "pearson", [*texts], [*targets], [*others], [*answers])


def _vader(file: str) -> Callable[[], Pools]:
    """Texts of a VADER corpus with their mean ratings; half of them, at random, for testing."""

    def pools() -> Pools:
        rated = sorted(dict(sources.vader(file)).items())
        once = random.Random(0).sample(rated, len(rated))
        return once[: len(once) // 2], once[len(once) // 2 :]

    return pools


def _stsb() -> Pools:
    """Pairs of sentences, and how alike people found them, from 0 to 5."""
    parts = sources.splits(STSB, offline=[name for name in RATINGS if name != "stsb"])
    train, kept = (
        [(f"1. {row['sentence1']}\n2. {row['sentence2']}", row["label"]) for row in parts[use]]
        for use in ("train", "test")
    )
    return train, kept


RATINGS: dict[str, Callable[[], Pools]] = {
    "movie-reviews-rating": _vader("movieReviewSnippets_GroundTruth.txt"),
    "amazon-reviews-rating": _vader("amazonReviewSnippets_GroundTruth.txt"),
    "tweets-rating": _vader("tweets_GroundTruth.txt"),
    "nyt-editorials-rating": _vader("nytEditorialSnippets_GroundTruth.txt"),
    "stsb": _stsb,
}
