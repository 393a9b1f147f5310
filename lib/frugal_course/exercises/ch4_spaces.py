"""Chapter 4: counting partitions and sets of methods, allotting a budget, and significance."""

import itertools
import math
from statistics import NormalDist, fmean

from frugal.costs import arch
from frugal.papers import tables
from frugal.spaces import design, sizes
from frugal_course.exercises.exercise import Exercise

TITLE = "Design spaces"
KOREAN = "스핀들 분할을 직접 열거하고, 예산을 층별 어댑터 폭으로 배분하며, 논문이 주장한 유의성을 다시 검정한다. 끝에서는 CoLA를 뺀 평균을 읽고, 후보마다 필요한 설계의 수를 구한다."
IMPORTS = "import itertools\nimport math\nfrom statistics import NormalDist"
BASE = arch.get("t5-base")
LAYERS = BASE.layers + BASE.decoder_layers
PAPERS_DESIGNS = 100  # that are trained of each candidate
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


def without_cola() -> float:
    """Mean accuracy of S4 less that of full fine-tuning on T5-base, without CoLA, to a decimal."""
    return -0.3


def designs_needed(lead: float, deviation: float, candidates: int) -> int:
    """Designs to train of each candidate, so that no lead of the winner is known to worse than ± `lead`.

    lead, deviation: in points; deviation: of a design's score among designs of one candidate.
    The intervals of all the winner's leads must hold together in 95 % of searches.
    """
    sure = 1 - 0.05 / (candidates - 1)
    z = NormalDist().inv_cdf((1 + sure) / 2)
    return math.ceil(2 * (z * deviation / lead) ** 2)


def _needed(lead: float, deviation: float, sure: float = 0.95, variances: int = 2) -> int:
    z = NormalDist().inv_cdf((1 + sure) / 2)
    return math.ceil(variances * (z * deviation / lead) ** 2)


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
_rows = tables.scores("spaces_table4_t5")
_full, _s4 = (
    {name: float(cell["printed"]) for name, cell in _rows["T5-base", row].items()}
    for row in ("full", "S_4-model")
)
TASKS = [name for name in _full if name != "average"]
_leads = {name: _s4[name] - _full[name] for name in TASKS}
_table = "\n".join(f"| {name} | {_full[name]} | {_s4[name]} |" for name in TASKS)
_known = NormalDist().inv_cdf(1 - 0.025 / 11) * 2.0 * math.sqrt(2 / PAPERS_DESIGNS)
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
        cases=[*_cases, (1.0, 0.0, 1.0, 2), (83.0, 84.5, 1.0, 8)],
        mistakes={
            "The sign is lost: where the other mean is higher, t is negative. Its size alone cannot say "
            "who is better.": lambda *case: abs(t_statistic(*case)),
            "The second mean less the first: it is the other way round.": lambda a, b, sd, n: (
                t_statistic(b, a, sd, n)
            ),
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
    Exercise(
        without_cola,
        title="Interpret: what carries the lead?",
        text=f"""\
The paper's Table 4 prints an average of {_s4["average"]} for the design found (S4) and {_full["average"]} for full fine-tuning, on T5-base:

| dataset | full fine-tuning | S4 |
|---|---|---|
{_table}

CoLA is scored by Matthews' correlation, which swings far more from method to method than the accuracies beside it. What is left of S4's lead, in mean points, over the
other {len(TASKS) - 1} datasets? To one decimal (`data/papers/spaces_table4_t5.csv`; notebook 04, section 6, draws it).""",
        difficulty=1,
        minutes=5,
        cases=[()],
        normal=lambda points: round(points, 1),
        mistakes={
            "That is the lead with CoLA in it.": lambda: fmean(_leads.values()),
            "That is the lead between the printed averages, CoLA in it.": lambda: (
                _s4["average"] - _full["average"]
            ),
            "The sign: S4's mean less that of full fine-tuning. Who is ahead now?": lambda: 0.3,
            "Without CoLA there are seven datasets: divide by seven.": lambda: (
                (sum(_leads.values()) - _leads["CoLA"]) / len(TASKS)
            ),
            "That is CoLA's own lead.": lambda: _leads["CoLA"],
        },
        learned=f"CoLA alone brings {_leads['CoLA'] / len(TASKS):.1f} of the {fmean(_leads.values()):.1f} points; without it full fine-tuning "
        "is ahead. An unweighted average asks mostly about the task that swings most.",
        reference=lambda: round(fmean(_leads[name] for name in TASKS if name != "CoLA"), 1),
    ),
    Exercise(
        designs_needed,
        title="Design the run that would settle it",
        text=f"""\
A search trains $n$ designs of each candidate and takes the one with the best mean. Say that the scores of a candidate's designs have a standard deviation of
`deviation` points. The winner's lead over *one* other candidate has the interval $\\pm z\\,\\sigma\\sqrt{{2/n}}$, with $z = 1.96$. But it has
a lead over each of the others, and all {len(design.tried("methods")) - 1} of these intervals must hold at once (Bonferroni: divide the 5 % among them; `NormalDist().inv_cdf` gives $z$).
How many designs of each candidate does a search need, so that every lead is known to $\\pm$`lead`? The paper trains {PAPERS_DESIGNS}.""",
        difficulty=3,
        minutes=15,
        cases=[(0.3, 2.0, 12), (1.0, 2.0, 12), (0.3, 2.0, 5), (0.5, 3.0, 2)],
        mistakes={
            "z = 1.96 is for one comparison. The winner is compared with all others: share the 5 % "
            "among them.": lambda lead, sd, count: _needed(lead, sd),
            "The 5 % are shared among the winner's leads, one fewer than there are candidates.": lambda lead, sd, count: (
                _needed(lead, sd, 1 - 0.05 / count)
            ),
            "Half of what is left over lies at either end: inv_cdf takes (1 + sure) / 2.": lambda lead, sd, count: (
                math.ceil(2 * (NormalDist().inv_cdf(1 - 0.05 / (count - 1)) * sd / lead) ** 2)
            ),
            "Both means vary: the variance of a lead is 2·sd²/n.": lambda lead, sd, count: _needed(
                lead, sd, 1 - 0.05 / (count - 1), 1
            ),
            "Designs come whole: round up.": lambda lead, sd, count: (
                2 * (NormalDist().inv_cdf(1 - 0.025 / (count - 1)) * sd / lead) ** 2
            ),
        },
        learned=f"With a deviation of 2 points, a lead of 0.3 among twelve takes {designs_needed(0.3, 2.0, 12):,} designs of each; "
        f"the paper's {PAPERS_DESIGNS} know one to ±{_known:.1f}. The methods of its G2 won by 0.2.",
    ),
]
