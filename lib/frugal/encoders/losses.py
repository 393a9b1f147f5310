"""What a small classifier learns from: classes, numbers, or a teacher's logits.

Kang et al. (ACL 2023) train a student on its teacher's logits, T² · KL(softmax(t / T) ||
softmax(s / T)) at T = 2, with no term for gold labels. Their released code averages over padding
too; `variant="official"` does that, the default does not.
"""

import math
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from frugal.errors import unknown

TEMPERATURE = 2.0  # of the released code

Variant = Literal["masked", "official"]


def loss(said: Tensor, goals: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Mean over texts; scalar.

    said:  (texts, outputs)
    goals: (texts,) classes, whole; (texts,) numbers; or (texts, outputs) a teacher's logits
    """
    if goals.dim() == 2:
        return kd_loss(said, goals, temperature=temperature)
    if goals.is_floating_point():
        return F.mse_loss(said[:, 0], goals)
    return F.cross_entropy(said, goals)


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
