"""A model whose costs have no closed form is scored and trained all the same."""

import json

import pytest

from frugal import tasks
from frugal.costs import arch
from frugal.engine import backbones, stderr
from frugal.errors import FrugalError
from frugal.fewshot import choices, evaluate, tfew

RECIPE = tfew.Recipe.of({"steps": 2, "batch_size": 2})


@pytest.fixture
def uncounted(monkeypatch):
    def refuse(config):
        raise FrugalError("it has experts")

    monkeypatch.setattr(arch, "from_config", refuse)
    stderr.note_once.cache_clear()


def test_accuracy_is_had_without_flops_and_said_once(uncounted, tiny, capsys):
    task = tasks.load("counting")
    queries = task.test(4)
    for _ in range(2):
        result, scores = evaluate.rank(tiny, task, queries)
    assert result.flops_per_query is None
    assert result.accuracy == scores.accuracy
    assert json.loads(result.model_dump_json())["flops_per_query"] is None
    said = capsys.readouterr().err
    assert said == "frugal: note: tiny-causal: FLOPs are not counted: it has experts\n"


def test_a_training_is_kept_without_flops(uncounted, tiny):
    task = tasks.load("counting")
    examples = task.wordings(4, 0)
    result, _, trained = evaluate.few_shot(tiny, task, examples, task.test(4), RECIPE)
    assert result.train_flops is None
    assert result.flops_per_query is None
    assert len(trained.loss) == RECIPE.steps


def test_what_a_price_is_made_of_is_refused(uncounted, tiny):
    found = evaluate.query_flops(tiny, tasks.load("counting").test(2))
    with pytest.raises(FrugalError, match=r"tiny-causal.*price"):
        evaluate.counted(found, tiny.name)


def test_costs_are_looked_up_before_the_work(monkeypatch, tiny):
    """Whatever goes wrong with them, no work is lost by it."""

    class Bug(Exception):
        pass

    def fail(*args, **options):
        raise Bug

    def work(*args, **options):
        pytest.fail("worked before the costs were known")

    monkeypatch.setattr(arch, "from_config", fail)
    monkeypatch.setattr(choices, "score", work)
    monkeypatch.setattr(tfew, "train", work)
    task = tasks.load("counting")
    with pytest.raises(Bug):
        evaluate.rank(tiny, task, task.test(2))
    with pytest.raises(Bug):
        evaluate.few_shot(tiny, task, task.wordings(4, 0), task.test(2), RECIPE)


def test_an_encoder_ranks_nothing_and_is_told_so_first():
    encoder, task = backbones.load("tiny-encoder", device="cpu"), tasks.load("counting")
    with pytest.raises(FrugalError, match="encoder"):
        evaluate.rank(encoder, task, task.test(2))


def test_tfew_says_null_on_the_command_line(uncounted, frugal, tmp_path):
    given = ("counting", "--preset", "smoke", "--steps", 2, "--limit", 4)
    rc, out, _ = frugal("tfew", *given, "--save", tmp_path / "kept", "--json")
    assert rc == 0
    assert json.loads(out)["train_flops"] is None
    assert (tmp_path / "kept" / "adapter_config.json").is_file()
    rc, out, _ = frugal("tfew", *given, "--dry-run", "--json")
    assert rc == 0
    assert json.loads(out)["trainable_params"] is None


def test_figure_2_says_null_on_the_command_line_and_in_its_store(uncounted, frugal, tmp_path):
    given = ("--preset", "smoke", "--method", "ia3", "--limit", 4, "--store", tmp_path)
    rc, out, err = frugal("figure2", *given, "--json")
    assert rc == 0, err
    assert {run["train_flops"] for run in json.loads(out)["runs"]} == {None}
    (kept,) = (json.loads(f.read_text()) for f in tmp_path.glob("runs/*/result.json"))
    assert {*kept} > {"score", "examples", "trainable_params", "first_loss", "last_loss"}
