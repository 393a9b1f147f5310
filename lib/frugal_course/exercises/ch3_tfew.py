"""Chapter 3: T-Few's losses by hand, length normalisation, and what the order of shots does."""

import math
from statistics import mean

from frugal import stats
from frugal.papers import tables
from frugal_course.exercises.exercise import Exercise, whole

TITLE = "T-Few"
KOREAN = (
    "unlikelihood 손실과 길이 정규화를 손으로 계산하고, 예시 순서가 ICL을 얼마나 흔드는지 잰다. 끝에서는 손실 표를 읽고, "
    "T-Few와 ICL의 차이를 확인할 실험을 설계한다."
)
IMPORTS = "import math\n\nfrom frugal import stats"
Logp = list[list[float]]  # of each choice, the log-probability of each of its tokens


def answer(logp: list[list[float]]) -> int:
    """The choice with the highest mean log-probability; logp: of each choice, of each token."""
    means = [sum(tokens) / len(tokens) for tokens in logp]
    return means.index(max(means))


def unlikelihood(logp: list[list[float]], label: int) -> float:
    """L_UL of one example, in nats; logp: of each choice, of each token; label: the right one."""
    wrong = [x for i, tokens in enumerate(logp) if i != label for x in tokens]
    return -sum(math.log(1 - math.exp(x)) for x in wrong) / len(wrong)


def length_normalized(logp: list[list[float]], label: int) -> float:
    """L_LN of one example, in nats; logp: of each choice, of each token; label: the right one."""
    beta = [sum(tokens) / len(tokens) for tokens in logp]
    return math.log(sum(math.exp(b) for b in beta)) - beta[label]


def spreads(accuracies: list[list[float]]) -> tuple[float, float]:
    """(order, draw): how far accuracy moves with the order, and with the draw, of the examples.

    accuracies: a list for each draw, with the accuracy of each order of that draw
    """
    order = max(max(draw) - min(draw) for draw in accuracies)
    means = [sum(draw) / len(draw) for draw in accuracies]
    return order, max(means) - min(means)


def added() -> float:
    """Points that L_UL adds where L_LN is there already, to two decimals."""
    return 0.04


def ten_points() -> tuple[int, int]:
    """(draws, texts) of a run that tells ten points from 0, and takes at most SECONDS."""
    given = stats.Components.assumed(spread=0.10, accuracy=0.75, correlation=0.0)
    for draws in range(stats.FEWEST, 100):
        texts = stats.power(0.10, given, draws=draws)
        if texts is not None and draws * (90 + 0.3 * texts) <= 5400:
            return draws, texts
    raise ValueError("no such run")


def _fault(plan: tuple[int, int]) -> str:
    """What is wrong with a design, "" if nothing."""
    draws, texts = whole(plan)
    if draws < stats.FEWEST:
        return "few draws"
    if draws * (TRAIN + ASK * texts) > SECONDS:
        return "dear"
    needed = stats.power(TOLD, ASSUMED, draws=draws)
    return "weak draws" if needed is None else "weak texts" if texts < needed else ""


def _library(name: str, logp: Logp, label: int) -> float:
    """The library's loss on one example."""
    import torch

    from frugal.fewshot import choices, losses

    lengths = torch.tensor([len(tokens) for tokens in logp])
    scores = choices.ChoiceScores(
        token_logp=torch.tensor([x for tokens in logp for x in tokens], dtype=torch.float64),
        choice=torch.arange(len(logp)).repeat_interleave(lengths),
        example=torch.zeros(len(logp), dtype=torch.long),
        correct=torch.arange(len(logp)) == label,
        tokens_computed=0,
    )
    return float(losses.LOSSES[name](scores))


def _wrong(logp: Logp, label: int) -> Logp:
    return [tokens for i, tokens in enumerate(logp) if i != label]


TICKET = [[-8.7], [-14.7], [-3.3, -11.7, -2.7]]  # about as notebook 03 scores its ticket
CASES = [
    ([[-0.5], [-1.0, -0.2, -3.0], [-2.0, -0.1]], 1),
    (TICKET, 0),
    ([[-0.7, -0.7], [-0.6]], 0),
    ([[-0.1], [-0.2, -4.0]], 1),
]
SECONDS, TRAIN, ASK, TOLD = 5400, 90, 0.3, 0.10
ASSUMED = stats.Components.assumed(spread=0.10, accuracy=0.75, correlation=0.0)
_losses = {
    row[1]: mean(float(cell["printed"]) for cell in cells.values())
    for row, cells in tables.scores("tfew_table3_losses").items()
}
_none, _ul, _ln, _both = (_losses[row] for row in ("FT", "+ UL", "+ LN", "+ UL + LN"))
_printed = {r["row"]: r["printed"] for r in tables.records("tfew_loss_ablation")}

EXERCISES = [
    Exercise(
        answer,
        title="Why the mean, and not the sum?",
        text="""\
A model answers with the choice whose *mean* token log-probability is highest. Every further token
makes a sum more negative, so a sum prefers short choices, whatever they say. Return the index of the
answer.""",
        difficulty=1,
        minutes=5,
        cases=[
            ([[-2.0], [-1.0, -1.5, -1.2]],),
            (TICKET,),
            ([[-0.5, -0.5], [-0.6]],),
            ([[-3.0, -1.0], [-2.5]],),
        ],
        mistakes={
            "That is the choice with the highest sum: it prefers short choices. Divide each "
            "sum by the number of its tokens.": lambda logp: max(
                range(len(logp)), key=lambda i: sum(logp[i])
            ),
            "That is the choice with the lowest mean. Log-probabilities are negative, and the "
            "best is the one nearest to zero.": lambda logp: min(
                range(len(logp)), key=lambda i: mean(logp[i])
            ),
        },
        learned="The longest choice can win, if the model finds each of its tokens likely.",
    ),
    Exercise(
        unlikelihood,
        title="Unlikelihood by hand",
        text="""\
$$L_{UL} = -\\frac{\\sum_{n}\\sum_{t} \\log\\big(1 - p(\\hat y^{(n)}_t)\\big)}{\\sum_n T^{(n)}}$$

The sums run over the wrong choices and their tokens. Compute it from log-probabilities.""",
        difficulty=2,
        minutes=10,
        cases=CASES,
        mistakes={
            "Divided by the number of wrong choices. The formula divides by the number of "
            "their tokens, ΣT.": lambda logp, y: mean(
                len(tokens) * unlikelihood([tokens], -1) for tokens in _wrong(logp, y)
            ),
            "That is the mean over choices of each one's mean. All wrong tokens count alike: "
            "one sum, divided once.": lambda logp, y: mean(
                unlikelihood([tokens], -1) for tokens in _wrong(logp, y)
            ),
            "The right choice's tokens are in it: unlikelihood is about the wrong ones alone.": lambda logp, y: (
                unlikelihood(logp, -1)
            ),
            "That is log p of the wrong tokens: it would make them likelier. Take log(1 - p), "
            "with p = exp(log p).": lambda logp, y: (
                -mean(x for tokens in _wrong(logp, y) for x in tokens)
            ),
            "log(1 - p) wants the probability p = exp(log p). You put the log-probability itself "
            "in its place, and 1 - log p is above 1.": lambda logp, y: (
                -mean(math.log(1 - x) for tokens in _wrong(logp, y) for x in tokens)
            ),
            "The sign: log(1 - p) is negative, the loss is not.": lambda logp, y: (
                -unlikelihood(logp, y)
            ),
        },
        learned="It is small where the wrong choices are unlikely already: there, unlikelihood "
        "teaches little.",
        reference=lambda logp, y: _library("unlikelihood", logp, y),
    ),
    Exercise(
        length_normalized,
        title="The length-normalized loss",
        text=f"""\
$L_{{LN}}$ is a softmax over the choices' mean log-probabilities $\\beta$: it trains the very
ranking that answers. The paper's section 3.2 prints {_printed["L_LM + L_LN"]} for $L_{{LM}} + L_{{LN}}$, and the slide
after it; it is the row of $L_{{LM}} + L_{{UL}}$ (notebook 03, section 6).""",
        difficulty=2,
        minutes=10,
        cases=CASES,
        mistakes={
            "That is a softmax over sums: short choices are favoured. β is the mean over a "
            "choice's tokens.": lambda logp, y: length_normalized([[sum(t)] for t in logp], y),
            "The right choice is missing below the fraction: its own exp β is part of the sum.": lambda logp, y: (
                math.log(sum(math.exp(mean(t)) for t in _wrong(logp, y))) - mean(logp[y])
            ),
            "That is -β of the right choice alone, without the softmax: the other choices have to be "
            "in it.": lambda logp, y: -mean(logp[y]),
            "The sign: the loss is minus the logarithm of a share, so it is positive.": lambda logp, y: (
                -length_normalized(logp, y)
            ),
        },
        learned="All choices alike give log(number of choices), the loss of guessing.",
        reference=lambda logp, y: _library("length_normalized", logp, y),
    ),
    Exercise(
        spreads,
        title="What the order of the examples does",
        text="""\
The same examples in another order are the same information. Given the accuracy of several orders of
several draws, return how far the order alone moves it (the largest range within one draw), and
how far the draw does (the range of the draws' means).""",
        difficulty=1,
        minutes=10,
        cases=[
            ([[0.50, 0.62, 0.56], [0.80, 0.82, 0.78]],),
            ([[0.7, 0.7], [0.7, 0.7]],),
            ([[0.4, 0.6], [0.5, 0.5], [0.3, 0.9]],),
        ],
        mistakes={
            "The order's spread is taken over all draws together, so that it contains the "
            "draw's. Compare orders of the same draw.": lambda a: (
                max(map(max, a)) - min(map(min, a)),
                spreads(a)[1],
            ),
            "The draw's spread compares single orders. Average over the orders of a draw first.": lambda a: (
                spreads(a)[0],
                max(map(max, a)) - min(map(min, a)),
            ),
        },
        learned="Draws can agree in their means while their orders do not, and the other way round.",
    ),
    Exercise(
        added,
        title="Interpret: what does unlikelihood add?",
        text=f"""\
The paper's Table 3 takes the losses apart, for T0-3B with all of its weights trained. Means over its eleven columns, computed from the
printed cells (`data/papers/tfew_table3_losses.csv`; notebook 03, section 6, draws them):

| losses | mean accuracy |
|---|---|
| $L_{{LM}}$ | {_none:.2f} |
| $L_{{LM}} + L_{{UL}}$ | {_ul:.2f} |
| $L_{{LM}} + L_{{LN}}$ | {_ln:.2f} |
| $L_{{LM}} + L_{{UL}} + L_{{LN}}$ | {_both:.2f} |

The paper keeps both further losses. How many points does $L_{{UL}}$ add where $L_{{LN}}$ is there already? To two decimals.""",
        difficulty=1,
        minutes=5,
        cases=[()],
        normal=lambda points: round(points, 2),
        mistakes={
            "That is what it adds to the language-model loss alone. Compare two rows that both "
            "have the length-normalized loss.": lambda: _ul - _none,
            "That is what the length-normalized loss adds to unlikelihood: the other question.": lambda: (
                _both - _ul
            ),
            "That is what both add together.": lambda: _both - _none,
            "That is what the length-normalized loss adds alone.": lambda: _ln - _none,
            "The sign: with both, the mean is higher, if hardly.": lambda: _ln - _both,
        },
        learned=f"Alone it adds {_ul - _none:.2f} points, after L_LN {_both - _ln:.2f}: what it brings, "
        "L_LN brings as well. No interval is printed for either.",
        reference=lambda: round(_both - _ln, 2),
    ),
    Exercise(
        ten_points,
        title="Design the run that would settle it",
        text=f"""\
Is T-Few really ten points above ICL on a task of yours? From draw to draw the difference has a standard deviation of 10 points (ICL
swings), both ways are right on about three texts in four, and which texts each gets right is taken to be unrelated. A draw takes {TRAIN}
seconds of training, and {ASK} seconds for each text that both ways answer; you have {SECONDS // 60} minutes. Return (draws, texts) of a run whose 95 %
interval leaves out 0 in 8 runs of 10, if the ten points are true. `stats.Components.assumed(spread=…, accuracy=…, correlation=…)` holds what is assumed, `stats.power` and
`stats.half_width` say what a run can tell; more than one design is right.""",
        difficulty=3,
        minutes=20,
        cases=[()],
        normal=_fault,
        mistakes={
            f"An interval over draws needs at least {stats.FEWEST}; with two, t is 12.7. A thousand texts do not mend that.": lambda: (
                2,
                5000,
            ),
            f"That takes longer than {SECONDS // 60} minutes: count draws × (training + texts).": lambda: (
                60,
                300,
            ),
            "With so few draws no number of texts is enough: the labels are what is in doubt. More "
            "draws, on fewer texts.": lambda: (5, 2000),
            "With so many draws, texts are what is missing: ask each draw more.": lambda: (20, 50),
        },
        learned=f"Ten draws would need {stats.power(TOLD, ASSUMED, draws=10):,} texts, fifteen {stats.power(TOLD, ASSUMED, draws=15):,}: "
        "draws are dear, but nothing replaces them.",
    ),
]
