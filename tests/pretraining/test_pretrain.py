"""The mixture's prompts, and the training of nano-t0: resumed to the same bits, saved, loaded."""

import json
import random
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file, save_file

from frugal import data
from frugal.engine import backbones, nano
from frugal.errors import FrugalError
from frugal.fewshot import tfew
from frugal.pretraining import mixture, pretrain
from frugal.pretraining.mixture import Component, Mixture, Record, Wording
from two_berts import TOKENIZER, two_berts


@pytest.fixture
def prompts():
    """Two made-up tasks: one whose wordings bring the choices, one whose records do."""
    words = ["apple", "pear", "dog", "cat", "car", "bus"]
    kinds = [Record({"text": w}, i // 2) for i, w in enumerate(words)]
    spell = [Record({"text": w}, i, tuple(words)) for i, w in enumerate(words)]
    return Mixture(
        [
            Component(
                "kind",
                kinds,
                [
                    Wording("{text}?", ("fruit", "animal", "vehicle")),
                    Wording("A {text} is", ("f", "a", "v")),
                ],
                3,
            ),
            Component("spell", spell, [Wording("Say {text} ({options}):")], 1),
        ]
    )


@pytest.fixture
def small(monkeypatch):
    """nano.build with a tiny model, of whose two reading layers the lower one stays frozen."""

    def build(seed=0):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return two_berts().eval(), TOKENIZER

    monkeypatch.setattr(nano, "build", build)
    monkeypatch.setattr(nano, "FROZEN_LAYERS", 1)
    return build


RECIPE = pretrain.Recipe(steps=6, batch_size=4, lr=1e-2, encoder_lr=3e-3)


def test_prompts_are_a_function_of_count_and_seed_alone(prompts):
    first = prompts.draw(400, "0/1")
    assert first == prompts.draw(400, "0/1")
    assert first != prompts.draw(400, "0/2")
    kinds = Counter("spell" if e.prompt.startswith("Say") else "kind" for e in first)
    assert 0.7 < kinds["kind"] / 400 < 0.8  # by weight
    assert {e.choices for e in first if "?" in e.prompt} == {(" fruit", " animal", " vehicle")}


def test_a_records_own_choices_are_shuffled_and_keep_the_answer():
    record = Record({"text": "x"}, 8, tuple("abcdefghi"))
    generator = random.Random(0)
    found = [mixture.word(record, Wording("{options}"), generator) for _ in range(200)]
    assert {e.choices[e.label] for e in found} == {" i"}
    assert {len(e.choices) for e in found} == {mixture.MOST_CHOICES}
    assert {e.label for e in found} == set(range(mixture.MOST_CHOICES))
    assert all(e.prompt == ", ".join(c.strip() for c in e.choices) for e in found)


def test_table_of_the_mixture_is_sound():
    table = data.toml("mixture.toml")
    for name, entry in table["tasks"].items():
        assert entry.keys() <= {"kind", "of", "labels", "wordings", "weight"}, name
        assert entry["kind"] in mixture.READERS, name
        for wording in table["wordings"][entry["wordings"]]:
            assert ("choices" in wording) == ("labels" in entry or entry["wordings"] in TWO_SIDED)
            if "labels" in entry:
                assert len(wording["choices"]) == len(entry["labels"]), name
    held_out = {"movie-reviews", "intent-recognition", "fever"}
    used = json.dumps(table["tasks"])
    assert not any(name in used for name in held_out | {"intent_recognition", "movieReview"})


TWO_SIDED = {"sentiment", "same"}  # tasks read from ratings: labels 0 and 1


def test_loss_falls_and_only_the_upper_parts_are_trained(small, prompts, tmp_path):
    steps = []
    recipe = RECIPE.model_copy(update={"steps": 60})
    loss = pretrain.pretrain(prompts, recipe, tmp_path, progress=lambda s, _: steps.append(s))
    assert steps == list(range(1, 61))
    assert sum(loss[-10:]) < 0.9 * sum(loss[:10])
    start, _ = small()
    found, _ = nano.load(tmp_path)
    trained = nano.trained(found)
    assert any(name.startswith("encoder.encoder.layer.1.") for name in trained)
    for (name, p), q in zip(found.named_parameters(), start.parameters(), strict=True):
        # Keys' biases shift all scores of a query alike: they get no gradient.
        assert (not torch.equal(p, q)) == (name in trained) or name.endswith("key.bias")
    about = json.loads((tmp_path / "about.json").read_text())
    assert about["tasks"] == {"kind": 6, "spell": 6}
    assert len(about["loss"]) == 2


@pytest.mark.parametrize("stop", [1, 7])
def test_stopped_and_resumed_gives_the_same_bits(small, prompts, tmp_path, stop):
    recipe = RECIPE.model_copy(update={"steps": 8})
    pretrain.pretrain(prompts, recipe, tmp_path / "whole")

    def progress(step, loss):
        if step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain(prompts, recipe, tmp_path / "cut", progress=progress)
    loss = pretrain.pretrain(prompts, recipe, tmp_path / "cut")
    assert len(loss) == recipe.steps
    for file in (nano.WEIGHTS, "training.safetensors"):
        whole, cut = load_file(tmp_path / "whole" / file), load_file(tmp_path / "cut" / file)
        assert whole.keys() == cut.keys()
        assert all(torch.equal(whole[k], cut[k]) for k in whole if k != "seconds")


def test_a_state_of_another_training_is_refused(small, prompts, tmp_path):
    pretrain.pretrain(prompts, RECIPE, tmp_path)
    with pytest.raises(FrugalError, match="another training"):
        pretrain.pretrain(prompts, RECIPE.model_copy(update={"lr": 1e-3}), tmp_path)
    other = Mixture(prompts.components[:1])
    with pytest.raises(FrugalError, match=r"another training \(its examples"):
        pretrain.pretrain(other, RECIPE, tmp_path)


def test_rates_warm_up_fall_slowly_and_cool_down():
    recipe = pretrain.Recipe()
    factors = [pretrain.schedule(step, recipe) for step in range(recipe.steps)]
    peak = factors.index(max(factors))
    cool = round(recipe.steps * (1 - recipe.cooldown))
    assert peak == round(recipe.steps * recipe.horizon * recipe.warmup) - 1
    slow, fast = factors[cool - 2] - factors[cool - 1], factors[-2] - factors[-1]
    assert 0 < slow < fast
    assert 0 < factors[-1] < 0.01


def test_vectors_are_pretrained_on_the_frozen_model(small, prompts, tmp_path):
    pretrain.pretrain(prompts, RECIPE, tmp_path)
    b = backbones.load(str(tmp_path))  # a folder of ours is known by its file
    before = {k: v.clone() for k, v in b.model.state_dict().items()}
    recipe = tfew.Recipe(losses=("lm",), batch_size=4, steps=20, lr=1e-2)
    trained = pretrain.vectors(b, prompts, tmp_path, recipe)
    assert trained.loss[-1] < trained.loss[0]
    trained.tuned.detach()
    assert all(torch.equal(v, before[k]) for k, v in b.model.state_dict().items())
    assert len(list((tmp_path / "ia3").iterdir())) >= 2


def test_weights_that_do_not_fit_are_named(small, prompts, tmp_path):
    pretrain.pretrain(prompts, RECIPE, tmp_path)
    weights = load_file(tmp_path / nano.WEIGHTS)
    weights["stranger"] = torch.zeros(1)
    save_file(weights, tmp_path / nano.WEIGHTS)
    with pytest.raises(FrugalError, match=r"beyond_base.*stranger"):
        backbones.load(str(tmp_path))
    (tmp_path / nano.WEIGHTS).write_bytes(b"broken")
    with pytest.raises(FrugalError, match="cannot be read"):
        backbones.load(str(tmp_path))
