"""Prices, each with a date and a source. A price that is not listed is an error, never $0."""

import math
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from frugal import data
from frugal.costs import check
from frugal.errors import unknown

STALE_DAYS = 180
KINDS = ("gpu", "label", "token")
GPU = "a100-40gb"  # whose hour Distill or Annotate counts in; what is served is priced by it


@dataclass(frozen=True)
class Price:
    """One row of `data/prices.csv`.

    usd:        per `unit` (hour, label, 1000 tokens)
    valid_from: when the price began to hold
    checked_on: when it was last seen to hold; empty where nobody has checked
    state:      "paper" (printed by one of the three papers; these stay as they are), "checked"
                (read off the provider's page) or "unverified"
    """

    kind: str
    sku: str
    provider: str
    unit: str
    usd: float
    valid_from: str
    checked_on: str
    state: str
    source: str
    note: str

    @property
    def known_on(self) -> str:
        """ISO date or month at which the price was last known to hold."""
        return self.checked_on or self.valid_from

    def warnings(self, today: date | None = None) -> list[str]:
        """What a reader must know before believing the price; empty if nothing."""
        found = []
        if self.state == "unverified":
            found.append(f"the price of {self.sku} (${self.usd:g}/{self.unit}) is unverified")
        day = date.fromisoformat(
            self.known_on if len(self.known_on) == 10 else f"{self.known_on}-01"
        )
        age = ((today or date.today()) - day).days
        if age > STALE_DAYS:
            found.append(f"the price of {self.sku} dates from {self.known_on}, {age} days ago")
        return found


@lru_cache
def all_prices() -> tuple[Price, ...]:
    """Every row of `data/prices.csv`."""
    return tuple(
        Price(**{**row, "usd": check.number(f"usd of {row['sku']}", float(row["usd"]), above=0)})  # type: ignore[arg-type]
        for row in data.rows("prices.csv")
    )


def papers() -> frozenset[Price]:
    """The prices that the papers themselves print; they do not age, since nobody pays them now."""
    return frozenset(p for p in all_prices() if p.state == "paper")


def get(kind: str, sku: str) -> Price:
    """The price of `sku`; FrugalError with the nearest name where there is none."""
    if kind not in KINDS:
        raise unknown("kind of price", kind, KINDS)
    known = {p.sku: p for p in all_prices() if p.kind == kind}
    name = sku.lower().replace("_", "-").replace(" ", "-")
    if name not in known:
        raise unknown(f"{kind} price", sku, known)
    return known[name]


def cost(kind: str, sku: str, count: float) -> float:
    """USD for `count` hours, labels or tokens; FrugalError for a negative or endless count."""
    price = get(kind, sku)
    total = check.amount("count", count) * price.usd
    return check.amount("the price", total / (1000 if price.unit == "1000 tokens" else 1))


def usd(amount: float) -> str:
    """An amount in cents; where that says nothing, its first two digits: "$0.00051"."""
    check.number("an amount of USD", amount)
    if 0 < amount < 1e-6:
        return f"${amount:.1e}"
    if not 0 < amount < 0.1:
        return f"${amount:,.2f}" if amount < 1000 else f"${amount:,.0f}"
    return f"${amount:.{1 - math.floor(math.log10(amount))}f}"
