"""Buying labels: planned before, paid as answered, never beyond a cap, never twice.

What was spent, and what may be, is in `ledger`: it decides what may still be sent.
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from frugal import stats
from frugal.budgets.ledger import Ledger, money, unwritable
from frugal.budgets.source import Answer, Batches, NotMade, Source
from frugal.costs import check
from frugal.engine import digests
from frugal.errors import FrugalError
from frugal.tasks.templates import Example

ATTEMPTS = 3  # at an example whose answers are malformed or lost
PATIENCE = 8  # so many paid answers in a row without a label, and buying stops
ENOUGH = 20  # first answers from which on the share that named no choice says something
# Of the money: where more is lost to such answers, 95 % sure, buying stops. It is looked at after
# every few of them: of 1,000 texts, that ends 1 purchase in 200 where 40 % cannot be read (and all,
# mostly before the 75th text, where 60 % cannot).
WASTE = 0.5


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
    tokens:     of all answers; cached_tokens: those of them that the source had read before;
                reasoning_tokens: those that it wrote to think
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
    reasoning_tokens: int

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
    """The price of labelling all of `examples`, each text once; in batches, if they are made."""
    once = list({key(e): e for e in examples}.values())
    jobs = source.batches
    share = 1.0 if jobs is None or jobs.share is None else jobs.share
    tried, rest = once[:ENOUGH], once[ENOUGH:]
    expected, most = (
        sum(f(e) for e in tried) + share * sum(f(e) for e in rest)
        for f in (source.expected_usd, source.most_usd)
    )
    return Quote(
        len(once), check.amount("the expected price", expected), check.amount("the price", most)
    )


def buy(
    source: Source,
    examples: Sequence[Example],
    folder: Path,
    *,
    cap_usd: float,
    progress: Callable[[int, float], Any] = lambda labelled, spent_usd: None,
) -> Bought:
    """Ask `source` about every example that `folder` holds no label for, while the cap allows.

    cap_usd: for all that was ever spent in this folder; a request that could pass it is not sent

    Raises FrugalError where the folder is another source's or in use, its file is damaged or cannot
    be written, the source refuses, `PATIENCE` answers in a row bring no label, the share of first
    answers that bring none is above `WASTE` with its whole 95 % interval (Wilson 1927; 15 of 20,
    for one, and never of fewer than `ENOUGH`), or it bills more than its own maximum; what was
    answered is kept: call again. One that billed too much is not asked again from the same folder.
    """
    check.amount("cap_usd", cap_usd)
    wanted = {key(e): e for e in examples}
    planned = quote(source, examples)
    source.ready()
    choices = {k: len(e.choices) for k, e in wanted.items()}
    with Ledger(folder, source.identity(), money(cap_usd), choices) as ledger:
        patience = _Patience()
        _settle(source, ledger, wanted, patience)
        for attempt in range(ATTEMPTS):
            # In rounds, so that every example has its first try before any has its second.
            todo = [k for k in wanted if ledger.open_to(k) and ledger.tries[k] == attempt]
            if todo and ledger.greedy:
                raise FrugalError(
                    f"{source.name} {ledger.greedy}, so it is asked nothing more; "
                    f"{ledger.file} keeps all answers: name another folder to go on"
                )
            while todo and patience.streak < PATIENCE:
                jobs, size = _where(source, ledger)
                share = 1.0 if jobs is None or jobs.share is None else jobs.share
                some, left = todo[:size], money(cap_usd) - ledger.committed
                dearest = accumulate(money(share * source.most_usd(wanted[k])) for k in some)
                paid_for = sum(total <= left for total in dearest)
                batch, todo = [(k, wanted[k]) for k in some[:paid_for]], todo[paid_for:]
                if not batch:
                    break
                if batch := [(k, e) for k, e in batch if ledger.open_to(k)]:
                    if jobs:
                        _hand_in(source, jobs, ledger, dict(batch), attempt, patience)
                    else:
                        _ask(source, ledger, batch, attempt, patience)
                    progress(len(ledger.label.keys() & wanted.keys()), float(ledger.spent))
            if patience.streak >= PATIENCE:
                break  # what is left are examples that it cannot answer
            if ledger.label:
                patience.streak = 0
        bought = _bought(ledger, planned, examples)
    if bought.given_up and not any(y is not None for y in bought.labels):
        raise FrugalError(
            _unlabelled(source, ledger, f"all {bought.given_up} examples asked about")
        )
    return bought


@dataclass
class _Patience:
    """With a source whose answers name no choice, in this run.

    streak: paid answers in a row without a label
    first:  paid answers to a first try, and empty: those of them without a label
    """

    streak: int = 0
    first: int = 0
    empty: int = 0

    def take(self, answer: Answer, first: bool) -> None:
        self.streak = 0 if answer.choice is not None else self.streak + 1
        if first:  # who is asked again has answered badly before
            self.first += 1
            self.empty += answer.choice is None

    @property
    def wasted(self) -> float:
        """The share of all first answers, at least, that names no choice; 95 % sure."""
        return stats.wilson(self.empty, self.first)[0] if self.first >= ENOUGH else 0.0


def _where(source: Source, ledger: Ledger) -> tuple[Batches | None, int]:
    """Whether in a batch, and about how many examples the source is asked next.

    Before the first batch some are asked about alone: that shows whether its answers can be read.
    """
    jobs = source.batches
    if jobs is None or jobs.share is None:
        return None, source.batch
    if jobs.ready and ledger.answers >= ENOUGH:
        return jobs, jobs.size
    return None, min(source.batch, max(1, ENOUGH - ledger.answers))


def _ask(
    source: Source,
    ledger: Ledger,
    batch: list[tuple[str, Example]],
    attempt: int,
    patience: _Patience,
) -> None:
    """Ask about the batch and keep what comes."""
    most = {k: source.most_usd(e) for k, e in batch}
    if source.remote:
        granted = ledger.reserve(most)
        batch = [(k, e) for k, e in batch if k in granted]
    with contextlib.closing(source.ask([e for _, e in batch], attempt)) as answers:
        found = ((batch[place][0], answer) for place, answer in answers)
        _keep(source, ledger, ((k, answer, most[k]) for k, answer in found), patience)
    if patience.streak >= PATIENCE and (attempt == 0 or not ledger.label):
        raise FrugalError(_unlabelled(source, ledger, f"the last {patience.streak}"))


def _keep(
    source: Source,
    ledger: Ledger,
    answers: Iterable[tuple[str, Answer, float]],
    patience: _Patience,
    again: bool = False,
) -> None:
    """Write down all answers, each with the most that was due for it; then stop where one must.

    again: whether they can be had once more
    """
    refusal, full = "", None
    for k, answer, most in answers:
        first = not ledger.tries[k]
        try:
            ledger.add(k, answer, most)
        except OSError as error:  # the others were paid for too: keep as many as go in
            full = error
            if again:
                break
        if answer.state == "refused":
            refusal = answer.text
        else:
            patience.take(answer, first)
    if full is not None:
        raise unwritable(ledger.file, full) from full
    if ledger.greedy:
        raise FrugalError(f"{source.name} {ledger.greedy}; {ledger.file} keeps all answers")
    if refusal:
        raise FrugalError(f"{source.name}: {refusal}; {ledger.file} keeps all answers")
    if patience.wasted > WASTE:
        some = f"{patience.empty} of the first {patience.first}"
        share = f"at least {patience.wasted:.0%} of the money would buy none (95 % sure)"
        raise FrugalError(_unlabelled(source, ledger, some, share))


def _hand_in(
    source: Source,
    jobs: Batches,
    ledger: Ledger,
    batch: Mapping[str, Example],
    attempt: int,
    patience: _Patience,
) -> None:
    """Have a batch made, write down that it is, and wait for it."""
    share = 1.0 if jobs.share is None else jobs.share
    name = f"{ledger.me}-{ledger.count}"
    ledger.reserve({k: share * source.most_usd(e) for k, e in batch.items()}, name)
    asked = ledger.batches[name].asked
    if mine := {r: batch[k] for r, k in asked.items() if r in ledger.pending}:
        file = jobs.upload(name, mine, attempt)
        ledger.begin(name, file, share)
        try:
            number = jobs.create(name, file)
        except NotMade:
            ledger.withdraw(name)
            raise
        ledger.made(name, number)
        _fetch(source, jobs, ledger, name, batch, patience)


def _settle(
    source: Source, ledger: Ledger, wanted: Mapping[str, Example], patience: _Patience
) -> None:
    """What was handed in before, and is not here yet: nothing of it is asked again."""
    jobs = source.batches
    if jobs is None:
        return
    for name, batch in ledger.open_batches().items():
        if not batch.number:
            if (number := jobs.find(name, batch.file)) is None:
                ledger.forget(name)
                continue
            ledger.made(name, number)
        _fetch(source, jobs, ledger, name, wanted, patience)


def _fetch(
    source: Source,
    jobs: Batches,
    ledger: Ledger,
    name: str,
    wanted: Mapping[str, Example],
    patience: _Patience,
) -> None:
    """Wait for a batch, and keep its answers to the examples that are wanted."""
    batch = ledger.batches[name]
    asked = {r: wanted[k] for r, k in batch.asked.items() if r in ledger.pending and k in wanted}

    def answers() -> Iterator[tuple[str, Answer, float]]:
        for r, answer in jobs.results(batch.number, asked):
            if (most := ledger.pending.get(r)) is not None:
                k = batch.asked[r]
                ledger.mine[k] = r
                yield k, replace(answer, usd=answer.usd * batch.share), float(most)

    if asked:
        _keep(source, ledger, answers(), patience, again=True)
        patience.streak = 0  # its files have an order of their own


def _unlabelled(source: Source, ledger: Ledger, which: str, so: str = "") -> str:
    seen = ", ".join(repr(text[:80]) for text in ledger.unread)
    said = [
        f"{source.name}: {which} examples asked about got no label, since no answer named one of "
        f"the choices: {seen}",
        *(text for text in (so, source.hint) if text),
        f"{ledger.file} keeps all answers",
    ]
    return "; ".join(said)


def _bought(ledger: Ledger, planned: Quote, examples: Sequence[Example]) -> Bought:
    keys = {key(e) for e in examples}
    open_keys = [k for k in keys if k not in ledger.label]
    given_up = sum(ledger.tries[k] >= ATTEMPTS or k in ledger.declined for k in open_keys)
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
        reasoning_tokens=ledger.reasoning,
    )
