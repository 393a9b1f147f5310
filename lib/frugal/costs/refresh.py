"""Prices of language-model APIs out of the package genai-prices, which carries them as data.

The package lists what it found on the vendors' pages, and says itself that it may err. So its
prices stand in `data/prices.csv` as "unverified", with its version and the day of its release;
rows that a person has checked, and all other kinds, are not touched. It reads no network.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from importlib import metadata
from typing import Any

from frugal import data
from frugal.costs import prices
from frugal.errors import FrugalError, unknown

PACKAGE = "genai-prices"
INSTALL = "pip install 'frugal-companion[prices]', on Python 3.11 or newer"
KEPT = ("provider", "note", "cache_minutes", "cache_least")  # a person may have mended these
# Our names of its prices: those of an answer, and of a prompt's tokens, plain, read and written.
NAMES = {"usd": "input_mtok", "output": "output_mtok", "cached_input": "cache_read_mtok"}
NAMES |= {"cache_write": "cache_write_mtok"}


def renewed(models: Sequence[str] = (), released: date | None = None) -> tuple[str, list[str]]:
    """`data/prices.csv` with the package's prices of `models`, and those that it has now.

    models:   by the package's names; those that are listed from it already unless given
    released: the day of the package's release; that of its rows in the file unless given

    FrugalError where the package is missing, does not know a model, or its day is not known.
    """
    version, text = _version(), (data.ROOT / "prices.csv").read_text(encoding="utf-8")
    known = [p for p in prices.all_prices() if p.kind == "api"]
    theirs = [p for p in known if p.source.startswith(f"{PACKAGE} ")]
    day = released.isoformat() if released else _day(version, theirs)
    checked = {p.sku for p in known} - {p.sku for p in theirs}
    wanted = [m for m in models or dict.fromkeys(p.sku for p in theirs) if m not in checked]
    source = f"{PACKAGE} {version}, released {day}"
    old = {(p.sku, p.above): p for p in theirs}
    header, *lines = filter(None, text.splitlines())
    fields = header.split(",")
    out = io.StringIO()
    writer = csv.DictWriter(out, fields, restval="", lineterminator="\n")
    for model in wanted:
        for row in _rows(model, day):
            before = old.get((model, row["above"]))
            kept = {name: getattr(before, name) for name in KEPT} if before else {}
            writer.writerow({**row, "source": source, **kept})
    sku, origin = fields.index("sku"), fields.index("source")
    rows = [next(csv.reader([line])) for line in lines]
    rest = [
        line
        for line, row in zip(lines, rows, strict=True)
        if not (row[0] == "api" and row[sku] in wanted and row[origin].startswith(f"{PACKAGE} "))
    ]
    return "\n".join([header, *rest, out.getvalue()]), wanted


def _version() -> str:
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise FrugalError(f"--refresh reads {PACKAGE}: {INSTALL}") from error


def _day(version: str, theirs: Sequence[prices.Price]) -> str:
    """The day of a release: the package carries none, so its rows in the file tell."""
    days = {p.checked_on for p in theirs if p.source.startswith(f"{PACKAGE} {version},")}
    if not days:
        raise FrugalError(
            f"--released: {PACKAGE} {version} does not say when that was; its page on PyPI does"
        )
    return max(days)


def _rows(model: str, day: str) -> Iterator[dict[str, str]]:
    """The rows of a model: what holds on a day and what is announced, by the length of prompts."""
    provider, found = _find(model)
    listed = found.prices
    starts: dict[str, Any] = {}  # the later of two that begin alike wins, as in the package
    hours = []
    for choice in listed if isinstance(listed, list) else ():
        when: Any = choice.constraint
        if hasattr(when, "start_time"):
            hours.append(f"{when.start_time:%H:%M} to {when.end_time:%H:%M}")
        else:
            starts[when.start_date.isoformat() if when else ""] = choice.prices
    starts = starts or {"": listed}
    current = max((start for start in starts if start <= day), default=min(starts))
    note = "unverified"
    if hours:
        note += f"; the package lists another price from {' and '.join(dict.fromkeys(hours))} UTC"
    for start in sorted(start for start in starts if start >= current):
        batch = _batch(found, max(start, day))
        for above in _steps(starts[start]):
            mine = {name: _at(starts[start], key, above) for name, key in NAMES.items()}
            if not mine["usd"] or not mine["output"]:  # what is said to be free is not listed
                raise FrugalError(f"{PACKAGE} lists no input and output price of {model}")
            if mine["cached_input"] is not None and mine["cache_write"] is None:
                mine["cache_write"] = mine["usd"]  # as the package bills what it has no price for
            shares = {
                _at(batch, key, above, _at(starts[start], key, above)) / mine[name]
                for name, key in NAMES.items()
                if _at(starts[start], key, above) is not None
            }
            yield {
                **{name: "" if p is None else f"{p.normalize():f}" for name, p in mine.items()},
                "kind": "api",
                "sku": model,
                "provider": provider.name,
                "unit": "1M tokens",
                "valid_from": start,
                "checked_on": day,
                "state": "unverified",
                "note": note,
                "above": str(above or ""),
                # One share of all prices or none: a cache may be no cheaper in a batch.
                "batch": f"{shares.pop().normalize():f}" if batch and len(shares) == 1 else "",
            }


def _find(model: str) -> tuple[Any, Any]:
    """The vendor, and what the package knows of a model of exactly that name."""
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    try:
        provider, found = snapshot.find_provider_model(model, None, None, None)
    except LookupError:
        provider = found = None
    if found is None or found.id != model:
        names = [m.id for p in snapshot.providers if p.pricing_urls for m in p.models]
        raise unknown(f"model of {PACKAGE}", model, names)
    return provider, found


def _batch(model: Any, day: str) -> Any:
    """The prices of batches on a day; None where the package lists none."""
    for variant in model.price_variants or ():
        constraint = variant.constraint
        if variant.when == {"processing": "batch"} and (
            constraint is None or constraint.start_date.isoformat() <= day
        ):
            return variant.prices
    return None


def _steps(listed: Any) -> list[int]:
    """Tokens of a prompt above which prices change; 0 is the first."""
    tiers = [getattr(getattr(listed, key), "tiers", []) for key in NAMES.values()]
    return sorted({0, *(tier.start for some in tiers for tier in some)})


def _at(listed: Any, key: str, above: int, missing: Any = None) -> Decimal | Any:
    """The price that holds for prompts of more than `above` tokens."""
    price = getattr(listed, key) if listed else None
    if price is None:
        return missing
    base = getattr(price, "base", price)
    reached = [tier.price for tier in getattr(price, "tiers", []) if 0 < tier.start <= above]
    return reached[-1] if reached else base
