"""Calibration: how much of a choice's score the prompt gives it whatever the text is.

A language model likes some answers better than others before it has read anything. Its scores
behind a prompt whose text says nothing ("N/A") are that prior, and are taken off.
Source: contextual calibration (Zhao et al., ICML 2021, §5), where each probability is divided by
the one behind a content-free text; of choices of several tokens, and for choices that an example
has to itself, the same is PMI_DC (Holtzman et al., EMNLP 2021, §3).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from frugal.tasks import Example


def once(free: Sequence[Example]) -> tuple[list[Example], list[int]]:
    """Content-free examples without repetition, and for each of `free` its place among them.

    Where all examples choose among the same answers there is a single one.
    """
    places: dict[tuple[str, tuple[str, ...]], int] = {}
    first: list[Example] = []
    for example in free:
        if (key := (example.prompt, example.choices)) not in places:
            places[key] = len(first)
            first.append(example)
    return first, [places[example.prompt, example.choices] for example in free]


def calibrated(beta: Tensor, prior: Tensor) -> Tensor:
    """(examples, most choices) log( exp β(x, y) / exp β(N/A, y) ) = β(x, y) - β(N/A, y).

    beta, prior: (examples, most choices) mean log-probabilities behind the text and behind none;
        -inf where an example has fewer choices, and so in what is returned
    """
    return torch.where(beta.isinf(), beta, beta - prior)
