"""T-Few's three losses, moved by hand: probabilities and lengths of a right and two wrong choices.

The formulas are those of Liu et al. (NeurIPS 2022, §3.2) in NumPy; `fewshot.losses` has them for
tensors, and a test holds both equal.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from frugal.costs import check
from frugal.errors import FrugalError
from frugal_course.explorers.view import Explorer, View, slider, start
from frugal_course.figures.style import BLUE, GREY, ORANGE, WIDE, beside, heading, panels

NAMES = {"lm": "L_LM", "unlikelihood": "L_UL", "length_normalized": "L_LN"}
CHOICES = ("right", "wrong A", "wrong B")


def losses(right: Sequence[float], wrong: Sequence[Sequence[float]]) -> dict[str, float]:
    """The three losses in nats, from the token probabilities of the right and the wrong choices.

    Raises FrugalError for a probability that is not between 0 and 1.
    """
    for p in (*right, *(p for choice in wrong for p in choice)):
        if check.number("probability", p, above=0) >= 1:
            raise FrugalError(f"probability must be below 1, not {p!r}")
    beta = [float(np.mean(np.log(choice))) for choice in (right, *wrong)]  # (1/T) Σ log p
    others = np.concatenate([np.asarray(choice) for choice in wrong])
    return {
        "lm": -beta[0],
        # -Σ_n Σ_t log(1 - p(ŷ_t)) / Σ_n T^(n)
        "unlikelihood": float(-np.log1p(-others).sum() / len(others)),
        # -log( exp β(x, y) / Σ_y' exp β(x, y') )
        "length_normalized": float(np.log(np.exp(beta).sum()) - beta[0]),
    }


def look(
    *,
    right: float = 0.2,
    right_tokens: int = 1,
    wrong_a: float = 0.3,
    a_tokens: int = 3,
    wrong_b: float = 0.05,
    b_tokens: int = 1,
) -> View:
    """Scores, ranks and losses where each token of a choice has the choice's probability.

    At the start, length alone decides who is answered.
    """
    p = np.array([right, wrong_a, wrong_b])
    tokens = np.array([right_tokens, a_tokens, b_tokens])
    for name, length in zip(CHOICES, tokens, strict=True):
        check.whole(f"tokens of {name}", int(length), least=1)
    mine, *others = ([float(q)] * int(t) for q, t in zip(p, tokens, strict=True))
    found = losses(mine, others)
    beta = np.log(p)
    table = pd.DataFrame(
        {
            "choice": CHOICES,
            "p of a token": p,
            "tokens": tokens,
            "β": beta,
            "rank by β": _ranks(beta),
            "Σ log p": beta * tokens,
            "rank by Σ": _ranks(beta * tokens),
        }
    )
    rank, plain = table["rank by β"][0], table["rank by Σ"][0]
    leading = CHOICES[int(np.argmax(beta))]
    sentence = (
        f"The right choice has β = {beta[0]:.2f} nats and rank {rank} of 3: the answer is "
        f"“{leading}”. By the plain sum of log-probabilities, {beta[0] * tokens[0]:.2f}, it would "
        f"have rank {plain}. "
        + ", ".join(f"{NAMES[name]} = {value:.3f}" for name, value in found.items())
        + f", together {sum(found.values()):.3f} nats; the wrong choices' {tokens[1:].sum()} "
        "tokens share L_UL."
    )
    verdict = "The right choice is answered" if rank == 1 else "A wrong choice is answered"
    return View(
        _figure(table, found, f"{verdict}; the losses add up to {sum(found.values()):.2f}"),
        sentence,
        table,
    )


def _ranks(scores: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> list[int]:
    return [1 + int((scores > score).sum()) for score in scores]


def _figure(table: pd.DataFrame, found: dict[str, float], title: str) -> Figure:
    figure, (at, sums) = panels(2, title, height=3.6, width=WIDE, width_ratios=[3, 2])
    rows = -np.arange(len(table))
    for y, (_, row) in zip(rows, table.iterrows(), strict=True):
        colour, mark = (ORANGE, "D") if row["choice"] == "right" else (BLUE, "o")
        at.plot([row["Σ log p"], row["β"]], [y, y], color=colour, alpha=0.4)
        at.plot(row["Σ log p"], y, mark, color=colour, markerfacecolor="white", markersize=8)
        at.plot(row["β"], y, mark, color=colour, markersize=9)
        beside(at, f"rank {row['rank by β']}", row["β"], y, colour, right=0, up=9, ha="center")
    at.set(
        yticks=rows,
        yticklabels=[f"{r['choice']}, {r['tokens']} tok." for _, r in table.iterrows()],
        ylim=(rows[-1] - 0.5, 0.7),
        xlabel="log-probability, nats: ● β, the mean; ○ the sum",
    )
    at.margins(x=0.08)
    at.grid(visible=False)
    heading(at, "who is answered")
    values = list(found.values())
    sums.barh(list(NAMES.values()), values, color=GREY, height=0.5)
    for place, value in enumerate(values):
        beside(sums, f"{value:.2f}", value, place)
    sums.invert_yaxis()
    sums.set(xlabel="nats", xlim=(0, 1.2 * max(*values, 1)))
    sums.grid(visible=False)
    heading(sums, "the three losses")
    return figure


def loss(**given: Any) -> Explorer:
    """Explore the three losses; takes what `look` takes."""
    at = start(look, given)
    controls = {}
    for name, p, tokens in zip(CHOICES, list(at)[::2], list(at)[1::2], strict=True):
        controls[p] = slider(f"p of a token, {name}", float(at[p]), 0.01, 0.99, 0.01)
        controls[tokens] = slider(f"tokens, {name}", at[tokens], 1, 12, 1)
    return Explorer("loss", look, controls)
