"""What a person looks at: figures and tables of results. Knows DataFrames, never models."""

from frugal_course.figures.budgets import few_labels, leads, same_dollars, student_kinds
from frugal_course.figures.choice import (
    accuracy_against_dollars,
    choice_by_volume,
    costs_by_volume,
)
from frugal_course.figures.chosen import chosen_sentence, chosen_table
from frugal_course.figures.closing import Claim, claims, compared
from frugal_course.figures.costs import (
    break_even,
    cost_against_shots,
    flops_by_use,
    latency,
    latency_sentence,
    sizes,
    work_name,
)
from frugal_course.figures.draws import draws_by_texts
from frugal_course.figures.many_shots import (
    by_shots,
    by_shots_title,
    price_sentence,
    shots_differences,
    shots_priced,
    shots_sentence,
)
from frugal_course.figures.peft import (
    accuracy_against_params,
    agreement,
    figure2_sentence,
    inference_cost,
    inference_sentence,
)
from frugal_course.figures.pool import against_random, by_depth, winners
from frugal_course.figures.purchases import (
    as_good,
    best_splits,
    budget_curves,
    distilled_examples,
    winner_spans,
)
from frugal_course.figures.serving import (
    annotators,
    api_bills,
    arrivals_sentence,
    arrivals_title,
    by_arrivals,
    price_doubts,
    price_list,
    saving_sentence,
    then_and_now,
)
from frugal_course.figures.spaces import (
    certainty,
    designs,
    patterns,
    rivals,
    search,
    significance,
    tables_beside,
    task_gains,
)
from frugal_course.figures.style import about, flops, picture, say
from frugal_course.figures.table1 import (
    accuracies,
    against_icl,
    against_icl_sentence,
    against_icl_title,
    differences,
    precisions,
    precisions_sentence,
    show_against_icl,
)
from frugal_course.figures.tables import audit, named, readable, texts, verdicts, whose
from frugal_course.figures.tfew import (
    accuracy_against_cost,
    accuracy_sentence,
    by_dataset,
    by_dataset_sentence,
    label_swap,
    loss_ablation,
    order_dots,
    training_curve,
    written_sentence,
)
from frugal_course.names import name, said
