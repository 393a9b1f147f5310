"""Prices, each with a date and a source. A price that is not listed is an error, never $0."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from frugal import data
from frugal.costs import check
from frugal.errors import FrugalError, unknown

STALE_DAYS = 180
KINDS = ("gpu", "label", "token", "api")
GPU = "a100-40gb"  # whose hour Distill or Annotate counts in; what is served is priced by it


@dataclass(frozen=True)
class Price:
    """One row of `data/prices.csv`.

    usd:        per `unit` (hour, label, 1000 tokens, 1M tokens); of an API, of its input
    valid_from: when the price began to hold, or will; empty where nobody says
    checked_on: when it was last seen to hold, at the provider or in the list that `source` names;
                empty where nobody has looked
    state:      "paper" (printed by one of the three papers; these stay as they are), "checked"
                (read off the provider's page) or "unverified"
    above:      it is that of prompts of more tokens than this; empty: of all shorter ones
    cached_input to cache_least: of an API alone, as `ApiPrice` has them; empty where not listed
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
    above: str = ""
    cached_input: str = ""
    cache_write: str = ""
    output: str = ""
    batch: str = ""
    cache_minutes: str = ""
    cache_least: str = ""

    @property
    def known_on(self) -> str:
        """ISO date or month at which the price was last known to hold."""
        return self.checked_on or self.valid_from

    def age(self, today: date | None = None) -> int:
        """Days since the price was last known to hold."""
        day = f"{self.known_on}-01"[:10]
        return ((today or date.today()) - date.fromisoformat(day)).days

    def warnings(self, today: date | None = None) -> list[str]:
        """What a reader must know before believing the price; empty if nothing."""
        found = []
        if self.state == "unverified":
            found.append(f"the price of {self.sku} (${self.usd:g}/{self.unit}) is unverified")
        if (age := self.age(today)) > STALE_DAYS:
            found.append(f"the price of {self.sku} dates from {self.known_on}, {age} days ago")
        return found


@lru_cache
def all_prices() -> tuple[Price, ...]:
    """Every row of `data/prices.csv`."""
    return tuple(
        Price(**{**row, "usd": _above_zero(f"usd of {row['sku']}", row["usd"])})  # type: ignore[arg-type]
        for row in data.rows("prices.csv")
    )


def _above_zero(what: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise FrugalError(f"{what}: {text!r} is no price (data/prices.csv)") from error
    return check.number(what, value, above=0)


def papers() -> frozenset[Price]:
    """The prices that the papers themselves print; they do not age, since nobody pays them now."""
    return frozenset(p for p in all_prices() if p.state == "paper")


def get(kind: str, sku: str, today: date | None = None) -> Price:
    """The price of `sku` on a day; FrugalError with the nearest name where there is none."""
    return _row(kind, sku, 0, today)


def _row(kind: str, sku: str, tokens: int, today: date | None) -> Price:
    """The row in force: the last to begin, of the longest prompts that `tokens` are more than."""
    if kind not in KINDS:
        raise unknown("kind of price", kind, KINDS)
    day = (today or date.today()).isoformat()
    rows = [p for p in all_prices() if p.kind == kind and p.valid_from <= day]
    name = sku.lower().replace("_", "-").replace(" ", "-")
    mine = [p for p in rows if p.sku == name and int(p.above or 0) <= max(tokens - 1, 0)]
    if not mine:
        raise unknown(f"{kind} price", sku, {p.sku for p in rows})
    return max(mine, key=lambda p: (int(p.above or 0), p.valid_from))


def cost(kind: str, sku: str, count: float) -> float:
    """USD for `count` hours, labels or tokens; FrugalError for a negative or endless count."""
    price = get(kind, sku)
    if kind == "api":
        raise FrugalError(f"{price.sku} has a price for each kind of token: see prices.api")
    total = check.amount("count", count) * price.usd
    return check.amount("the price", total / (1000 if price.unit == "1000 tokens" else 1))


@dataclass(frozen=True)
class ApiPrice:
    """What a language model behind an API costs, in USD per million tokens.

    input, output: tokens of a prompt, and of an answer with the thoughts before it
    cached_input:  tokens of a prompt that are read from a cache
    cache_write:   tokens of a prompt that are written to one, instead of `input`
    batch:         the share of all these prices that is paid where answers may take a day
    cache_minutes: how long a cache lives after its last use
    cache_least:   tokens from which on a prefix is cached
    row:           where all of it stands, with its day, state and source

    None is what is not listed, which `of` refuses: it is never $0.
    """

    model: str
    input: float
    output: float
    cached_input: float | None
    cache_write: float | None
    batch: float | None
    cache_minutes: float | None
    cache_least: int | None
    row: Price

    def of(self, name: str) -> float:
        """A price by its field's name; FrugalError where it is not listed."""
        found: float | None = getattr(self, name)
        if found is None:
            raise FrugalError(f"{self.model}: no {name} is listed ({self.row.source})")
        return found

    def cost(
        self,
        *,
        input: float = 0,
        cached_input: float = 0,
        cache_write: float = 0,
        output: float = 0,
        batch: bool = False,
    ) -> float:
        """USD of so many tokens of each kind; every token of a prompt is of one kind alone."""
        counts = {"input": input, "cached_input": cached_input}
        counts |= {"cache_write": cache_write, "output": output}
        parts = [check.amount(name, n) * self.of(name) for name, n in counts.items() if n]
        return sum(parts) / 1e6 * (self.of("batch") if batch else 1)

    def warnings(self, today: date | None = None) -> list[str]:
        """What a reader must know: the row's own warnings, and a change that is announced."""
        day = (today or date.today()).isoformat()
        mine = [p for p in all_prices() if (p.kind, p.sku, p.above) == ("api", self.model, "")]
        later = [
            f"the price of {self.model} changes on {p.valid_from}, to ${p.usd:g}/{p.unit}"
            for p in mine
            if p.valid_from > max(day, self.row.valid_from)
        ]
        return self.row.warnings(today) + later


def api(model: str, tokens: int = 0, today: date | None = None) -> ApiPrice:
    """The prices of `model` for prompts of so many tokens, as they are on a day.

    FrugalError with the nearest name where there is none.
    """
    row = _row("api", model, check.whole("tokens", tokens), today)

    def listed(name: str) -> float | None:
        text = getattr(row, name)
        return _above_zero(f"{name} of {row.sku}", text) if text else None

    return ApiPrice(
        model=row.sku,
        input=row.usd,
        output=_above_zero(f"output of {row.sku}", row.output),
        cached_input=listed("cached_input"),
        cache_write=listed("cache_write"),
        batch=listed("batch"),
        cache_minutes=listed("cache_minutes"),
        cache_least=int(row.cache_least) if row.cache_least else None,
        row=row,
    )


def apis(today: date | None = None) -> list[ApiPrice]:
    """Every API that has a price on a day, in the file's order."""
    day = (today or date.today()).isoformat()
    rows = [p for p in all_prices() if p.kind == "api" and p.valid_from <= day]
    names = dict.fromkeys(p.sku for p in rows)
    return [api(name, today=today) for name in names]


def summary(rows: Iterable[Price], today: date | None = None) -> list[str]:
    """What a reader must know of many prices: a line for each reason to doubt, empty if none."""
    every = list(rows)
    doubts = {
        "unverified": [p.sku for p in every if p.state == "unverified"],
        f"older than {STALE_DAYS} days": [p.sku for p in every if p.age(today) > STALE_DAYS],
    }
    return [
        f"prices that are {doubt}: {', '.join(dict.fromkeys(skus))}"
        for doubt, skus in doubts.items()
        if skus
    ]


def usd(amount: float) -> str:
    """An amount in cents; where that says nothing, its first two digits: "$0.00051"."""
    check.number("an amount of USD", amount)
    if 0 < amount < 1e-6:
        return f"${amount:.1e}"
    if not 0 < amount < 0.1:
        return f"${amount:,.2f}" if amount < 1000 else f"${amount:,.0f}"
    return f"${amount:.{1 - math.floor(math.log10(amount))}f}"
