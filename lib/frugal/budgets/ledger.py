"""The ledger of bought labels: a file of reservations and answers, which alone says what was spent.

What a request can cost at most is reserved before it is sent, in a line of `answers.jsonl` that is
on the disk by then; its answer is the next line about it. What was sent and never answered (the
process dies, the line breaks) counts against the cap for good, as `lost_usd`, and a bill is
believed only between nothing and what was reserved. The file is read again after every write, so
that two processes that no lock keeps apart see each other.
"""

import contextlib
import errno
import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from frugal.budgets.source import Answer
from frugal.costs import check
from frugal.engine import stderr
from frugal.errors import FrugalError

ROOM = 16384  # bytes that one answer takes at most, kept free on the disk while it is on its way
SHOWN = 3  # answers that named no choice, where buying ends because of them


@dataclass
class Batch:
    """Requests that are handed in together, and answered much later.

    asked: reservation -> example
    file:  what the server calls them; empty until they are all there, and nothing is asked before
    share: of the price that each costs
    number: what the server calls the batch; empty where it is not known whether there is one
    """

    asked: dict[str, str] = field(default_factory=dict)
    file: str = ""
    share: float = 1.0
    number: str = ""


def money(usd: float) -> Decimal:
    """A price as it is written: ten times 0.1 is 1, so that a cap is met to the last digit."""
    return Decimal(repr(float(usd)))


def unwritable(file: Path, error: OSError) -> FrugalError:
    return FrugalError(f"{file}: cannot be written ({error.strerror or error}); nothing is asked")


class Ledger:
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
        self.batches: dict[str, Batch] = {}
        self.asking: dict[str, str] = {}  # reservation of somebody who is here now -> example
        self.mine: dict[str, str] = {}  # example -> my reservation
        self.late: set[str] = set()  # of mine, those that came after the cap or the label was gone
        self.label: dict[str, int] = {}
        self.tries: Counter[str] = Counter()
        self.declined: set[str] = set()
        self.spent = self.gone = Decimal(0)
        self.answers = self.malformed = self.tokens = self.cached = self.reasoning = 0
        self.greedy = ""
        self.unread: list[str] = []  # the latest answers that named no choice, each once
        self.sources: list[Any] = []  # whose answers the file says it holds

    @property
    def lost(self) -> Decimal:
        """USD that may have been billed for answers that never came."""
        return sum((usd for r, usd in self.pending.items() if r not in self.asking), self.gone)

    @property
    def committed(self) -> Decimal:
        """USD that are gone, or may be."""
        return sum(self.pending.values(), self.spent + self.gone)

    def __enter__(self) -> "Ledger":
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
            elif not self.sources:
                raise FrugalError(f"{self.file}: does not say whose answers it holds")
            self._take_up()
        except OSError as error:
            self.__exit__()
            raise unwritable(self.file, error) from error
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

    def reserve(self, most: Mapping[str, float], batch: str = "") -> set[str]:
        """Write down what each request may cost, alone or in a batch; those that may be sent.

        One that the cap has no room for any more, or whose example somebody else asks about by now,
        is taken back: of two processes that no lock keeps apart, the later in the file gives way.
        """
        names = {k: f"{self.me}-{self.count + i}" for i, k in enumerate(most)}
        self.count += len(most)
        self.mine.update(names)
        of = {"batch": batch} if batch else {}
        try:
            if not batch:  # whose answers can be fetched once more
                self._take_room(len(most))
            self._write([{"asked": k, "usd": most[k], "id": names[k], **of} for k in most])
            if late := {k for k in most if names[k] in self.late}:
                self._write([{"withdrawn": names[k]} for k in late])
        except OSError as error:
            raise unwritable(self.file, error) from error
        return most.keys() - late

    def open_batches(self) -> dict[str, Batch]:
        """Those with a request that has no answer here yet."""
        return {name: b for name, b in self.batches.items() if b.asked.keys() & self.pending.keys()}

    def begin(self, name: str, file: str, share: float) -> None:
        """Write down that a batch is being made; from now on it may be, and be billed."""
        self._note([{"batch": name, "file": file, "share": share}])
        if not self.batches[name].asked.keys() - self.late <= self.pending.keys():
            raise FrugalError(f"{self.file.parent}: labels are being bought here by somebody else")

    def made(self, name: str, number: str) -> None:
        self._note([{"batch": name, "made": number}])

    def withdraw(self, name: str) -> None:
        """Take back the reservations of a batch that was not made."""
        taken = self.batches[name].asked.keys() & self.pending.keys()
        self._note([{"withdrawn": each} for each in sorted(taken)])

    def forget(self, name: str) -> None:
        """Count what a batch has not answered as lost: the server knows of none."""
        for each in self.batches[name].asked:
            self.asking.pop(each, None)

    def _take_up(self) -> None:
        """Go on waiting for the batches there are; of others nothing was asked."""
        for name, batch in self.open_batches().items():
            if batch.file:
                self.asking |= {r: k for r, k in batch.asked.items() if r in self.pending}
            else:
                self.withdraw(name)

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
                stderr.say(f"paid for, but not in {self.file}: {json.dumps(record)}")
                raise

    def _note(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add lines about a batch; FrugalError where they cannot be written."""
        try:
            self._write(records)
        except OSError as error:
            raise unwritable(self.file, error) from error

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
        for line in whole.split(b"\n") if newline else []:
            self.lines += 1
            try:
                self._take(json.loads(line))
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                raise FrugalError(
                    f"{self.file}, line {self.lines}: not a line of answers ({str(error)[:200]})"
                ) from error
        for other in self.sources:
            if other != self.identity:
                raise FrugalError(
                    f"{self.file}: holds the answers of another source or price "
                    f"({json.dumps(other)}); name another folder"
                )

    def _take(self, record: dict[str, Any]) -> None:
        if "source" in record:
            self.sources.append(record["source"])
        elif "asked" in record:
            k, batch = record["asked"], record.get("batch")
            name = record.get("id", k)
            self._reserved(k, money(check.amount("usd", record["usd"])), name)
            if batch is not None:
                self.batches.setdefault(str(batch), Batch()).asked[name] = k
        elif "batch" in record:
            batch = self.batches[record["batch"]]
            batch.file = str(record.get("file", batch.file))
            batch.number = str(record.get("made", batch.number))
            batch.share = check.amount("share", record.get("share", batch.share))
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
        usd = money(check.amount("usd", answer.usd))
        counts = {n: check.whole(n, getattr(answer, n)) for n in ("tokens", "cached", "reasoning")}
        choice = None if answer.choice is None else check.whole("choice", answer.choice)
        if choice is not None and choice >= self.choices.get(k, choice + 1):
            raise ValueError(f"choice {choice}: there are not so many")
        if answer.state == "refused":
            self.gone += usd
            return
        self.tries[k] += 1
        if choice is None:
            text = str(answer.text)
            self.unread = [*[t for t in self.unread if t != text][1 - SHOWN :], text]
        if answer.state == "answered":
            self.spent += usd
            self.answers += 1
            self.tokens += counts["tokens"]
            self.cached += counts["cached"]
            self.reasoning += counts["reasoning"]
            self.malformed += choice is None
            if choice is not None:
                self.label.setdefault(k, choice)
        elif answer.state in ("lost", "declined"):
            self.gone += usd
            if answer.state == "declined":
                self.declined.add(k)
        else:
            raise ValueError(f"state {answer.state!r}: there is no such one")
