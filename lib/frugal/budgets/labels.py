"""Buying labels: planned before, paid as answered, never beyond a cap, never twice.

Whatever a source answers is a line of `answers.jsonl` before anything else happens, so a run that
is killed goes on where it stopped. A request that may be billed although its answer never comes
(the process dies, the line breaks) is written down before it is sent; what it can have cost at
most then counts against the cap for good, as `lost_usd`.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from filelock import FileLock, Timeout

from frugal.costs import check
from frugal.errors import FrugalError
from frugal.fewshot.tasks import Example

ATTEMPTS = 3  # at an example whose answers are malformed


@dataclass(frozen=True)
class Answer:
    """What came back for one example.

    choice: index of the chosen answer; None where the text names none ("malformed")
    usd:    what it cost; of a lost answer the most it can have cost; 0 of a refused one
    state:  "answered"; "lost", sent and perhaps billed, but nothing came; "refused", not billed
    text:   what the source said, or why it refused
    """

    choice: int | None
    usd: float
    text: str = ""
    tokens: int = 0
    state: Literal["answered", "lost", "refused"] = "answered"


class Source(Protocol):
    """Where labels come from; see `sources` for those there are.

    batch:  examples it is asked about at a time
    remote: whether a request can be billed without its answer arriving
    """

    @property
    def name(self) -> str: ...
    @property
    def batch(self) -> int: ...
    @property
    def remote(self) -> bool: ...

    def identity(self) -> Mapping[str, Any]:
        """What its answers and prices depend on, as JSON; answers of another are not mixed in."""

    def ready(self) -> None:
        """Raise FrugalError where it cannot be asked at all, before anything is written down."""

    def expected_usd(self, example: Example) -> float:
        """What one answer will cost, as far as that is known before."""

    def most_usd(self, example: Example) -> float:
        """What one answer can cost at most."""

    def ask(self, examples: Sequence[Example], attempt: int) -> Iterator[Answer]:
        """One answer for each example, in order; `attempt` counts from 0."""


@dataclass(frozen=True)
class Quote:
    """Before anything is bought: how many different examples, and their price in USD."""

    examples: int
    expected_usd: float
    most_usd: float  # if every answer is as long as it may be, and none has to be asked for again


@dataclass(frozen=True)
class Bought:
    """What a folder of answers holds for the examples asked about.

    labels:     per example the index of a choice, or None
    spent_usd:  the sum of what was answered, malformed answers included
    lost_usd:   the most that requests without an answer can have cost; it counts against the cap
    malformed:  answers that named no choice; given_up: examples left after too many of those
    unasked:    examples the cap left no money for
    """

    labels: list[int | None]
    quote: Quote
    spent_usd: float
    lost_usd: float
    answers: int
    malformed: int
    given_up: int
    unasked: int
    tokens: int

    def labelled(self, examples: Sequence[Example]) -> list[Example]:
        """The examples that have a label, with that label."""
        pairs = zip(examples, self.labels, strict=True)
        return [e.model_copy(update={"label": y}) for e, y in pairs if y is not None]


def key(example: Example) -> str:
    """What identifies an example to whoever labels it: its text, never its label."""
    text = json.dumps([example.prompt, *example.choices], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def quote(source: Source, examples: Sequence[Example]) -> Quote:
    """The price of labelling all of `examples`, each text once."""
    once = list({key(e): e for e in examples}.values())
    expected, most = (sum(f(e) for e in once) for f in (source.expected_usd, source.most_usd))
    return Quote(len(once), expected, most)


def buy(
    source: Source,
    examples: Sequence[Example],
    folder: Path,
    *,
    cap_usd: float,
    attempts: int = ATTEMPTS,
    progress: Callable[[int, float], Any] = lambda labelled, spent_usd: None,
) -> Bought:
    """Ask `source` about every example that `folder` holds no label for, while the cap allows.

    cap_usd:  for all that was ever spent in this folder; a request that could pass it is not sent
    attempts: how often an example is asked about whose answers are malformed or lost

    Raises FrugalError where the folder is another source's or in use, its file is damaged, the
    source refuses (what was answered is kept: call again), or it bills more than its own maximum.
    """
    if check.number("cap_usd", cap_usd) < 0:
        raise FrugalError(f"cap_usd must not be negative, but is {cap_usd!r}")
    check.whole("attempts", attempts, least=1)
    source.ready()
    planned = quote(source, examples)
    with _Ledger(folder, source.identity()) as ledger:
        wanted = {key(e): e for e in examples}
        for attempt in range(attempts):
            # In rounds, so that every example has its first try before any has its second.
            todo = [
                (k, e)
                for k, e in wanted.items()
                if k not in ledger.label and ledger.tries[k] == attempt
            ]
            while todo:
                batch = _affordable(
                    source, todo[: source.batch], _money(cap_usd) - ledger.committed
                )
                if not batch:
                    break
                todo = todo[len(batch) :]
                _ask(source, ledger, batch, attempt)
                progress(len(ledger.label.keys() & wanted.keys()), float(ledger.spent))
        return _bought(ledger, planned, examples, attempts)


def _money(usd: float) -> Decimal:
    """A price as it is written: ten times 0.1 is 1, so that a cap is met to the last digit."""
    return Decimal(repr(usd))


def _affordable(
    source: Source, batch: list[tuple[str, Example]], left: Decimal
) -> list[tuple[str, Example]]:
    """As much of the batch as `left` USD pays for at its dearest."""
    totals = accumulate(_money(source.most_usd(e)) for _, e in batch)
    return [b for b, total in zip(batch, totals, strict=True) if total <= left]


def _ask(source: Source, ledger: "_Ledger", batch: list[tuple[str, Example]], attempt: int) -> None:
    if source.remote:
        ledger.asked({k: source.most_usd(e) for k, e in batch})
    refusal, dear = "", ""
    answers = source.ask([e for _, e in batch], attempt)
    for (k, example), answer in zip(batch, answers, strict=True):
        ledger.add(k, answer)
        if answer.state == "refused":
            refusal = answer.text
        if answer.usd > source.most_usd(example) + 1e-9:
            dear = f"billed ${answer.usd:g} where at most ${source.most_usd(example):g} was due"
    if refusal or dear:
        raise FrugalError(f"{source.name}: {refusal or dear}; {ledger.file} keeps all answers")


def _bought(
    ledger: "_Ledger", planned: Quote, examples: Sequence[Example], attempts: int
) -> Bought:
    keys = {key(e) for e in examples}
    open_keys = [k for k in keys if k not in ledger.label]
    given_up = sum(ledger.tries[k] >= attempts for k in open_keys)
    return Bought(
        labels=[ledger.label.get(key(e)) for e in examples],
        quote=planned,
        spent_usd=float(ledger.spent),
        lost_usd=float(ledger.lost),
        answers=ledger.answers,
        malformed=ledger.malformed,
        given_up=given_up,
        unasked=len(open_keys) - given_up,
        tokens=ledger.tokens,
    )


class _Ledger:
    """`answers.jsonl`: who answers, in its first line; then requests and answers as they come."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.file, self.identity = folder / "answers.jsonl", json.loads(json.dumps(identity))
        self.lock = FileLock(folder / "answers.lock")
        self.out: IO[str] | None = None
        self.label: dict[str, int] = {}
        self.tries: Counter[str] = Counter()
        self.pending: dict[str, Decimal] = {}
        self.spent = self.lost = Decimal(0)
        self.answers = self.malformed = self.tokens = 0

    @property
    def committed(self) -> Decimal:
        """USD that are gone, or may be."""
        return sum(self.pending.values(), self.spent + self.lost)

    def __enter__(self) -> "_Ledger":
        self.file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.lock.acquire(timeout=0)
        except Timeout as error:
            raise FrugalError(
                f"{self.file.parent}: labels are being bought here already"
            ) from error
        try:
            self._load()
            self.out = self.file.open("a", encoding="utf-8")
            if not self.file.stat().st_size:
                self._write([{"source": self.identity}])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        if self.out is not None:
            self.out.close()
        self.lock.release()

    def asked(self, most: Mapping[str, float]) -> None:
        """Write down what is about to be asked, and what each may cost."""
        self.pending.update((k, _money(usd)) for k, usd in most.items())
        self._write([{"asked": k, "usd": usd} for k, usd in most.items()])

    def add(self, k: str, answer: Answer) -> None:
        self._write([{"key": k, **vars(answer)}])
        self._count(k, answer)

    def _count(self, k: str, answer: Answer) -> None:
        self.pending.pop(k, None)
        if answer.state == "refused":
            return
        self.tries[k] += 1
        if answer.state == "lost":
            self.lost += _money(answer.usd)
            return
        self.spent += _money(answer.usd)
        self.answers += 1
        self.tokens += answer.tokens
        if answer.choice is None:
            self.malformed += 1
        else:
            self.label[k] = answer.choice

    def _write(self, records: Sequence[Mapping[str, Any]]) -> None:
        assert self.out is not None
        self.out.write("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))
        self.out.flush()
        os.fsync(self.out.fileno())

    def _load(self) -> None:
        """Take up what is there, but not a last line that was cut off while it was written."""
        if not self.file.exists():
            return
        whole, _, torn = self.file.read_bytes().rpartition(b"\n")
        if torn:
            os.truncate(self.file, len(whole) + bool(whole))
        for number, line in enumerate(whole.decode().split("\n") if whole else [], start=1):
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                if isinstance(error, FrugalError):
                    raise
                raise FrugalError(f"{self.file}, line {number}: not a line of answers") from error
        # Whoever asked is gone, and with it the answers that were on their way.
        self.lost += sum(self.pending.values(), Decimal(0))
        self.pending.clear()

    def _take(self, record: dict[str, Any]) -> None:
        if "source" in record:
            if record["source"] != self.identity:
                raise FrugalError(
                    f"{self.file}: holds the answers of another source or price "
                    f"({json.dumps(record['source'])}); name another folder"
                )
        elif "asked" in record:
            if record["asked"] in self.pending:  # asked before a kill, and again after it
                self.lost += self.pending.pop(record["asked"])
            self.pending[record["asked"]] = _money(record["usd"])
        else:
            self._count(record.pop("key"), Answer(**record))
