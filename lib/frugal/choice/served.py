"""A model behind a server, asked for the scored examples under a cap: the way "api"."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frugal.budgets import labels
from frugal.choice.trials import Attempt, Trial
from frugal.costs.prices import usd
from frugal.errors import FrugalError


@dataclass(frozen=True)
class Served:
    """Whom to ask, how many USD it may cost in `folder`, which keeps every answer."""

    source: labels.Source
    cap_usd: float
    folder: Path

    def refusal(self, of: Attempt) -> str:
        """Why it is not asked; "" where it is. Nothing is sent."""
        try:
            self.source.ready()
            expected = labels.quote(self.source, of.scored).expected_usd
        except FrugalError as error:
            return str(error)
        if expected > self.cap_usd:
            return (
                f"{len(of.scored)} answers of {self.source.name} would cost about "
                f"{usd(expected)}, and the cap is {usd(self.cap_usd)}"
            )
        return ""

    def ask(self, of: Attempt) -> list[Trial]:
        """What it answers, at what it billed for an answer; one that names no choice is wrong.

        Raises FrugalError where the cap leaves some unanswered, since all ways answer the same
        examples; those that were paid for are kept.
        """
        of.progress(f"{self.source.name}, at most {usd(self.cap_usd)}")
        started = time.perf_counter()
        bought = labels.buy(self.source, of.scored, self.folder, cap_usd=self.cap_usd)
        if bought.unasked:
            raise FrugalError(
                f"the cap of {usd(self.cap_usd)} left {bought.unasked} of {len(of.scored)} "
                f"examples unanswered; {self.folder} keeps the others"
            )
        hits = [y == e.label for y, e in zip(bought.labels, of.scored, strict=True)]
        return [
            Trial(
                strategy="api",
                model=self.source.name,
                hits=np.array(hits),
                train_flops=0.0,
                flops_per_query=0.0,
                labels=0,
                seconds=time.perf_counter() - started,
                note=f"{bought.answers} answers for {usd(bought.spent_usd)}; its FLOPs are unknown",
                usd_asked=bought.spent_usd / max(1, bought.answers),
            )
        ]
