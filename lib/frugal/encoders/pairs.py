"""Choices that differ from example to example: a classifier reads the prompt with each of them.

It has two classes, wrong and right, and answers with the choice whose text is the most right.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from frugal.encoders.classifier import Classifier
from frugal.engine.training import Cost
from frugal.tasks import Example

CLASSES = 2  # wrong, right


def texts(examples: Sequence[Example]) -> list[str]:
    """Each prompt with each of its choices behind it, example by example."""
    return [e.prompt + choice for e in examples for choice in e.choices]


def goals(examples: Sequence[Example]) -> Tensor:
    """(texts,) 1 for the right choice of an example, 0 for the others."""
    return torch.tensor([int(i == e.label) for e in examples for i in range(len(e.choices))])


def table(said: Tensor, examples: Sequence[Example]) -> Tensor:
    """(texts, 2) → (examples, most choices) right less wrong; -inf where there are fewer."""
    right = (said[:, 1] - said[:, 0]).split([len(e.choices) for e in examples])
    return pad_sequence(list(right), batch_first=True, padding_value=-math.inf)


@dataclass(frozen=True)
class PairTeacher:
    """A classifier of two classes that scores choices, to be asked as any teacher is."""

    model: Classifier

    def logits(self, examples: Sequence[Example]) -> tuple[Tensor, Cost]:
        """(examples, most choices) fp32 on the CPU, and what that took."""
        said, cost = self.model.outputs(texts(examples))
        return table(said, examples), cost

    def fingerprint(self) -> str:
        """Changes whenever a logit can."""
        return self.model.fingerprint()
