"""Buying labels: planned before, paid as answered, never beyond a cap, never twice.

What a request can cost at most is reserved before it is sent, in a line of `answers.jsonl` that is
on the disk by then; its answer is the next line about it. What was sent and never answered (the
process dies, the line breaks) counts against the cap for good, as `lost_usd`, and a bill is
believed only between nothing and what was reserved. The file alone says what was spent: it is read
again after every write, so that two processes that no lock keeps apart see each other.
"""

import contextlib
import errno
import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, Protocol

from filelock import FileLock, Timeout

from frugal.costs import check
from frugal.engine import digests, stderr
from frugal.errors import FrugalError
from frugal.tasks.templates import Example

ATTEMPTS = 3  # at an example whose answers are malformed or lost
PATIENCE = 8  # so many paid answers in a row without a label, and buying stops
ROOM = 16384  # bytes that one answer takes at most, kept free on the disk while it is on its way


@dataclass(frozen=True)
class Answer:
    """What came back for one example.

    choice: index of the chosen answer; None where the text names none ("malformed")
    usd:    what it cost; where no answer came the most that can have been billed
    state:  "answered"; "lost", sent and perhaps billed, but nothing came; "declined", the same, and
            to ask again would not help; "refused", and no other would fare better
    text:   what the source said, or why it refused
    tokens: read and written; cached: those of them that the source had read before
    """

    choice: int | None
    usd: float
    text: str = ""
    tokens: int = 0
    state: Literal["answered", "lost", "declined", "refused"] = "answered"
    cached: int = 0


Answers = Generator[tuple[int, Answer], None, None]  # an example's place, and what came for it


class Source(Protocol):
    """Where labels come from; see `sources` for those there are.

    batch:  examples it is asked about at a time
    remote: whether a request can be billed without its answer arriving
    hint:   what may help where its answers cannot be read
    """

    @property
    def name(self) -> str: ...
    @property
    def batch(self) -> int: ...
    @property
    def remote(self) -> bool: ...
    @property
    def hint(self) -> str: ...

    def identity(self) -> Mapping[str, Any]:
        """What its answers and prices depend on, as JSON; answers of another are not mixed in."""

    def ready(self) -> None:
        """Raise FrugalError where it cannot be asked at all, before anything is written down."""

    def expected_usd(self, example: Example) -> float:
        """What one answer will cost, as far as that is known before."""

    def most_usd(self, example: Example) -> float:
        """What one answer can cost at most."""

    def ask(self, examples: Sequence[Example], attempt: int) -> Answers:
        """The answer to each example, with its place among them, as soon as it is there.

        attempt: counts from 0
        """


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
    unasked:    examples that were not asked about (again): the cap left no money for them, or too
                few of those that had to be asked again could be read
    tokens:     of all answers; cached_tokens: those of them that the source had read before
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
    cached_tokens: int

    def labelled(self, examples: Sequence[Example]) -> list[Example]:
        """The examples that have a label, with that label."""
        pairs = zip(examples, self.labels, strict=True)
        return [e.model_copy(update={"label": y}) for e, y in pairs if y is not None]


def key(example: Example) -> str:
    """What identifies an example to whoever labels it: its text, never its label.

    Raises FrugalError for a text that is none: half of a surrogate pair.
    """
    text = json.dumps([example.prompt, *example.choices], ensure_ascii=False)
    try:
        return digests.text(text)[:32]
    except UnicodeEncodeError as error:
        start = example.prompt[:40].encode("utf-8", "replace").decode()
        raise FrugalError(
            f"the example {start!r} holds half a character (a lone surrogate); nobody can read it"
        ) from error


def quote(source: Source, examples: Sequence[Example]) -> Quote:
    """The price of labelling all of `examples`, each text once."""
    once = list({key(e): e for e in examples}.values())
    expected, most = (sum(f(e) for e in once) for f in (source.expected_usd, source.most_usd))
    return Quote(
        len(once), check.amount("the expected price", expected), check.amount("the price", most)
    )


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

    Raises FrugalError where the folder is another source's or in use, its file is damaged or cannot
    be written, the source refuses, `PATIENCE` answers in a row bring no label, or it bills more
    than its own maximum; what was answered is kept: call again. One that billed too much is not
    asked again from the same folder.
    """
    check.amount("cap_usd", cap_usd)
    check.whole("attempts", attempts, least=1)
    wanted = {key(e): e for e in examples}
    planned = quote(source, examples)
    source.ready()
    choices = {k: len(e.choices) for k, e in wanted.items()}
    with _Ledger(folder, source.identity(), _money(cap_usd), choices) as ledger:
        streak = 0
        for attempt in range(attempts):
            # In rounds, so that every example has its first try before any has its second.
            todo = [k for k in wanted if ledger.open_to(k) and ledger.tries[k] == attempt]
            if todo and ledger.greedy:
                raise FrugalError(
                    f"{source.name} {ledger.greedy}, so it is asked nothing more; "
                    f"{ledger.file} keeps all answers: name another folder to go on"
                )
            while todo:
                some, left = todo[: source.batch], _money(cap_usd) - ledger.committed
                batch = _affordable(source, [(k, wanted[k]) for k in some], left)
                todo = todo[len(batch) :]
                if not batch:
                    break
                if batch := [(k, e) for k, e in batch if ledger.open_to(k)]:
                    streak = _ask(source, ledger, batch, attempt, streak)
                    progress(len(ledger.label.keys() & wanted.keys()), float(ledger.spent))
                if streak >= PATIENCE:
                    break
            if streak >= PATIENCE:
                break  # what is left are examples that it cannot answer
            streak = 0 if ledger.label else streak
        bought = _bought(ledger, planned, examples, attempts)
    if bought.given_up and not any(y is not None for y in bought.labels):
        raise FrugalError(_unlabelled(source, ledger, "all", bought.given_up))
    return bought


def _money(usd: float) -> Decimal:
    """A price as it is written: ten times 0.1 is 1, so that a cap is met to the last digit."""
    return Decimal(repr(float(usd)))


def _affordable(
    source: Source, batch: list[tuple[str, Example]], left: Decimal
) -> list[tuple[str, Example]]:
    """As much of the batch as `left` USD pays for at its dearest."""
    totals = accumulate(_money(source.most_usd(e)) for _, e in batch)
    return [b for b, total in zip(batch, totals, strict=True) if total <= left]


def _ask(
    source: Source,
    ledger: "_Ledger",
    batch: list[tuple[str, Example]],
    attempt: int,
    streak: int,
) -> int:
    """Ask about the batch and keep what comes; how many answers in a row brought no label."""
    most = {k: source.most_usd(e) for k, e in batch}
    if source.remote:
        granted = ledger.reserve(most)
        batch = [(k, e) for k, e in batch if k in granted]
    refusal, full = "", None
    with contextlib.closing(source.ask([e for _, e in batch], attempt)) as answers:
        for place, answer in answers:
            k = batch[place][0]
            try:
                ledger.add(k, answer, most[k])
            except OSError as error:  # the others were paid for too: keep as many as go in
                full = error
            if answer.state == "refused":
                refusal = answer.text
            else:
                streak = 0 if answer.choice is not None else streak + 1
    if full is not None:
        raise _unwritable(ledger.file, full) from full
    if ledger.greedy:
        raise FrugalError(f"{source.name} {ledger.greedy}; {ledger.file} keeps all answers")
    if refusal:
        raise FrugalError(f"{source.name}: {refusal}; {ledger.file} keeps all answers")
    if streak >= PATIENCE and (attempt == 0 or not ledger.label):
        raise FrugalError(_unlabelled(source, ledger, "the last", streak))
    return streak


def _unlabelled(source: Source, ledger: "_Ledger", which: str, count: int) -> str:
    hint = f"; {source.hint}" if source.hint else ""
    return (
        f"{source.name}: {which} {count} examples asked about got no label, since no answer named "
        f"one of the choices: {ledger.last[:80]!r}{hint}; {ledger.file} keeps all answers"
    )


def _unwritable(file: Path, error: OSError) -> FrugalError:
    return FrugalError(f"{file}: cannot be written ({error.strerror or error}); nothing is asked")


def _bought(
    ledger: "_Ledger", planned: Quote, examples: Sequence[Example], attempts: int
) -> Bought:
    keys = {key(e) for e in examples}
    open_keys = [k for k in keys if k not in ledger.label]
    given_up = sum(ledger.tries[k] >= attempts or k in ledger.declined for k in open_keys)
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
        cached_tokens=ledger.cached,
    )


class _Ledger:
    """`answers.jsonl`: who answers, in its first line; then reservations and answers as they come.

    Lines are only ever added, each time by one call of the system, so that all processes that add
    some see them in one order.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, Any], cap: Decimal, choices: Mapping[str, int]
    ) -> None:
        self.file, self.identity = folder / "answers.jsonl", json.loads(json.dumps(identity))
        self.cap, self.choices = cap, choices
        self.lock, self.room = FileLock(folder / "answers.lock"), folder / "answers.room"
        self.me, self.count, self.held, self.out = uuid.uuid4().hex[:12], 0, 0, -1
        self.read, self.lines, self.torn = 0, 0, False
        self.pending: dict[str, Decimal] = {}  # reservation -> USD
        self.asking: dict[str, str] = {}  # reservation of somebody who is here now -> example
        self.mine: dict[str, str] = {}  # example -> my reservation
        self.late: set[str] = set()  # of mine, those that came after the cap or the label was gone
        self.label: dict[str, int] = {}
        self.tries: Counter[str] = Counter()
        self.declined: set[str] = set()
        self.spent = self.gone = Decimal(0)
        self.answers = self.malformed = self.tokens = self.cached = 0
        self.greedy = self.last = ""
        self.named = False
        self.other: Any = None

    @property
    def lost(self) -> Decimal:
        """USD that may have been billed for answers that never came."""
        return sum((usd for r, usd in self.pending.items() if r not in self.asking), self.gone)

    @property
    def committed(self) -> Decimal:
        """USD that are gone, or may be."""
        return sum(self.pending.values(), self.spent + self.gone)

    def __enter__(self) -> "_Ledger":
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.lock.acquire(timeout=0)
        except Timeout as error:
            raise FrugalError(
                f"{self.file.parent}: labels are being bought here already"
            ) from error
        except (OSError, NotImplementedError) as error:
            raise FrugalError(f"{self.file.parent}: no folder for answers ({error})") from error
        try:
            added = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self.out = os.open(self.file, added, 0o644)
            self._catch_up()
            if self.torn:
                time.sleep(0.05)  # it may be about to be whole, where locks do nothing
                self._mend()
            # Whoever asked is gone, and with it the answers that were on their way. (Or it is here
            # still, where locks do nothing: then its answers count when they come.)
            self.asking.clear()
            if not self.lines:
                self._write([{"source": self.identity}])
            elif not self.named:
                raise FrugalError(f"{self.file}: does not say whose answers it holds")
        except OSError as error:
            self.__exit__()
            raise _unwritable(self.file, error) from error
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        if self.out >= 0:
            os.close(self.out)
        self._give_room()
        self.lock.release()

    def open_to(self, k: str) -> bool:
        """Whether the example may be asked about: no label yet, and nobody is asking now."""
        return not (k in self.label or k in self.declined or k in self.asking.values())

    def reserve(self, most: Mapping[str, float]) -> set[str]:
        """Write down what each request may cost; those of them that may be sent.

        One that the cap has no room for any more, or whose example somebody else asks about by now,
        is taken back: of two processes that no lock keeps apart, the later in the file gives way.
        """
        names = {k: f"{self.me}-{self.count + i}" for i, k in enumerate(most)}
        self.count += len(most)
        self.mine.update(names)
        try:
            self._take_room(len(most))
            self._write([{"asked": k, "usd": most[k], "id": names[k]} for k in most])
            late = {k for k in most if names[k] in self.late}
            if late:
                self._write([{"withdrawn": names[k]} for k in late])
        except OSError as error:
            raise _unwritable(self.file, error) from error
        return most.keys() - late

    def add(self, k: str, answer: Answer, most: float) -> None:
        """Keep an answer. A bill is believed up to `most`; a higher one is noted, and the last."""
        record: dict[str, Any] = {"key": k, **vars(answer)}
        if not 0 <= answer.usd <= most:  # nor is NaN
            record["usd"] = most
        if answer.usd > most * (1 + 1e-9):
            record["greedy"] = f"billed ${answer.usd:g} where at most ${most:g} was due"
        if k in self.mine:
            record["id"] = self.mine.pop(k)
        try:
            self._write([record])
        except OSError:
            self._give_room()  # which is there for this
            try:
                self._write([record])
            except OSError:
                text = json.dumps(record)
                stderr.say(f"paid for, but not in {self.file}: {text}")
                raise

    def _write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add lines; when this returns they are on the disk, and counted."""
        text = "".join(json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in records)
        # In JSON the backslash sequence of a lone surrogate is its escape.
        data = text.encode("utf-8", "backslashreplace")
        try:
            if os.write(self.out, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self.out)
        except OSError:
            self._mend()
            raise
        self._catch_up()

    def _mend(self) -> None:
        """Count what is whole, and cut off the beginning of a line that did not get further."""
        self._catch_up()
        if self.torn:
            os.ftruncate(self.out, self.read)
            self.torn = False

    def _take_room(self, answers: int) -> None:
        """Hold space on the disk for answers that will be paid for, should others fill it."""
        if self.held < answers:
            with self.room.open("wb") as out:
                out.write(bytes(ROOM * answers))
                out.flush()
                os.fsync(out.fileno())
            self.held = answers

    def _give_room(self) -> None:
        self.held = 0
        with contextlib.suppress(OSError):
            self.room.unlink(missing_ok=True)

    def _catch_up(self) -> None:
        """Count every whole line that the file has beyond those counted."""
        # Opened anew each time: a network file system may then show what others have written.
        with self.file.open("rb") as file:
            if not os.path.samestat(os.fstat(file.fileno()), os.fstat(self.out)):
                raise FrugalError(f"{self.file}: was replaced while labels were bought")
            if os.fstat(file.fileno()).st_size < self.read:
                raise FrugalError(f"{self.file}: was cut while labels were bought")
            file.seek(self.read)
            whole, newline, rest = file.read().rpartition(b"\n")
        self.torn = bool(rest)
        self.read += len(whole) + len(newline)
        found = whole.split(b"\n") if newline else []
        for line in found:
            self.lines += 1
            try:
                self._take(json.loads(line))
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                problem = f"{self.file}, line {self.lines}: not a line of answers"
                raise FrugalError(f"{problem} ({str(error)[:200]})") from error
        if self.other:
            raise FrugalError(
                f"{self.file}: holds the answers of another source or price "
                f"({json.dumps(self.other)}); name another folder"
            )

    def _take(self, record: dict[str, Any]) -> None:
        if "source" in record:
            self.named = True
            self.other = record["source"] if record["source"] != self.identity else self.other
        elif "asked" in record:
            k, usd = record["asked"], _money(check.amount("usd", record["usd"]))
            self._reserved(k, usd, record.get("id", k))
        elif "withdrawn" in record:
            del self.pending[record["withdrawn"]]
            self.asking.pop(record["withdrawn"], None)
        else:
            self.greedy = record.pop("greedy", self.greedy)
            k = record.pop("key")
            name = record.pop("id", None)
            if name is None or name in self.pending:  # else it is here already
                self.pending.pop(name or k, None)
                self.asking.pop(name or k, None)
                self._count(k, Answer(**record))

    def _reserved(self, k: str, usd: Decimal, name: str) -> None:
        if name in self.pending:  # asked before a kill, and again after it
            self.gone += self.pending[name]
        taken = not self.open_to(k)
        self.pending[name], self.asking[name] = usd, k
        if self.mine.get(k) == name and (taken or self.committed > self.cap):
            self.late.add(name)

    def _count(self, k: str, answer: Answer) -> None:
        usd = _money(check.amount("usd", answer.usd))
        tokens, cached = check.whole("tokens", answer.tokens), check.whole("cached", answer.cached)
        if answer.choice is not None:
            choice = check.whole("choice", answer.choice)
            if choice >= self.choices.get(k, choice + 1):
                raise ValueError(f"choice {choice}: there are not so many")
        if answer.state == "refused":
            self.gone += usd
            return
        self.tries[k] += 1
        if answer.choice is None:
            self.last = str(answer.text)
        if answer.state == "answered":
            self.spent += usd
            self.answers += 1
            self.tokens += tokens
            self.cached += cached
            self.malformed += answer.choice is None
            if answer.choice is not None:
                self.label.setdefault(k, answer.choice)
        elif answer.state in ("lost", "declined"):
            self.gone += usd
            self.declined |= {k} if answer.state == "declined" else set()
        else:
            raise ValueError(f"state {answer.state!r}: there is no such one")
