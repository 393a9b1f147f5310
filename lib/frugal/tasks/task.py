"""Tasks: examples of the form (prompt, choices, label), from a named source, drawn by seed.

A named task is an entry of `data/tasks/*.toml`: where its rows come from, which column holds the
label, and *templates*, each of which makes a row an example. A table of such a file is a task, or a
family whose `tasks` share what it sets. A user's file is a task too (`userfile`).
"""

import functools
import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset, concatenate_datasets
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from frugal import data
from frugal.engine import digests
from frugal.errors import FrugalError, first_problem, unknown
from frugal.tasks import sources, userfile
from frugal.tasks.templates import AS_IS, Content, Example, Template

SEEDS = (0, 1, 32, 42, 1024)  # of T-Few's few-shot draws
Use = Literal["first", "all"]  # of a task's templates


def _by_digest(rows: int, seed: int) -> Sequence[int]:
    """An order that is the same on every machine and for every version of every library."""
    return sorted(range(rows), key=lambda i: sources.digest(f"{seed}/{i}"))


def _as_released(rows: int, seed: int) -> Sequence[int]:
    """The order in which T-Few's released code takes rows: its few-shot files hold these."""
    found: list[int] = np.random.RandomState(seed).permutation(rows).tolist()
    return found


@dataclass(frozen=True)
class Task:
    """Rows in a fixed order, how many at the end of it are kept for testing, and templates.

    A named task keeps examples for testing (its own test set, or its second half), so that no draw
    can touch them; a user's file keeps none, and whatever a draw leaves is there to be scored.

    rows:       what the templates name, and `label`, the index of the right choice
    labels:     names of the classes, where the source has them
    shots:      how many labelled examples its benchmark trains on
    recipe:     what training on it changes in a recipe
    unlabelled: rows whose labels the benchmark keeps to itself
    notes:      what a user should know of the file it was read from, a sentence each
    order:      (rows that can be drawn, seed) -> the order in which a draw takes them
    """

    name: str
    rows: Dataset
    test_size: int = 0
    templates: tuple[Template, ...] = (AS_IS,)
    labels: tuple[str, ...] = ()
    shots: int | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    unlabelled: Dataset | None = None
    notes: tuple[str, ...] = ()
    order: Callable[[int, int], Sequence[int]] = _by_digest

    @property
    def chance(self) -> float:
        """Accuracy of guessing among the choices of each example."""
        listed = self.templates[0].listed
        if listed is None:
            return 1 / len(self.templates[0].choices)
        if listed == "labels":
            return 1 / len(self.labels)
        return sum(1 / len(items) for items in self.rows[listed]) / len(self.rows)

    @property
    def _readable(self) -> tuple[str, ...]:
        """Names of the classes as a template writes them."""
        return tuple(label.replace("_", " ") for label in self.labels)

    @property
    def drawable(self) -> int:
        """How many examples a draw can take."""
        return len(self.rows) - self.test_size

    def under(self, use: Use) -> range:
        """Numbers of the templates: the first, or all."""
        if use not in ("first", "all"):
            raise unknown("use of templates", use, ("first", "all"))
        return range(len(self.templates) if use == "all" else 1)

    def draw(self, shots: int, seed: int, *, template: int = 0) -> list[Example]:
        """`shots` examples for training or for a context, in an order that `seed` decides."""
        return [self._example(row, template) for row in self._drawn(shots, seed)]

    def wordings(self, shots: int, seed: int, use: Use = "all") -> list[list[Example]]:
        """The same examples, each under every template: what `tfew.train` draws wordings from."""
        return [
            [self._example(row, template) for template in self.under(use)]
            for row in self._drawn(shots, seed)
        ]

    def test(
        self, limit: int | None = None, *, shots: int = 0, seed: int = 0, template: int = 0
    ) -> list[Example]:
        """The test examples (the first `limit`), none of them among `draw(shots, seed)`.

        A row is left out, with a warning, of which a template makes no sound example, or which asks
        what one of those drawn asks. A benchmark's own test part is scored as it is, whatever it
        shares with its training part.
        """
        return self._test(limit, shots, seed, template)

    def content_free(self, limit: int | None = None) -> list[Example]:
        """The same as `test(limit)`, in prompts that say nothing of them (`Template.example`)."""
        return self._test(limit, content_free=True)

    def _test(
        self,
        limit: int | None,
        shots: int = 0,
        seed: int = 0,
        template: int = 0,
        content_free: bool = False,
    ) -> list[Example]:
        seen: set[Content] = set()
        if self.test_size:
            numbers: Iterable[int] = range(len(self.rows) - self.test_size, len(self.rows))
        else:
            drawn = set(self._drawn_numbers(shots, seed))
            numbers = (i for i in range(len(self.rows)) if i not in drawn)
            seen = {self._content(row) for row in self._drawn(shots, seed)}
        if not (chosen := list(itertools.islice(numbers, limit))):
            raise FrugalError(f"{self.name}: no example is left to score")
        found = []
        for number, row in zip(chosen, self.rows.select(chosen), strict=True):
            try:
                if self._content(row) in seen:
                    raise FrugalError(f"{self.name}: repeats a drawn example")
                found.append(self._example(row, template, content_free))
            except FrugalError as error:
                warnings.warn(f"{error} (row {number}); left out", stacklevel=3)
        return found

    def questions(self, limit: int | None = None, *, template: int = 0) -> list[Example]:
        """The unlabelled examples (the first `limit`); their label is 0 and means nothing."""
        if self.unlabelled is None:
            raise FrugalError(f"{self.name}: has no unlabelled examples to answer")
        chosen = range(len(self.unlabelled))[:limit]
        return [
            self._example({**row, "label": 0}, template) for row in self.unlabelled.select(chosen)
        ]

    def _drawn_numbers(self, shots: int, seed: int) -> Sequence[int]:
        if not 0 <= shots <= self.drawable:
            raise FrugalError(
                f"{self.name}: shots must be between 0 and {self.drawable}, not {shots}"
            )
        return self.order(self.drawable, seed)[:shots]

    def without(self, examples: Sequence[Example]) -> "Task":
        """The same task, with nothing to score that has the content of one of `examples`.

        `notes` then says how many rows that takes. Raises FrugalError where none is left.
        """
        if not (seen := {example.content for example in examples}):
            return self
        first = self.drawable if self.test_size else 0
        kept = [i for i, row in enumerate(self.rows) if i < first or self._content(row) not in seen]
        if not (gone := len(self.rows) - len(kept)):
            return self
        if len(kept) == first:
            raise FrugalError(f"{self.name}: no example is left to score: all are also drawn")
        return replace(
            self,
            rows=self.rows.select(kept),
            test_size=self.test_size and self.test_size - gone,
            notes=(
                *self.notes,
                f"{self.name}: {gone} of its examples are also among the {len(examples)} drawn, "
                "and are not scored",
            ),
        )

    def _content(self, row: Mapping[str, Any]) -> Content:
        """The same for rows that ask the same, in the first template."""
        return self.templates[0].content({"labels": self._readable, **row})

    def _drawn(self, shots: int, seed: int) -> Dataset:
        return self.rows.select(self._drawn_numbers(shots, seed))

    def _example(
        self, row: Mapping[str, Any], template: int, content_free: bool = False
    ) -> Example:
        try:
            chosen = self.templates[template]
        except IndexError:
            raise FrugalError(
                f"{self.name}: template {template}; it has {len(self.templates)}, from 0"
            ) from None
        try:
            told = {"labels": self._readable, **row}
            return chosen.example(told, row["label"], content_free=content_free)
        except ValidationError as error:
            raise FrugalError(f"{self.name}: {first_problem(error)}") from error


class Definition(BaseModel):
    """An entry of `data/tasks/*.toml`.

    label:  the column that holds the right answer
    labels: what it can hold, in the order of the choices; by default the classes that it knows
    shots, recipe: as in `Task`; tested: how many test examples there are, for the cost of a run
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: sources.Source
    templates: tuple[Template, ...] = Field(min_length=1)
    label: str = "label"
    labels: tuple[str, ...] = ()
    shots: int | None = None
    tested: int = 0
    recipe: dict[str, Any] = {}


@functools.cache
def definitions() -> dict[str, Definition]:
    """The named tasks."""
    found: dict[str, Definition] = {}
    for path in sorted((data.ROOT / "tasks").glob("*.toml")):
        for name, entry in data.toml(f"tasks/{path.name}").items():
            members = entry.pop("tasks", {name: {}})
            found |= {task: Definition(**{**entry, **own}) for task, own in members.items()}
    return found


def defined(name: str) -> Definition:
    """What `data/tasks` says of the task `name`; FrugalError with the nearest name if unknown."""
    if name not in definitions():
        raise unknown("task", name, [*definitions(), "FILE.jsonl", "FILE.csv"])
    return definitions()[name]


def is_file(name: str | Path) -> bool:
    """Whether `name` means a file, not a task: it is no task's, and a path or something there."""
    text = str(name)
    if text in definitions():
        return False
    return userfile.named(text) or os.path.basename(text) != text or os.path.exists(text)


def load(name: str | Path, *, template: str = "") -> Task:
    """The task called `name`, or the file of that path, whose prompts `template` makes if need be.

    Raises FrugalError for an unknown name, for a source that cannot be reached, and for a file
    with bad lines: it names them.
    """
    if is_file(name):
        return from_file(Path(name), template=template)
    if template:
        raise FrugalError(f"--template: the task {name} has templates of its own")
    definition = defined(str(name))
    if definition.source.split:
        return _from_splits(str(name), definition)
    return _from_rows(str(name), definition)


def content(name: str | Path) -> str:
    """A digest of what `load` makes a task of: a file's bytes, or definition and source.

    Two tasks of one name and one digest have the same examples.
    """
    if is_file(name):
        return digests.of(Path(name).suffix.lower(), digests.file(Path(name)))
    definition = defined(str(name))
    return digests.of(definition.model_dump(mode="json"), sources.content(definition.source))


def from_file(path: Path, *, template: str = "", labels: Sequence[str] = ()) -> Task:
    """A JSONL, CSV or TSV file, as `userfile.read` takes it; raises as that does."""
    found = userfile.read(path, template, labels)
    columns = {name: [row[name] for row in found.rows] for name in found.rows[0]}
    return Task(
        str(path),
        Dataset.from_dict(columns),
        templates=(found.template,),
        labels=found.labels,
        notes=found.notes,
    )


def pair(drawn: str | Path, scored: str | Path, *, template: str = "") -> tuple[Task, Task]:
    """A task to draw from and one to score, at least one of them a file, with the same answers.

    template: as `load` takes it, for each that is a file

    Raises FrugalError where the rows of each share their choices, and these differ.
    """
    first = load(drawn, template=template if is_file(drawn) else "")
    if is_file(scored):
        known = first.labels if is_file(drawn) else ()
        second = from_file(Path(scored), template=template, labels=known)
    else:
        second = load(scored)
    ours, theirs = _shared(first), _shared(second)
    if ours and theirs and ours != theirs:
        one, two = (", ".join(map(repr, sorted(x))) for x in (ours, theirs))
        raise FrugalError(f"{first.name} has the answers {one}, but {second.name} has {two}")
    return first, second


def _shared(task: Task) -> frozenset[str] | None:
    """The choices, where all rows, and more than one, have the same."""
    sets = {content[1] for content in map(task._content, task.rows)}
    return sets.pop() if len(sets) == 1 < len(task.rows) else None


def mixture(
    tasks: Sequence[Task], limit: int, *, seed: int = 0, use: Use = "all"
) -> list[list[Example]]:
    """Examples of several tasks in one list, at most `limit` of each, in every wording.

    What `tfew.train` pretrains on: it draws evenly from the list, so a task counts by its size up
    to the limit, as in T0's mixture (Sanh et al. 2022, §5; its limit is 500,000).
    """
    if not tasks:
        raise FrugalError("mixture: name at least one task")
    return [e for task in tasks for e in task.wordings(min(limit, task.drawable), seed, use)]


def _from_rows(name: str, definition: Definition) -> Task:
    """Each prompt once, in an order decided by its text, half of the rows for testing."""
    first = definition.templates[0]
    once = {
        sources.digest(first.example(row, row["label"]).prompt): row
        for row in sources.rows(definition.source)
    }
    rows = [once[key] for key in sorted(once)]
    return Task(name, Dataset.from_list(rows), len(rows) // 2, definition.templates)


def _from_splits(name: str, definition: Definition) -> Task:
    """Training rows to draw from, then test rows; drawn as T-Few's released code draws."""
    offline = [name for name, other in definitions().items() if not other.source.split]
    found = sources.splits(definition.source, offline)
    where = f"{name} ({definition.source.hub or definition.source.folder})"
    labels = definition.labels or sources.class_names(where, found["train"], definition.label)
    needed = {column for template in definition.templates for column in template.columns}
    for use, part in found.items():
        own = {"ID"} if use == "unlabelled" else set()  # answers are handed in under it
        if missing := (needed | own) - {*part.column_names, "labels"}:
            raise FrugalError(
                f"{where}: no column {min(missing)!r}; there are {', '.join(part.column_names)}"
            )
    parts = [
        sources.indexed(f"{where}, {use}", found[use], definition.label, labels)
        for use in ("train", "test")
        if use in found
    ]
    return Task(
        name,
        concatenate_datasets(parts),
        test_size=len(parts[1]) if len(parts) > 1 else 0,
        templates=definition.templates,
        labels=labels,
        shots=definition.shots,
        recipe=definition.recipe,
        unlabelled=found.get("unlabelled"),
        order=_as_released,
    )
