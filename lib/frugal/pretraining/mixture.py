"""Prompts for pretraining: many tasks in several wordings each, drawn by seed, as T0's mixture.

`data/mixture.toml` says which tasks, and how they are worded. Their texts come from the pinned
corpora; what the named tasks keep for testing is never drawn.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from frugal import data, tasks
from frugal.engine import artifacts
from frugal.errors import unknown
from frugal.tasks import Example, sources

# A record's own choices beyond this number are left out at random, the right one never.
MOST_CHOICES = 6
# Longer texts are left out: a step costs what its tokens cost.
TEXT_CHARACTERS = 200


@dataclass(frozen=True)
class Record:
    """One text of a task: what a wording's braces take, the answer, and its own choices."""

    fields: dict[str, str]
    label: int
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wording:
    """A prompt with braces, and the choices that stand for the task's labels."""

    prompt: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Component:
    """One task of the mixture: its records, its wordings, its weight."""

    name: str
    records: Sequence[Record]
    wordings: Sequence[Wording]
    weight: float


@dataclass(frozen=True)
class Mixture:
    """Tasks to draw prompts from. `left_out` names those whose corpus is not on this machine."""

    components: Sequence[Component]
    left_out: tuple[str, ...] = ()

    def draw(self, count: int, seed: str) -> list[Example]:
        """`count` prompts: a task by weight, a record and a wording of it evenly.

        A function of its arguments alone, so that a resumed training sees what it would have.
        """
        generator = random.Random(seed)
        weights = [c.weight for c in self.components]
        chosen = generator.choices(self.components, weights, k=count)
        return [
            word(generator.choice(c.records), generator.choice(c.wordings), generator)
            for c in chosen
        ]


def word(record: Record, wording: Wording, generator: random.Random) -> Example:
    """The record put into a wording; a record's own choices come in a random order."""
    choices, label = list(wording.choices or record.choices), record.label
    if not wording.choices:
        right = choices.pop(label)
        choices = generator.sample(choices, min(len(choices), MOST_CHOICES - 1))
        label = generator.randint(0, len(choices))
        choices.insert(label, right)
    prompt = wording.prompt.format(**record.fields, options=", ".join(choices))
    return Example(prompt=prompt, choices=tuple(f" {c}" for c in choices), label=label)


def load() -> Mixture:
    """The mixture of `data/mixture.toml`, as far as its corpora are on this machine.

    The required corpus is fetched; tasks of an optional one are left out unless it was fetched.
    """
    table = data.toml("mixture.toml")
    wordings = {
        name: [Wording(w["prompt"], tuple(w.get("choices", ()))) for w in some]
        for name, some in table["wordings"].items()
    }
    optional = artifacts.state("bigbench") == "ok"
    components, left_out = [], []
    for name, entry in table["tasks"].items():
        if entry["kind"] not in READERS:
            raise unknown("kind of task", entry["kind"], READERS)
        if not optional and _needs_bigbench(entry):
            left_out.append(name)
            continue
        records = READERS[entry["kind"]](entry["of"], entry.get("labels"))
        components.append(Component(name, records, wordings[entry["wordings"]], entry["weight"]))
    return Mixture(components, tuple(left_out))


def _needs_bigbench(entry: dict[str, Any]) -> bool:
    return entry["kind"] == "bigbench" or entry["of"] in ("topic", "title", "part")


def _rated(name: str, labels: None = None) -> list[Record]:
    """The texts of a named sentiment task that are not kept for testing."""
    task = tasks.load(name)
    return [
        Record({"text": e.prompt.removeprefix("Review: ").removesuffix("\nSentiment:")}, e.label)
        for e in task.draw(task.drawable, 0)
    ]


def _bigbench(folder: str, labels: Sequence[str] | None) -> list[Record]:
    """A BIG-bench task; each prompt once."""
    found = {}
    for asked, scores in sources.bigbench(folder):
        right = max(scores, key=scores.__getitem__)
        text = re.sub(r"\s*The answer is:\s*$", "", asked).strip()
        if not 0 < len(text) <= TEXT_CHARACTERS:
            continue
        if labels is None:
            choices = tuple(dict.fromkeys(c.strip() for c in sorted(scores)))
            if len(choices) > 1:
                found[text] = Record({"text": text}, choices.index(right.strip()), choices)
        elif right in labels:
            found[text] = Record({"text": text}, labels.index(right))
    return list(found.values())


def _made(what: str, labels: None = None) -> list[Record]:
    if what not in MADE:
        raise unknown("made task", what, MADE)
    return list(MADE[what](random.Random(what)))


def _source(generator: random.Random) -> Iterator[Record]:
    """Which corpus a text comes from."""
    names = {"amazon-reviews": "a shop", "tweets": "a social network", "nyt-editorials": "a paper"}
    for label, name in enumerate(names):
        for record in _rated(name):
            yield Record(record.fields, label, tuple(names.values()))


def _topic(generator: random.Random) -> Iterator[Record]:
    """What a review is about; the wrong choices are other corpora's topics."""
    topics = {"hotels": "hotels", "medicine": "doctors", "products": "products",
              "reviews": "university courses"}  # fmt: skip
    everything = [*topics.values(), "politics", "social life"]
    texts = [
        (topic, record)
        for name, topic in topics.items()
        for record in _bigbench(f"multiemo/{name}_sentence_en", ["negative", "positive"])[:3000]
    ]
    texts += [("politics", r) for r in _rated("nyt-editorials")]
    texts += [("social life", r) for r in _rated("tweets")]
    for topic, record in texts:
        yield Record(record.fields, everything.index(topic), tuple(everything))


def _word(generator: random.Random) -> Iterator[Record]:
    """Which of four words a text holds; the wrong ones come from other texts."""
    texts = [r.fields["text"] for name in _RATED for r in _rated(name)]
    held = [sorted(set(re.findall(r"[a-z]{5,}", text.lower()))) for text in texts]
    for text, words in zip(texts, held, strict=True):
        others = [generator.choice(w) for w in generator.sample(held, 8) if w]
        wrong = [w for w in dict.fromkeys(others) if w not in text.lower()][:3]
        if words and wrong:
            yield Record({"text": text}, 0, (generator.choice(words), *wrong))


def _same(generator: random.Random) -> Iterator[Record]:
    """Whether two reviews are on the same side."""
    records = [r for name in _RATED for r in _rated(name)]
    for first in records:
        second = generator.choice(records)
        fields = {"first": first.fields["text"], "second": second.fields["text"]}
        yield Record(fields, int(first.label == second.label))


def _title(generator: random.Random) -> Iterator[Record]:
    """Which page of an encyclopaedia a sentence is from: three a page at most, few labels twice."""
    pages: dict[str, list[str]] = {}
    for record in _bigbench("vitaminc_fact_verification", ["False", "Neither", "True"]):
        page, _, rest = record.fields["text"].partition(": ")
        title = re.sub(r" ?-LRB-.*", "", page)
        sentence = rest.partition("\nClaim:")[0]
        sentences = pages.setdefault(title, [])
        if sentence not in sentences and len(sentences) < 3 and re.search("[a-z]{3}", title):
            sentences.append(sentence)
    titles = sorted(pages)
    for title, sentences in pages.items():
        for sentence in sentences:
            wrong = [t for t in generator.sample(titles, 4) if t != title][:3]
            yield Record({"text": sentence}, 0, (title, *wrong))


def _part(generator: random.Random) -> Iterator[Record]:
    """Which four words in a row a text holds: the decoder learns to repeat what was read."""
    texts = [r.fields["text"] for name in _RATED for r in _rated(name)]
    texts += [
        record.fields["text"]
        for name in ("hotels", "medicine", "products")
        for record in _bigbench(f"multiemo/{name}_sentence_en", ["negative", "positive"])[:3000]
    ]
    parts = []
    for text in texts:
        words = text.split()
        if len(words) >= 8:
            at = generator.randrange(len(words) - 4)
            parts.append((text, " ".join(words[at : at + 4])))
    for text, part in parts:
        wrong = [p for _, p in generator.sample(parts, 4) if p != part][:3]
        yield Record({"text": text}, 0, (part, *wrong))


_RATED = ("amazon-reviews", "tweets", "nyt-editorials")
READERS: dict[str, Callable[..., list[Record]]] = {
    "rated": _rated,
    "bigbench": _bigbench,
    "made": _made,
}
MADE: dict[str, Callable[[random.Random], Iterator[Record]]] = {
    "source": _source,
    "topic": _topic,
    "word": _word,
    "same": _same,
    "title": _title,
    "part": _part,
}
