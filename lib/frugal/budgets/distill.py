"""Distillation: a teacher's outputs, computed once, become what a small student learns.

Kang et al. (ACL 2023) let a teacher label texts, and train a student on its logits alone
(`kd_loss`). What learns and can be asked teaches.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from frugal import peft
from frugal.encoders.classifier import Classifier
from frugal.encoders.losses import TEMPERATURE, kd_loss
from frugal.engine import checkpoints, digests, files
from frugal.engine.backbones import Backbone
from frugal.engine.training import Cost
from frugal.errors import FrugalError
from frugal.fewshot import choices, encoding, evaluate
from frugal.tasks import Example

CHUNK = 256  # examples in a file of teacher outputs; a kill loses at most so many


class Teacher(Protocol):
    """What can be asked for logits over the choices of examples."""

    def logits(self, examples: Sequence[Example]) -> tuple[Tensor, Cost]:
        """(examples, most choices) fp32 on the CPU, each example's choices in its own order.

        -inf where an example has fewer choices. And what that took.
        """

    def fingerprint(self) -> str:
        """Changes whenever an output can."""


def right(model: Teacher, examples: Sequence[Example]) -> tuple[Tensor, Cost]:
    """(examples,) whether the highest logit is the label's; and what asking took."""
    found, cost = model.logits(examples)
    return found.argmax(1) == torch.tensor([e.label for e in examples]), cost


@dataclass(frozen=True)
class ClassTeacher:
    """A small classifier whose classes are the answer choices, as a teacher.

    classes: in the order of its outputs
    """

    model: Classifier
    classes: tuple[str, ...]

    def logits(self, examples: Sequence[Example]) -> tuple[Tensor, Cost]:
        found, cost = self.model.outputs([e.prompt for e in examples])
        # Column 0 of the classes stands in where there is no choice, until it is masked.
        offered = [torch.tensor([self.classes.index(c) for c in e.choices]) for e in examples]
        column = nn.utils.rnn.pad_sequence(offered, batch_first=True, padding_value=-1)
        return found.gather(1, column.clamp(min=0)).masked_fill(column < 0, -math.inf), cost

    def fingerprint(self) -> str:
        return self.model.fingerprint()

    def targets(self, examples: Sequence[Example]) -> Tensor:
        """(examples,) the class of each label."""
        return torch.tensor([self.classes.index(e.choices[e.label]) for e in examples])

    def by_class(self, table: Tensor, examples: Sequence[Example]) -> Tensor:
        """(examples, most choices) in each example's own order → (examples, classes).

        -inf where an example does not offer a class, as a teacher's logits have it.
        """
        pairs = [
            (i, j, self.classes.index(c))
            for i, e in enumerate(examples)
            for j, c in enumerate(e.choices)
        ]
        row, column, target = torch.tensor(pairs).T
        found = table.new_full((len(examples), len(self.classes)), -math.inf)
        return found.index_put((row, target), table[row, column])


@dataclass(frozen=True)
class RankTeacher:
    """A language model that ranks choices, tuned or not, as a teacher: its logits are β(x, y).

    softmax(β) is the distribution that T-Few's L_LN trains (§3.2).
    """

    backbone: Backbone

    def logits(self, examples: Sequence[Example]) -> tuple[Tensor, Cost]:
        encoded = encoding.encode(self.backbone, examples)
        each = evaluate.counted(evaluate.query_flops(self.backbone, encoded), self.backbone.name)
        started = time.perf_counter()
        scores = choices.score(self.backbone, encoded)
        took = Cost(time.perf_counter() - started, scores.tokens_computed, each * len(examples))
        return scores.table(scores.mean_logp), took

    def fingerprint(self) -> str:
        model = self.backbone.model
        tuned = peft.of(model)
        attached = tuned.named_parameters() if tuned else ()
        return digests.weights([*model.named_parameters(), *attached])


@dataclass(frozen=True)
class Imitation:
    """The loss of a language model that learns to rank choices as a teacher does.

    Its β(x, y), which T-Few ranks by, stand in the place of a classifier's logits.

    table: (examples, most choices) the teacher's logits, of the examples to be trained on
    """

    table: Tensor

    def __call__(self, scores: choices.ChoiceScores, which: Sequence[int]) -> Tensor:
        beta = scores.table(scores.mean_logp)
        taught = self.table[list(which), : beta.shape[1]].to(beta.device)
        return kd_loss(beta, taught)

    def fingerprint(self) -> str:
        return digests.stream([digests.raw(self.table), repr(TEMPERATURE)])


def outputs(teacher: Teacher, examples: Sequence[Example], folder: Path) -> tuple[Tensor, Cost]:
    """The teacher's logits for all examples, (examples, most choices), each computed once.

    folder: keeps them, with what they cost; what is there is not computed again, so a run that was
        killed goes on, and the cost returned is that of all of it

    Raises FrugalError for an empty list, and for a folder with another teacher's outputs or texts,
    or a damaged file.
    """
    if not examples:
        raise FrugalError("nothing to label: the list of examples is empty")
    folder.mkdir(parents=True, exist_ok=True)
    files.sweep(folder)
    who = teacher.fingerprint()
    tables, total = [], Cost()
    for start in range(0, len(examples), CHUNK):
        some = examples[start : start + CHUNK]
        file = folder / f"{start:08d}.safetensors"
        texts = "\n".join(e.model_dump_json(exclude={"label"}) for e in some)
        of = {"teacher": who, "texts": digests.text(texts)}
        if not file.exists():
            logits, cost = teacher.logits(some)
            spent = {k: repr(v) for k, v in vars(cost).items()}
            checkpoints.write(file, {"logits": logits.float()}, {**of, **spent})
        table, cost = _read(file, of)
        tables.append(table)
        total += cost
    width = max(t.shape[1] for t in tables)
    pads = [nn.functional.pad(t, (0, width - t.shape[1]), value=-math.inf) for t in tables]
    return torch.cat(pads), total


def _read(file: Path, of: Mapping[str, str]) -> tuple[Tensor, Cost]:
    try:
        tensors, found = checkpoints.read(file)
        cost = Cost(float(found["seconds"]), int(found["tokens"]), float(found["flops"]))
    except (KeyError, ValueError) as error:
        raise FrugalError(
            f"{file}: not a readable file of outputs ({error}); remove it to compute it again"
        ) from error
    for what, mine in of.items():
        if found.get(what) != mine:
            raise FrugalError(f"{file}: holds outputs of another {what}; name another folder")
    return tensors["logits"], cost
