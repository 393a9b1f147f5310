"""Where the rows of a named task come from: a pinned corpus, the hub, a folder, or code.

Rows are raw: under the source's own columns, before any template.
"""

import contextlib
import functools
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, load_dataset
from datasets.utils.logging import disable_progress_bar, enable_progress_bar
from pydantic import BaseModel, ConfigDict, model_validator

from frugal.engine import artifacts, digests
from frugal.errors import FrugalError, reason

# The branch of every hub repository that holds its data as parquet, whatever else it holds.
PARQUET = "refs/convert/parquet"


class Source(BaseModel):
    """Exactly one of vader, bigbench, made, hub and folder; the rest belongs to the last two.

    vader, bigbench: a file of the pinned corpus; made: a generator of this module
    hub:     a dataset repository, and its `config`
    folder:  of CSV files that nobody may redistribute, below `local()`; `get` says where from
    train, test, unlabelled: the split (hub) or file (folder) for each use
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    vader: str | None = None
    bigbench: str | None = None
    made: str | None = None
    hub: str | None = None
    folder: str | None = None
    config: str = "default"
    get: str = ""
    train: str = ""
    test: str = ""
    unlabelled: str = ""

    @model_validator(mode="after")
    def _one(self) -> "Source":
        kinds = ("vader", "bigbench", "made", "hub", "folder")
        if sum(getattr(self, kind) is not None for kind in kinds) != 1:
            raise ValueError(f"source: exactly one of {', '.join(kinds)} must be given")
        return self

    @property
    def split(self) -> bool:
        """Whether training and test examples come apart from each other."""
        return self.hub is not None or self.folder is not None


def rows(source: Source) -> Iterator[dict[str, Any]]:
    """Rows of a source that is not split: its columns, and `label`, the index of the choice."""
    if source.vader is not None:
        return _sides(source.vader)
    if source.bigbench is not None:
        return _ranked(source.bigbench)
    return {"counting": _counting, "first-letter": _first_letter}[str(source.made)]()


def vader(file: str) -> Iterator[tuple[str, float]]:
    """The texts of a VADER corpus, and people's mean rating of each, from -4 to 4."""
    path = artifacts.member("vader", file)
    for line in path.read_text(encoding="latin-1").strip("\n").split("\n"):
        _, rating, text = line.split("\t", 2)
        yield text.strip(), float(rating)


def bigbench(folder: str) -> Iterator[tuple[str, dict[str, float]]]:
    """The inputs of a BIG-bench task, and the score of each answer to it."""
    path = artifacts.member("bigbench", _task(folder))
    for record in json.loads(path.read_text(encoding="utf-8"))["examples"]:
        yield record["input"], record["target_scores"]


def _task(folder: str) -> str:
    """How the path of a BIG-bench task's file ends."""
    return f"/{folder}/task.json"


def splits(source: Source, offline: Iterable[str] = ()) -> dict[str, Dataset]:
    """The parts of a source that is split, by use: train, and test or unlabelled or both.

    A copy below `local()` is read instead of the hub. Raises FrugalError where neither has it; it
    names the tasks that work `offline`.
    """
    used = {use: getattr(source, use) for use in ("train", "test", "unlabelled")}
    if source.folder is not None:
        files = {use: name for use, name in used.items() if name}
    else:
        files = {use: f"{source.config}/{name}/*.parquet" for use, name in used.items() if name}
    folder = local() / str(source.hub or source.folder)
    there = folder.is_dir()
    try:
        with _quiet():
            if there or source.folder:
                # Its cache knows files by path and time: here each content has a cache of its own.
                cache = artifacts.home() / "datasets-read" / digests.folder(folder)[:16]
                return dict(load_dataset(str(folder), data_files=files, cache_dir=str(cache)))
            return dict(load_dataset(source.hub, data_files=files, revision=PARQUET))
    except Exception as error:  # each layer below raises a kind of its own
        mend = _how_to_get(source, files, folder, ", ".join(offline))
        raise FrugalError(f"{mend} ({reason(error)})") from error


def content(source: Source) -> str:
    """A digest of what the rows of a source are made of, not of where they lie."""
    if source.vader is not None:
        return digests.of(source.model_dump(), digests.pin("vader"))
    if source.bigbench is not None:  # one file of many, so that others can be added
        return digests.of(source.model_dump(), digests.pin("bigbench", _task(source.bigbench)))
    if source.made is not None:
        return digests.of(source.model_dump())
    folder = local() / str(source.hub or source.folder)
    if folder.is_dir():
        return digests.of(source.model_dump(), digests.folder(folder))
    return digests.of(source.model_dump(), _hub_content(source))


@functools.cache  # of what a process has read from the hub once
def _hub_content(source: Source) -> str:
    return digests.of({use: rows_digest(part) for use, part in splits(source).items()})


def rows_digest(rows: Dataset) -> str:
    """Of all rows and their columns."""
    batches = (json.dumps(b, default=str, sort_keys=True) for b in rows.iter(1000))
    return digests.stream(itertools.chain([repr(rows.features)], batches))


def local() -> Path:
    """Where copies of datasets lie, as `<hub id>/<config>/<split>/*.parquet` or by folder."""
    return artifacts.home() / "datasets"


def _how_to_get(source: Source, files: Mapping[str, str], folder: Path, offline: str) -> str:
    if source.folder is not None:
        return (
            f"{source.folder} is not to be downloaded: {source.get}, then put "
            f"{' and '.join(files.values())} into {folder}"
        )
    if folder.is_dir():
        return f"{folder}: holds no {' or '.join(files.values())}"
    return (
        f"dataset {source.hub!r} ({source.config}): the Hugging Face hub did not give it. Without "
        f"the hub these work: {offline}, a JSONL file, or what another machine has got by "
        f"`hf download {source.hub} --repo-type dataset --revision {PARQUET}`, in {folder}"
    )


def indexed(name: str, data: Dataset, column: str, labels: tuple[str, ...]) -> Dataset:
    """`data` with its label column as `label`, the index in `labels` of what the column holds.

    Raises FrugalError for a row whose label is none of them, such as a hidden one.
    """
    if column not in data.column_names:
        raise FrugalError(f"{name}: no column {column!r}; there are {', '.join(data.column_names)}")
    feature, values = data.features[column], data[column]
    names = feature.names if isinstance(feature, ClassLabel) else sorted(map(str, set(values)))
    place = {text: labels.index(text) for text in names if text in labels}
    if isinstance(feature, ClassLabel):
        found = [place.get(names[v]) if 0 <= v < len(names) else None for v in values]
    else:
        found = [place.get(str(v)) for v in values]
    if None in found:
        at = found.index(None)
        raise FrugalError(
            f"{name}: row {at}: {column} holds {values[at]!r}, which is none of {', '.join(labels)}"
        )
    return data.remove_columns(column).add_column("label", np.array(found, dtype=np.int64))


def class_names(name: str, data: Dataset, column: str) -> tuple[str, ...]:
    """Names of the classes that the label column of `data` knows; not RAFT's "Unlabeled"."""
    feature = data.features.get(column)
    if not isinstance(feature, ClassLabel):
        raise FrugalError(f"{name}: {column!r} is no column that names classes")
    return tuple(text for text in feature.names if text != "Unlabeled")


def digest(text: str) -> bytes:
    """An order that is the same on every machine and for every version of every library."""
    return bytes.fromhex(digests.text(text))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Progress bars only where someone looks."""
    if sys.stderr.isatty():
        yield
        return
    disable_progress_bar()
    try:
        yield
    finally:
        enable_progress_bar()


def _sides(file: str) -> Iterator[dict[str, Any]]:
    """Texts of a VADER corpus that people rated beyond ±0.8: these have a side."""
    for text, rating in vader(file):
        if abs(rating) > 0.8:
            yield {"text": text, "label": int(rating > 0)}


def _ranked(folder: str) -> Iterator[dict[str, Any]]:
    """A BIG-bench task whose examples list all their choices; one without a text is left out."""
    for text, scores in bigbench(folder):
        if not text.strip():
            continue
        choices = sorted(scores)
        yield {
            "input": text.strip(),
            "choices": [c.strip() for c in choices],
            "label": max(range(len(choices)), key=lambda i: scores[choices[i]]),
        }


def _counting() -> Iterator[dict[str, Any]]:
    """A tiny generated task for tests: which letter occurs, with choices of unequal length."""
    for word, made in _words():
        choices = [" a", " b b", " c c c"][: 2 + made[6] % 2]
        counts = [word.count(choice[1]) for choice in choices]
        yield {"word": word, "choices": choices, "label": counts.index(max(counts))}


def _first_letter() -> Iterator[dict[str, Any]]:
    """Another: which letter comes first, of choices that all words share."""
    for word, _ in _words():
        yield {"word": word, "choices": [" a", " b", " c"], "label": "abc".index(word[0])}


def _words() -> Iterator[tuple[str, bytes]]:
    """Words of three letters' making, and the bytes that they are made of."""
    for i in range(48):
        made = digest(f"counting/{i}")
        yield "".join("abc"[byte % 3] for byte in made[:6]), made
