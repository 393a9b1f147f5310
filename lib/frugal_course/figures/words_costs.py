"""Chapter 1 in words: titles and takeaways, the finding first; at most 240 letters each."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from frugal.costs.prices import Price
from frugal.stats import Difference, half_width
from frugal_course.figures.closing import Claim, compared
from frugal_course.figures.costs import work_name
from frugal_course.figures.style import duration, flops, size
from frugal_course.figures.tables import named

GIB = 2**30
Words = tuple[str, str]  # a title, and the sentence under the figure


def table1(rebuilt: pd.DataFrame, ratio: float, printed: str) -> str:
    """How much of Table 1 can be computed again, and the ratio that it is about."""
    found = rebuilt["verdict"].value_counts()
    return (
        f"An ICL query to GPT-3 175B costs as many FLOPs as {ratio:,.0f} T-Few queries (printed: "
        f"{printed}). Of Table 1's {len(rebuilt)} numbers {found['reproduced']} are reproduced, "
        f"{found['failed']} are not."
    )


def uses(parts: pd.DataFrame, tokens: int, rules: Sequence[float]) -> Words:
    """Attention's share, and how far the exact count is from the rule of thumb.

    parts: of `flops_by_use`, the prompted query first; rules: of both, by the paper's rule
    """
    (_, prompted), (_, plain) = parts.groupby("query", sort=False)
    shares = prompted.set_index("use")["flops"] / prompted["flops"].sum()
    off = [
        own["flops"].sum() / rule - 1 for own, rule in zip((prompted, plain), rules, strict=True)
    ]
    cross = plain.set_index("use")["flops"] / plain["flops"].sum()
    return (
        f"Attention scores are {shares['attention scores']:.0%} of an ICL query, even at "
        f"{tokens:,} tokens",
        f"Scores take {shares['attention scores']:.1%} of the prompted query, feed-forward "
        f"{shares['feed-forward']:.0%}. The rule of thumb is {off[0]:.1%} short for GPT-3 and "
        f"{off[1]:.1%} for T0, whose decoder, fed one token, mostly reads what was read "
        f"({cross['decoder: cross-attention projections']:.0%}).",
    )


def cached(ways: Mapping[str, float], shots: int, printed: str, limit: float) -> Words:
    """What a cache saves, beside a T-Few query.

    ways:  FLOPs of a query: without a cache, with one, of T-Few
    limit: shots that GPT-3's context holds
    """
    plain, behind, tuned = ways.values()
    return (
        f"A cache saves a factor of {plain / behind:.0f}; a query still costs {behind / tuned:.0f} "
        "T-Few queries",
        f"{plain / behind:.1f} times less (printed: {printed}): {flops(plain)} FLOPs without a "
        f"cache, "
        f"{flops(behind)} with one, T-Few {flops(tuned)}. But of the {shots} shots that are priced "
        f"GPT-3's context holds {int(limit)}.",
    )


def smallest_cached(note: str) -> str:
    """The audit's item on cached GPT-3s."""
    return f"A cached query in T-Few queries: {note}."


def cache_sizes(
    tokens: int, whole: int, gpus: Mapping[str, float], weights: int, vectors: int
) -> Words:
    """Why the cache fits nowhere; in bytes, but for the GPUs, in GiB."""
    return (
        f"The cache of {tokens:,} tokens fits no single GPU in float32",
        f"{whole / GIB:.1f} GiB ({whole / 1e9:.1f} GB), where the largest GPU has "
        f"{max(gpus.values()):.0f} GiB; GPT-3's weights, {weights / GIB:.0f} GiB in bfloat16, "
        f"come on "
        f"top. T-Few keeps {size(vectors / GIB)} a task, {whole / vectors:,.0f} times less.",
    )


def shots_that_fit(shots: int, tokens: int, model: str, card: str, gib: float) -> str:
    """The inverse question: how many shots a card has room for."""
    return (
        f"Beside the weights of {model} in bfloat16 one {card.upper()} ({gib:.0f} GiB) has room "
        f"for "
        f"the cache of {shots} shots of {tokens} tokens: there, memory is not what limits k."
    )


def pays_off(paid: pd.DataFrame, printed: str, frozen: float) -> Words:
    """After how many queries a training has paid for itself.

    paid:   queries by rival (GPT-3, cached, of T-Few's size), columns "rule of thumb" and "exact"
    frozen: FLOPs of a training with frozen weights over those of the rule
    """
    first, behind, twin = paid["rule of thumb"]
    exact = ", ".join(map(str, paid["exact"]))
    return (
        f"T-Few pays off after {first} queries; against a cached prompt, after {behind}",
        f"After {first} queries (printed: about {printed}), {behind:,} where the examples are "
        f"cached, "
        f"{twin:,} against a model of its own size. Counted exactly: {exact}; a training of frozen "
        f"weights costs {frozen:.0%} of the rule.",
    )


def half_an_hour(gpu: str, minutes: float, mfu: float, price: Price, printed: str) -> str:
    """What the paper's own half hour says of utilisation and dollars."""
    return (
        f"Half an hour is an MFU of {mfu:.1%}: at its peak an {gpu} would train T-Few in "
        f"{minutes:.1f} minutes. At ${price.usd:.2f} an hour ({price.known_on}, {price.state}) it "
        f"costs ${price.usd / 2:.2f} (printed: {printed})."
    )


def bill(options: Sequence[Any], queries: int, mfu: float) -> pd.DataFrame:
    """What so many queries take by each way of `Scenario.compare`, training included."""
    rows = {
        o.name: {
            "FLOPs": flops(o.flops),
            "GPU hours": f"{o.hours:.2f}",
            "USD": f"{o.usd:.2f}",
            "memory, GiB": f"{o.memory_bytes / GIB:.1f}",
            "disk for the task, MB": f"{o.disk_bytes / 1e6:,.2f}",
        }
        for o in options
    }
    return named(pd.DataFrame(rows).T.rename_axis(f"{queries:,} queries, MFU {mfu:.1%}", axis=1))


def works(timed: pd.DataFrame) -> pd.DataFrame:
    """A row a work, as `fewshot.latency.medians` gives them, as people read them."""
    shape = timed[["kind", "batch", "tokens", "context"]]
    return pd.DataFrame(
        {
            "work": [work_name(*row) for row in shape.itertuples(index=False)],
            "FLOPs": timed["flops"].map(flops),
            "time": timed["seconds"].map(duration),
            "slowest run over fastest": timed["spread"].map("{:.2f}".format),
            "FLOP/s": timed["flops_per_second"].map(flops),
        }
    ).set_index("work")


def latency_title(timed: pd.DataFrame, model: str) -> str:
    """How much longer a FLOP takes where text is written."""
    rates = timed.groupby("kind")["flops_per_second"]
    slower = rates.max()["prefill"] / rates.min()["decode"]
    return f"A FLOP takes up to {slower:.3g} times as long when text is written, not read · {model}"


def cache_in_time(whole: Any, behind: Any, shots: int, tokens: int) -> str:
    """What a cache saves in FLOPs, and in seconds. Rows of `fewshot.latency.medians`."""
    return (
        f"A cache saves {whole['flops'] / behind['flops']:.1f} times the FLOPs, but "
        f"{whole['seconds'] / behind['seconds']:.1f} times the time ({duration(whole['seconds'])} "
        f"against {duration(behind['seconds'])}), measured here with {shots} shots and a query of "
        f"{tokens} tokens each."
    )


def labels_bought(bought: pd.DataFrame, few: int, many: int, rate: Price) -> str:
    """What a few labels cost, and many; bought: USD by dataset, columns of `bought`."""
    cheap = bought.iloc[:, 1]
    fever = bought.loc["FEVER"].iloc[2]
    return (
        f"{few} labels cost ${cheap.min():.2f} to ${cheap.max():.2f}; {many:,} of FEVER cost "
        f"${fever:,.0f}, as much as {fever / rate.usd:,.0f} hours of an A40 (${rate.usd} an hour; "
        f"prices of {rate.known_on})."
    )


def audited(totals: Mapping[str, int], found: pd.DataFrame) -> str:
    """How many printed numbers can be recomputed, and whose the failures are."""
    counts, cells = found["column"].value_counts(), found.groupby("column")["cells"].sum()
    return (
        f"{totals['failed']} of {totals['checked']} numbers do not follow, by {len(found)} "
        f"findings: "
        f"{counts['paper']} are the papers' ({cells['paper']} numbers), {counts['deck']} the "
        f"deck's "
        f"({cells['deck']}), {counts['assumption']} under an assumption ({cells['assumption']}), "
        f"{counts['typography']} typography ({cells['typography']})."
    )


def doubt(found: Difference, alone: Sequence[Difference], *where: str) -> str:
    """Where the doubt in a difference lies: in the labels or in the texts."""
    parts = found.components
    assert parts is not None
    ten = (
        100 * half_width(parts, 10, found.texts),
        100 * half_width(parts, found.draws, 10 * found.texts),
    )
    return (
        f"{found.of('Distilled', 'labels alone', *where)}. The labels of one draw alone say "
        f"{', '.join(map(str, alone))}. Ten draws: ±{ten[0]:.0f}, ten times "
        f"the "
        f"texts ±{ten[1]:.0f}."
    )


def closing(
    *,
    said: Mapping[str, str],
    ratio: float,
    hits: Sequence[float],
    paid: pd.DataFrame,
    saved: float,
    cache: int,
    median: str,
    times: float,
    tokens: int,
    totals: Mapping[str, int],
    doubted: Difference,
) -> list[Claim]:
    """The table that ends the chapter.

    said: printed claims, by id; hits: prices of cached queries, in T-Few queries; times: how much
    longer `tokens` tokens take one by one; doubted: distilled less labels alone, recorded
    """
    first, behind, _ = paid["rule of thumb"]
    rule, clock = "arithmetic, the paper's rule", "measured here, small model"
    good = totals["checked"] - totals["failed"]
    return [
        Claim(
            "ICL with GPT-3 costs many T-Few queries (Table 1)",
            said["icl-ratio"],
            f"{ratio:,.0f}×",
            rule,
            verdict="confirmed" if ratio >= 1000 else "contradicted",
        ),
        Claim(
            "The same in dollars of 2026, examples cached",
            said["icl-ratio"],
            f"{min(hits):.1g} to {max(hits):.0f}×",
            "list prices of six models",
            verdict="contradicted" if max(hits) < 1000 else "confirmed",
        ),
        Claim(
            "Training costs few ICL queries (§4.2)",
            said["train-in-queries"],
            f"{first}; {behind} once the prompt is cached",
            rule,
            verdict="qualified" if behind > 2 * first else "confirmed",
        ),
        Claim(
            "Caching the shots saves this factor (§4.2)",
            said["cache-saving"],
            f"{saved:.1f}×",
            "exact count",
            verdict="confirmed",
        ),
        Claim(
            "The cache of 32 × 512 tokens (§2.1)",
            said["kv-cache-paper"],
            f"{size(cache / GIB)}, K and V",
            "arithmetic",
            verdict="qualified",
        ),
        Claim(
            "The median number of shots (§4.2)",
            said["shots-median"],
            f"{median}; 41 is the mean",
            "recomputed",
            verdict="confirmed" if median == said["shots-median"] else "contradicted",
        ),
        Claim(
            "FLOPs do not measure latency (§4.2)",
            "stated",
            f"{times:.0f}× in time for {tokens} tokens",
            clock,
            verdict="confirmed" if times > 2 else "open",
        ),
        Claim(
            "Printed numbers follow from each other",
            "implied",
            f"{good} of {totals['checked']} do",
            "audit of three papers",
            verdict="confirmed" if good == totals["checked"] else "qualified",
        ),
        compared(
            "A teacher is better than labels alone (chapter 5)",
            "stated",
            f"recorded: {doubted.draws} draws, {doubted.texts:,} texts",
            doubted,
        ),
    ]
