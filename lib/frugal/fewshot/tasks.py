"""Tasks: examples of the form (prompt, choices, label), from a pinned source, drawn by seed."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError, model_validator

from frugal.engine import artifacts
from frugal.errors import FrugalError, unknown

SEEDS = (0, 1, 32, 42, 1024)  # of T-Few's few-shot draws


class Example(BaseModel):
    """A prompt, answer choices that follow it directly, and the index of the right one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: str
    choices: tuple[str, ...] = Field(min_length=2)
    label: StrictInt

    @model_validator(mode="after")
    def _sound(self) -> "Example":
        if not all(choice.strip() for choice in self.choices):
            raise ValueError("choices: one is empty")
        if len(set(self.choices)) < len(self.choices):
            raise ValueError("choices: two are the same")
        if not 0 <= self.label < len(self.choices):
            raise ValueError(
                f"label: {self.label} is not the index of one of {len(self.choices)} choices"
            )
        return self


@dataclass(frozen=True)
class Task:
    """Examples in a fixed order, and how many at the end of it are kept for testing.

    A named task keeps its second half for testing, so that no draw can touch it; a user's file
    keeps none, and whatever a draw leaves is there to be scored.
    """

    name: str
    examples: Dataset  # columns prompt, choices, label
    test_size: int = 0

    @property
    def chance(self) -> float:
        """Accuracy of guessing among the choices of each example."""
        counts = [len(choices) for choices in self.examples["choices"]]
        return sum(1 / count for count in counts) / len(counts)

    @property
    def drawable(self) -> int:
        """How many examples a draw can take."""
        return len(self.examples) - self.test_size

    def draw(self, shots: int, seed: int) -> list[Example]:
        """`shots` examples for training or for a context, in an order that `seed` decides."""
        return self._at(self._drawn(shots, seed))

    def test(self, limit: int | None = None, *, shots: int = 0, seed: int = 0) -> list[Example]:
        """The test examples (the first `limit`), none of them among `draw(shots, seed)`."""
        if self.test_size:
            rows: Iterable[int] = range(len(self.examples) - self.test_size, len(self.examples))
        else:
            drawn = set(self._drawn(shots, seed))
            rows = (i for i in range(len(self.examples)) if i not in drawn)
        if not (found := self._at(list(rows)[:limit])):
            raise FrugalError(f"{self.name}: no example is left to score")
        return found

    def _drawn(self, shots: int, seed: int) -> list[int]:
        if not 0 <= shots <= self.drawable:
            raise FrugalError(
                f"{self.name}: shots must be between 0 and {self.drawable}, not {shots}"
            )
        return sorted(range(self.drawable), key=lambda i: _digest(f"{seed}/{i}"))[:shots]

    def _at(self, rows: Sequence[int]) -> list[Example]:
        return [Example(**record) for record in self.examples.select(rows)]


def _digest(text: str) -> bytes:
    """An order that is the same on every machine and for every version of every library."""
    return hashlib.sha256(text.encode()).digest()


def load(name: str | Path) -> Task:
    """The task called `name`, or the JSONL file of that path.

    Raises FrugalError for an unknown name, and for a file with a bad line: it names both.
    """
    if str(name).endswith(".jsonl"):
        return from_jsonl(Path(name))
    if str(name) not in TASKS:
        raise unknown("task", str(name), [*TASKS, "FILE.jsonl"])
    return TASKS[str(name)](str(name))


def from_jsonl(path: Path) -> Task:
    """A file of {"prompt": str, "choices": [str, …], "label": int}, one a line, used as it is."""
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise FrugalError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FrugalError(f"{path}: not UTF-8 at byte {error.start}") from error
    examples = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            examples.append(Example.model_validate_json(line))
        except ValidationError as error:
            raise FrugalError(f"{path}, line {number}: {_first(error)}") from error
    if not examples:
        raise FrugalError(f"{path}: no example in this file")
    return Task(str(path), _dataset(examples))


def _first(error: ValidationError) -> str:
    """The first problem of a record, as `field: what is wrong`."""
    problem = error.errors()[0]
    field = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return f"{field}: {message}" if field else message


def _dataset(examples: Sequence[Example]) -> Dataset:
    return Dataset.from_list([e.model_dump() for e in examples])


def _pinned(name: str, examples: Iterable[Example]) -> Task:
    """A named task: each prompt once, in an order decided by its text, half of it for testing."""
    once = {_digest(e.prompt): e for e in examples}
    ordered = [once[key] for key in sorted(once)]
    return Task(name, _dataset(ordered), test_size=len(ordered) // 2)


def _sentiment(file: str) -> Callable[[str], Task]:
    """Reviews of the VADER corpora, rated by people from -4 to 4; those beyond ±0.8 have a side."""

    def rows() -> Iterator[Example]:
        path = artifacts.member("vader", file)
        for line in path.read_text(encoding="latin-1").strip("\n").split("\n"):
            _, rating, text = line.split("\t", 2)
            if abs(float(rating)) > 0.8:
                yield Example(
                    prompt=f"Review: {text.strip()}\nSentiment:",
                    choices=(" negative", " positive"),
                    label=int(float(rating) > 0),
                )

    return lambda name: _pinned(name, rows())


def _bigbench(folder: str, template: str) -> Callable[[str], Task]:
    """A BIG-bench task whose examples list all their choices, under a template of our own."""

    def rows() -> Iterator[Example]:
        path = artifacts.member("bigbench", f"{folder}/task.json")
        for record in json.loads(path.read_text(encoding="utf-8"))["examples"]:
            scores: dict[str, Any] = record["target_scores"]
            choices = sorted(scores)
            yield Example(
                prompt=template.format(input=record["input"].strip()),
                choices=tuple(f" {c.strip()}" for c in choices),
                label=max(range(len(choices)), key=lambda i: scores[choices[i]]),
            )

    return lambda name: _pinned(name, rows())


def _counting(name: str) -> Task:
    """A tiny generated task for tests: which letter occurs, with choices of unequal length."""
    examples = []
    for i in range(48):
        digest = _digest(f"counting/{i}")
        word = "".join("abc"[byte % 3] for byte in digest[:6])
        choices = (" a", " b b", " c c c")[: 2 + digest[6] % 2]
        counts = [word.count(choice[1]) for choice in choices]
        examples.append(
            Example(
                prompt=f"Word: {word}\nMost often:",
                choices=choices,
                label=counts.index(max(counts)),
            )
        )
    return _pinned(name, examples)


TASKS: dict[str, Callable[[str], Task]] = {
    "movie-reviews": _sentiment("movieReviewSnippets_GroundTruth.txt"),
    "amazon-reviews": _sentiment("amazonReviewSnippets_GroundTruth.txt"),
    "tweets": _sentiment("tweets_GroundTruth.txt"),
    "nyt-editorials": _sentiment("nytEditorialSnippets_GroundTruth.txt"),
    "intent-recognition": _bigbench("intent_recognition", "{input}\nIntent:"),
    "fever": _bigbench("fact_checker/fever", "{input}\nA:"),
    "counting": _counting,
}
