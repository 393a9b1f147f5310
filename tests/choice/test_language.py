"""The ways of the language model: what says nothing, what is kept, and what that costs."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from frugal.choice import language, ways
from frugal.errors import FrugalError
from frugal.fewshot import choices, encoding, evaluate, icl, packing, passes, tfew
from frugal.tasks import Example


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        (["Review: good film\nMood:", "Review: a gun\nMood:"], "Review: N/A\nMood:"),
        (["one text.\nMood:", "another text.\nMood:"], "N/A text.\nMood:"),
        (["abc", "abd"], "N/A"),
        (["the same", "the same"], "N/A"),
        (["Q: x A:", "Q: y x A:"], "Q: N/A A:"),
        (["", "x"], "N/A"),
        (["리뷰: 좋다\n감정:", "리뷰: 싫다\n감정:"], "리뷰: N/A\n감정:"),
    ],
)
def test_a_prompt_says_nothing_but_what_all_share(prompts, said):
    examples = [Example(prompt=p, choices=(" a", f" b{i}"), label=0) for i, p in enumerate(prompts)]
    blank = language.content_free(examples)
    assert {e.prompt for e in blank} == {said}
    assert [e.choices for e in blank] == [e.choices for e in examples]


def test_calibrated_answers_are_scores_less_those_behind_nothing(attempt):
    plain, calibrated = language.zero_shot(attempt)
    hits = []
    for e in attempt.scored:
        free = e.model_copy(update={"prompt": "Weather: N/A\nMood:"})
        beta, prior = (choices.score(attempt.lm, [x]).mean_logp for x in (e, free))
        hits.append(int((beta - prior).argmax()) == e.label)
    assert calibrated.hits.tolist() == hits
    assert calibrated.flops_per_query == plain.flops_per_query
    assert calibrated.train_flops == evaluate.query_flops(attempt.lm, [free])
    assert "Weather: N/A" in calibrated.note
    assert calibrated.labels == 0


def test_a_kept_prefix_changes_no_answer_and_costs_what_torch_counts(attempt):
    (found,) = language.many(attempt)
    assert found.labels == 12
    each = [
        choices.score(attempt.lm, icl.prompted([e], attempt.shots)).predictions.item() == e.label
        for e in attempt.scored
    ]
    assert found.hits.tolist() == each
    lm = attempt.lm
    lm.model.set_attn_implementation("eager")
    encoded = encoding.encode(lm, icl.prompted(attempt.scored, attempt.shots))
    front = icl.prefix(encoded)
    assert f"{front:,} tokens" in found.note
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        cache = choices.prefix_cache(lm, encoded[0].sequences[0][:front])
    assert found.train_flops == counter.get_total_flops()
    counts = []
    for e in encoded:
        tree = packing.tree(e, front)
        batch = packing.pack([tree], packing.layout([tree]), lm.device)
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            passes.packed(lm, batch, cache)
        counts.append(counter.get_total_flops())
    assert found.flops_per_query == pytest.approx(np.mean(counts))
    (shown,) = language.shown(attempt)
    assert shown.labels == 4
    assert shown.flops_per_query > found.flops_per_query


def test_as_many_shots_are_shown_as_there_is_room_for(attempt, monkeypatch):
    def held(room):
        return language.fitting(attempt, 12, room)

    each = held(10**6)
    assert each == 12
    assert [held(room) for room in (0, 40, 100)] == sorted(held(room) for room in (0, 40, 100))
    assert held(0) == 0
    assert language.fitting(attempt, 3, 10**6) == 3


def test_a_way_that_fails_costs_no_other(attempt, monkeypatch):
    train = tfew.train

    def fails(backbone, examples, recipe, **options):
        found = train(backbone, examples, recipe, **options)
        if recipe.method == "lora":  # while it is attached
            raise FrugalError("step 3: the loss is nan; lower the learning rate (0.003)")
        return found

    monkeypatch.setattr(tfew, "train", fails)
    found = ways.run(attempt)
    (lora,) = [x for x in found.left_out if x["strategy"] == "lora"]
    assert "lower the learning rate" in lora["why"]
    tried, left_out = ways.planned(attempt)
    assert {t.strategy for t in found.trials} == set(tried) - {"lora"}
    assert [x["strategy"] for x in left_out] == ["pairs-head", "pairs-full", "api"]
    assert not hasattr(attempt.lm.model, "_frugal_tuned")


def test_what_cannot_be_asked_at_all_is_refused(attempt, monkeypatch):
    def refuses(*_, **__):
        raise FrugalError("no log-probability")

    monkeypatch.setattr(evaluate, "rank", refuses)
    with pytest.raises(FrugalError, match="no log-probability"):
        ways.run(attempt)
