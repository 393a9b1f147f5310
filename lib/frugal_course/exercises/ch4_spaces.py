"""Chapter 4: counting partitions and sets of methods, allotting a budget, and significance."""

import itertools
import math

from frugal.costs import arch
from frugal.papers import tables
from frugal.spaces import design, sizes
from frugal_course.exercises.exercise import Exercise

TITLE = "Design spaces"
KOREAN = "스핀들 분할을 직접 열거하고, 예산을 층별 어댑터 폭으로 배분하며, 논문이 주장한 유의성을 다시 검정한다."
IMPORTS = "import itertools\nimport math"
BASE = arch.get("t5-base")
LAYERS = BASE.layers + BASE.decoder_layers
BUDGET = round(sizes.BUDGET * BASE.params)


def spindles(layers: int) -> list[tuple[int, int, int, int]]:
    """All sizes (N1, N2, N3, N4) of four groups with N1 < N2 = N3 > N4, none empty."""
    return [
        (first, middle, middle, layers - first - 2 * middle)
        for middle in range(2, layers)
        for first in range(1, middle)
        if 1 <= layers - first - 2 * middle < middle
    ]


def adapter_widths(d_model: int, budget: float, shares: list[int]) -> list[int]:
    """The widest adapter that each layer's share of the budget (parameters) pays for."""
    layer = [budget * share / sum(shares) for share in shares]
    return [math.floor((b - d_model) / (2 * d_model + 1)) for b in layer]


def untested(tested: list[str]) -> list[str]:
    """Non-empty sets of the methods A, P, B and L, such as "AP", that are not in `tested`."""
    sets = ("".join(s) for n in (1, 2, 3, 4) for s in itertools.combinations("APBL", n))
    return [s for s in sets if s not in tested]


def t_statistic(mean: float, other: float, deviation: float, runs: int) -> float:
    """Student's t of two means of `runs` runs each, with the same standard deviation."""
    return (mean - other) / (deviation * math.sqrt(2 / runs))


def _grouped(layers: int, keep) -> list[tuple[int, ...]]:  # type: ignore[no-untyped-def]
    cuts = itertools.combinations(range(1, layers), 3)
    found = ((a, b - a, c - b, layers - c) for a, b, c in cuts)
    return [n for n in found if keep(*n)]


def _widths(d_model: int, budget: float, shares: list[int]) -> list[int]:
    """From the library's own costs of an adapter."""
    cost = sizes.costs(BASE.replace(d_model=d_model), 1)["A"]
    return [int((budget * s / sum(shares) - cost.fixed) // cost.unit) for s in shares]


def _tests() -> list[tuple[float, float, float, int]]:
    """The S4 model against the best other PEFT method on T5-base, dataset by dataset (table 4)."""
    rows = tables.scores("spaces_table4_t5")
    final = next(row for key, row in rows.items() if key[0] == "T5-base" and "S_4" in key[1])
    rivals = [rows["T5-base", name] for name in ("Adapter", "Prefix", "BitFit", "LoRA")]
    return [
        (
            float(cell["printed"]),
            max(float(rival[name]["printed"]) for rival in rivals),
            float(cell["spread"]),
            20,
        )
        for name, cell in final.items()
        if cell["spread"]
    ]


def _letters(answer: list[str]) -> list[str]:
    return sorted("".join(sorted(methods)) for methods in answer)


_cases = _tests()
_ts = [t_statistic(*case) for case in _cases]
_missing = [s for s in design.METHOD_SETS if s not in design.tried("methods")]
_said = tables.claims()["significance"]["printed"]

EXERCISES = [
    Exercise(
        spindles,
        title="How many spindles are there?",
        text=f"""\
A *spindle* groups layers so that both ends are smaller: $N_1 < N_2 = N_3 > N_4$. The paper
samples designs among them. List all sizes for a number of layers (T5-base has {LAYERS}), in any order.""",
        difficulty=2,
        minutes=15,
        cases=[(12,), (LAYERS,), (7,), (4,)],
        normal=lambda found: sorted(map(tuple, found)),
        mistakes={
            "Groups of equal size at the ends are in it: N1 < N2 and N4 < N3, strictly.": lambda n: (
                _grouped(n, lambda a, b, c, d: a <= b == c >= d)
            ),
            "The two groups in the middle have the same size: N2 = N3.": lambda n: _grouped(
                n, lambda a, b, c, d: a < b and c > d
            ),
            "Only symmetric ones are listed. N1 and N4 may differ, as long as both are smaller.": lambda n: (
                _grouped(n, lambda a, b, c, d: a == d < b == c)
            ),
            "An end may not be empty: four groups, each with at least one layer.": lambda n: [
                (a, m, m, n - a - 2 * m)
                for m in range(1, n)
                for a in range(m)
                if 0 <= n - a - 2 * m < m
            ],
        },
        learned=f"{LAYERS} layers form {len(design.groupings('spindle', LAYERS))} spindles; the paper's "
        "example, 3-9-9-3, is one.",
        reference=lambda n: list(design.groupings("spindle", n)),
    ),
    Exercise(
        adapter_widths,
        title="Parameter allocation",
        text=f"""\
A budget of {sizes.BUDGET:.1%} of T5-base is {BUDGET:,} parameters. Give each layer its share and
find the widest adapter it pays for. An adapter of width $s$ has two matrices, $d \\times s$ and $s \\times d$, and a bias behind each:
$2ds + s + d$ parameters.""",
        difficulty=2,
        minutes=10,
        cases=[
            (BASE.d_model, BUDGET, [1] * LAYERS),
            (BASE.d_model, BUDGET, [1, 1, 2, 4]),
            (64, 10_000, [1, 2, 3]),
        ],
        mistakes={
            "The biases are missing: s + d parameters more, so a layer may go over its share.": lambda d, b, shares: [
                int(b * s / sum(shares) // (2 * d)) for s in shares
            ],
            "Every layer got the same; that is the uniform allocation. Follow the shares.": lambda d, b, shares: [
                int((b / len(shares) - d) // (2 * d + 1)) for _ in shares
            ],
            "Rounded to the nearest width: where that is up, the layer is over its share.": lambda d, b, shares: [
                round((b * s / sum(shares) - d) / (2 * d + 1)) for s in shares
            ],
            "Shares are relative to each other: divide by their sum.": lambda d, b, shares: [
                int((b * s - d) // (2 * d + 1)) for s in shares
            ],
        },
        learned=f"Uniformly, {LAYERS} layers of T5-base get adapters of width "
        f"{_widths(BASE.d_model, BUDGET, [1] * LAYERS)[0]}; what rounding leaves, "
        "`frugal.spaces.sizes` hands on.",
        reference=_widths,
    ),
    Exercise(
        untested,
        title="Which strategies were not tried?",
        text=f"""\
A group may be tuned by any non-empty set of Adapter, Prefix, BitFit and LoRA. The paper's table
lists {len(design.tried("methods"))} of them for every group. Which are missing? Write a set with its letters in the order A, P, B, L.""",
        difficulty=1,
        minutes=10,
        cases=[(list(design.tried("methods")),), (["A", "AP", "APBL"],), ([],)],
        normal=_letters,
        mistakes={
            "The empty set is in it: a group that is tuned by nothing is not a strategy.": lambda tested: [
                "",
                *untested(tested),
            ],
            "Only pairs are listed. Sets of one, two, three and four methods count.": lambda tested: [
                s for s in untested(tested) if len(s) == 2
            ],
            "A set has no order: PB and BP are the same strategy.": lambda tested: [
                "".join(s) for own in untested(tested) for s in itertools.permutations(own)
            ],
        },
        learned=f"{', '.join(_missing)} were never tried: the winner is the best of those listed.",
        reference=lambda tested: [s for s in design.METHOD_SETS if s not in tested],
    ),
    Exercise(
        t_statistic,
        title="Significantly better?",
        text=f"""\
The captions of Tables 4 and 5 claim significance on all {_said} datasets, over 20 runs. The
standard deviation is printed for the S4 model alone; take it for both. Student's $t$ of two means of $n$ runs divides their
difference by its standard error. Above about 2 in size it is significant at 5 %.""",
        difficulty=2,
        minutes=10,
        cases=[*_cases, (1.0, 0.0, 1.0, 2)],
        mistakes={
            "Divided by the standard deviation of one run. A mean of n runs varies less, by √n.": lambda a, b, sd, n: (
                (a - b) / sd
            ),
            "That is the error of one mean. Both means vary, so their variances add: 2·sd²/n.": lambda a, b, sd, n: (
                (a - b) / (sd / math.sqrt(n))
            ),
            "Variances add, standard deviations do not: √(2/n), not 2/√n.": lambda a, b, sd, n: (
                (a - b) / (2 * sd / math.sqrt(n))
            ),
        },
        learned=f"On T5-base |t| is above 2 on {sum(abs(t) > 2 for t in _ts)} of {len(_ts)} datasets.",
    ),
]
