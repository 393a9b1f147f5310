"""Precisions of a backbone: named, kept by what they made, and no reason to score wrongly."""

import gc
import json
import weakref

import pytest
import torch

from frugal import peft
from frugal.budgets import study
from frugal.engine import backbones, checkpoints, presets
from frugal.engine.runs import Store
from frugal.errors import FrugalError
from frugal.fewshot import choices, encoding, figure2, passes, probe, tfew
from frugal.kernels import int8, int8_products, precision
from frugal.spaces.search import Search, Settings
from frugal.tasks import Example

EXAMPLES = [
    Example(prompt="One two three", choices=(" four", " five", " six hundred"), label=0),
    Example(prompt="A", choices=(" b", " cc"), label=1),
    Example(prompt="Yes or no, said the old man:", choices=(" yes", " no"), label=1),
    Example(prompt="Count:", choices=(" 1 2 3", " 3 2 1", " 1"), label=2),
]
RECIPE = tfew.Recipe(steps=6, batch_size=2, lr=1e-2, seed=1)
LANGUAGE_MODELS = ("tiny-causal", "tiny-t5")


@pytest.mark.parametrize("name", [*LANGUAGE_MODELS, "tiny-encoder"])
def test_int8_is_a_quarter_of_the_linear_weights_and_near_the_float_model(name):
    plain, small = (backbones.load(name, precision=p) for p in ("float32", "int8"))
    assert small.precision == "int8"
    assert small.model.dtype == torch.float32
    layers = [m for m in small.model.modules() if isinstance(m, int8.Int8Linear)]
    assert layers
    assert all(m.weight.dtype == torch.int8 for m in layers)
    ids = torch.arange(10, 40, device=plain.device)[None]
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids[:, :5]} if "t5" in name else {})
    with torch.inference_mode():
        one, other = (b.model(**inputs)[0] for b in (plain, small))
    assert not torch.equal(one, other)
    assert torch.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.999
    with torch.inference_mode(), int8_products.unrounded():
        floats = small.model(**inputs)[0]
    assert (floats - one).abs().mean() < (other - one).abs().mean()  # weights alone are rounded


def test_the_former_name_of_precision_warns_and_works():
    with pytest.warns(UserWarning, match="dtype is called precision now"):
        assert backbones.load("tiny-causal", dtype="bfloat16").model.dtype == torch.bfloat16


def test_fastest_is_resolved_before_anything_is_named(monkeypatch):
    monkeypatch.setattr(precision, "seconds", lambda *_: {"float32": 2.0, "bfloat16": 1.0})
    assert backbones.load("tiny-causal", precision="fastest").precision == "bfloat16"


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
@pytest.mark.parametrize("kind", precision.NAMES)
def test_packed_and_plain_scores_are_those_of_one_precision(name, kind):
    """In int8 they differ by roundings that flip; in floats, by the last digits (`probe`)."""
    backbone = backbones.load(name, precision=kind)
    assert probe.packs(backbone)
    encoded = encoding.encode(backbone, EXAMPLES)
    with torch.inference_mode():
        packed = choices.together(backbone, encoded, packed=True).token_logp
        alone = passes.alone(backbone, encoded)
    difference = (packed - alone).abs()
    if kind == "bfloat16":
        assert difference.mean() < torch.finfo(torch.bfloat16).eps * alone.abs().mean()
    else:
        assert difference.max() < {"float32": 1e-4, "int8": 0.05}[kind]


@pytest.mark.parametrize("kind", precision.NAMES)
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, kind):
    def trained(folder, stop=None):
        backbone = backbones.load("tiny-causal", precision=kind)

        def progress(step, loss):
            if step == stop:
                raise KeyboardInterrupt

        return tfew.train(
            backbone, EXAMPLES, RECIPE, checkpoint=folder, every=1, progress=progress
        ).tuned.named_parameters()

    whole = dict(trained(None))
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, stop=3)
    assert (tmp_path / tfew.STATE).exists()
    resumed = dict(trained(tmp_path))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_checkpoint_says_in_which_precision_it_was_made(tmp_path):
    for kind in ("int8", "bfloat16"):
        backbone = backbones.load("tiny-causal", precision=kind)
        if kind == "int8":
            tfew.train(backbone, EXAMPLES, RECIPE, checkpoint=tmp_path)
            continue
        with pytest.raises(FrugalError, match="its precision is int8, here bfloat16"):
            tfew.train(backbone, EXAMPLES, RECIPE, checkpoint=tmp_path)


def test_a_checkpoint_that_says_nothing_is_of_float32(tmp_path):
    """As all were before there was a choice."""
    tfew.train(backbones.load("tiny-causal"), EXAMPLES, RECIPE, checkpoint=tmp_path)
    file = tmp_path / tfew.STATE
    tensors, about = checkpoints.read(file)
    checkpoints.write(file, tensors, {k: v for k, v in about.items() if k != "precision"})
    tfew.train(backbones.load("tiny-causal"), EXAMPLES, RECIPE, checkpoint=tmp_path)
    backbone = backbones.load("tiny-causal", precision="int8")
    with pytest.raises(FrugalError, match="its precision is float32, here int8"):
        tfew.train(backbone, EXAMPLES, RECIPE, checkpoint=tmp_path)


def test_a_resumed_run_keeps_what_was_fastest_when_it_began(frugal, tmp_path, monkeypatch):
    argv = ["tfew", "counting", "--backbone", "tiny-causal", "--preset", "smoke", "--json"]
    argv += ["--save", str(tmp_path), "--precision"]
    status, out, _ = frugal(*argv, "int8")
    assert (status, json.loads(out)["precision"]) == (0, "int8")
    monkeypatch.setattr(precision, "seconds", lambda *_: {"float32": 1.0, "int8": 2.0})
    status, out, _ = frugal(*argv, "fastest")
    assert (status, json.loads(out)["precision"]) == (0, "int8")


def measured(monkeypatch, **seconds):
    def said(_, names=precision.NAMES):
        return {name: s for name, s in seconds.items() if name in names}

    monkeypatch.setattr(precision, "seconds", said)


def test_a_figure_keeps_what_was_fastest_when_it_began(frugal, tmp_path, monkeypatch):
    argv = ["figure2", "--store", str(tmp_path), "--preset", "smoke", "--backbone", "tiny-causal"]
    argv += ["--task", "counting", "--limit", "4", "--steps", "1", "--seed", "0", "--json"]
    argv += ["--method", "ia3", "--method", "full", "--precision", "fastest"]
    measured(monkeypatch, float32=3.0, bfloat16=2.0, int8=1.0)
    status, out, _ = frugal(*argv)
    began = {row["name"]: row["precision"] for row in json.loads(out)["runs"]}
    assert (status, began) == (0, {"ia3": "int8", "full": "float32"})
    measured(monkeypatch, float32=1.0, bfloat16=2.0, int8=3.0)
    assert frugal(*argv)[0] == 0
    assert len(Store(tmp_path).specs()) == 2  # no run of another precision
    status, out, _ = frugal(*argv, "--seed", "1")  # nor does what is new bring one in
    found = {(r["seed"], r["name"]): r["precision"] for r in json.loads(out)["runs"]}
    assert found == {(s, n): began[n] for s in (0, 1) for n in began}
    named = ["float32" if a == "fastest" else a for a in argv]  # what is named is taken as it is
    assert {r["precision"] for r in json.loads(frugal(*named)[1])["runs"]} == {"float32"}
    assert Store(tmp_path).precision(figure2.JOB) is None  # by now it is of two


@pytest.mark.parametrize(
    "name", [n if n == "int8" else pytest.param(n, marks=pytest.mark.slow) for n in precision.NAMES]
)
def test_a_search_and_a_study_keep_what_was_fastest(frugal, tmp_path, monkeypatch, name):
    others = [other for other in precision.NAMES if other != name]
    measured(monkeypatch, **{name: 3.0}, **dict.fromkeys(others, 1.0))
    search = ["spaces", "search", "--store", str(tmp_path / "search"), "--designs", "1"]
    # The least that is the same study: what a dry run adds up is not asked here.
    study_ = ["budgets", "study", "--store", str(tmp_path / "study")]
    study_ += ["--set", "seeds=[0]", "--set", "labels=[4]", "--set", 'students=["1 layer"]']
    more = ["--preset", "smoke", "--precision", "fastest", "--dry-run", "--json"]

    def said():
        return [json.loads(frugal(*argv, *more)[1])["precision"] for argv in (search, study_)]

    assert set(said()) <= set(others)  # nothing has begun
    assert not list(tmp_path.iterdir())
    of = Search(
        Settings.of(presets.named("smoke").spaces, precision=name), Store(tmp_path / "search")
    )
    _, runs = next((s.name, s.specs) for s in of.walk())
    of.store.add(spec for some in runs.values() for spec in some)
    setting = study.Setting.of(presets.named("smoke").budgets, precision=name)
    store = Store(tmp_path / "study" / setting.id)
    store.add(study.specs(setting, store.folder))
    assert said() == [name, name]


@pytest.mark.parametrize("method", list(peft.METHODS))
def test_a_method_trains_in_the_precisions_that_suit_it(method):
    backbone = backbones.load("tiny-causal", precision="int8")
    recipe = RECIPE.model_copy(update={"method": method, "steps": 1, "lr": 1e-3})
    if "int8" in peft.precisions(method):
        trained = tfew.train(backbone, EXAMPLES, recipe)
        assert any((p != 0).any() for _, p in trained.tuned.named_parameters())
    else:
        with pytest.raises(FrugalError, match="int8"):
            tfew.train(backbone, EXAMPLES, recipe)


@pytest.mark.parametrize("argv", [["rank"], ["tfew"], ["tfew", "--dry-run"]])
def test_results_say_their_precision(frugal, argv):
    command, *more = argv
    argv = [command, "counting", "--backbone", "tiny-t5", "--preset", "smoke", *more, "--json"]
    status, out, _ = frugal(*argv, "--precision", "int8")
    assert (status, json.loads(out)["precision"]) == (0, "int8")
    status, out, _ = frugal(*argv)
    assert json.loads(out)["precision"] == "float32"
    status, _, err = frugal(*argv, "--precision", "int4")
    assert status == 2
    assert "unknown precision 'int4'" in err


def test_weights_that_int8_would_round_are_trained_in_floats(frugal):
    argv = ["tfew", "counting", "--backbone", "tiny-causal", "--preset", "smoke", "--json"]
    status, _, err = frugal(*argv, "--method", "full", "--precision", "int8")
    assert status == 2
    assert "precision 'int8' does not serve here; float32, bfloat16 can" in err
    status, out, _ = frugal(*argv, "--method", "full", "--precision", "fastest")
    assert json.loads(out)["precision"] in ("float32", "bfloat16")


def test_a_search_is_another_in_another_precision():
    preset = presets.named("smoke").spaces
    plain, small = (Settings.of(preset, precision=p) for p in ("float32", "int8"))
    for design in ("s4", "head"):
        one, other = (s.runs(design, 0)[0] for s in (plain, small))
        assert "precision" not in one.params  # it is the run that it was before there was a choice
        assert other.params["precision"] == "int8"
        assert one.id != other.id
    full = small.runs("full", 0)[0]  # trains all weights, which are float32
    assert full.id == plain.runs("full", 0)[0].id


def test_a_study_is_another_in_another_precision():
    preset = presets.named("smoke").budgets
    plain, small = (study.Setting.of(preset, precision=p) for p in ("float32", "int8"))
    assert "precision" not in plain.own()
    assert plain.id != small.id


def test_a_design_is_trained_and_scored_in_int8(frugal, tmp_path):
    argv = ["spaces", "search", "--preset", "smoke", "--precision", "int8", "--json"]
    argv += ["--designs", "1", "--last-designs", "1", "--store", str(tmp_path)]
    status, out, _ = frugal(*argv)
    assert (status, json.loads(out)["precision"]) == (0, "int8")
    status, out, _ = frugal("spaces", "report", "--store", str(tmp_path), "--json")
    assert (status, json.loads(out)["precision"]) == (0, "int8")


@pytest.mark.parametrize(
    "argv",
    [
        ["plan", "--task", "counting", "--budget", "5"],
        ["budgets", "study", "--dry-run"],
        ["figure2", "--dry-run"],
        ["table1", "--dry-run"],
    ],
)
def test_every_command_of_a_language_model_takes_a_precision(frugal, argv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = frugal(*argv, "--preset", "smoke", "--precision", "int8", "--json")
    assert status == 0
    assert json.loads(out).get("precision", "int8") == "int8"
    status, _, err = frugal(*argv, "--preset", "smoke", "--precision", "int7", "--json")
    assert status == 2
    assert "unknown precision 'int7'; did you mean 'int8'?" in err


def test_what_is_trained_is_as_fast_as_can_be_where_the_rest_is_int8(monkeypatch):
    for faster in precision.FLOATS:
        taken = {name: 1.0 if name == faster else 2.0 for name in precision.FLOATS}
        monkeypatch.setattr(precision, "seconds", lambda *_, taken=taken: taken)
        assert backbones.trained("int8") == backbones.trained("fastest") == faster
        assert [backbones.trained(name) for name in precision.FLOATS] == [*precision.FLOATS]


def test_packing_is_tried_once_for_what_is_attached(monkeypatch):
    backbone, tried, own = backbones.load("tiny-causal"), [], probe._try
    monkeypatch.setattr(probe, "_try", lambda *given: tried.append(given) or own(*given))
    methods = [("ia3", {}), ("ia3", {}), ("lora", {"rank": 2}), ("lora", {"rank": 4}), ("ia3", {})]
    for name, options in methods:
        tuned = peft.attach(backbone.model, name, options)
        assert probe.packs(backbone)
        tuned.detach()
    assert len(tried) == 3
    gone = weakref.ref(backbone.model)
    del backbone, tuned
    tried.clear()
    gc.collect()
    assert gone() is None  # what is remembered keeps no model
