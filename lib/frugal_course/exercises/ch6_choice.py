"""Chapter 6: choosing a way: its whole price, how sure its accuracy is, and what is never worth it."""

import math

from frugal import stats
from frugal.budgets import compare
from frugal.stats import Difference
from frugal_course.exercises.exercise import Exercise

TITLE = "The cheapest good classifier"
KOREAN = "총비용으로 방법을 고르고, 정확도의 오차 범위(95 % 구간)를 구하며, 파레토 경계에 남는 방법을 찾는다. 끝에서는 40달러로 무엇을 살지 표에서 읽고, 결정을 가를 시험의 크기를 정한다."
IMPORTS = "import math"


def choose(
    ways: list[tuple[str, float, float, float]], budget: float, queries: float
) -> str | None:
    """The most accurate way that the budget pays for, the cheaper in a tie; None where none is.

    ways: (name, accuracy, USD once, USD a query)
    """
    able = [
        (-accuracy, once + queries * query, name)
        for name, accuracy, once, query in ways
        if once + queries * query <= budget
    ]
    return min(able)[2] if able else None


def interval(right: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of an accuracy, `right` of `of`, with z = 1.96."""
    z2 = 1.96**2
    share = right / of
    centre = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = 1.96 * math.sqrt(share * (1 - share) / of + z2 / (4 * of**2)) / (1 + z2 / of)
    return max(0.0, centre - half), min(1.0, centre + half)


def frontier(ways: list[tuple[str, float, float]]) -> list[str]:
    """Names of the ways that no other beats, cheapest first.

    ways: (name, accuracy, USD in all). One way beats another if it is at least as accurate and
    costs no more, and is better in one of the two.
    """
    kept = [
        (usd, name)
        for name, accuracy, usd in ways
        if not any(a >= accuracy and u <= usd and (a, u) != (accuracy, usd) for _, a, u in ways)
    ]
    return [name for _, name in sorted(kept)]


def forty_dollars() -> str:
    """a, b, c or d: the one sentence that the table bears."""
    return "c"


def texts_to_decide(
    extra: float, queries: float, usd_per_error: float, disagree: float
) -> int | None:
    """Test texts that decide whether a dearer way is worth it; None where nothing can make it so.

    extra: USD that it costs more, in all; usd_per_error: what a wrong answer costs
    disagree: the share of texts that one of the two ways gets right and the other wrong
    """
    gain = extra / (queries * usd_per_error)  # of accuracy, that pays for the difference
    if gain >= disagree:
        return None
    return math.ceil((disagree - gain**2) * (1.96 / gain) ** 2)


def _measured() -> tuple[str, Difference, Difference]:
    """What $40 buy, as recorded in notebook 05: a table, and two differences from the LLM's labels."""
    runs = compare.recorded().query("model == '2 layers' and labels <= 300")
    table = compare.summary(runs).sort_values("usd")
    rows = [
        f"| {WORDS[r.strategy].format(f'{r.labels:,}')} | {r.usd:.2f} | {100 * r.accuracy:.1f} |"
        for r in table.rename(columns={"mean": "accuracy"}).itertuples()
    ]
    most = runs[runs["labels"] == 300].groupby("strategy")
    own, taught, llm = (most.get_group(way) for way in ("annotate", "distill", "llm"))
    return "\n".join(dict.fromkeys(rows)), compare.less(taught, llm), compare.less(own, llm)


WORDS = {
    "annotate": "{} labels, bought",
    "distill": "{} labels, and a teacher that labels the rest",
    "llm": "800 texts that a language model has labelled",
}
WAYS = [  # made up, with the shape of notebook 06's
    ("zero-shot", 0.77, 0.0, 2e-6),
    ("icl", 0.75, 0.6, 4e-5),
    ("t-few", 0.84, 1.0, 2e-6),
    ("distilled", 0.83, 1.4, 2e-7),
]
_priced = [(name, accuracy, once + 1e6 * query) for name, accuracy, once, query in WAYS]
_table, _taught, _bought = _measured()
_low, _high = stats.wilson(84, 100)

EXERCISES = [
    Exercise(
        choose,
        title="Which way does the budget pay for?",
        text="""\
A way of classifying costs something once (labels, training) and something for each query. Take the most accurate
one whose whole price the budget pays for; where two are equally accurate, the cheaper; where none fits,
`None`.""",
        difficulty=1,
        minutes=10,
        cases=[
            (WAYS, 2.0, 1e5),
            (WAYS, 1.7, 1e6),
            (WAYS, 0.001, 1e6),
            ([("dear", 0.8, 2.0, 0.0), ("fair", 0.8, 1.0, 0.0)], 5.0, 10.0),
        ],
        mistakes={
            "The budget is not looked at: that way cannot be paid for.": lambda ways, budget, queries: (
                choose(ways, math.inf, queries)
            ),
            "Queries cost too: price is what is paid once, and queries × the price of one.": lambda ways, budget, queries: (
                choose(ways, budget, 0)
            ),
            "That is the cheapest way, not the most accurate one that fits.": lambda ways, budget, queries: (
                min(
                    ((o + queries * q, n) for n, _, o, q in ways if o + queries * q <= budget),
                    default=(0, None),
                )[1]
            ),
            "Where two are equally accurate, take the cheaper.": lambda ways, budget, queries: max(
                ((a, o + queries * q, n) for n, a, o, q in ways if o + queries * q <= budget),
                default=(0, 0, None),
            )[2],
        },
        learned="The same budget chooses another way for a hundred thousand queries than for a million.",
    ),
    Exercise(
        interval,
        title="How sure is an accuracy?",
        text="""\
Of $n$ examples a share $p$ is answered right. The textbook's $p \\pm z\\sqrt{p(1-p)/n}$ is wrong for small $n$ and at the ends:
all of 20 right would be certain. Wilson's interval is not,

$$\\frac{p + \\frac{z^2}{2n} \\pm z \\sqrt{\\frac{p(1-p)}{n} + \\frac{z^2}{4n^2}}}{1 + \\frac{z^2}{n}} .$$""",
        difficulty=2,
        minutes=10,
        cases=[(84, 100), (20, 20), (0, 12), (150, 300)],
        mistakes={
            "That is the textbook's interval: of 20 right answers of 20 it is certain.": lambda right, of: (
                right / of - 1.96 * math.sqrt(right / of * (1 - right / of) / of),
                right / of + 1.96 * math.sqrt(right / of * (1 - right / of) / of),
            ),
            "The bounds are the wrong way round: the lower first.": lambda right, of: stats.wilson(
                right, of
            )[::-1],
            "Both bounds are in percent; give shares between 0 and 1.": lambda right, of: tuple(
                100 * x for x in stats.wilson(right, of)
            ),
        },
        learned=f"84 of 100 right leave everything from {_low:.2f} to {_high:.2f} open.",
        reference=stats.wilson,
    ),
    Exercise(
        frontier,
        title="What is never worth it?",
        text="""\
A way is beaten if another is at least as accurate and costs no more, and is better in one of the two. What remains is the
frontier: along it, accuracy costs money. Return the names, cheapest first.""",
        difficulty=2,
        minutes=10,
        cases=[
            (_priced,),
            ([("a", 0.8, 1.0), ("b", 0.8, 2.0), ("c", 0.7, 0.5)],),
            ([("a", 0.9, 1.0), ("b", 0.8, 2.0), ("c", 0.7, 3.0)],),
            ([("d", 0.6, 2.0), ("e", 0.7, 2.0)],),
        ],
        mistakes={
            "A way that costs more for the same accuracy is beaten too.": lambda ways: [
                n
                for _, n in sorted(
                    (u, n) for n, a, u in ways if not any(b > a and v <= u for _, b, v in ways)
                )
            ],
            "Nothing is left out: those that another way beats do not belong to the frontier.": lambda ways: [
                n for _, n in sorted((u, n) for n, _, u in ways)
            ],
            "The names are right, their order is not: the cheapest first.": lambda ways: frontier(
                ways
            )[::-1],
            "That is the most accurate way alone. Cheaper ones that nothing beats belong to it.": lambda ways: [
                max(ways, key=lambda way: (way[1], -way[2]))[0]
            ],
        },
        learned="ICL is not on it here: zero-shot is cheaper and no worse.",
    ),
    Exercise(
        forty_dollars,
        title="Interpret: what do forty dollars buy?",
        text=f"""\
A two-layer student of movie reviews, three draws of labels on the same 1,000 texts (data/results/study.csv; notebook 05, section 8). Dollars in all, mean
accuracy in percent:

| its labels | USD | accuracy |
|---|---|---|
{_table}

You have \\$40. Which sentence does the table bear?

- **a** "Buy 300 labels and let a teacher label the rest: that is the most accurate."
- **b** "Buy 300 labels: people's labels are better than a language model's."
- **c** "Spend 52 cents on a language model's labels; what \\$40 buy is not known to be better."
- **d** "The language model's labels are the best, whatever is spent.\"""",
        difficulty=2,
        minutes=5,
        cases=[()],
        mistakes={
            f"Its mean is highest. But less the language model's labels, over three draws, that is {_taught}: the interval holds 0.": lambda: (
                "a"
            ),
            f"300 labels alone, less the language model's, are {_bought}, for seventy times the price.": lambda: (
                "b"
            ),
            "Not whatever is spent: notebook 05 has 1,000 labels and a teacher, eight points above, for $129.": lambda: (
                "d"
            ),
        },
        learned=f"A teacher and 300 labels, less a language model's labels: {_taught}. More draws would say; until then the 52 cents stand.",
        reference=lambda: "a" if _taught.clear else "c",
    ),
    Exercise(
        texts_to_decide,
        title="Design the test that would settle it",
        text="""\
A dearer way costs `extra` dollars more for all its queries, and is more accurate by a gain that nobody has measured. A wrong answer
costs `usd_per_error`. From which gain on is the dearer way worth it? And on how many texts must both be tested, so that a measured gain has an interval no
wider than $\\pm$ that? Both answer the same texts, so with $u$ the share on which one is right and the other wrong, the gain $g$ has a variance of
$(u - g^2)/n$, and the half-width is 1.96 standard errors. If even $u$ is not enough gain, no test can make the dearer way worth it: `None`.""",
        difficulty=3,
        minutes=15,
        cases=[
            (100, 1e5, 0.05, 0.2),
            (20, 1e6, 0.01, 0.1),
            (500, 1e4, 0.1, 0.2),
            (30, 2e3, 0.5, 0.15),
        ],
        mistakes={
            "What a wrong answer costs is missing: the gain that pays is extra / (queries × usd_per_error).": lambda extra, q, usd, u: (
                texts_to_decide(extra, q, 1.0, u)
            ),
            "A way cannot gain more than the share on which the two differ: None there.": lambda extra, q, usd, u: (
                math.ceil((u - (g := extra / (q * usd)) ** 2) * (1.96 / g) ** 2)
            ),
            "The mean's square is missing: the variance is u - g².": lambda extra, q, usd, u: (
                None if (g := extra / (q * usd)) >= u else math.ceil(u * (1.96 / g) ** 2)
            ),
            "That is for two ways that are tested on different texts. Paired, only texts on which they differ count.": lambda extra, q, usd, u: (
                None if (g := extra / (q * usd)) >= u else math.ceil(0.5 * (1.96 / g) ** 2)
            ),
            "Texts come whole: round up.": lambda extra, q, usd, u: (
                None if (g := extra / (q * usd)) >= u else (u - g**2) * (1.96 / g) ** 2
            ),
        },
        learned=f"$100 more for 100,000 queries, at 5 cents an error, are worth it from 2 points on; {texts_to_decide(100, 1e5, 0.05, 0.2):,} texts tell. "
        "At $0.129 a label that test costs more than what it is about: small stakes deserve small tests.",
    ),
]
