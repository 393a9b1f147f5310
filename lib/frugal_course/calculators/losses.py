"""T-Few's three losses, moved by hand: probabilities and lengths of a right and two wrong choices.

The formulas are those of Liu et al. (NeurIPS 2022, §3.2) , number by
number; `fewshot.losses` has them for tensors, and a test holds both equal.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from frugal.costs import check
from frugal.errors import FrugalError
from frugal_course.calculators.answer import Answer, Calculator, Control, State, slider
from frugal_course.calculators.picture import Axis, Bar, Line, Mark, Panel, Picture

NAMES = {"lm": "L_LM", "unlikelihood": "L_UL", "length_normalized": "L_LN"}
CHOICES = ("right", "wrong A", "wrong B")


def losses(right: Sequence[float], wrong: Sequence[Sequence[float]]) -> dict[str, float]:
    """The three losses in nats, from the token probabilities of the right and the wrong choices.

    Raises FrugalError for a probability that is not between 0 and 1.
    """
    for p in (*right, *(p for choice in wrong for p in choice)):
        if check.number("probability", p, above=0) >= 1:
            raise FrugalError(f"probability must be below 1, not {p!r}")
    beta = [fmean(map(math.log, choice)) for choice in (right, *wrong)]  # (1/T) Σ log p
    others = [p for choice in wrong for p in choice]
    return {
        "lm": -beta[0],
        # -Σ_n Σ_t log(1 - p(ŷ_t)) / Σ_n T^(n)
        "unlikelihood": -fmean(math.log1p(-p) for p in others),
        # -log( exp β(x, y) / Σ_y' exp β(x, y') )
        "length_normalized": math.log(sum(map(math.exp, beta))) - beta[0],
    }


def look(
    *,
    right: float = 0.2,
    right_tokens: int = 1,
    wrong_a: float = 0.3,
    a_tokens: int = 3,
    wrong_b: float = 0.05,
    b_tokens: int = 1,
) -> Answer:
    """Scores, ranks and losses where each token of a choice has the choice's probability.

    At the start, length alone decides who is answered.
    """
    p, tokens = (right, wrong_a, wrong_b), (right_tokens, a_tokens, b_tokens)
    for name, length in zip(CHOICES, tokens, strict=True):
        check.whole(f"tokens of {name}", length, least=1)
    mine, *others = ([q] * t for q, t in zip(p, tokens, strict=True))
    found = losses(mine, others)
    beta = [math.log(q) for q in p]
    sums = [b * t for b, t in zip(beta, tokens, strict=True)]
    columns = (CHOICES, p, tokens, beta, _ranks(beta), sums, _ranks(sums))
    names = ("choice", "p of a token", "tokens", "β", "rank by β", "Σ log p", "rank by Σ")
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    rank, plain = rows[0]["rank by β"], rows[0]["rank by Σ"]
    leading = CHOICES[beta.index(max(beta))]
    sentence = (
        f"The right choice has β = {beta[0]:.2f} nats and rank {rank} of 3: the answer is "
        f"“{leading}”. By the plain sum of log-probabilities, {sums[0]:.2f}, it would "
        f"have rank {plain}. "
        + ", ".join(f"{NAMES[name]} = {value:.3f}" for name, value in found.items())
        + f", together {sum(found.values()):.3f} nats; the wrong choices' {sum(tokens[1:])} "
        "tokens share L_UL."
    )
    verdict = "The right choice is answered" if rank == 1 else "A wrong choice is answered"
    title = f"{verdict}; the losses add up to {sum(found.values()):.2f}"
    return Answer(_picture(rows, found, title), sentence, rows)


def _ranks(scores: Sequence[float]) -> list[int]:
    return [1 + sum(other > score for other in scores) for score in scores]


def _picture(rows: Sequence[Mapping[str, Any]], found: Mapping[str, float], title: str) -> Picture:
    things: list[Line | Mark] = []
    for y, row in zip((2, 1, 0), rows, strict=True):
        beta, total = row["β"], row["Σ log p"]
        mine = row["choice"] == "right"
        colour, shape = ("orange", "diamond") if mine else ("blue", "circle")
        look: Any = {"colour": colour, "shape": shape}
        things += [
            Line([(total, y), (beta, y)], look["colour"]),
            Mark(total, y, filled=False, **look),
            Mark(beta, y, text=f"rank {row['rank by β']}", place="above", **look),
        ]
    lowest = min(row["Σ log p"] for row in rows)
    answered = Panel(
        "who is answered",
        Axis("log-probability, nats: ● β, the mean; ○ the sum", 1.08 * lowest, 0),
        Axis("", -0.5, 2.7, ticks=[
            (y, f"{r['choice']}, {r['tokens']} tok.") for y, r in zip((2, 1, 0), rows, strict=True)
        ]),
        things,
        share=3,
    )  # fmt: skip
    bars = [
        Bar(0, y - 0.25, value, y + 0.25, "grey", text=f"{value:.2f}", place="right")
        for y, value in zip((2, 1, 0), found.values(), strict=True)
    ]
    names = [(2 - place, NAMES[name]) for place, name in enumerate(found)]
    summed = Panel(
        "the three losses",
        Axis("nats", 0, 1.25 * max(*found.values(), 1)),
        Axis("", -0.5, 2.7, ticks=names),
        bars,
        share=2,
    )
    return Picture(title, [answered, summed])


def controls(state: State, moved: str) -> list[Control]:
    """None follows another."""
    found = []
    for name, p, tokens in zip(CHOICES, list(state)[::2], list(state)[1::2], strict=True):
        found.append(slider(p, f"p of a token, {name}", float(state[p]), 0.01, 0.99, 0.01))
        found.append(slider(tokens, f"tokens, {name}", state[tokens], 1, 12, 1))
    return found


CALCULATOR = Calculator("loss", "What the three losses see", look, controls)
