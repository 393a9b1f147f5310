"""Chapter 5: what a budget distils, who wins at it, a cap that holds, and the distillation loss."""

import itertools
import math
from decimal import Decimal

import torch

from frugal.budgets import distill
from frugal.papers import table3
from frugal_course.exercises.exercise import Exercise

TITLE = "Distill or annotate"
KOREAN = (
    "예산으로 증류할 수 있는 예제 수를 식으로 구하고, 예산별 승자, 지출 상한, 증류 손실을 구현한다."
)
IMPORTS = "import itertools\nimport math\nfrom decimal import Decimal\n\nimport torch"
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


def kd_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T² · KL(teacher || student), mean over examples; logits (examples, classes)."""
    log_s, log_t = ((x / temperature).log_softmax(-1) for x in (student, teacher))
    return temperature**2 * (log_t.exp() * (log_t - log_s)).sum(-1).mean()


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


def _nearest(budget: float, points: list[tuple[float, float]]) -> float:
    return min(points, key=lambda point: abs(point[0] - budget))[1]


def _better(annotated: float, distilled: float) -> str | None:
    if annotated == distilled:
        return None
    return "distill" if distilled > annotated else "annotate"


_wlp = _curves("WLP", 5000)
_pair = (_wlp["annotate"], _wlp["distill"])
_first, _second = (budget for budget, _ in _wlp["distill"][:2])
_turn = next(b for b in range(int(_first), int(_second) + 1) if winner(b, *_pair) == "distill")
_random = torch.Generator().manual_seed(0)
_logits = [torch.randn(4, 3, generator=_random, dtype=torch.float64) for _ in range(4)]

EXERCISES = [
    Exercise(
        distilled,
        title="What a budget distils",
        text=f"""\
The counts of Table 3 follow a formula that the paper does not print: $\\text{{unlabelled}} =
r\\,(h - h_0)$. $h$ are the GPU hours that the budget pays for, rounded **up** to whole hours as the table does; $h_0$ go into the
teacher's own training. An hour is ${RATE}.""",
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
                _better(_nearest(b, ann), _nearest(b, dist))
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
\\mathrm{{KL}}\\big(\\mathrm{{softmax}}(t/T) \\,\\|\\, \\mathrm{{softmax}}(s/T)\\big)$. The factor $T^2$ keeps the gradient's size. The released code has $T = {distill.TEMPERATURE:g}$.""",
        difficulty=2,
        minutes=10,
        cases=[
            (_logits[0], _logits[1], distill.TEMPERATURE),
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
        reference=lambda s, t, temperature: distill.kd_loss(s, t, temperature=temperature),
    ),
]
