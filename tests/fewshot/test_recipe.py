"""The recipe's parts: shares of a batch, wordings, saved starts, and the paper's optimiser."""

import functools

import pytest
import torch
from transformers.optimization import Adafactor

from frugal import data, peft, tasks
from frugal.engine import backbones, training
from frugal.errors import FrugalError
from frugal.fewshot import choices, encoding, evaluate, losses, packing, tfew

RECIPE = tfew.Recipe(steps=6, batch_size=5, lr=3e-2)


def vectors(trained):
    return {name: p.detach().clone() for name, p in trained.tuned.named_parameters()}


def close(a, b, tolerance=1e-6):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=tolerance, rtol=0)


def differ(a, b):
    return any(not torch.equal(a[name], b[name]) for name in a)


def trained(recipe, examples, **options):
    return tfew.train(backbones.load("tiny-causal"), examples, recipe, **options)


@pytest.fixture
def examples():
    return tasks.load("counting").draw(8, 0)


def loss_on(backbone, recipe):
    return functools.partial(tfew._loss, backbone, tfew._as_recipe(recipe), True)


@pytest.mark.parametrize("micro", [1, 2, 3, 4])
def test_gradients_of_micro_batches_add_up_to_the_whole_batchs(tiny, examples, micro):
    """Shares are unequal for 2, 3 and 4 of 5 examples, whose choices differ in number."""
    tuned = peft.attach(tiny.model, "ia3")
    parameters = dict(tuned.named_parameters())
    (batch,) = zip(*tfew.encode(tiny, examples[:5], RECIPE), strict=True)
    found = []
    for size in (0, micro):
        part = (list(enumerate(batch)), parameters, size, loss_on(tiny, RECIPE))
        value, tokens = tfew._gradients(tiny, *part)
        found.append((value, tokens, [p.grad.clone() for p in parameters.values()]))
        for p in parameters.values():
            p.grad = None
    (whole, tokens, gradients), (parts, same, others) = found
    assert parts == pytest.approx(whole, abs=1e-6)
    assert tokens == same
    for a, b in zip(gradients, others, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)
    assert max(float(g.abs().max()) for g in gradients) > 1e-3


def test_micro_batches_train_the_same_vectors(examples):
    whole = vectors(trained(RECIPE, examples))
    close(whole, vectors(trained(RECIPE.model_copy(update={"micro_batch": 2}), examples)))


def test_the_lm_loss_reads_the_right_choice_alone(tiny, examples):
    recipe = RECIPE.model_copy(update={"losses": ("lm",)})
    (short,) = zip(*tfew.encode(tiny, examples, recipe), strict=True)
    assert all(len(e.sequences) == 1 for e in short)
    trees = [packing.tree(e) for e in encoding.encode(tiny, examples)]
    rows = [[i] for i in range(len(trees))]
    everything = losses.lm_loss(choices.forward(tiny, packing.pack(trees, rows)))
    tuned = peft.attach(tiny.model, "ia3")
    part = (list(enumerate(short)), dict(tuned.named_parameters()), 0, loss_on(tiny, recipe))
    value, tokens = tfew._gradients(tiny, *part)
    assert value == pytest.approx(everything.item(), abs=1e-6)
    assert tokens < sum(map(len, trees))


def test_a_wording_is_drawn_anew_at_every_sight_of_an_example():
    recipe = tfew.Recipe(steps=500, batch_size=8, seed=3)
    sights = [which for step in range(500) for which in tfew.seen(step, recipe, [4, 1, 4, 4])]
    assert sights == [w for step in range(500) for w in tfew.seen(step, recipe, [4, 1, 4, 4])]
    assert [i for i, _ in sights[:8]] == training.batch_indices(0, 8, 4, 3)
    assert {w for i, w in sights if i == 1} == {0}
    for i in (0, 2, 3):
        counts = torch.tensor([w for j, w in sights if j == i]).bincount(minlength=4)
        assert counts.sum() == 1000
        assert (counts > 200).all()  # 250 each, give or take 14
    other = recipe.model_copy(update={"seed": 4})
    assert tfew.seen(0, recipe, [4] * 4) != tfew.seen(0, other, [4] * 4)


def test_training_on_wordings_sees_all_templates_and_resumes(tmp_path):
    wordings = tasks.load("counting").wordings(8, 0)
    first = [several[:1] for several in wordings]
    close(vectors(trained(RECIPE, first)), vectors(trained(RECIPE, [e[0] for e in first])), 0.0)
    whole = trained(RECIPE, wordings)
    assert differ(vectors(whole), vectors(trained(RECIPE, first)))

    class Stop(Exception):
        pass

    def stop(step, loss):
        if step == 3:
            raise Stop

    with pytest.raises(Stop):
        trained(RECIPE, wordings, checkpoint=tmp_path, every=1, progress=stop)
    resumed = trained(RECIPE, wordings, checkpoint=tmp_path)
    close(vectors(whole), vectors(resumed), 0.0)
    with pytest.raises(FrugalError, match="its examples differ"):
        trained(RECIPE, first, checkpoint=tmp_path)


def test_a_prompt_longer_than_the_recipe_takes_loses_its_start(tiny, examples):
    recipe = tfew.Recipe(max_tokens=20)
    for several in tfew.encode(tiny, examples, recipe):
        assert max(map(len, several[0].sequences)) <= 21  # the last token is never fed
    (whole,), *_ = tfew.encode(tiny, examples, tfew.Recipe())
    (short,), *_ = tfew.encode(tiny, examples, recipe)
    for before, after in zip(whole.sequences, short.sequences, strict=True):
        assert before[-len(after) :] == after
    assert short.start == whole.start - (len(before) - len(after))
    assert tiny.limited(20).max_tokens == 20
    assert tiny.limited(0).max_tokens == tiny.max_tokens == 2048
    assert tiny.limited(10**6).max_tokens == 2048
    task = tasks.load("counting")
    cut, _ = evaluate.answered(tiny, task, task.test(4), recipe)
    full, _ = evaluate.answered(tiny, task, task.test(4), tfew.Recipe())
    assert cut.tokens_computed < full.tokens_computed


def test_training_starts_from_saved_vectors(tmp_path, examples):
    before = trained(RECIPE, examples)
    before.tuned.save(tmp_path / "start")
    saved = vectors(before)
    frozen = tfew.Recipe(steps=1, batch_size=5, lr=1e-12)
    close(saved, vectors(trained(frozen, examples, start=tmp_path / "start")))
    later = vectors(trained(RECIPE, examples, start=tmp_path / "start"))
    assert differ(later, saved)
    assert differ(later, vectors(trained(RECIPE, examples)))
    # A checkpoint of a training that started elsewhere is another training's.
    trained(RECIPE, examples, checkpoint=tmp_path / "run", start=tmp_path / "start")
    again = trained(RECIPE, examples, checkpoint=tmp_path / "run", start=tmp_path / "start")
    close(later, vectors(again), 0.0)
    with pytest.raises(FrugalError, match="its start differ"):
        trained(RECIPE, examples, checkpoint=tmp_path / "run")
    backbone = backbones.load("tiny-causal")
    with pytest.raises(FrugalError, match="nowhere: holds no adapter"):
        tfew.train(backbone, examples, RECIPE, start=tmp_path / "nowhere")
    peft.attach(backbone.model, "ia3")  # nothing was left attached


def test_pretraining_on_a_mixture_then_few_shot_from_its_vectors(tmp_path):
    """What T-Few does (§3.4): the LM loss on several tasks, then the three losses on one."""
    counting = tasks.load("counting")
    backbone = backbones.load("tiny-causal")
    recipe = tfew.Recipe(steps=40, batch_size=8, lr=3e-2, losses=("lm",))
    pretrained = tfew.train(backbone, tasks.mixture([counting], 20), recipe)
    assert sum(pretrained.loss[-5:]) < sum(pretrained.loss[:5])
    pretrained.tuned.save(tmp_path)
    pretrained.tuned.detach()
    few = (backbone, counting.draw(8, 0), tfew.Recipe(steps=4, batch_size=4))
    after = tfew.train(*few, start=tmp_path)
    after.tuned.detach()
    plain = tfew.train(*few)
    plain.tuned.detach()
    assert after.loss[0] < plain.loss[0]
    assert not hasattr(backbone.model, "_frugal_tuned")


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-8])
def test_the_optimiser_is_transformers_adafactor_as_the_released_code_sets_it(scale):
    """scale_parameter, no relative step, no warm-up of its own; down to tiny gradients."""
    torch.manual_seed(0)
    start, steps = torch.ones(64), [torch.randn(64) * scale for _ in range(20)]
    mine, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    recipe = tfew.Recipe()
    optimizers = [
        tfew._optimizer(recipe, [mine]),
        Adafactor(
            [theirs],
            lr=recipe.lr,
            weight_decay=0,
            scale_parameter=True,
            relative_step=False,
            warmup_init=False,
        ),
    ]
    for gradient in steps:
        for parameter, optimizer in zip((mine, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(mine.data, theirs.data, atol=1e-6, rtol=0)
    assert (mine - start).abs().max().item() > 1e-2


def test_in_bfloat16_the_vectors_stay_in_float32_and_learn(examples):
    backbone = backbones.load("tiny-causal", precision="bfloat16")
    found = tfew.train(backbone, examples, tfew.Recipe(steps=20, batch_size=8, lr=3e-2))
    assert {p.dtype for p in found.tuned.parameters()} == {torch.float32}
    assert backbone.model.dtype == torch.bfloat16
    assert found.loss[-1] < found.loss[0]
    with pytest.raises(FrugalError, match="unknown precision 'bfloat'; did you mean 'bfloat16'"):
        backbones.load("tiny-causal", precision="bfloat")


def test_recipes_are_layers_of_which_the_later_wins():
    server = data.toml("presets.toml")["server"]
    names = {entry["name"]: entry for entry in server["backbones"]}
    big = names["bigscience/T0"]["recipe"]
    recipe = tfew.Recipe.of(server["recipe"], tasks.defined("h-swag").recipe, big, {"seed": 32})
    assert (recipe.batch_size, recipe.micro_batch, recipe.max_tokens) == (8, 1, 256)
    assert (recipe.optimizer, recipe.lr, recipe.warmup, recipe.steps) == (
        "adafactor",
        3e-3,
        0.06,
        1000,
    )
    assert (recipe.gradient_clip, recipe.seed, recipe.method) == (1.0, 32, "ia3")
    assert recipe.losses == ("lm", "unlikelihood", "length_normalized")
    small = names["bigscience/T0_3B"]["recipe"]
    assert tfew.Recipe.of(server["recipe"], tasks.defined("h-swag").recipe, small).micro_batch == 4
    assert tfew.Recipe.of(server["recipe"], server["pretrain"]).model_dump(
        include={"losses", "lr", "batch_size", "steps"}
    ) == {"losses": ("lm",), "lr": 3e-4, "batch_size": 16, "steps": 100_000}
    assert tuple(server["seeds"]) == tasks.SEEDS
    with pytest.raises(FrugalError, match="recipe: steps: Input should be"):
        tfew.Recipe.of({"steps": 0})
    with pytest.raises(FrugalError, match="recipe: stepz: Extra inputs"):
        tfew.Recipe.of({"stepz": 1})
