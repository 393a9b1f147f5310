"""What a person looks at: figures and tables of results. Knows DataFrames, never models."""

from frugal.show.budgets import (
    best_splits,
    budget_curves,
    distilled_examples,
    same_dollars,
    student_sizes,
    winner_spans,
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
from frugal.show.spaces import (
    certainty,
    designs,
    patterns,
    rivals,
    search,
    search_sentence,
    significance,
    task_gains,
)
from frugal.show.style import picture
from frugal.show.tables import audit, verdicts

__all__ = [
    "accuracy_against_cost",
    "accuracy_against_params",
    "accuracy_sentence",
    "audit",
    "best_splits",
    "break_even",
    "certainty",
    "claims",
    "cost_against_shots",
    "designs",
    "budget_curves",
    "claims",
    "cost_against_shots",
    "distilled_examples",
    "figure2_sentence",
    "flops_by_use",
    "label_swap",
    "latency",
    "latency_sentence",
    "loss_ablation",
    "order_dots",
    "patterns",
    "picture",
    "rivals",
    "search",
    "search_sentence",
    "significance",
    "sizes",
    "task_gains",
    "same_dollars",
    "sizes",
    "student_sizes",
    "training_curve",
    "vectors",
    "verdicts",
    "winner_spans",
    "work_name",
]
