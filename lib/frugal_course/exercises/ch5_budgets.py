"""Chapter 5: what a budget distils, who wins at it, a cap that holds, and the distillation loss."""

import itertools
import math
from decimal import Decimal

import numpy as np

from frugal import stats
from frugal.papers import table3, tables
from frugal_course.exercises.exercise import Exercise, whole

TITLE = "Distill or annotate"
KOREAN = (
    "예산으로 증류할 수 있는 예제 수를 식으로 구하고, 예산별 승자, 지출 상한, 증류 손실을 구현한다. "
    "끝에서는 FEVER의 표를 읽고, 라벨 예산 안에서 오차 범위를 좁히는 실험을 설계한다."
)
IMPORTS = "import itertools\nimport math\nfrom decimal import Decimal\n\nimport numpy as np\n\nfrom frugal import stats"
TEMPERATURE = 2.0  # of the released code, and of `frugal.budgets.distill`
RATE = table3.gpu_usd()


def distilled(budget: float, usd_per_hour: float, per_hour: float, overhead: float) -> float:
    """Examples distilled for `budget` USD: r per GPU hour, after h0 hours for the teacher."""
    hours = math.ceil(budget / usd_per_hour)
    return max(0.0, per_hour * (hours - overhead))


def winner(
    budget: float, annotated: list[tuple[float, float]], distilled: list[tuple[float, float]]
) -> str | None:
    """ "annotate" or "distill", whose score is higher at `budget`; None in a tie.

    annotated, distilled: (budget, score) as printed, rising; linear between them
    """

    def score(points: list[tuple[float, float]]) -> float:
        for (left, low), (right, high) in itertools.pairwise(points):
            if left <= budget <= right:
                return low + (high - low) * (budget - left) / (right - left)
        raise ValueError(f"{budget} is outside what is printed")

    difference = score(distilled) - score(annotated)
    return None if difference == 0 else "distill" if difference > 0 else "annotate"


def affordable(most_usd: list[float], cap: float) -> int:
    """How many of the requests, in order, may be sent so that `cap` USD can never be passed.

    most_usd: the most that each request can cost
    """
    spent, sent = Decimal(0), 0
    for usd in most_usd:
        spent += Decimal(str(usd))
        if spent > Decimal(str(cap)):
            break
        sent += 1
    return sent


def kd_loss(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    """T² · KL(teacher || student), mean over examples; logits (examples, classes)."""
    s, t = student / temperature, teacher / temperature
    log_s, log_t = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (s, t))
    return float(temperature**2 * (np.exp(log_t) * (log_t - log_s)).sum(-1).mean())


def fever_says() -> str:
    """a, b or c: the one sentence that the table bears."""
    return "b"


def within_five_points() -> tuple[int, int]:
    """(draws, texts) of a run with an interval of at most ±5 points, whose labels cost at most $650."""
    given = stats.Components(draw=0.006, text=0.012, rest=0.231)
    for draws, texts in itertools.product(range(3, 30), range(50, 2000, 50)):
        usd = 0.129 * (300 * draws + texts)
        if usd <= 650 and stats.half_width(given, draws, texts) <= 0.05:
            return draws, texts
    raise ValueError("no such run")


def _fault(plan: tuple[int, int]) -> str:
    """What is wrong with a design, "" if nothing."""
    draws, texts = whole(plan)
    if draws < stats.FEWEST:
        return "few draws"
    if LABEL * (N * draws + texts) > CAP:
        return "dear"
    if stats.half_width(PILOT, draws, texts) <= HALF:
        return ""
    return "weak texts" if stats.half_width(PILOT, draws, 100_000) <= HALF else "weak draws"


def _pilot() -> stats.Components:
    """The variances of the recorded difference, two layers and N labels, to three decimals."""
    from frugal.budgets import compare

    runs = compare.recorded().query("model == '2 layers' and labels == @N")
    sides = (runs[runs["strategy"] == way] for way in ("distill", "annotate"))
    given = compare.less(*sides).components
    assert given is not None
    return stats.Components(*(round(part, 3) for part in given))


def _library(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    import torch

    from frugal.budgets import distill

    logits = map(torch.from_numpy, (student, teacher))
    return float(distill.kd_loss(*logits, temperature=temperature))


def _fitted(task: str, labels: int) -> tuple[float, float]:
    model = table3.throughput(task)
    return model.per_hour, model.h0(labels)


def _curves(task: str, labels: int) -> dict[str, list[tuple[float, float]]]:
    """Budget and score of the cells that table 3 prints for both strategies."""
    found: dict[str, list[tuple[float, float]]] = {"annotate": [], "distill": []}
    cells = [c for c in table3.cells() if (c.task, c.labels) == (task, labels)]
    scored = {c.budget for c in cells if c.strategy == "distill" and c.score is not None}
    for cell in cells:
        if cell.budget in scored and cell.score is not None:
            found[cell.strategy].append((float(cell.budget), cell.score))
    return found


def _better(annotated: float, distilled: float) -> str | None:
    ahead = "distill" if distilled > annotated else "annotate"
    return None if annotated == distilled else ahead


_wlp = _curves("WLP", 5000)
_pair = (_wlp["annotate"], _wlp["distill"])
_first, _second = (budget for budget, _ in _wlp["distill"][:2])
_turn = next(b for b in range(int(_first), int(_second) + 1) if winner(b, *_pair) == "distill")
_logits = list(np.random.default_rng(0).standard_normal((4, 4, 3)))
N, HALF, CAP, LABEL = 300, 0.05, 650, 0.129
PILOT = _pilot()
_fever = _curves("FEVER", 1000)
_more = _curves("FEVER", 5000)
_columns = _fever["annotate"], _fever["distill"], _more["annotate"]
_table = "\n".join(
    f"| +\\${cells[0][0]:.0f} | {' | '.join(str(score) for _, score in cells)} |"
    for cells in zip(*_columns, strict=True)
)
_gap = _fever["distill"][0][1] - _fever["annotate"][0][1]
_costs = tables.records("annotate_table1_costs")
_price = float(next(r["usd_per_label"] for r in _costs if r["dataset"] == "FEVER"))

EXERCISES = [
    Exercise(
        distilled,
        title="What a budget distils",
        text=f"""\
The counts of Table 3 follow a formula that the paper does not print: $\\text{{unlabelled}} =
r\\,(h - h_0)$. $h$ are the GPU hours that the budget pays for, rounded **up** to whole hours as the table does; $h_0$ go into the
teacher's own training. An hour is \\${RATE}.""",
        difficulty=1,
        minutes=10,
        cases=[
            (100, RATE, *_fitted("WLP", 5000)),
            (200, RATE, *_fitted("WLP", 1000)),
            (50, RATE, *_fitted("FEVER", 1000)),
            (10, RATE, *_fitted("WLP", 5000)),
        ],
        mistakes={
            "The teacher's own training is missing: nothing is distilled in the first h0 hours.": lambda b, usd, r, h0: (
                r * math.ceil(b / usd)
            ),
            "Below h0 hours the count goes negative: then nothing is distilled, 0.": lambda b, usd, r, h0: (
                r * (math.ceil(b / usd) - h0)
            ),
            "Table 3 rounds hours up to whole ones.": lambda b, usd, r, h0: max(
                0.0, r * (b / usd - h0)
            ),
            "Table 3 rounds hours up, not down.": lambda b, usd, r, h0: max(
                0.0, r * (b // usd - h0)
            ),
        },
        learned=f"With 5,000 labels, $100 distil {distilled(100, RATE, *_fitted('WLP', 5000)):,.0f} examples "
        "of WLP: the teacher's training takes most of it.",
    ),
    Exercise(
        winner,
        title="Who wins at budget B?",
        text="""\
Two strategies, each with printed scores at some budgets. Between two of them, take the straight
line. Which has the higher score at `budget`? The cases are WLP with 5,000 labels, the only task of Table 3 in which
annotation wins anywhere.""",
        difficulty=2,
        minutes=15,
        cases=[
            (_first, *_pair),
            (_second, *_pair),
            (float(_turn + 1), *_pair),
            (float(_turn - 3), *_pair),
            (5.0, [(0.0, 50.0), (10.0, 60.0)], [(0.0, 60.0), (10.0, 50.0)]),
            (_wlp["distill"][-1][0], *_pair),
        ],
        mistakes={
            "Your answer is that of the largest budget, whatever the budget is.": lambda b, ann, dist: (
                _better(ann[-1][1], dist[-1][1])
            ),
            "The nearest printed budget decides. Between two of them, take the straight line.": lambda b, ann, dist: (
                _better(*(min(points, key=lambda p: abs(p[0] - b))[1] for points in (ann, dist)))
            ),
            "The two are the wrong way round.": lambda b, ann, dist: winner(b, dist, ann),
            "Equal scores are a tie: None.": lambda b, ann, dist: winner(b, ann, dist) or "distill",
            "Equal scores are a tie: None, whoever was first.": lambda b, ann, dist: (
                winner(b, ann, dist) or "annotate"
            ),
        },
        learned=f"Annotation wins up to about ${_turn}, distillation from there on: the teacher's training "
        "has to be paid for first.",
    ),
    Exercise(
        affordable,
        title="A cap that is never passed",
        text="""\
Labels are bought one request after the other, and a bill may be as high as `most_usd`. Under a
cap that must never be passed, how many requests may be sent? Stop at the first that does not fit. Money is counted in
decimals: ten times ten cents is one dollar.""",
        difficulty=2,
        minutes=10,
        cases=[
            ([0.1] * 5, 0.3),
            ([0.2, 0.2, 0.2], 0.5),
            ([0.5, 0.6, 0.1], 0.7),
            ([0.6, 0.5, 0.3], 0.8),
            ([0.01] * 200, 1.0),
            ([], 1.0),
        ],
        mistakes={
            "The cap is looked at after the money is gone: the last request passes it.": lambda most, cap: (
                sum(before < cap for before in [0, *itertools.accumulate(most)][: len(most)])
            ),
            "0.1 + 0.1 + 0.1 is more than 0.3 in binary floating point. Add Decimal(str(usd)).": lambda most, cap: (
                sum(spent <= cap for spent in itertools.accumulate(most))
            ),
            "A request that does not fit was left out and a later one sent. Stop at the first.": lambda most, cap: (
                affordable(sorted(most), cap)
            ),
        },
        learned="`frugal.budgets.labels` holds its cap in the same way, through crashes too.",
    ),
    Exercise(
        kd_loss,
        title="The distillation loss",
        text=f"""\
The student learns the teacher's whole distribution, softened by a temperature: $T^2 \\cdot
\\mathrm{{KL}}\\big(\\mathrm{{softmax}}(t/T) \\,\\|\\, \\mathrm{{softmax}}(s/T)\\big)$. The factor $T^2$ keeps the gradient's size. The released code has $T = {TEMPERATURE:g}$.""",
        difficulty=2,
        minutes=10,
        cases=[
            (_logits[0], _logits[1], TEMPERATURE),
            (_logits[2], _logits[3], 1.0),
            (_logits[0], _logits[2], 4.0),
        ],
        mistakes={
            "The divergence is the wrong way round: the teacher's probabilities weigh the "
            "differences of the logarithms.": lambda s, t, temperature: kd_loss(t, s, temperature),
            "The factor T² is missing: with a higher temperature gradients would shrink.": lambda s, t, temperature: (
                kd_loss(s, t, temperature) / temperature**2
            ),
            "The temperature is not in the softmax: divide both logits by T.": lambda s, t, temperature: (
                temperature**2 * kd_loss(s, t, 1.0)
            ),
            "Summed over classes and examples: take the mean over examples.": lambda s, t, temperature: (
                len(s) * kd_loss(s, t, temperature)
            ),
            "Averaged over classes too: sum over classes, then take the mean over examples.": lambda s, t, temperature: (
                kd_loss(s, t, temperature) / s.shape[1]
            ),
        },
        learned="A student that agrees with its teacher has loss 0, however unsure both are.",
        reference=_library,
    ),
    Exercise(
        fever_says,
        title="Interpret: twenty points on FEVER",
        text=f"""\
Is a claim supported or refuted? Table 3 of *Distill or Annotate?* prints for FEVER, by what is spent beyond the first labels
(`data/papers/annotate_table3_budgets.csv`; notebook 05, section 2):

| spent | 1,000 labels, then more labels | 1,000 labels, then distilled | 5,000 labels, then more labels |
|---|---|---|---|
{_table}

Which sentence does the table bear?

- **a** "For the same \\$50 a distilled example is worth {_gap:.0f} points more than a label."
- **b** "With 1,000 labels and a few hundred more the student has learnt nothing yet: it guesses between two answers. The {_gap:.0f} points compare distillation with that."
- **c** "Labels are useless on FEVER, however many are bought.\"""",
        difficulty=1,
        minutes=5,
        cases=[()],
        mistakes={
            f"Look at the first column's level: what does somebody score who guesses between two answers? At ${_price} a label, "
            "$50 buy 387, and none of them has taught anything.": lambda: "a",
            f"With 5,000 labels the same student is at {_more['annotate'][0][1]}: labels work once there are enough.": lambda: (
                "c"
            ),
        },
        learned="A difference from chance is not what a label is worth; with 5,000 labels distillation is ahead by 5 to 6 points.",
        reference=lambda: (
            "b" if all(abs(score - 50) < 1 for _, score in _fever["annotate"]) else "a"
        ),
    ),
    Exercise(
        within_five_points,
        title="Design the run that would settle it",
        text=f"""\
With {N} labels, is a distilled student of two layers better than one of labels alone? Notebook 05 recorded three draws of labels on 1,000
texts, and the interval holds 0: +7 points [-12, +26]. What it has taught are the variances of the difference: {PILOT.draw} between draws,
{PILOT.text} between texts, {PILOT.rest} of the rest. A draw needs {N} fresh labels, and every test text one more, at \\${LABEL} each; compute is
too cheap to count. Return (draws, texts) of a run whose labels cost at most \\${CAP}, with an interval of at most ±{100 * HALF:.0f} points expected.
`stats.Components(draw=…, text=…, rest=…)` and `stats.half_width` do the arithmetic; more than one design is right.""",
        difficulty=3,
        minutes=20,
        cases=[()],
        normal=_fault,
        mistakes={
            "Two draws carry no interval that is worth having: at least three.": lambda: (2, 1000),
            f"That costs more than ${CAP}: each draw takes {N} labels, and each text one.": lambda: (
                17,
                300,
            ),
            "With so few draws the interval is wider however many texts there are: what is in doubt is the labels. "
            "Take the money from the texts.": lambda: (5, 1000),
            "Enough draws; a few more texts, and it is there.": lambda: (16, 50),
        },
        learned=f"Three draws on 1,000 texts cost ${LABEL * (3 * N + 1000):.0f} and gave ±19. Fifteen on 200 cost ${LABEL * (15 * N + 200):.0f} and are "
        f"expected to give ±{100 * stats.half_width(PILOT, 15, 200):.1f}.",
    ),
]
