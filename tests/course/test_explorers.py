"""Explorers: what they show follows from their arguments alone, live or as a still."""

import base64
import html

import ipywidgets as widgets
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from nbconvert import HTMLExporter

from frugal import peft
from frugal.costs import Scenario, arch, memory, prices
from frugal.engine import backbones
from frugal.errors import FrugalError
from frugal.fewshot import losses as tensors
from frugal.fewshot.choices import ChoiceScores
from frugal.papers import purchases
from frugal.spaces import sizes, space
from frugal_course import explorers
from frugal_course.calculators import answer, budgets, costs, ia3, losses, spaces
from frugal_course.explorers import view
from frugal_course.figures import style
from frugal_course.notebooks import reading

ALL = {name: getattr(explorers, name) for name in ("icl_cost", "ia3", "loss", "design_space")}
ALL["budget"] = explorers.budget


@pytest.fixture
def in_earnest():
    """Pictures are drawn, for a test that reads them."""


@pytest.fixture(autouse=True)
def _no_widgets_left(request, monkeypatch):
    if "in_earnest" not in request.fixturenames:
        monkeypatch.setattr(style, "png", lambda figure: b"not drawn")
    yield
    widgets.Widget.close_all()


@pytest.fixture
def shown(monkeypatch):
    """Bundles that were displayed."""
    bundles = []
    monkeypatch.setattr(view, "display", lambda bundle, raw: bundles.append(bundle))
    return bundles


def row(table, name):
    return table.set_index(table.columns[0]).loc[name]


# What each shows


def test_costs_are_those_of_the_scenario():
    explorer = explorers.icl_cost()
    asked = Scenario(arch=arch.get("t0-11b"), icl_arch=arch.get("gpt3-175b"))
    found = {o.name: o for o in asked.compare()}
    icl, tuned = (row(explorer.view.table, name) for name in ("ICL, gpt3-175b", "T-Few, t0-11b"))
    for mine, option in ((icl, found["icl"]), (tuned, found["t-few"])):
        assert mine["FLOPs a query"] == option.query_flops
        assert mine["FLOPs in all"] == option.flops
        assert mine["USD"] == option.usd
        assert mine["memory, GiB"] == option.memory_bytes / memory.GIB
    assert tuned["paid for after, queries"] == found["t-few"].break_even == 19
    assert tuned["fits on"] == found["t-few"].fits_on[0]
    assert icl["fits on"] == "no single GPU"
    text = explorer.view.sentence
    assert "1.44e15 FLOPs" in text
    assert "1,273 times a T-Few query" in text  # FACTS 1.7
    assert "after 19 queries" in text
    assert f"${prices.get('gpu', Scenario.gpu).usd:g} an hour" in text


def test_cached_examples_cost_less_and_only_a_decoder_has_them():
    values = explorers.icl_cost().parameters() | {"cached": True}
    cached = row(pd.DataFrame(costs.look(**values).rows), "ICL, gpt3-175b, cached")
    asked = Scenario(arch=arch.get("gpt3-175b"), cached=True)
    assert cached["FLOPs a query"] == asked.query_flops()
    with pytest.raises(FrugalError, match="cached: t0-11b"):
        costs.look(**values | {"icl_arch": "t0-11b"})


def test_a_training_that_never_pays_is_said_to():
    values = explorers.icl_cost().parameters() | {"icl_arch": "t5-small", "shots": 0}
    shown = costs.look(**values)
    assert "never pays" in shown.sentence
    assert row(pd.DataFrame(shown.rows), "T-Few, t0-11b").isna()["paid for after, queries"]


CHOICES = [[0.2, 0.7], [0.9], [0.05, 0.4, 0.6]]  # the first is right


def test_losses_are_those_of_training():
    scores = ChoiceScores(
        token_logp=torch.tensor([p for c in CHOICES for p in c], dtype=torch.float64).log(),
        choice=torch.tensor([0, 0, 1, 2, 2, 2]),
        example=torch.tensor([0, 0, 0]),
        correct=torch.tensor([True, False, False]),
        tokens_computed=0,
    )
    found = losses.losses(CHOICES[0], CHOICES[1:])
    assert found.keys() == tensors.LOSSES.keys()
    for name, loss in tensors.LOSSES.items():
        assert found[name] == pytest.approx(loss(scores).item(), rel=1e-12)
    with pytest.raises(FrugalError, match="probability must be below 1"):
        losses.losses([1.0], [[0.5]])


def test_the_answer_is_the_mean_and_not_the_sum():
    table = explorers.loss(right=0.2, right_tokens=1, wrong_a=0.3, a_tokens=3).view.table
    assert list(table["rank by β"]) == [2, 1, 3]
    assert list(table["rank by Σ"]) == [1, 3, 2]
    text = explorers.loss(right=0.5).view.sentence
    assert "rank 1 of 3" in text
    assert "L_LM = 0.693" in text


@pytest.mark.parametrize("name", ["tiny-causal", "tiny-t5"])
def test_saved_vectors_are_those_of_peft(name, tmp_path):
    model = backbones.load(name, device="cpu").model
    tuned = peft.attach(model, "ia3")
    for vector in tuned.parameters():
        torch.nn.init.normal_(vector, 1.0, 0.1)
    tuned.save(tmp_path)
    found = pd.DataFrame(explorers.saved({"a": tmp_path}))
    own = dict(tuned.named_parameters())
    assert len(found) == len(own)
    assert found["layer"].nunique() == len(model_layers(own))
    ends = {"l_k": "scale_k", "l_v": "scale_v", "l_ff": "scale_ff"}
    for (layer, kind), values in found.set_index(["layer", "vector"])["values"].items():
        stack, _, number = layer.rpartition(" ")
        candidates = [
            n
            for n in own
            if n.endswith(ends[kind.removeprefix("cross ")])
            and f".{number}." in n
            and n.startswith(stack)
            and ("EncDec" in n) == kind.startswith("cross")
        ]
        # T5 numbers its sublayers too: the block's number is the first.
        (match,) = [n for n in candidates if first_number(n) == number]
        np.testing.assert_array_equal(values, own[match].detach().numpy())
    firsts = list(dict.fromkeys(found["layer"]))
    assert firsts == sorted(firsts, key=lambda layer: ("decoder" in layer, int(layer.split()[-1])))


def first_number(name):
    return next(part for part in name.split(".") if part.isdigit())


def model_layers(own):
    return {(name.split(".")[0], first_number(name)) for name in own}


def test_saved_names_what_it_cannot_read(tmp_path):
    with pytest.raises(FrugalError, match=r"adapter_model\.safetensors: no saved"):
        explorers.saved({"a": tmp_path})
    peft.attach(backbones.load("tiny-causal", device="cpu").model, "lora").save(tmp_path)
    with pytest.raises(FrugalError, match=r"lora_A\.weight is no \(IA\)³ vector"):
        explorers.saved({"a": tmp_path})


VECTORS = [
    ia3.Vector(task, layer, kind, [*(1 + shift * np.linspace(-1, 1, 5))])
    for task, shift in (("a", 0.1), ("b", 0.3))
    for layer in ("0", "1")
    for kind in ("l_k", "l_ff")
]


def test_each_row_of_a_batch_gets_its_own_vector():
    explorer = explorers.ia3(VECTORS, ["b", None, "a"], vector="l_k")
    assert list(explorer.view.table["greatest factor"]) == pytest.approx([1.3, 1.0, 1.1])
    assert "multiplied by 0.700 to 1.300" in explorer.view.sentence
    grid = explorer.view.figure.axes[1].images[0].get_array()
    assert grid.shape == (3, 5)
    assert np.all(grid[1] == 1)
    explorer.controls["row"].value = 1
    assert "(no task) is multiplied by 1" in explorer.view.sentence
    explorer.controls["row"].value = 0
    explorer.controls["stage"].value = "before"
    assert set(explorer.view.table["mean distance from 1"]) == {0}


@pytest.mark.parametrize(
    ("rows", "given", "message"),
    [
        (["c"], {}, "unknown task 'c'"),
        (["a"], {"row": 1}, "row must be from 0 to 0"),
        (["a"], {"layer": 2}, "layer must be from 0 to 1"),
        (["a"], {"vector": "l_v"}, "layer 0 has no l_v; its are l_k, l_ff"),
        (["a"], {"stage": "later"}, "unknown stage"),
    ],
)
def test_vectors_that_are_not_there_are_refused(rows, given, message):
    with pytest.raises(FrugalError, match=message):
        explorers.ia3(VECTORS, rows, **{"vector": "l_k"} | given)


def test_the_design_at_the_start_is_the_papers():
    start = explorers.design_space()
    expected = sizes.solve(space.s4(24), arch.get("t5-base"))
    assert expected.params == start.view.table["parameters"].sum()
    assert f"trains {expected.params:,}" in start.view.sentence
    assert str(space.s4(24)) in start.view.sentence
    assert list(start.view.table["printed average of these methods"]) == [76.4, 78.3, 79.8, 82.3]
    assert "grouping spindle 73.3 (the best)" in start.view.sentence


def test_a_choice_that_the_paper_did_not_try_is_said_to_be():
    shown = explorers.design_space(g1="AB", g3="-").view
    assert "methods of G1 not tried" in shown.sentence
    assert "methods of G3" not in shown.sentence
    assert "groups tuned not tried" in shown.sentence
    assert list(shown.table["parameters"])[2] == 0
    found = spaces.published("spindle", "uniform", ("AL", "AP", "-", "-"))
    assert {r["component"]: r["average"] for r in found if r["chosen"]} == {
        "grouping": 73.3,
        "allocation": 74.0,
        "groups tuned": 69.6,
        "methods of G1": 76.4,
        "methods of G2": 78.3,
    }


@pytest.mark.parametrize("allocation", ["increasing", "uniform", "decreasing"])
def test_designs_lie_in_the_space_of_their_choices(allocation):
    found = spaces.design("spindle", "3, 9, 9, 3", allocation, ("AL", "-", "APB", "L"), 24)
    assert found.sizes == (3, 9, 9, 3)
    assert [group.methods for group in found.groups] == ["AL", "", "APB", "L"]
    shares = [share for group in found.groups for share in group.shares]
    assert shares == {"increasing": sorted(shares), "decreasing": sorted(shares)[::-1]}.get(
        allocation, [1] * 15
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sizes": "6, 6, 6, 6"}, "no four spindle groups of 24 layers"),
        ({"g1": "AX"}, "unknown set of methods 'AX'"),
        ({"allocation": "level"}, "unknown allocation"),
        ({"arch": "t5-bass"}, "did you mean 't5-base'"),
        ({"g1": "-", "g2": "-", "g3": "-", "g4": "-"}, "nothing is tuned"),
        ({"g1": "B", "g2": "B", "g3": "B", "g4": "B"}, "BitFit has no size"),
    ],
)
def test_designs_that_cannot_be_are_refused(given, message):
    with pytest.raises(FrugalError, match=message):
        explorers.design_space(**given)


def test_another_model_offers_its_own_patterns():
    explorer = explorers.design_space()
    explorer.controls["arch"].value = "minilm-l6"
    assert explorer.parameters()["sizes"] == "1, 2, 2, 1"
    assert "increasing" not in explorer.controls["grouping"].options
    assert "MiniLM-L6" in explorer.view.sentence
    explorer.controls["grouping"].value = "bottleneck"
    assert explorer.parameters()["sizes"] in spaces.written("bottleneck", 6)


@pytest.mark.parametrize("task", ["WLP", "FEVER"])
def test_purchases_are_the_plans_at_the_papers_prices(task):
    explorer = explorers.budget(task=task, labels=1500, budget=130)
    for name in ("annotate", "distill"):
        expected = purchases.buy(task, name, labels=1500, budget=130)
        mine = row(explorer.view.table, name)
        assert mine["USD"] == pytest.approx(expected.usd)
        assert mine["student's score"] == pytest.approx(expected.score)
        assert mine["labels bought"] == expected.extra_labels
        assert mine["examples distilled"] == pytest.approx(expected.unlabelled)


def test_other_prices_buy_other_amounts():
    terms = {"task": "WLP", "labels": 1000, "budget": 200.0}
    prices_ = {"usd_per_label": 0.1, "usd_per_hour": 4.0}
    table = pd.DataFrame(budgets.look(**terms, **prices_, hours=300.0).rows)
    assert row(table, "annotate")["labels bought"] == 2000
    assert row(table, "distill")["GPU hours"] == 50
    assert row(table, "distill")["USD"] == pytest.approx(200)
    few = budgets.look(**terms, **prices_, hours=8.0)
    assert row(pd.DataFrame(few.rows), "distill")["GPU hours"] == 8
    assert "training the teacher alone takes 9.8 GPU hours" in few.sentence
    assert few.sentence.endswith("annotate.")
    explorer = explorers.budget()
    explorer.controls["task"].value = "FEVER"
    assert explorer.parameters()["usd_per_label"] == 0.129


# What all share


@pytest.mark.parametrize("name", ALL)
def test_its_state_is_plain_values_that_restore_it(name):
    explorer = ALL[name]()
    moved = next(iter(explorer.controls.values()))
    before = explorer.view.sentence
    if isinstance(moved, widgets.Dropdown):
        moved.index = (moved.index + 1) % len(moved.options)
    else:
        moved.value += moved.step
    state = explorer.parameters()
    assert all(type(value) in (str, int, float, bool) for value in state.values())
    assert explorer.view.sentence != before
    again = ALL[name](**state)
    assert again.parameters() == state
    assert again.view.sentence == explorer.view.sentence


@pytest.mark.parametrize("name", ALL)
def test_every_control_has_a_name_and_takes_keys(name):
    kinds = (
        widgets.Dropdown, widgets.IntSlider, widgets.FloatSlider, widgets.Checkbox,
        widgets.BoundedIntText, widgets.BoundedFloatText,
    )  # fmt: skip
    for control in ALL[name]().controls.values():
        assert control.description
        assert isinstance(control, kinds)


def test_without_a_kernel_the_pictures_and_the_sentences_remain(shown, in_earnest):
    said, pictures, cells = [], [], []
    for make in ALL.values():
        shown.clear()
        explorer = make()
        explorer._ipython_display_()
        assert [reading.VIEW in bundle for bundle in shown] == [True, True]
        png = base64.b64decode(shown[0]["image/png"])
        assert png.startswith(b"\x89PNG")
        assert len(png) < 90_000
        assert all(explorer.view.sentence in bundle["text/plain"] for bundle in shown)
        said.append(explorer.view.sentence)
        pictures.append(shown[0]["image/png"])
        outputs = [nbformat.v4.new_output("display_data", bundle) for bundle in shown]
        cells.append(nbformat.v4.new_code_cell("", outputs=outputs, execution_count=len(said)))
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"widgets": {"any": {}}})
    clean, _ = reading.still(notebook, {})
    assert "widgets" not in clean.metadata
    page, _ = HTMLExporter(template_name="lab").from_notebook_node(clean)
    assert "widget-view" not in page
    assert all(picture in page for picture in pictures)
    page = html.unescape(page)
    assert all(sentence in page for sentence in said)


def test_a_value_that_is_refused_is_said_and_the_next_one_is_shown(in_earnest):
    explorer = explorers.icl_cost(icl_arch="t0-11b")
    picture = explorer.picture
    explorer.controls["cached"].value = True
    assert '<p role="alert">cached: t0-11b (encoder-decoder)' in explorer._words.value
    assert explorer.picture == picture
    explorer.controls["icl_arch"].value = "gpt3-13b"
    assert "with GPT-3 13B, examples cached" in explorer._words.value
    assert explorer.picture != picture
    with pytest.raises(FrugalError, match="unknown architecture 'gpt3'"):
        explorers.icl_cost(icl_arch="gpt3")


def test_names_of_tasks_are_text_and_never_markup(shown):
    evil = "<script>alert(1)</script>"
    renamed = [v._replace(task=evil) if v.task == "a" else v for v in VECTORS]
    explorer = explorers.ia3(renamed, vector="l_k")
    explorer._ipython_display_()
    for markup in (explorer._words.value, shown[1]["text/html"]):
        assert "<script" not in markup
        assert "&lt;script&gt;" in markup


def test_a_slider_holds_any_start():
    assert explorers.icl_cost(shots=250).parameters()["shots"] == 250


def test_numbers_are_written_to_be_read():
    texts = {
        1273.2: "1,273", 1.44e15: "1.44e15", 19.0: "19", 0.214: "0.214", None: "–", 3.4: "3.4",
    }  # fmt: skip
    assert {value: answer.written(value) for value in texts} == texts
    assert answer.written(float("nan")) == "–"
