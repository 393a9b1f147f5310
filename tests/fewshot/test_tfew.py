"""The recipe: deterministic, killed and resumed to the same bits, and honest about bad losses."""

import itertools
import math
import signal

import pytest
import torch

from children import Child, die
from frugal import peft, tasks
from frugal.engine import backbones, training
from frugal.errors import FrugalError
from frugal.fewshot import evaluate, icl, tfew

RECIPE = tfew.Recipe(steps=9, batch_size=4, lr=3e-2)


def vectors(trained):
    return {name: p.detach().clone() for name, p in trained.tuned.named_parameters()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def examples():
    return tasks.load("counting").draw(8, 0)


def test_training_lowers_the_loss_and_leaves_the_model_alone(tiny, examples):
    before = {k: v.clone() for k, v in tiny.model.state_dict().items()}
    trained = tfew.train(tiny, examples, tfew.Recipe(steps=30, batch_size=8, lr=3e-2))
    assert trained.loss[-1] < trained.loss[0]
    trained.tuned.detach()
    assert same(before, dict(tiny.model.state_dict()))


@pytest.mark.parametrize("optimizer", ["adafactor", "adamw"])
def test_same_seed_same_bits_other_seed_other_bits(examples, optimizer):
    recipe = RECIPE.model_copy(update={"optimizer": optimizer})
    found = [
        vectors(tfew.train(backbones.load("tiny-causal"), examples, r))
        for r in (recipe, recipe, recipe.model_copy(update={"seed": 1}))
    ]
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


@pytest.mark.parametrize(("stop", "optimizer"), [(1, "adafactor"), (8, "adamw")])
def test_stopped_at_any_step_and_resumed_gives_the_same_bits(tmp_path, examples, stop, optimizer):
    recipe = RECIPE.model_copy(update={"optimizer": optimizer})
    whole = tfew.train(backbones.load("tiny-causal"), examples, recipe)

    class Stop(Exception):
        pass

    def progress(step, loss):
        if step == stop:
            raise Stop

    with pytest.raises(Stop):
        tfew.train(
            backbones.load("tiny-causal"),
            examples,
            recipe,
            checkpoint=tmp_path,
            every=1,
            progress=progress,
        )
    steps = []
    resumed = tfew.train(
        backbones.load("tiny-causal"),
        examples,
        recipe,
        checkpoint=tmp_path,
        progress=lambda step, loss: steps.append(step),
    )
    assert steps[0] in (stop, stop + 1)
    assert same(vectors(whole), vectors(resumed))
    assert whole.loss == resumed.loss


def test_killed_without_warning_and_resumed_gives_the_same_bits(tmp_path, examples):
    def train(**options):
        return tfew.train(backbones.load("tiny-causal"), examples, RECIPE, **options)

    def progress(step, loss):
        if step == 5:
            die()

    killed = Child(lambda: train(checkpoint=tmp_path, every=1, progress=progress))
    assert killed.wait() == -signal.SIGKILL
    whole, resumed = train(), train(checkpoint=tmp_path)
    assert same(vectors(whole), vectors(resumed))


def test_a_checkpoint_of_another_training_is_refused(tmp_path, examples):
    tfew.train(backbones.load("tiny-causal"), examples, RECIPE, checkpoint=tmp_path)
    other = RECIPE.model_copy(update={"lr": 1e-3})
    with pytest.raises(FrugalError, match=r"another training \(its recipe"):
        tfew.train(backbones.load("tiny-causal"), examples, other, checkpoint=tmp_path)
    (tmp_path / "training.safetensors").write_bytes(b"broken")
    with pytest.raises(FrugalError, match=r"training\.safetensors: not a readable checkpoint"):
        tfew.train(backbones.load("tiny-causal"), examples, RECIPE, checkpoint=tmp_path)


def test_a_loss_that_is_not_finite_stops_the_training(tiny, examples):
    with torch.no_grad():
        tiny.model.get_output_embeddings().weight[0, 0] = math.nan
    with pytest.raises(FrugalError, match=r"not finite|the loss is nan"):
        tfew.train(tiny, examples, RECIPE)


def test_an_exploding_learning_rate_is_named(tiny, examples):
    recipe = tfew.Recipe(steps=60, batch_size=4, lr=1e30, optimizer="adamw")
    with pytest.raises(FrugalError, match=r"step \d+: the loss is .*learning rate \(1e\+30\)"):
        tfew.train(tiny, examples, recipe)
    peft.attach(tiny.model, "ia3")  # the failed training left nothing attached


def test_a_model_whose_answers_are_refused_is_left_as_it_was(tiny, examples):
    task = tasks.load("counting")
    twins = task.test(1)[0].model_copy(update={"choices": (" a", " a")})
    with pytest.raises(FrugalError, match="the same tokens"):
        evaluate.few_shot(tiny, task, examples, [twins], RECIPE)
    assert not hasattr(tiny.model, "_frugal_tuned")


def test_schedule_rises_over_the_warm_up_and_falls_to_zero():
    factors = [training.schedule(step, 1000, 0.06) for step in range(1000)]
    assert factors[0] == pytest.approx(1 / 60)
    assert factors[59] == 1.0
    assert factors[999] == pytest.approx(1 / 940)
    assert all(a >= b for a, b in itertools.pairwise(factors[60:]))


def test_every_epoch_sees_every_example_once():
    seen = [i for step in range(6) for i in training.batch_indices(step, 4, 8, seed=3)]
    for epoch in range(3):
        assert sorted(seen[8 * epoch : 8 * epoch + 8]) == list(range(8))


def test_icl_puts_solved_shots_in_front_in_the_order_given():
    shots = tasks.load("counting").draw(2, 0)
    query = tasks.load("counting").test(1)[0]
    (found,) = icl.prompted([query], shots, order=[1, 0])
    a, b = (s.prompt + s.choices[s.label] + "\n\n" for s in shots)
    assert found.prompt == b + a + query.prompt
    assert (found.choices, found.label) == (query.choices, query.label)
    with pytest.raises(FrugalError, match="not a permutation"):
        icl.prompted([query], shots, order=[0, 0])


def test_orders_are_different_permutations():
    found = evaluate.orders(4, 5, seed=0)
    assert len({tuple(o) for o in found}) == 5
    assert all(sorted(o) == [0, 1, 2, 3] for o in found)
    assert len(evaluate.orders(2, 5, seed=0)) == 2
    assert evaluate.orders(4, 1, seed=0) == [[0, 1, 2, 3]]
    for count in (0, -1):
        with pytest.raises(FrugalError, match=f"count: at least one order, not {count}"):
            evaluate.orders(4, count, seed=0)


@pytest.mark.real
def test_tfew_beats_sixteen_shot_icl_on_two_tasks_by_five_points():
    """32 labels, 50 steps, 200 test reviews; ICL over the paper's five seeds: draws matter."""
    backbone = backbones.load("smollm2-135m")
    for name in ("movie-reviews", "amazon-reviews"):
        task = tasks.load(name)
        queries = task.test(200)
        prompted = [
            evaluate.rank(backbone, task, queries, task.draw(16, seed))[0].accuracy
            for seed in tasks.SEEDS
        ]
        recipe = tfew.Recipe(steps=50)
        result, _, trained = evaluate.few_shot(backbone, task, task.draw(32, 0), queries, recipe)
        trained.tuned.detach()
        assert result.accuracy >= sum(prompted) / len(prompted) + 0.05, (
            name,
            prompted,
            result.accuracy,
        )
        assert result.trainable_params == 57_600


@pytest.mark.real
def test_zero_shot_movie_reviews_is_what_lm_eval_finds():
    """0.770 with lm-eval's log-likelihoods; 500 examples have a standard error of 0.019."""
    backbone = backbones.load("smollm2-135m")
    task = tasks.load("movie-reviews")
    result, _ = evaluate.rank(backbone, task, task.test(500))
    assert result.accuracy == pytest.approx(0.77, abs=0.04)
    assert peft.METHODS  # nothing is attached
    assert not hasattr(backbone.model, "_frugal_tuned")
