"""A batch of many tasks equals the tasks one by one, in answers and in training."""

import pytest
import torch

from frugal import peft
from frugal.errors import FrugalError
from tiny_models import IDS, MODELS, build, inputs, randomise, run

models = pytest.mark.parametrize("name", MODELS)
METHODS = {
    "ia3": "ia3",
    "lora": "lora",
    "lora on one layer": {1: {"lora": {"rank": 2}}},
    "both": {0: {"ia3": {}}, 1: {"ia3": {}, "lora": {"rank": 2}}},
}
methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def saved(model, method, tmp_path, tasks="ab", scale=0.3):
    """Folders of adapters that differ."""
    folders = {}
    for i, task in enumerate(tasks):
        tuned = peft.attach(model, method)
        for _ in range(i + 1):
            randomise(tuned.parameters(), scale)
        folders[task] = tuned.save(tmp_path / task)
        tuned.detach()
    return folders


@models
@methods
def test_each_row_gets_its_own_task(name, method, tmp_path):
    model = build(name)
    base = run(model)
    folders = saved(model, method, tmp_path)
    alone = {None: base}
    for task, folder in folders.items():
        tuned = peft.load(model, folder)
        alone[task] = run(model)
        tuned.detach()
    mixed = peft.mixed(model, folders)
    for tasks in (["a", "b", None], ["b", "b", "a"], [None, None, None]):
        with mixed.tasks(tasks):
            found = run(model)
        for i, task in enumerate(tasks):
            assert torch.allclose(found[i], alone[task][i], atol=1e-6)
    assert torch.allclose(run(model), base, atol=1e-6)  # outside of `tasks` nothing is attached
    mixed.detach()
    assert torch.equal(run(model), base)
    assert all(p.requires_grad for p in model.parameters())


def train(model, parameters, rows, tasks=None, mixed=None):
    """Three steps on a loss that is a sum over the rows.

    (Adam's first steps have the size of the learning rate however small a gradient is, and so
    magnify what the order of additions does to its last digit.)
    """
    optimizer = torch.optim.SGD(list(parameters), lr=1e-2, momentum=0.9)
    for _ in range(3):
        if mixed:
            with mixed.tasks(tasks):
                out = run(model, IDS[rows])
        else:
            out = run(model, IDS[rows])
        out.square().flatten(1).mean(1).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize(
    ("name", "method"),
    [*((name, METHODS["both"]) for name in MODELS), *(("llama", m) for m in METHODS.values())],
    ids=str,
)
def test_trained_in_one_batch_is_trained_alone(name, method, tmp_path):
    model = build(name)
    folders = saved(model, method, tmp_path)
    rows = {"a": [0, 2], "b": [1]}
    expected = {}
    for task, folder in folders.items():
        tuned = peft.load(model, folder)
        train(model, tuned.parameters(), rows[task])
        expected[task] = dict(tuned.named_parameters())
        tuned.detach()
    mixed = peft.mixed(model, folders)
    train(model, mixed.parameters(), [0, 1, 2], ["a", "b", "a"], mixed)
    for task, parameters in expected.items():
        found = dict(mixed.named_parameters(task))
        assert found.keys() == parameters.keys()
        for key, value in parameters.items():
            assert torch.allclose(found[key], value, atol=1e-5)
    assert all(p.grad is None for p in model.parameters())
    assert mixed.trainable_params == sum(p.numel() for e in expected.values() for p in e.values())
    with mixed.tasks(["a"] * 3):
        logits = run(model)
    again = mixed.save("a", tmp_path / "again")
    mixed.detach()
    peft.load(model, again)
    assert torch.allclose(run(model), logits, atol=1e-5)


def test_under_autocast_and_in_half_precision(tmp_path):
    model = build("llama")
    folders = saved(model, "lora", tmp_path, scale=0.05)
    mixed = peft.mixed(model, folders)
    with mixed.tasks(["a", "b", None]):
        exact = run(model)
        with torch.autocast("cpu", torch.bfloat16):
            found = run(model)
    assert torch.allclose(found.float(), exact, atol=0.15, rtol=0.1)
    mixed.detach()
    half = peft.mixed(model.bfloat16(), folders)
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    with half.tasks(["a", "b", None]):
        assert torch.allclose(run(model).float(), exact, atol=0.15, rtol=0.1)


def test_bad_input_has_one_clear_error(tmp_path):
    model = build("t5-v1.1")
    folders = saved(model, "ia3", tmp_path, ("rte", "cb"))
    mixed = peft.mixed(model, folders)
    with (
        pytest.raises(FrugalError, match="unknown task 'rt'; did you mean 'rte'"),
        mixed.tasks(["rt"]),
    ):
        pass
    for tasks in (["rte", "cb"], ["rte"], ["cb"] * 4):
        with (
            mixed.tasks(tasks),
            pytest.raises(FrugalError, match=f"batch has 3 rows, but tasks names {len(tasks)}"),
        ):
            run(model)
    with pytest.raises(FrugalError, match="attached already"):
        peft.mixed(model, folders)
    with pytest.raises(FrugalError, match="unknown task"):
        list(mixed.parameters("boolq"))
    mixed.detach()
    with pytest.raises(FrugalError, match="at least one task"):
        peft.mixed(model, {})
    with pytest.raises(FrugalError, match="whose weights are not those of this one"):
        peft.mixed(build("llama"), folders)
    lora = saved(model, "lora", tmp_path, ["lora"])
    with pytest.raises(FrugalError, match="'rte' and 'lora' differ"):
        peft.mixed(model, {**folders, **lora})
    adapter = saved(model, "adapter", tmp_path, ["adapter"])
    with pytest.raises(FrugalError, match="adapter cannot differ from row to row"):
        peft.mixed(model, adapter)
    with pytest.raises(FrugalError, match="holds no adapter"):
        peft.mixed(model, {"a": tmp_path})
    assert not hasattr(model, "_frugal_tuned")
    assert model(**inputs(model)).logits.requires_grad
