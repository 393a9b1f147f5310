"""What a person looks at: figures and tables of results. Knows DataFrames, never models."""

from frugal.show.capstone import (
    accuracy_against_dollars,
    choice_by_volume,
    readable,
    turns_sentence,
)
from frugal.show.closing import claims
from frugal.show.costs import (
    break_even,
    cost_against_shots,
    flops_by_use,
    latency,
    latency_sentence,
    sizes,
    work_name,
)
from frugal.show.fewshot import label_swap, loss_ablation
from frugal.show.figures import (
    accuracy_against_cost,
    accuracy_sentence,
    order_dots,
    training_curve,
)
from frugal.show.peft import accuracy_against_params, figure2_sentence, vectors
from frugal.show.style import picture
from frugal.show.tables import audit, verdicts

__all__ = [
    "accuracy_against_cost",
    "accuracy_against_dollars",
    "accuracy_against_params",
    "accuracy_sentence",
    "audit",
    "break_even",
    "choice_by_volume",
    "claims",
    "cost_against_shots",
    "figure2_sentence",
    "flops_by_use",
    "label_swap",
    "latency",
    "latency_sentence",
    "loss_ablation",
    "order_dots",
    "picture",
    "readable",
    "sizes",
    "training_curve",
    "turns_sentence",
    "vectors",
    "verdicts",
    "work_name",
]
