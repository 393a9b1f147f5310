"""Chapter 6: choosing a way: its whole price, how sure its accuracy is, and what is never worth it."""

import math

from frugal import stats
from frugal_course.exercises.exercise import Exercise

TITLE = "The cheapest good classifier"
KOREAN = "총비용으로 방법을 고르고, 정확도의 신뢰 구간을 구하며, 파레토 경계에 남는 방법을 찾는다."
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


WAYS = [  # made up, with the shape of notebook 06's
    ("zero-shot", 0.77, 0.0, 2e-6),
    ("icl", 0.75, 0.6, 4e-5),
    ("t-few", 0.84, 1.0, 2e-6),
    ("distilled", 0.83, 1.4, 2e-7),
]
_priced = [(name, accuracy, once + 1e6 * query) for name, accuracy, once, query in WAYS]
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
]
