"""Answers that are written: a slow greedy loop says the same; nothing but a choice is right."""

import pytest
import torch

from frugal import tasks
from frugal.engine import backbones
from frugal.errors import FrugalError
from frugal.fewshot import encoding, evaluate, tfew, writing


def by_hand(backbone, encoded, count):
    """The most likely token, one full pass a token."""
    told = list(encoded.sequences[0][: encoded.start])
    end = backbone.model.config.eos_token_id
    for _ in range(count):
        ids = torch.tensor([told])
        inputs = {"input_ids": ids}
        if backbone.family == "encoder-decoder":
            inputs = {"input_ids": torch.tensor([list(encoded.read)]), "decoder_input_ids": ids}
        with torch.inference_mode():
            told.append(int(backbone.model(**inputs, use_cache=False).logits[0, -1].argmax()))
        if told[-1] == end:
            break
    return told[encoded.start :]


@pytest.mark.parametrize("name", ["tiny-causal", "tiny-t5"])
def test_what_is_written_is_the_likeliest_token_again_and_again(name):
    model, queries = backbones.load(name), tasks.load("counting").test(8)
    for answer, encoded in zip(
        writing.written(model, queries), encoding.encode(model, queries), strict=True
    ):
        own = [s[encoded.start :] for s in encoded.sequences]
        told = by_hand(model, encoded, max(map(len, own)) + 2)
        assert answer.text == model.tokenizer.decode(told, skip_special_tokens=True)
        fits = [i for i, choice in enumerate(own) if told[: len(choice)] == choice]
        assert answer.choice == max(fits, key=lambda i: len(own[i]), default=None)
        assert answer.right == (answer.choice == encoded.label)


@pytest.mark.parametrize("name", ["tiny-causal", "tiny-t5"])
def test_a_tuned_model_writes_what_it_was_taught(name):
    model, task = backbones.load(name), tasks.load("counting")
    one = task.draw(1, 0)[0]
    assert not writing.hits(writing.written(model, [one]))[0]  # a model of made-up weights
    recipe = tfew.Recipe.of({"steps": 60, "batch_size": 4, "method": "full", "lr": 1e-2})
    *_, trained = evaluate.few_shot(model, task, [[one]] * 4, [one], recipe)
    try:
        (answer,) = writing.written(model, [one])
    finally:
        trained.tuned.detach()
    assert answer.right
    assert answer.text.strip().startswith(one.choices[one.label].strip())


def test_of_two_choices_that_fit_the_longer_one_is_meant():
    model = backbones.load("tiny-causal")
    (first,) = encoding.encode(model, tasks.load("counting").test(1))
    prompt = first.sequences[0][: first.start]
    told = by_hand(model, first, 3)
    assert told[2] != model.model.config.eos_token_id
    other = [(told[0] + 1) % 50]
    for choices, meant in (
        ([told[:1], told[:2]], 1),
        ([told[:2], other], 0),
        ([other, other], None),
    ):
        example = encoding.EncodedExample([prompt + c for c in choices], len(prompt), label=1)
        (answer,) = writing.written(model, [example])
        assert (answer.choice, answer.right) == (meant, meant == 1)
    with pytest.raises(FrugalError, match="is an encoder"):
        writing.written(backbones.load("tiny-encoder"), tasks.load("counting").test(1))


def test_the_same_texts_are_ranked_and_written():
    model, task = backbones.load("tiny-t5"), tasks.load("counting")
    recipe = tfew.Recipe.of({"steps": 3, "batch_size": 4, "seed": 1})
    found = writing.beside_ranking(model, task, labels=8, limit=10, recipe=recipe)
    assert list(found["way"]) == ["zero-shot", "T-Few"]
    queries = task.test(10, shots=8, seed=1)
    before = writing.written(model, queries)  # as it was: nothing is left of the training
    zero = found.iloc[0]
    assert zero["written"] == writing.hits(before).mean()
    assert zero["none"] == sum(a.choice is None for a in before) / len(before)
    assert zero["ranked"] == evaluate.rank(model, task, queries)[0].accuracy
    gap = zero["written"] - zero["ranked"]
    assert zero["difference"].difference == pytest.approx(gap)
