"""Distillation: a teacher's outputs, computed once, become what a small student learns.

Kang et al. (ACL 2023) let a teacher label texts and train a student on its logits,
T² · KL(softmax(t / T) || softmax(s / T)) at T = 2, with no term for gold labels. Their released
code averages over padding too; `variant="official"` does that, the default does not.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from frugal import peft
from frugal.engine import digests, files
from frugal.engine.backbones import Backbone
from frugal.engine.checkpoints import DIGEST, digest
from frugal.errors import FrugalError, unknown
from frugal.fewshot import choices, evaluate
from frugal.tasks import Example

TEMPERATURE = 2.0  # of the released code
CHUNK = 256  # examples in a file of teacher outputs; a kill loses at most so many

Variant = Literal["masked", "official"]


def kd_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    mask: Tensor | None = None,
    temperature: float = TEMPERATURE,
    variant: Variant = "masked",
) -> Tensor:
    """T² · KL(softmax(t / T) || softmax(s / T)), mean over positions; scalar.

    student, teacher: (…, V) logits: (examples, classes), or (examples, tokens, vocabulary). Where a
        teacher's logit is -inf there is no such choice, and the student's does not matter
    mask:    (…) true where a position is not padding; by default all are
    variant: "official" lets padding count, in the sum and in the mean, as the released code does
    """
    if variant not in ("masked", "official"):
        raise unknown("distillation variant", variant, ("masked", "official"))
    there = teacher > -math.inf
    s, t = student.masked_fill(~there, -math.inf) / temperature, teacher / temperature
    # Zeros where there is no choice: 0 · (-inf) would be nan.
    log_s, log_t = (x.log_softmax(-1).masked_fill(~there, 0) for x in (s, t))
    kl = (t.softmax(-1) * (log_t - log_s)).sum(-1)  # Σ_v p_t (log p_t − log p_s)
    if mask is not None and variant == "masked":
        kl, count = kl * mask, mask.sum()
        return temperature**2 * kl.sum() / count
    return temperature**2 * kl.mean()


@dataclass(frozen=True)
class Cost:
    """What some work took: seconds here, tokens through a model, exact FLOPs."""

    seconds: float = 0.0
    tokens: int = 0
    flops: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.seconds + other.seconds, self.tokens + other.tokens, self.flops + other.flops
        )


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
class RankTeacher:
    """A language model that ranks choices, tuned or not, as a teacher: its logits are β(x, y).

    softmax(β) is the distribution that T-Few's L_LN trains (§3.2).
    """

    backbone: Backbone

    def logits(self, examples: Sequence[Example]) -> tuple[Tensor, Cost]:
        found = evaluate.query_flops(self.backbone, examples)
        each = evaluate.counted(found, self.backbone.name)
        started = time.perf_counter()
        scores = choices.score(self.backbone, examples)
        seconds = time.perf_counter() - started
        return scores.table(scores.mean_logp), Cost(
            seconds, scores.tokens_computed, each * len(examples)
        )

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
    temperature: float = TEMPERATURE

    def __call__(self, scores: choices.ChoiceScores, which: Sequence[int]) -> Tensor:
        beta = scores.table(scores.mean_logp)
        taught = self.table[list(which), : beta.shape[1]].to(beta.device)
        return kd_loss(beta, taught, temperature=self.temperature)

    def fingerprint(self) -> str:
        return digests.stream([digests.raw(self.table), repr(self.temperature)])


def outputs(
    teacher: Teacher,
    examples: Sequence[Example],
    folder: Path,
    *,
    progress: Callable[[int], Any] = lambda done: None,
) -> tuple[Tensor, Cost]:
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
        of = {"teacher": who, "texts": _digest(some)}
        if not file.exists():
            logits, cost = teacher.logits(some)
            made = {"logits": logits.float().contiguous()}
            spent = {k: repr(v) for k, v in vars(cost).items()}
            about = {**of, **spent}
            about[DIGEST] = digest(made, about)
            with files.staged(file) as fresh:
                save_file(made, fresh, metadata=about)
        table, cost = _read(file, of)
        tables.append(table)
        total += cost
        progress(min(start + CHUNK, len(examples)))
    width = max(t.shape[1] for t in tables)
    pads = [nn.functional.pad(t, (0, width - t.shape[1]), value=-math.inf) for t in tables]
    return torch.cat(pads), total


def _digest(examples: Sequence[Example]) -> str:
    """Of the texts and choices; a label changes nothing about an output."""
    texts = (e.model_dump_json(exclude={"label"}) for e in examples)
    return digests.text("\n".join(texts))


def _read(file: Path, of: Mapping[str, str]) -> tuple[Tensor, Cost]:
    try:
        with safe_open(file, framework="pt") as opened:
            found = opened.metadata() or {}
        tensors = load_file(file)
        if found.get(DIGEST) != digest(tensors, found):
            raise ValueError("it is not what was written")
        cost = Cost(float(found["seconds"]), int(found["tokens"]), float(found["flops"]))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise FrugalError(
            f"{file}: not a readable file of outputs ({error}); remove it to compute it again"
        ) from error
    for what, mine in of.items():
        if found.get(what) != mine:
            raise FrugalError(f"{file}: holds outputs of another {what}; name another folder")
    return tensors["logits"], cost
